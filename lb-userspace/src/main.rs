//! The `evenkeel` command: arguments, log, exit code. 0 done, 1 wrong or failed, 2 usage.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use evenkeel::cli::{apply, check, decap, failover, status, take};
use evenkeel::daemon;
use evenkeel::daemon::control::{self, Wanted};
use evenkeel::vrrp::{Keeper, guard};
use tracing_subscriber::EnvFilter;

/// A layer-4 load balancer in XDP, with health checks and VRRP.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the daemon in the foreground
    Run(RunArgs),
    /// Read a configuration and report every mistake in it
    Check(check::CheckArgs),
    /// Have the running daemon take a configuration, all of it or nothing
    Apply {
        #[command(flatten)]
        args: apply::ApplyArgs,
        #[command(flatten)]
        daemon: DaemonArgs,
    },
    /// Show services, backends, VRRP instances and why each is in its state
    Status {
        /// Print JSON
        #[arg(long)]
        json: bool,
        #[command(flatten)]
        daemon: DaemonArgs,
    },
    /// Take a backend out gently: it gets no new flows, and keeps those it has until they end or their time is over
    Drain {
        #[command(flatten)]
        args: take::DrainArgs,
        #[command(flatten)]
        daemon: DaemonArgs,
    },
    /// Take a backend back in
    Undrain {
        #[command(flatten)]
        args: take::BackendArgs,
        #[command(flatten)]
        daemon: DaemonArgs,
    },
    /// Take a backend out at once: it gets no new flows, and those it has are reset or go to another one, as `down` says
    Disable {
        #[command(flatten)]
        args: take::BackendArgs,
        #[command(flatten)]
        daemon: DaemonArgs,
    },
    /// Give the mastership of a VRRP instance to another node, without loss; this node then stays backup as long as another
    /// is master
    Failover {
        #[command(flatten)]
        args: failover::FailoverArgs,
        #[command(flatten)]
        daemon: DaemonArgs,
    },
    /// On a backend without a tunnel device: remove tunnel headers in XDP until stopped
    Decap(decap::DecapArgs),
    /// Withdraws addresses when the daemon dies; the daemon starts it
    #[command(name = guard::SUBCOMMAND, hide = true)]
    Guard,
}

#[derive(Debug, clap::Args)]
struct RunArgs {
    /// Configuration file
    #[arg(long, default_value = "/etc/evenkeel/evenkeel.yaml")]
    config: PathBuf,
    /// Folder for pinned maps and links, on a bpf file system
    #[arg(long, default_value = "/sys/fs/bpf/evenkeel")]
    bpf_dir: PathBuf,
    /// Folder for the configuration that was applied last; a start with a wrong file goes on with that
    #[arg(long, default_value = "/var/lib/evenkeel")]
    state_dir: PathBuf,
    /// What to log: error, warn, info, debug or trace, also by module (`info,evenkeel::vrrp=debug`)
    #[arg(long, env = "EVENKEEL_LOG", default_value = "info")]
    log: String,
    #[command(flatten)]
    daemon: DaemonArgs,
}

#[derive(Debug, clap::Args)]
struct DaemonArgs {
    /// Folder of the daemon's control socket
    #[arg(long, default_value = "/run/evenkeel")]
    run_dir: PathBuf,
}

impl DaemonArgs {
    fn socket(&self) -> PathBuf {
        self.run_dir.join(control::SOCKET)
    }
}

fn main() -> ExitCode {
    match run(Arguments::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("evenkeel: {}", in_full(&error));
            ExitCode::FAILURE
        }
    }
}

/// An error and its causes; a cause that the text already has is not said again.
fn in_full(error: &anyhow::Error) -> String {
    error.chain().skip(1).fold(error.to_string(), |text, cause| {
        let cause = cause.to_string();
        if text.contains(&cause) { text } else { format!("{text}: {cause}") }
    })
}

fn run(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Run(args) => {
            log(&args.log)?;
            // Before any thread is started, and before anything is held that it should let go of.
            let keeper = Keeper::start(guard::start()?)
                .context("cannot start the thread that keeps the virtual addresses")?;
            let options = daemon::Options {
                config: args.config,
                run_dir: args.daemon.run_dir,
                bpf_dir: args.bpf_dir,
                state_dir: args.state_dir,
            };
            runtime()?.block_on(daemon::run(options, keeper))?;
        }
        Command::Check(args) => return Ok(check::run(&args)),
        Command::Apply { args, daemon } => {
            return Ok(runtime()?.block_on(apply::run(&args, &daemon.socket()))?);
        }
        Command::Status { json, daemon } => {
            runtime()?.block_on(status::run(&daemon.socket(), json))?;
        }
        Command::Drain { args: take::DrainArgs { backend, deadline }, daemon } => {
            return out(&backend, Wanted::Drain, deadline, &daemon);
        }
        Command::Undrain { args, daemon } => return out(&args, Wanted::Active, None, &daemon),
        Command::Disable { args, daemon } => return out(&args, Wanted::Disabled, None, &daemon),
        Command::Failover { args, daemon } => {
            return Ok(runtime()?.block_on(failover::run(&args, &daemon.socket()))?);
        }
        Command::Decap(args) => {
            runtime()?.block_on(decap::run(&args))?;
        }
        Command::Guard => {
            log("info")?;
            guard::run()?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn out(
    args: &take::BackendArgs,
    state: Wanted,
    deadline: Option<Duration>,
    daemon: &DaemonArgs,
) -> anyhow::Result<ExitCode> {
    Ok(runtime()?.block_on(take::run(args, state, deadline, &daemon.socket()))?)
}

/// Two threads: the daemon's task and its I/O. VRRP has threads of its own.
fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("cannot start the runtime")
}

fn log(filter: &str) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(filter).context("--log")?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false)
        .init();
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn an_error_is_told_with_its_causes_and_none_twice() {
        let denied = || io::Error::from(io::ErrorKind::PermissionDenied);
        let outer = anyhow::Error::new(denied()).context("--log");
        assert_eq!(in_full(&outer), "--log: permission denied");
        let embeds = anyhow::Error::new(denied()).context("cannot read a: permission denied");
        assert_eq!(in_full(&embeds), "cannot read a: permission denied");
    }
}
