//! `evenkeel failover`: gives a mastership away on purpose, without loss.

use std::path::Path;
use std::process::ExitCode;

use super::asked::{self, AskError};
use crate::daemon::control::GiveAway;

#[derive(Debug, clap::Args)]
pub struct FailoverArgs {
    /// The instance as in the configuration; those of its group move with it
    pub instance: String,
    /// Undo: let this node take the mastership back if its priority says so
    #[arg(long)]
    pub undo: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

/// Prints how it ended, as text or as JSON.
///
/// # Errors
/// As text only: the daemon can't be asked, has no such instance, is not its master, or nobody else takes it. As JSON they
/// are printed, and the exit code is 1.
pub async fn run(args: &FailoverArgs, socket: &Path) -> Result<ExitCode, AskError> {
    let give_away = GiveAway { instance: args.instance.clone(), undo: args.undo };
    let body = serde_json::json!(give_away).to_string();
    asked::print(asked::ask("/failover", body, socket).await, args.json)
}
