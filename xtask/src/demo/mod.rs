//! `cargo xtask demo`: a pair of nodes under load while parts of the data centre change and break.

use std::thread;

use anyhow::{Context, Result};

use crate::shell::{say, tell};
use crate::testbed::TestBed;
use crate::testbed::data_centre::{DataCentre, Plan};
use crate::{build, interrupt, setup};

mod invitation;
mod report;
mod steps;
mod traffic;

/// Builds the data centre, takes the steps, and stays up until Ctrl-C unless `once`.
///
/// # Errors
/// The machine cannot be made ready, or a step does not do what it shows.
pub fn run(once: bool) -> Result<()> {
    setup::everything()?;
    say("compiling");
    build::all(false)?;

    say("building a small data centre in network namespaces");
    let plan = Plan { nodes: 2, web: 3, web_configured: 2, app: 2, database: true };
    let mut data_centre =
        DataCentre::build(TestBed::new("demo")?, plan, |what| tell(format_args!("    {what}")))?;
    for step in steps::ALL {
        tell("");
        say(step.title);
        let shown =
            (step.take)(&mut data_centre).with_context(|| format!("the step \"{}\" failed", step.title))?;
        report::print(&shown);
    }
    if once {
        tell("");
        say("every step did what it shows; removing the data centre");
        return Ok(());
    }
    invitation::print(&data_centre);
    interrupt::expect();
    loop {
        thread::park();
    }
}
