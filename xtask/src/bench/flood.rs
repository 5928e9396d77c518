//! `cargo xtask bench flood`: what a flood costs, and packets of established flows meanwhile.

use anyhow::Result;

use crate::shell::{cargo, run};
use crate::{setup, workspace};

/// Compiles and runs `lb-userspace/benches/flood.rs`, which prints a table, or JSON.
///
/// # Errors
/// The machine cannot be made ready, or a flow is lost.
pub fn time(json: bool) -> Result<()> {
    setup::everything()?;
    let mut bench = cargo();
    // Not the release profile: all the time that counts is spent in the kernel.
    bench.args(["bench", "--locked", "--profile", "dev", "--package", "lb-userspace", "--bench", "flood"]);
    bench.current_dir(workspace::root());
    if json {
        bench.args(["--quiet", "--", "--json"]);
    }
    run(&mut bench)
}
