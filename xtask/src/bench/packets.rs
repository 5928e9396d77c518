//! `cargo xtask bench packets`: what a packet costs in the XDP program.

use anyhow::Result;

use crate::shell::{cargo, run};
use crate::{setup, workspace};

/// Compiles and runs `lb-userspace/benches/packets`, which prints a table, or JSON.
///
/// # Errors
/// The machine cannot be made ready, or the program under test does not do what is timed.
pub fn time(json: bool, runs: Option<u8>) -> Result<()> {
    setup::everything()?;
    let mut bench = cargo();
    // Not the release profile: all the time that counts is spent in the kernel.
    bench.args(["bench", "--locked", "--profile", "dev", "--package", "lb-userspace", "--bench", "packets"]);
    bench.current_dir(workspace::root());
    if json {
        bench.arg("--quiet");
    }
    bench.arg("--").args(json.then_some("--json"));
    if let Some(runs) = runs {
        bench.args(["--runs", &runs.to_string()]);
    }
    run(&mut bench)
}
