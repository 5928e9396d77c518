//! `cargo xtask`: see `cargo xtask help`.

#![deny(clippy::print_stdout, clippy::print_stderr)]

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use xtask::shell::complain;
use xtask::{bench, build, demo, fuzz, interrupt, lint, setup, test};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Builds, tests and shows Evenkeel")]
struct Arguments {
    #[command(subcommand)]
    command: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Installs what the build, the tests and the demo need; run as root, on Debian
    Setup,
    /// Compiles the XDP programs and the daemon
    Build {
        /// With optimizations
        #[arg(long)]
        release: bool,
    },
    /// Checks formatting, runs clippy on both sides with warnings as errors, and cargo-deny if it is installed
    Lint,
    /// Runs every test, as root
    Test {
        #[arg(value_enum, default_value_t = test::Scope::All)]
        scope: test::Scope,
        /// Only tests whose name contains this
        #[arg(long)]
        only: Option<String>,
        /// The kernel of `test kernel`
        #[arg(long, value_enum, default_value_t)]
        kernel: test::kernel::Version,
    },
    /// Runs frames of every kind, broken in every way, through the XDP program, as root; `test` does so for some seconds
    Fuzz {
        /// For how long
        #[arg(long, default_value_t = 600)]
        seconds: u64,
        /// Of the first batch of frames: a failure names the one it began with; by itself another one each time
        #[arg(long)]
        seed: Option<u64>,
    },
    /// Builds a small data centre in network namespaces and breaks parts of it, as root
    Demo {
        /// Ends after the last step instead of waiting for Ctrl-C
        #[arg(long)]
        once: bool,
    },
    /// Times Evenkeel, as root
    Bench {
        #[command(subcommand)]
        what: Bench,
    },
}

#[derive(Subcommand)]
enum Bench {
    /// What a packet costs in the XDP program: see BENCHMARKS.md
    Packets {
        /// As JSON, for programs to read
        #[arg(long)]
        json: bool,
        /// Times that everything is timed: 7, or 1 for a quick look
        #[arg(long, value_parser = clap::value_parser!(u8).range(1..))]
        runs: Option<u8>,
    },
    /// How long a client waits when the master fails, beside keepalived; some minutes
    Failover {
        /// As JSON, for programs to read
        #[arg(long)]
        json: bool,
        /// Times that each event happens to each of them: 3 with advertisements every second, else 5
        #[arg(long, value_parser = clap::value_parser!(u8).range(1..))]
        runs: Option<u8>,
    },
    /// Whether a busy machine makes a backup take over: a pair that advertises every 10 ms, every CPU loaded
    Busy {
        /// As JSON, for programs to read
        #[arg(long)]
        json: bool,
        /// For how long
        #[arg(long, default_value_t = 600)]
        seconds: u64,
    },
    /// What a flood of spoofed packets costs, and packets of established flows meanwhile
    Flood {
        /// As JSON, for programs to read
        #[arg(long)]
        json: bool,
    },
    /// What reloads do to the advertisements of 250 instances at 100 ms
    Reload {
        /// As JSON, for programs to read
        #[arg(long)]
        json: bool,
    },
}

fn main() -> ExitCode {
    let task = Arguments::parse().command;
    let done = interrupt::clean_up_on_signals().and_then(|()| match task {
        Task::Setup => setup::everything(),
        Task::Build { release } => build::all(release),
        Task::Lint => lint::run(),
        Task::Test { scope, only, kernel } => test::run(scope, kernel, only.as_deref()),
        Task::Fuzz { seconds, seed } => fuzz::run(seconds, seed),
        Task::Demo { once } => demo::run(once),
        Task::Bench { what: Bench::Packets { json, runs } } => bench::packets::time(json, runs),
        Task::Bench { what: Bench::Failover { json, runs } } => bench::failover::time(json, runs),
        Task::Bench { what: Bench::Busy { json, seconds } } => bench::busy::time(json, seconds),
        Task::Bench { what: Bench::Flood { json } } => bench::flood::time(json),
        Task::Bench { what: Bench::Reload { json } } => bench::reload::time(json),
    });
    interrupt::settle();
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(format_args!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn every_command_is_as_clap_wants_it() {
        Arguments::command().debug_assert();
    }

    #[test]
    fn failover_is_timed_as_a_table_or_as_json_so_often_as_is_wanted() {
        let parse = |words: &str| Arguments::try_parse_from(words.split(' '));
        let parsed = parse("xtask bench failover --json --runs 2").unwrap().command;
        assert!(matches!(parsed, Task::Bench { what: Bench::Failover { json: true, runs: Some(2) } }));
        let parsed = parse("xtask bench failover").unwrap().command;
        assert!(matches!(parsed, Task::Bench { what: Bench::Failover { json: false, runs: None } }));
        assert!(parse("xtask bench failover --runs 0").is_err());
    }
}
