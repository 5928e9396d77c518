//! `cargo xtask lint`.

use std::env;

use anyhow::Result;

use crate::shell::{self, cargo, say};
use crate::toolchain::Toolchain;
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
    xdp_programs()
}

fn xdp_programs() -> Result<()> {
    let toolchain = Toolchain::find(workspace::root()).map_err(anyhow::Error::msg)?;
    let driver = toolchain.compiler.sysroot.join("bin/clippy-driver");
    if !driver.is_file() {
        say(&format!("clippy, XDP programs: left out, there is no {}", driver.display()));
        return Ok(());
    }
    say("clippy, XDP programs");
    // What `cargo clippy` does itself; called by its name, cargo would take the one of another toolchain.
    shell::run(
        toolchain
            .cargo("check", env::consts::ARCH, &workspace::bpf_target_dir()?)
            .args(["--locked", "--bins"])
            .env("RUSTC_WORKSPACE_WRAPPER", driver)
            .env("CLIPPY_ARGS", "--deny__CLIPPY_HACKERY__warnings__CLIPPY_HACKERY__")
            .current_dir(workspace::root()),
    )
}
