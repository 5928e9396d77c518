//! `cargo xtask lint`.

use anyhow::Result;

use crate::shell::{self, cargo, say};
use crate::workspace;

/// Formatting, and clippy for user space and for the XDP programs; warnings are errors.
///
/// # Errors
/// Something is not clean.
pub fn run() -> Result<()> {
    say("formatting");
    shell::run(cargo().args(["fmt", "--all", "--check"]).current_dir(workspace::root()))?;
    say("clippy, user space");
    shell::run(
        cargo()
            .args(["clippy", "--locked", "--all-targets", "--", "--deny", "warnings"])
            .current_dir(workspace::root()),
    )?;
    say("clippy, XDP programs");
    // Their code is a library that compiles for this host too; the binaries around it do not.
    shell::run(
        cargo()
            .args(["clippy", "--locked", "--package", "lb-ebpf", "--lib", "--", "--deny", "warnings"])
            .current_dir(workspace::root()),
    )
}
