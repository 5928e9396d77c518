//! The host's interfaces, and how they are stacked: what leaves a VLAN or macvlan interface leaves by the one below it.

#![deny(clippy::disallowed_methods)]

mod parse;

use std::collections::{BTreeMap, BTreeSet};

use super::way::Unresolved;
use lb_common::backend::tags;
use lb_common::station::Station;

pub use parse::parse;

/// More interfaces on each other than there is a use for. `MAX_NEST_DEV` of the kernel is 8 too.
const MAX_DEPTH: usize = 8;

/// An interface as the kernel holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub name: String,
    /// `None` unless the interface is Ethernet-like.
    pub mac: Option<[u8; 6]>,
    /// Bytes of the largest IP packet.
    pub mtu: u32,
    /// Administratively up, and with carrier.
    pub up: bool,
    pub below: Option<Below>,
}

/// The interface that a VLAN or macvlan interface sends and receives by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Below {
    pub index: u32,
    /// VLAN identifier with [`lb_common::backend::TAGGED`], and [`lb_common::backend::SERVICE_TAG`] for 802.1ad; `None` for a macvlan interface.
    pub tag: Option<u16>,
}

/// How frames of an interface leave the host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exit {
    /// The lowest interface of the stack.
    pub ifindex: u32,
    /// MAC address of the interface itself.
    pub source: [u8; 6],
    /// As [`tags`] encodes them.
    pub tags: u32,
    /// The smallest of the stack, bytes of an IP packet.
    pub mtu: u32,
}

/// All interfaces of the host, of one reading.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Links(BTreeMap<u32, Link>);

impl FromIterator<Link> for Links {
    fn from_iter<T: IntoIterator<Item = Link>>(links: T) -> Self {
        Self(links.into_iter().map(|link| (link.index, link)).collect())
    }
}

impl Links {
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    #[must_use]
    pub fn name(&self, index: u32) -> Option<&str> {
        self.0.get(&index).map(|link| link.name.as_str())
    }

    /// How frames of this interface leave the host.
    ///
    /// # Errors
    /// They can't: it is down, no Ethernet, or has more tags on it than a frame may carry.
    pub fn exit(&self, index: u32) -> Result<Exit, Unresolved> {
        let top = self.0.get(&index).ok_or(Unresolved::NoInterface { index })?;
        let source = top.mac.ok_or_else(|| Unresolved::NotEthernet { interface: top.name.clone() })?;
        let mut exit = Exit { ifindex: index, source, tags: 0, mtu: top.mtu };
        // The interface nearest to the host puts its tag on first: it is the inner one.
        let (mut outer, mut inner) = (0, 0);
        for link in self.stack(top) {
            if !link.up {
                return Err(Unresolved::Down { interface: link.name.clone() });
            }
            exit.ifindex = link.index;
            exit.mtu = exit.mtu.min(link.mtu);
            match link.below.and_then(|below| below.tag) {
                None => {}
                Some(tag) if inner == 0 => inner = tag,
                Some(tag) if outer == 0 => outer = tag,
                Some(_) => return Err(Unresolved::TooManyTags { interface: top.name.clone() }),
            }
        }
        exit.tags = tags(outer, inner);
        Ok(exit)
    }

    /// What a frame may be addressed to that comes in by one of these interfaces: the MAC address of the interface itself
    /// and of every VLAN or macvlan interface on top of it. A macvlan interface that is down counts if `coming` has the
    /// interface that it is on and its address: it will be up before this is asked again, and then the kernel would answer for services.
    #[must_use]
    pub fn stations(
        &self,
        interfaces: &BTreeSet<u32>,
        coming: &BTreeSet<(String, [u8; 6])>,
    ) -> BTreeSet<Station> {
        let mut stations = BTreeSet::new();
        for link in self.0.values() {
            let Some(address) = link.mac else { continue };
            // A virtual router's backup drops what is sent to its MAC address (RFC 9568 section 6.4.2).
            let macvlan_on = link.below.filter(|below| below.tag.is_none()).map(|below| below.index);
            if let Some(below) = macvlan_on
                && !link.up
                && !coming.contains(&(self.name(below).unwrap_or_default().to_owned(), address))
            {
                continue;
            }
            let entrances =
                self.stack(link).map(|below| below.index).filter(|index| interfaces.contains(index));
            stations.extend(entrances.map(|ifindex| Station { ifindex, address, zero: 0 }));
        }
        stations
    }

    /// The interface and those below it, downwards.
    fn stack<'a>(&'a self, top: &'a Link) -> impl Iterator<Item = &'a Link> {
        std::iter::successors(Some(top), |link| self.0.get(&link.below?.index)).take(MAX_DEPTH)
    }
}

#[cfg(test)]
mod tests {
    use lb_common::backend::{SERVICE_TAG, TAGGED};

    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
    const OTHER: [u8; 6] = [2, 0, 0, 0, 0, 2];
    const VIRTUAL: [u8; 6] = [0, 0, 0x5e, 0, 1, 51];

    fn link(index: u32, mac: [u8; 6], mtu: u32) -> Link {
        Link { index, name: format!("eth{index}"), mac: Some(mac), mtu, up: true, below: None }
    }

    fn on(index: u32, tag: u16, link: Link) -> Link {
        Link { below: Some(Below { index, tag: Some(tag) }), ..link }
    }

    fn macvlan(index: u32, link: Link) -> Link {
        Link { below: Some(Below { index, tag: None }), ..link }
    }

    fn exit(index: u32, links: &[Link]) -> Result<Exit, String> {
        Links::from_iter(links.iter().cloned()).exit(index).map_err(|error| error.to_string())
    }

    #[test]
    fn frames_leave_by_the_lowest_interface_with_the_tags_of_all_and_the_smallest_mtu() {
        let (five, seven) = (5 | TAGGED, 7 | TAGGED | SERVICE_TAG);
        let links = [
            link(1, MAC, 1500),
            on(1, seven, link(2, MAC, 9000)),
            on(2, five, link(3, OTHER, 1496)),
            on(3, five, link(4, MAC, 1500)),
            macvlan(2, link(5, VIRTUAL, 1400)),
            macvlan(1, link(6, VIRTUAL, 1500)),
        ];
        let leaves = |source, tags, mtu| Ok(Exit { ifindex: 1, source, tags, mtu });
        assert_eq!(exit(1, &links), leaves(MAC, 0, 1500));
        assert_eq!(exit(2, &links), leaves(MAC, tags(0, seven), 1500));
        assert_eq!(exit(3, &links), leaves(OTHER, tags(seven, five), 1496));
        assert_eq!(exit(5, &links), leaves(VIRTUAL, tags(0, seven), 1400));
        assert_eq!(exit(6, &links), leaves(VIRTUAL, 0, 1500));
        assert_eq!(
            exit(4, &links).unwrap_err(),
            "frames of its interface eth4 would carry more than two VLAN tags"
        );
    }

    #[test]
    fn an_interface_that_is_down_in_any_part_or_gone_or_no_ethernet_is_no_exit() {
        let down = Link { up: false, ..link(1, MAC, 1500) };
        let above = on(1, 5 | TAGGED, link(2, MAC, 1500));
        let message = "its interface eth1 is down, or has no carrier";
        assert_eq!(exit(1, std::slice::from_ref(&down)).unwrap_err(), message);
        assert_eq!(exit(2, &[down, above]).unwrap_err(), message);
        assert_eq!(exit(3, &[]).unwrap_err(), "its interface, number 3, is gone");
        let tunnel = Link { mac: None, ..link(1, MAC, 1500) };
        assert_eq!(exit(1, &[tunnel]).unwrap_err(), "its interface eth1 is no Ethernet");
    }

    #[test]
    fn interfaces_that_claim_to_be_below_each_other_are_no_endless_way() {
        let links = [macvlan(2, link(1, MAC, 1500)), macvlan(1, link(2, MAC, 1500))];
        assert!(exit(1, &links).is_ok());
        assert_eq!(Links::from_iter(links).stations(&BTreeSet::from([1]), &BTreeSet::new()).len(), 1);
    }

    #[test]
    fn stations_are_the_addresses_of_an_interface_and_of_all_that_is_stacked_on_it() {
        let links = Links::from_iter([
            link(1, MAC, 1500),
            on(1, 5 | TAGGED, link(2, OTHER, 1500)),
            macvlan(2, link(3, VIRTUAL, 1500)),
            link(4, [2, 0, 0, 0, 0, 4], 1500),
            Link { mac: None, ..macvlan(1, link(5, MAC, 1500)) },
            Link { up: false, ..macvlan(1, link(6, [2, 0, 0, 0, 0, 6], 1500)) },
        ]);
        let stations = |interfaces: &[u32]| {
            let found = links.stations(&interfaces.iter().copied().collect(), &BTreeSet::new());
            found.iter().map(|station| (station.ifindex, station.address)).collect::<Vec<_>>()
        };
        assert_eq!(stations(&[1]), [(1, VIRTUAL), (1, MAC), (1, OTHER)]);
        assert_eq!(stations(&[4, 9]), [(4, [2, 0, 0, 0, 0, 4])]);
        assert_eq!(stations(&[2]), [(2, VIRTUAL), (2, OTHER)], "the program is on the VLAN interface");
    }

    #[test]
    fn a_virtual_router_that_becomes_master_is_a_station_before_its_interface_is_up() {
        let links = Links::from_iter([
            link(1, MAC, 1500),
            Link { up: false, ..macvlan(1, link(2, VIRTUAL, 1500)) },
            Link { up: false, ..macvlan(1, link(3, OTHER, 1500)) },
        ]);
        let found = links.stations(&BTreeSet::from([1]), &BTreeSet::from([("eth1".to_owned(), VIRTUAL)]));
        let found: Vec<_> = found.iter().map(|station| station.address).collect();
        assert_eq!(found, [VIRTUAL, MAC]);
    }
}
