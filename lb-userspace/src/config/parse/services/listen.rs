//! `listen`: addresses and ports, each of them in one service.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use crate::config::model::{Listen, Ports, Protocol};
use crate::config::parse::reader::{Item, Place, Read, Reader};
use crate::config::parse::suggest;

/// Of one address and protocol, all services together; a new flow is compared with each of them.
const MAX_RANGES: usize = 16;

/// The listen addresses of all services, with their lines.
#[derive(Default)]
pub(super) struct Taken {
    addresses: BTreeMap<(IpAddr, Protocol), Address>,
}

#[derive(Default)]
struct Address {
    singles: BTreeMap<u16, u64>,
    /// At most [`MAX_RANGES`].
    ranges: Vec<(Ports, u64)>,
}

impl Taken {
    /// The line on which packets to this address find a service; without a port, to any port of it.
    pub(super) fn line_of(&self, address: IpAddr, port: Option<u16>, protocol: Protocol) -> Option<u64> {
        let Address { singles, ranges } = self.addresses.get(&(address, protocol))?;
        let Some(port) = port else {
            return singles.values().chain(ranges.iter().map(|(_, line)| line)).copied().min();
        };
        let range = || ranges.iter().find(|(ports, _)| ports.contains(port)).map(|(_, line)| *line);
        singles.get(&port).copied().or_else(range)
    }

    /// The line on which the address is listened on, for whatever protocol and port.
    pub(super) fn line_of_address(&self, address: IpAddr) -> Option<u64> {
        let line = |protocol| self.line_of(address, None, protocol);
        line(Protocol::Tcp).or_else(|| line(Protocol::Udp))
    }

    fn claim(
        &mut self,
        reader: &mut Reader<'_>,
        place: &Place,
        listen: Listen,
        protocol: Protocol,
    ) -> Read<()> {
        let Listen { address, ports } = listen;
        let taken = self.addresses.entry((address, protocol)).or_default();
        let same = match ports.single() {
            Some(port) => taken.singles.get(&port).copied(),
            None => taken.ranges.iter().find(|(other, _)| *other == ports).map(|(_, line)| *line),
        };
        if let Some(line) = same {
            let message = format!(
                "{listen} is a listen address already, on line {line}; write it once, for one service"
            );
            return Err(reader.mistake(place, message));
        }
        let Some(port) = ports.single() else { return taken.claim_range(reader, place, listen) };
        taken.singles.insert(port, place.line);
        Ok(())
    }
}

impl Address {
    fn claim_range(&mut self, reader: &mut Reader<'_>, place: &Place, listen: Listen) -> Read<()> {
        let Listen { address, ports } = listen;
        if let Some((other, line)) = self.ranges.iter().find(|(other, _)| other.overlaps(ports)) {
            let other = Listen { address, ports: *other };
            let message = format!(
                "{listen} overlaps {other} on line {line}; write ranges that share no port (a single port may lie in a \
                 range, and wins)"
            );
            return Err(reader.mistake(place, message));
        }
        if self.ranges.len() >= MAX_RANGES {
            let message = format!(
                "{listen} is one range too many: an address has at most {MAX_RANGES} for one protocol, all services \
                 together; write wider ranges, or `{}`",
                Listen { address, ports: Ports::ALL }
            );
            return Err(reader.mistake(place, message));
        }
        self.ranges.push((ports, place.line));
        Ok(())
    }
}

/// The ports of one service, whatever the address: looked at for each of its backends.
pub(super) struct Served {
    singles: BTreeSet<u16>,
    ranges: BTreeSet<Ports>,
    /// As a message lists them.
    pub(super) shown: String,
}

impl Served {
    pub(super) fn new(listen: &[(Listen, Place)]) -> Self {
        let ports = || listen.iter().map(|(listen, _)| listen.ports);
        let singles: BTreeSet<u16> = ports().filter_map(Ports::single).collect();
        let ranges: BTreeSet<Ports> = ports().filter(|ports| ports.single().is_none()).collect();
        let words = singles.iter().map(ToString::to_string).chain(ranges.iter().map(ToString::to_string));
        let words: Vec<String> = words.collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let shown = suggest::list(&words);
        Self { singles, ranges, shown }
    }

    /// The port, when there is only one.
    pub(super) fn only(&self) -> Option<u16> {
        let first = self.singles.first().filter(|_| self.singles.len() == 1 && self.ranges.is_empty());
        first.copied()
    }

    pub(super) fn has_ranges(&self) -> bool {
        !self.ranges.is_empty()
    }

    pub(super) fn contains(&self, port: u16) -> bool {
        self.singles.contains(&port) || self.ranges.iter().any(|ports| ports.contains(port))
    }
}

/// In the order written. `protocol` is `None` when it is wrong; then nothing is known of other services.
pub(super) fn listen(
    reader: &mut Reader<'_>,
    item: &Item<'_>,
    protocol: Option<Protocol>,
    taken: &mut Taken,
) -> Read<Vec<(Listen, Place)>> {
    const EXAMPLE: &str = "203.0.113.10:80";
    let items = item.one_or_more();
    if items.is_empty() {
        let message = format!("a service listens somewhere; write `listen: [{EXAMPLE}]`");
        return Err(reader.mistake(&item.place(), message));
    }
    let mut own = Taken::default();
    reader.each(&items, |reader, item| {
        let (address, ports) = reader.endpoint(item, EXAMPLE)?;
        let Some(ports) = ports else { return Err(reader.no_port(item, address, "", 80)) };
        let listen = Listen { address, ports };
        match protocol {
            Some(protocol) => taken.claim(reader, &item.place(), listen, protocol)?,
            None => own.claim(reader, &item.place(), listen, Protocol::default())?,
        }
        Ok((listen, item.place()))
    })
}
