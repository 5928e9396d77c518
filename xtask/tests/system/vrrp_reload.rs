//! Reloads of many instances.

use std::time::Duration;

use anyhow::{Result, ensure};
use xtask::bench::reload::{Plan, measure};

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_reload_that_exchanges_one_instance_leaves_249_others_as_they_are() -> Result<()> {
    let plan = Plan { quiet: Duration::from_secs(3), reloads: 2, pause: Duration::from_secs(2) };
    let figures = measure(plan)?;
    ensure!(figures.transitions == 0, "an instance that stays changed its state: {figures:#?}");
    Ok(())
}
