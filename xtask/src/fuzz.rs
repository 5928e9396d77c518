//! `cargo xtask fuzz`: the fuzzer over the XDP program, for as long as one likes.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};

use crate::shell::{self, cargo, say};
use crate::{setup, workspace};

/// Runs the fuzzer of `lb-userspace/tests/proof`.
///
/// # Errors
/// The machine cannot be made ready, or a frame was found that the program does not do right by.
pub fn run(seconds: u64, seed: Option<u64>) -> Result<()> {
    setup::everything()?;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock is before 1970")?;
    // Seeds go on by one from batch to batch, so two runs must not begin beside each other.
    let seed = seed.unwrap_or(now.as_secs() << 32);
    say(&format!("fuzzing for {seconds} s from seed {seed}"));
    let mut fuzz = cargo();
    fuzz.args(["test", "--locked", "--package", "lb-userspace", "--test", "proof", "--"]);
    fuzz.args(["--ignored", "--nocapture", "fuzz"]).current_dir(workspace::root());
    fuzz.env("EVENKEEL_FUZZ_SECONDS", seconds.to_string()).env("EVENKEEL_FUZZ_SEED", seed.to_string());
    shell::run(&mut fuzz)
}
