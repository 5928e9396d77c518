//! Running other programs to their end.

use std::env;
use std::ffi::OsString;
use std::fmt::Display;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::interrupt;

/// Prints a line for the user. One that nobody reads any more (`| head`) is no reason to end half way, as `println!`
/// would.
pub fn tell(line: impl Display) {
    let _ = writeln!(io::stdout(), "{line}");
}

/// As [`tell`], for standard error.
pub fn complain(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Says what is being done, on a line of its own.
pub fn say(what: &str) {
    tell(format_args!("==> {what}"));
}

/// Runs a command with its output on the terminal.
///
/// # Errors
/// It cannot be started, or does not exit with 0.
pub fn run(command: &mut Command) -> Result<()> {
    // A group of its own: on a signal all of it ends, what the command has started itself included.
    command.stdin(Stdio::null()).process_group(0);
    let shown = describe(command);
    let creating = interrupt::creating();
    let mut child = command.spawn().with_context(|| format!("cannot run {shown}"))?;
    let group = interrupt::register_group(child.id());
    drop(creating);
    let status = child.wait().with_context(|| format!("cannot wait for {shown}"))?;
    drop(group);
    interrupt::settle();
    if !status.success() {
        bail!("{shown}: {status}");
    }
    Ok(())
}

/// Runs a command and returns what it writes to standard output.
///
/// # Errors
/// It cannot be started, or does not exit with 0; says what it wrote to standard error.
pub fn capture(command: &mut Command) -> Result<String> {
    let shown = describe(command);
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("cannot run {shown}"))?;
    if !output.status.success() {
        bail!("{shown}: {}: {}", output.status, String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The cargo that runs this program.
#[must_use]
pub fn cargo() -> Command {
    Command::new(env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo")))
}

/// Where a program is on the PATH or where Debian keeps those for root.
#[must_use]
pub fn which(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    folders.map(|folder| folder.join(program)).find(|file| file.is_file())
}

fn describe(command: &Command) -> String {
    let words = [command.get_program()].into_iter().chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    words.join(" ")
}
