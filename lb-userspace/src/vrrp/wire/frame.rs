//! Messages as they go out.

use std::net::{IpAddr, Ipv4Addr};

use super::ip::{Fragment, V4_HEADER, V6_HEADER, v4_header, v6_header};
use super::{GROUP, GROUP_V6};

/// Where RFC 1112 section 6.4 maps the group to.
const GROUP_MAC: [u8; 6] = [0x01, 0x00, 0x5e, 0x00, 0x00, 0x12];
/// Where RFC 2464 section 7 maps the group to.
const GROUP_MAC_V6: [u8; 6] = [0x33, 0x33, 0x00, 0x00, 0x00, 0x12];
const ETHERTYPE_V4: [u8; 2] = [0x08, 0x00];
const ETHERTYPE_V6: [u8; 2] = [0x86, 0xdd];

/// A message as Ethernet frames to the multicast group of the source's family, without padding or tags: one, or as
/// fragments if it is longer than the MTU (in bytes of IP) allows, as with more than 90 addresses of IPv6 on Ethernet.
///
/// Fragments of one message have the same identification, which should differ from message to message.
#[must_use]
pub fn frames(
    source_mac: [u8; 6],
    mtu: usize,
    source: IpAddr,
    message: &[u8],
    identification: u32,
) -> Vec<Vec<u8>> {
    let (group_mac, ethertype, header) = match source {
        IpAddr::V4(_) => (GROUP_MAC, ETHERTYPE_V4, V4_HEADER),
        IpAddr::V6(_) => (GROUP_MAC_V6, ETHERTYPE_V6, V6_HEADER),
    };
    let ethernet = [&group_mac[..], &source_mac, &ethertype].concat();
    let frame = |payload: &[u8], fragment| {
        let ip = match source {
            IpAddr::V4(source) => v4_header(source, GROUP, payload.len(), fragment).to_vec(),
            IpAddr::V6(source) => v6_header(source, GROUP_V6, payload.len(), fragment),
        };
        [&ethernet, &ip, payload].concat()
    };
    if header + message.len() <= mtu {
        return vec![frame(message, None)];
    }
    let room = room_in_fragments(source, mtu);
    let last = (message.len() - 1) / room;
    let fragment = |(index, payload): (usize, &[u8])| {
        let offset = u16::try_from(index * room / 8).expect("a message has at most 4120 bytes");
        frame(payload, Some(Fragment { identification, offset, more: index < last }))
    };
    message.chunks(room).enumerate().map(fragment).collect()
}

/// A multiple of 8 bytes, as the offset of the next one counts in such units.
fn room_in_fragments(source: IpAddr, mtu: usize) -> usize {
    let headers = if source.is_ipv4() { V4_HEADER } else { V6_HEADER + 8 };
    (mtu.saturating_sub(headers) & !7).max(8)
}

/// A message to one node over IPv4, as a socket with `IP_HDRINCL` takes it (raw(7)); the kernel gives it an
/// identification.
#[must_use]
pub fn packet(source: Ipv4Addr, destination: Ipv4Addr, message: &[u8]) -> Vec<u8> {
    [&v4_header(source, destination, message.len(), None), message].concat()
}
