//! `evenkeel decap`: on a backend without a tunnel device, removes tunnel headers in XDP while it runs.

use std::collections::BTreeSet;
use std::io::{self, Write as _};
use std::net::IpAddr;

use anyhow::{Context as _, bail};
use lb_common::decap::{GUE_PORT, Outcome};
use lb_common::limits;
use lb_common::reason::Verdict;
use nix::ifaddrs::getifaddrs;
use tokio::signal::unix::{SignalKind, signal};

use crate::config::model::{Interface, XdpMode};
use crate::dataplane::Decap;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "SIGUSR1 has it print what it did with packets to these addresses, and so does its end."
)]
pub struct DecapArgs {
    /// Interface that tunnel packets arrive on; may be given more than once
    #[arg(long, required = true)]
    pub interface: Vec<String>,
    /// UDP destination port of GUE
    #[arg(long, value_name = "PORT", default_value_t = GUE_PORT, value_parser = clap::value_parser!(u16).range(1..))]
    pub gue_port: u16,
    /// Use generic XDP even where the driver has a native one
    #[arg(long)]
    pub generic: bool,
    /// Outer destinations to remove headers for: IPv4 or IPv6 addresses of this backend
    #[arg(required = true, value_name = "ADDRESS", value_parser = destination)]
    pub destinations: Vec<IpAddr>,
}

/// Removes headers until SIGINT or SIGTERM.
///
/// # Errors
/// What the kernel refused; nothing stays attached then.
pub async fn run(args: &DecapArgs) -> anyhow::Result<()> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot take SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot take SIGINT")?;
    let mut report = signal(SignalKind::user_defined1()).context("cannot take SIGUSR1")?;
    let decap = start(args)?;
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = report.recv() => tell(&report_of(&decap)),
        }
    }
    tell(&report_of(&decap));
    Ok(())
}

fn start(args: &DecapArgs) -> anyhow::Result<Decap> {
    let destinations: BTreeSet<IpAddr> = args.destinations.iter().copied().collect();
    if destinations.len() > limits::DECAP as usize {
        bail!("at most {} addresses, not {}", limits::DECAP, destinations.len());
    }
    let mut decap = Decap::load(args.gue_port)?;
    let own = own_addresses();
    for destination in destinations {
        if own.as_ref().is_some_and(|own| !own.contains(&destination)) {
            let warning = "is no address of this host now; what is sent to it may not arrive";
            drop(writeln!(io::stderr(), "warning: {destination} {warning}"));
        }
        decap.add(destination)?;
    }
    let mode = if args.generic { XdpMode::Generic } else { XdpMode::Auto };
    for name in &args.interface {
        let attached = decap.attach(&Interface { name: name.clone(), mode })?;
        let mode = if attached.native { "native" } else { "generic" };
        tell(&format!("{name}: removing tunnel headers, {mode} XDP"));
        if let Some(note) = attached.note {
            tell(&format!("{name}: {note}"));
        }
    }
    Ok(decap)
}

/// An address that packets can come to.
fn destination(text: &str) -> Result<IpAddr, String> {
    let address: IpAddr = text
        .parse()
        .map_err(|_| "not an IPv4 or IPv6 address; write it without a port or a prefix length".to_owned())?;
    let what = match address {
        IpAddr::V6(v6) if let Some(v4) = v6.to_ipv4_mapped() => {
            return Err(format!("an IPv4 address as it is mapped into IPv6; write {v4}"));
        }
        _ if address.is_unspecified() => "stands for any address",
        _ if address.is_multicast() => "is a multicast address",
        _ if address.is_loopback() => "is a loopback address",
        IpAddr::V4(v4) if v4.is_broadcast() => "is the broadcast address",
        _ => return Ok(address),
    };
    Err(format!("{what}; give the address of this backend that the balancer sends to"))
}

/// `None` if the kernel does not tell.
fn own_addresses() -> Option<BTreeSet<IpAddr>> {
    let addresses = getifaddrs().ok()?.filter_map(|interface| {
        let address = interface.address?;
        let v4 = address.as_sockaddr_in().map(|address| IpAddr::from(address.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|address| IpAddr::from(address.ip())))
    });
    Some(addresses.collect())
}

/// Packets go on when nobody reads this any more.
fn tell(line: &str) {
    drop(writeln!(io::stdout(), "{line}"));
}

fn report_of(decap: &Decap) -> String {
    decap.outcomes().map_or_else(|error| error.to_string(), |outcomes| summary(&outcomes))
}

/// `removed 12 (ip 9, gue 3); left to the kernel 1 (fragment 1); dropped 0`
fn summary(outcomes: &[(Outcome, u64)]) -> String {
    let part = |verdict: Verdict, words: &str| {
        let of = outcomes.iter().filter(|(outcome, count)| outcome.verdict() == verdict && *count > 0);
        let reasons: Vec<_> =
            of.clone().map(|(outcome, count)| format!("{} {count}", outcome.as_str())).collect();
        let total: u64 = of.map(|(_, count)| count).sum();
        let reasons = if total == 0 { String::new() } else { format!(" ({})", reasons.join(", ")) };
        format!("{words} {total}{reasons}")
    };
    [
        part(Verdict::Forward, "removed"),
        part(Verdict::Pass, "left to the kernel"),
        part(Verdict::Drop, "dropped"),
    ]
    .join("; ")
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(Debug, clap::Parser)]
    struct Command {
        #[command(flatten)]
        args: DecapArgs,
    }

    fn parse(arguments: &str) -> Result<DecapArgs, String> {
        let arguments = ["decap"].into_iter().chain(arguments.split_whitespace());
        Command::try_parse_from(arguments).map(|command| command.args).map_err(|error| error.to_string())
    }

    #[test]
    fn addresses_of_both_families_are_taken() {
        let args = parse("--interface eth0 --interface eth1 10.0.0.11 2001:db8::11").unwrap();
        assert_eq!(args.interface, ["eth0", "eth1"]);
        let expected: [IpAddr; 2] = ["10.0.0.11".parse().unwrap(), "2001:db8::11".parse().unwrap()];
        assert_eq!(args.destinations, expected);
        assert_eq!(args.gue_port, 6080);
        assert_eq!(parse("--interface eth0 --gue-port 5555 fe80::1").unwrap().gue_port, 5555);
    }

    #[test]
    fn what_no_tunnel_packet_can_come_to_is_refused_with_what_to_write() {
        for (arguments, error) in [
            ("--interface eth0", "<ADDRESS>"),
            ("10.0.0.11", "--interface"),
            ("--interface eth0 ::ffff:10.0.0.11", "write 10.0.0.11"),
            ("--interface eth0 10.0.0.11/24", "without a port or a prefix length"),
            ("--interface eth0 backend.example", "not an IPv4 or IPv6 address"),
            ("--interface eth0 0.0.0.0", "any address"),
            ("--interface eth0 ::", "any address"),
            ("--interface eth0 127.0.0.1", "loopback"),
            ("--interface eth0 ::1", "loopback"),
            ("--interface eth0 224.0.0.18", "multicast"),
            ("--interface eth0 ff02::1", "multicast"),
            ("--interface eth0 255.255.255.255", "broadcast"),
            ("--interface eth0 --gue-port 0 10.0.0.11", "--gue-port"),
            ("--interface eth0 --gue-port 65536 10.0.0.11", "--gue-port"),
        ] {
            let said = parse(arguments).unwrap_err();
            assert!(said.contains(error), "{arguments}: {said}");
        }
    }

    #[test]
    fn the_summary_tells_totals_and_the_reasons_there_are() {
        let none: Vec<_> = Outcome::ALL.iter().map(|outcome| (*outcome, 0)).collect();
        assert_eq!(summary(&none), "removed 0; left to the kernel 0; dropped 0");
        let some = [(Outcome::Ip, 9), (Outcome::Gue, 3), (Outcome::Nested, 0), (Outcome::Fragment, 1)];
        assert_eq!(summary(&some), "removed 12 (ip 9, gue 3); left to the kernel 1 (fragment 1); dropped 0");
    }
}
