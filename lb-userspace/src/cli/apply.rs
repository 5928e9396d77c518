//! `evenkeel apply`: has the running daemon take a configuration, all of it or nothing.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use thiserror::Error;

use super::asked::{self, AskError};
use crate::daemon::control::Apply;

#[derive(Debug, clap::Args)]
pub struct ApplyArgs {
    /// Configuration to apply; without it the daemon reads its own file again
    pub file: Option<PathBuf>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Error)]
pub enum ApplyError {
    #[error("cannot read {}: {source}", file.display())]
    Read {
        file: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error(transparent)]
    Ask(#[from] AskError),
}

/// Prints how it ended: as JSON on the standard output, or as text, mistakes on the standard error.
///
/// # Errors
/// The file can't be read. As text only: the daemon can't be asked, or it refuses; then what was in force stays, unless
/// the error says otherwise. As JSON these are printed, and the exit code is 1.
pub async fn run(args: &ApplyArgs, socket: &Path) -> Result<ExitCode, ApplyError> {
    let body = args.file.as_deref().map(read).transpose()?.unwrap_or_default();
    let mut applied = asked::ask("/apply", body, socket).await;
    if let (Ok(lines), Some(file)) = (&mut applied, &args.file) {
        let note = "a restart, SIGHUP or save reads the daemon's own file again";
        lines.push(format!("note: if {} is not that file, {note}", file.display()));
    }
    Ok(asked::print(applied, args.json)?)
}

fn read(file: &Path) -> Result<String, ApplyError> {
    let failed = |source| ApplyError::Read { file: file.to_owned(), source };
    let text = fs::read_to_string(file).map_err(failed)?;
    let apply = Apply { file: file.display().to_string(), text };
    serde_json::to_string(&apply).map_err(|error| failed(error.into()))
}
