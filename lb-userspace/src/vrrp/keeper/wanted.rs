//! What a group of instances wants of the host, and what it is told of it.

#![deny(clippy::disallowed_methods)]

use std::net::IpAddr;

pub(in crate::vrrp) use super::super::wire::Family;
use crate::config::model::{Instance, Priority, Route, Rule, VirtualAddress, Vrid};

/// Of the instances that have one state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wanted {
    pub hold: bool,
    /// Of priority 255: an address that was there without us is the host's own and stays.
    pub owner: bool,
    /// Bursts of announcements asked for so far.
    pub bursts: u64,
    pub members: Vec<Member>,
}

/// One instance of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    pub interface: String,
    pub vrid: Vrid,
    /// Whether the addresses are at the virtual router's MAC address.
    pub virtual_mac: bool,
    /// Whether the host takes what is sent to the addresses.
    pub accept: bool,
    pub addresses: Vec<VirtualAddress>,
    pub routes: Vec<Route>,
    pub rules: Vec<Rule>,
}

impl Wanted {
    /// Nothing held yet.
    #[must_use]
    pub fn of<'a>(instances: impl IntoIterator<Item = &'a Instance>) -> Self {
        let mut wanted = Self::default();
        for instance in instances {
            wanted.owner |= instance.priority == Priority::OWNER;
            wanted.members.push(Member::of(instance));
        }
        wanted
    }

    /// Takes over what the configuration says and keeps what the protocol says; whether that changes anything.
    pub fn reconfigure(&mut self, configured: Self) -> bool {
        let new = Self { hold: self.hold, bursts: self.bursts, ..configured };
        std::mem::replace(self, new) != *self
    }

    /// Names of all interfaces that it speaks of.
    pub(super) fn interfaces(&self) -> impl Iterator<Item = &str> {
        self.members.iter().flat_map(|member| {
            let addresses = member.addresses.iter().filter_map(|address| address.interface.as_deref());
            let routes = member.routes.iter().filter_map(|route| route.interface.as_deref());
            std::iter::once(member.interface.as_str()).chain(addresses).chain(routes)
        })
    }
}

impl Member {
    fn of(instance: &Instance) -> Self {
        Self {
            interface: instance.interface.clone(),
            vrid: instance.vrid,
            virtual_mac: instance.virtual_mac,
            accept: instance.accept || instance.priority == Priority::OWNER,
            addresses: instance.addresses.clone(),
            routes: instance.routes.clone(),
            rules: instance.rules.clone(),
        }
    }

    /// Those it has addresses of, IPv4 first.
    pub(super) fn families(&self) -> impl Iterator<Item = Family> {
        families(&self.addresses)
    }
}

fn families(addresses: &[VirtualAddress]) -> impl Iterator<Item = Family> {
    let has = |family| addresses.iter().any(|address| Family::of(address.prefix.address) == family);
    [Family::V4, Family::V6].into_iter().filter(move |family| has(*family))
}

/// Those that it has as master, on its interface.
pub fn virtual_macs(instance: &Instance) -> impl Iterator<Item = [u8; 6]> {
    let families = instance.virtual_mac.then(|| families(&instance.addresses));
    families.into_iter().flatten().map(|family| virtual_mac(family, instance.vrid))
}

/// What the interfaces of a group are: for each of its members in order, and each family that it has addresses of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    pub channels: Vec<SeenChannel>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenChannel {
    /// Its place in [`Wanted::members`].
    pub member: usize,
    /// As the member names it; with VRID and family what it is, whatever becomes of the order of members.
    pub on: String,
    pub vrid: Vrid,
    pub family: Family,
    pub interface: Usable,
    /// `None` when there is no such interface.
    pub place: Option<Place>,
}

/// Whether an interface can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Usable {
    Missing,
    Down,
    /// No address of the family to send from: for IPv6, no link-local one.
    NoAddress,
    Up {
        primary: IpAddr,
    },
}

/// Where to send and listen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub index: u32,
    /// All zeros unless the interface is Ethernet-like.
    pub mac: [u8; 6],
    /// Bytes of the largest IP packet.
    pub mtu: u32,
    pub virtual_mac: Option<[u8; 6]>,
}

/// RFC 9568 section 7.3.
pub(super) fn virtual_mac(family: Family, vrid: Vrid) -> [u8; 6] {
    match family {
        Family::V4 => [0, 0, 0x5e, 0, 1, vrid.as_u8()],
        Family::V6 => [0, 0, 0x5e, 0, 2, vrid.as_u8()],
    }
}

const PREFIXES: [(&str, Family); 2] = [("vrrp4.", Family::V4), ("vrrp6.", Family::V6)];
/// For the number of an interface in a name of at most 15 bytes.
const DIGITS: u32 = 100_000;

/// Of the macvlan interface with that MAC address on that interface.
pub(super) fn macvlan_name(family: Family, vrid: Vrid, below: u32) -> String {
    let (prefix, _) = PREFIXES[usize::from(family == Family::V6)];
    let number = if below < DIGITS { below.to_string() } else { letters(below) };
    format!("{prefix}{}.{number}", vrid.as_u8())
}

/// A number in base 26: as long as a name has room for, up to 11,881,375.
fn letters(mut number: u32) -> String {
    let mut letters = Vec::new();
    while number > 0 {
        letters.push(b'a' + (number % 26) as u8);
        number /= 26;
    }
    letters.into_iter().rev().map(char::from).collect()
}

/// Whether only Evenkeel gives a macvlan interface this name and MAC address.
pub(super) fn is_our_macvlan(name: &str, mac: Option<[u8; 6]>) -> bool {
    PREFIXES.iter().any(|(prefix, family)| {
        let vrid = name.strip_prefix(prefix).and_then(|rest| rest.split_once('.')?.0.parse().ok());
        vrid.and_then(Vrid::new).is_some_and(|vrid| mac == Some(virtual_mac(*family, vrid)))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_of_macvlans_fit_and_are_known_again() {
        for below in [1, 99_999, 100_000, 11_881_375] {
            for (family, vrid) in [(Family::V4, 255), (Family::V6, 1)] {
                let vrid = Vrid::new(vrid).unwrap();
                let name = macvlan_name(family, vrid, below);
                assert!(name.len() <= 15, "{name}");
                assert!(is_our_macvlan(&name, Some(virtual_mac(family, vrid))), "{name}");
                assert!(!is_our_macvlan(&name, Some([2, 0, 0, 0, 0, 1])), "of somebody else");
            }
        }
        assert_eq!(macvlan_name(Family::V4, Vrid::new(51).unwrap(), 2), "vrrp4.51.2");
        assert!(!is_our_macvlan("vrrp.51", Some([0, 0, 0x5e, 0, 1, 51])), "keepalived's");
    }

    #[test]
    fn a_reconfiguration_keeps_what_the_protocol_says() {
        let vrid = Vrid::new(51).unwrap();
        let mut wanted = Wanted { hold: true, bursts: 3, ..Wanted::of([&Instance::new("a", "eth0", vrid)]) };
        assert!(!wanted.reconfigure(Wanted::of([&Instance::new("a", "eth0", vrid)])));
        assert!(wanted.reconfigure(Wanted::of([&Instance::new("a", "eth1", vrid)])));
        assert_eq!((wanted.hold, wanted.bursts), (true, 3));
    }
}
