//! `cargo xtask test`.

pub mod kernel;

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use crate::shell::{cargo, say, tell};
use crate::{build, interrupt, setup, workspace};

/// Which tests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Scope {
    /// All of them; takes root
    All,
    /// Those that need neither root nor a kernel with XDP
    Unit,
    /// Those of the real XDP program, on another kernel in a virtual machine; takes root and some minutes
    Kernel,
}

/// Runs the tests and sums up.
///
/// # Errors
/// A test fails, or the machine cannot be made ready.
pub fn run(scope: Scope, version: kernel::Version, only: Option<&str>) -> Result<()> {
    if scope == Scope::Kernel {
        return kernel::run_tests(version, only);
    }
    // Not --workspace: lb-ebpf is no program of this machine's.
    let mut tests = cargo();
    tests.args(["test", "--locked", "--no-fail-fast"]).current_dir(workspace::root());
    tests.args(only).arg("--");
    if scope == Scope::All {
        setup::everything()?;
        say("compiling");
        build::all(false)?;
        tests.arg("--include-ignored");
    }
    let (tally, succeeded) = run_and_count(&mut tests, |_| {})?;
    tell(format_args!(
        "\nall tests: {} passed, {} failed, {} ignored",
        tally.passed, tally.failed, tally.ignored
    ));
    if !succeeded {
        bail!("a test failed, or does not compile: what it says is above");
    }
    Ok(())
}

#[derive(Default)]
struct Tally {
    passed: u64,
    failed: u64,
    ignored: u64,
}

/// Runs a command that prints what test binaries print, and shows `each` line of it.
fn run_and_count(tests: &mut Command, mut each: impl FnMut(&str)) -> Result<(Tally, bool)> {
    tests.stdin(Stdio::null()).stdout(Stdio::piped()).process_group(0);
    let creating = interrupt::creating();
    let mut child = tests.spawn().context("cannot run the tests")?;
    let group = interrupt::register_group(child.id());
    drop(creating);
    let mut tally = Tally::default();
    if let Some(output) = child.stdout.take() {
        for line in BufReader::new(output).lines() {
            let line = line.context("cannot read what the tests print")?;
            tell(format_args!("{line}"));
            tally.add(&line);
            each(&line);
        }
    }
    let status = child.wait().context("cannot wait for the tests")?;
    drop(group);
    interrupt::settle();
    Ok((tally, status.success()))
}

impl Tally {
    /// From libtest's `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
    fn add(&mut self, line: &str) {
        let Some((_, counts)) = line.strip_prefix("test result: ").and_then(|rest| rest.split_once(". "))
        else {
            return;
        };
        for count in counts.split("; ") {
            let Some((number, of)) = count.split_once(' ') else { continue };
            let number: u64 = number.parse().unwrap_or(0);
            match of {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.ignored += number,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_several_test_binaries_add_up() {
        let mut tally = Tally::default();
        tally.add(
            "test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 7 filtered out; finished in 0.01s",
        );
        tally.add("test daemon::reload ... ok");
        tally.add("test result: FAILED. 4 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out");
        assert_eq!((tally.passed, tally.failed, tally.ignored), (7, 2, 1));
    }
}
