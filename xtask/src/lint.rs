//! `cargo xtask lint`.

use anyhow::Result;

use crate::shell::{self, cargo, say, which};
use crate::workspace;

/// Formatting, clippy for user space and for the XDP programs with warnings as errors, and what deny.toml says of the
/// dependencies.
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
    )?;
    dependencies()
}

/// Not the advisories: they come from the network, and change without a change here.
fn dependencies() -> Result<()> {
    if which("cargo-deny").is_none() {
        say("dependencies: left out, cargo-deny is not installed (`cargo install cargo-deny`)");
        return Ok(());
    }
    say("dependencies: bans, licenses, sources");
    shell::run(
        cargo()
            .args(["deny", "--locked", "check", "bans", "licenses", "sources"])
            .current_dir(workspace::root()),
    )
}
