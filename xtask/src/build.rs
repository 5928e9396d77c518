//! `cargo xtask build`.

use anyhow::Result;

use crate::shell::{cargo, run};
use crate::workspace;

/// The daemon, and with it, by its build script, the XDP programs.
///
/// # Errors
/// It does not compile.
pub fn all(release: bool) -> Result<()> {
    let mut build = cargo();
    build.args(["build", "--locked", "--package", "lb-userspace"]).current_dir(workspace::root());
    if release {
        build.arg("--release");
    }
    run(&mut build)
}
