//! `cargo xtask bench failover`: how long a client waits when the master fails, beside keepalived.
//!
//! ```text
//! mod (which pair when) ── pair (two daemons, one event) ── prober ──► stats ──► report
//! ```

use std::process::Command;
use std::time::Duration;

use anyhow::Result;

use crate::shell::{capture, complain, tell};
use crate::{build, setup};

mod pair;
mod prober;
mod report;
mod stats;

use pair::{Lab, Product};
use report::Report;

/// Between advertisements, each with the runs that are made of it.
const INTERVALS: [(Duration, u8); 3] =
    [(Duration::from_secs(1), 3), (Duration::from_millis(100), 5), (Duration::from_millis(10), 5)];

/// Runs keepalived and Evenkeel in turn in the same namespaces, and prints a table, or JSON.
///
/// # Errors
/// The machine cannot be made ready, or a pair does not do what is timed.
pub fn time(json: bool, runs: Option<u8>) -> Result<()> {
    setup::everything()?;
    build::all(false)?;
    let kernel = capture(Command::new("uname").arg("-r"))?;
    let mut report = Report::new(kernel.trim().to_owned(), keepalived_version()?);
    let lab = Lab::build()?;
    for (advertise, usual) in INTERVALS {
        let runs = runs.unwrap_or(usual);
        for run in 1..=runs {
            for product in Product::BOTH {
                complain(format_args!("{}: {advertise:?}, run {run} of {runs}", product.name()));
                for seen in lab.run(product, advertise)? {
                    report.add(advertise, product, seen);
                }
            }
        }
    }
    if json {
        tell(format_args!("{:#}", report.json()));
    } else {
        tell(report.table());
    }
    Ok(())
}

/// As `keepalived v2.2.7`; it writes that to standard error.
fn keepalived_version() -> Result<String> {
    let text = capture(Command::new("sh").args(["-c", "keepalived --version 2>&1"]))?;
    Ok(text.split_whitespace().take(2).collect::<Vec<_>>().join(" ").to_lowercase())
}
