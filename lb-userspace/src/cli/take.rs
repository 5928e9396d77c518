//! `evenkeel drain`, `undrain` and `disable`: takes a backend out gently, back in, or out at once.

use std::ops::RangeInclusive;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use super::asked::{self, AskError};
use crate::config::parse_duration;
use crate::daemon::control::{Take, Wanted};

/// Names a backend.
#[derive(Debug, clap::Args)]
pub struct BackendArgs {
    /// The backend as in the configuration: ADDRESS:PORT in every service that has it, or SERVICE/ADDRESS:PORT
    pub backend: String,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, clap::Args)]
pub struct DrainArgs {
    #[command(flatten)]
    pub backend: BackendArgs,
    /// How long its flows may go on, such as 5m, instead of what `drain` of its service says
    #[arg(long, value_parser = deadline)]
    pub deadline: Option<Duration>,
}

/// As the configuration has it for `drain`.
const DEADLINES: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_secs(7 * 24 * 3600);

fn deadline(text: &str) -> Result<Duration, String> {
    match parse_duration(text) {
        Some(deadline) if DEADLINES.contains(&deadline) && deadline.subsec_nanos() == 0 => Ok(deadline),
        Some(_) => Err("write whole seconds, 1s to 7d".to_owned()),
        None => Err("write a number and its unit `s`, `m`, `h` or `d`, such as `5m`".to_owned()),
    }
}

/// Prints how it ended, as text or as JSON.
///
/// # Errors
/// As text only: the daemon can't be asked, or has no such backend. As JSON they are printed, and the exit code is 1.
pub async fn run(
    args: &BackendArgs,
    state: Wanted,
    deadline: Option<Duration>,
    socket: &Path,
) -> Result<ExitCode, AskError> {
    let take = Take {
        backend: args.backend.clone(),
        state,
        deadline_seconds: deadline.map(|deadline| deadline.as_secs()),
    };
    let body = serde_json::json!(take).to_string();
    asked::print(asked::ask("/backends", body, socket).await, args.json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_is_written_as_in_the_configuration() {
        assert_eq!(deadline("5m"), Ok(Duration::from_secs(300)));
        for wrong in ["5", "0s", "8d", "100ms", "soon"] {
            assert!(deadline(wrong).is_err(), "{wrong}");
        }
    }
}
