//! A program that says by its exit status whether all is well.

use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::Reporter;
use super::machine::Finding;
use crate::config::model::{Script, Subject};
use crate::program::Program;

/// Runs it at once and then every period; a run that is late starts at once, and no two run at the same time.
pub(super) async fn follow(script: Script, report: Reporter) {
    let program = Program::new(&script.command, script.user.as_deref());
    // A timer of zero length panics.
    let mut times = interval(script.every.max(Duration::from_millis(1)));
    times.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let subject = Subject::Script(script.clone());
    loop {
        times.tick().await;
        let finished = program.run(Vec::new(), Vec::new(), script.timeout).await;
        let finding = match finished.result {
            Ok(()) => Finding::Well("exited with status 0".to_owned()),
            Err(error) => Finding::Ill(error.to_string()),
        };
        report.found(&subject, finding);
        if let Some(left) = finished.left {
            left.end().await;
        }
    }
}
