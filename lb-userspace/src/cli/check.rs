//! `evenkeel check FILE`: every mistake of a configuration at once.

use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use crate::config::model::Config;
use crate::config::{self, Host, Mistakes};

/// Check a configuration for this host, without applying it.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// The configuration file.
    pub file: PathBuf,
    /// Print the result as JSON.
    #[arg(long)]
    pub json: bool,
}

/// Exit code 0 when the file is right, 1 when it is not.
#[must_use]
pub fn run(args: &CheckArgs) -> ExitCode {
    let file = args.file.display().to_string();
    let host = match Host::read() {
        Ok(host) => host,
        Err(error) => {
            let _ = writeln!(io::stderr(), "evenkeel: cannot read this host's name and interfaces: {error}");
            return ExitCode::FAILURE;
        }
    };
    let outcome = config::load(&args.file, &host);
    // A reader that closed its end wants no more text; the exit code still tells.
    let _ = match (&outcome, args.json) {
        (_, true) => io::stdout().write_all(as_json(&file, &outcome).as_bytes()),
        (Ok(config), false) => io::stdout().write_all(summary(&file, config).as_bytes()),
        (Err(mistakes), false) => io::stderr().write_all(report(mistakes).as_bytes()),
    };
    if outcome.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn summary(file: &str, config: &Config) -> String {
    let counts = [
        count(config.services.len(), "service"),
        count(backends(config), "backend"),
        count(config.vrrp.len(), "VRRP instance"),
    ];
    format!("{file}: ok — {}\n", counts.join(", "))
}

fn report(mistakes: &Mistakes) -> String {
    let mut text = mistakes.lines().join("\n");
    let _ = writeln!(text, "\n{}: {}", mistakes.file, count(mistakes.count(), "mistake"));
    text
}

fn as_json(file: &str, outcome: &Result<Config, Mistakes>) -> String {
    let value = match outcome {
        Ok(config) => json!({
            "ok": true,
            "file": file,
            "services": config.services.len(),
            "backends": backends(config),
            "instances": config.vrrp.len(),
            "mistakes": [],
        }),
        Err(mistakes) => {
            let list: Vec<_> = mistakes
                .list
                .iter()
                .map(|m| {
                    json!({
                        "file": mistakes.file,
                        "line": m.line,
                        "column": m.column,
                        "path": m.path,
                        "message": m.message,
                    })
                })
                .collect();
            json!({ "ok": false, "file": file, "mistakes": list, "omitted": mistakes.omitted })
        }
    };
    format!("{value:#}\n")
}

fn backends(config: &Config) -> usize {
    config.services.iter().map(|service| service.backends.len()).sum()
}

fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(text: &str) -> Result<Config, Mistakes> {
        let host = Host { hostname: "a".into(), interfaces: ["eth0".into()].into() };
        config::parse(text, "a.yaml", &host)
    }

    const RIGHT: &str = "interfaces: [eth0]\nservices: [{ name: web, listen: 192.0.2.1:80, forward: nat, backends: \
                         [10.0.0.1:80, 10.0.0.2:80] }]\n";
    const WRONG: &str = "interfaces: [eth1]\nnod: b\n";

    #[test]
    fn a_right_file_is_summed_up() {
        let config = outcome(RIGHT).unwrap();
        assert_eq!(summary("a.yaml", &config), "a.yaml: ok — 1 service, 2 backends, 0 VRRP instances\n");
    }

    #[test]
    fn mistakes_are_one_line_each_and_counted() {
        let report = report(&outcome(WRONG).unwrap_err());
        let lines: Vec<&str> = report.lines().collect();
        assert!(lines[0].starts_with("a.yaml:1:14: interfaces[0]: there is no interface `eth1`"), "{report}");
        assert!(lines[1].starts_with("a.yaml:2:1: nod: unknown key"), "{report}");
        assert_eq!(lines[2..], ["a.yaml: 2 mistakes"]);
    }

    #[test]
    fn json_says_the_same() {
        let right: serde_json::Value = serde_json::from_str(&as_json("a.yaml", &outcome(RIGHT))).unwrap();
        assert_eq!(
            right,
            json!({ "ok": true, "file": "a.yaml", "services": 1, "backends": 2, "instances": 0, "mistakes": [] })
        );
        let wrong: serde_json::Value = serde_json::from_str(&as_json("a.yaml", &outcome(WRONG))).unwrap();
        assert_eq!(wrong["ok"], false);
        assert_eq!(
            wrong["mistakes"][1],
            json!({
                "file": "a.yaml",
                "line": 2,
                "column": 1,
                "path": "nod",
                "message": "unknown key in a configuration; did you mean `node`?",
            })
        );
    }

    #[test]
    fn the_exit_code_tells() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let args = CheckArgs { file: file.path().to_owned(), json: false };
        assert_eq!(run(&args), ExitCode::FAILURE);
        std::fs::write(file.path(), "interfaces: [lo]\n").unwrap();
        assert_eq!(run(&args), ExitCode::SUCCESS);
    }
}
