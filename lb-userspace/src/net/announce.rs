//! Gratuitous ARP and unsolicited neighbour advertisements: tell a network which MAC address an address is at now.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};

use socket2::{Domain, SockAddr, SockAddrStorage, Socket, Type};

const BROADCAST: [u8; 6] = [0xff; 6];
const FRAME: usize = 42;
const NEIGHBOUR_ADVERTISEMENT: usize = 86;
/// ff02::1 and the MAC address that it is sent to (RFC 2464 section 7).
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
const ICMPV6: u8 = 58;
const ROUTER: u8 = 0x80;
const OVERRIDE: u8 = 0x20;

/// An ARP request for the address itself, broadcast: what keepalived sends and every neighbour accepts (RFC 5227
/// section 3).
#[must_use]
pub fn gratuitous_arp(mac: [u8; 6], address: Ipv4Addr) -> [u8; FRAME] {
    let mut frame = [0; FRAME];
    frame[0..6].copy_from_slice(&BROADCAST);
    frame[6..12].copy_from_slice(&mac);
    frame[12..14].copy_from_slice(&[0x08, 0x06]);
    // Ethernet, IPv4, their address lengths, request (RFC 826).
    frame[14..22].copy_from_slice(&[0, 1, 0x08, 0, 6, 4, 0, 1]);
    frame[22..28].copy_from_slice(&mac);
    frame[28..32].copy_from_slice(&address.octets());
    frame[32..38].copy_from_slice(&BROADCAST);
    frame[38..42].copy_from_slice(&address.octets());
    frame
}

/// An unsolicited neighbour advertisement from the address itself to all nodes, which overrides what they know (RFC 4861
/// sections 4.4 and 7.2.6, RFC 9568 section 6.4.2).
#[must_use]
pub fn unsolicited_advertisement(
    mac: [u8; 6],
    address: Ipv6Addr,
    router: bool,
) -> [u8; NEIGHBOUR_ADVERTISEMENT] {
    let mut frame = [0; NEIGHBOUR_ADVERTISEMENT];
    frame[0..6].copy_from_slice(&ALL_NODES_MAC);
    frame[6..12].copy_from_slice(&mac);
    frame[12..14].copy_from_slice(&[0x86, 0xdd]);
    // Version 6, 32 bytes of ICMPv6, hop limit 255 (RFC 4861 section 7.1.2).
    frame[14..22].copy_from_slice(&[0x60, 0, 0, 0, 0, 32, ICMPV6, 255]);
    frame[22..38].copy_from_slice(&address.octets());
    frame[38..54].copy_from_slice(&ALL_NODES.octets());
    frame[54] = 136;
    frame[58] = if router { ROUTER | OVERRIDE } else { OVERRIDE };
    frame[62..78].copy_from_slice(&address.octets());
    // Target link-layer address, one unit of 8 bytes.
    frame[78..80].copy_from_slice(&[2, 1]);
    frame[80..86].copy_from_slice(&mac);
    let checksum = icmpv6_checksum(&frame[22..54], &frame[54..]);
    frame[56..58].copy_from_slice(&checksum.to_be_bytes());
    frame
}

/// Over the pseudo-header of RFC 8200 section 8.1 and the message with a checksum of 0.
fn icmpv6_checksum(addresses: &[u8], message: &[u8]) -> u16 {
    let words = |bytes: &[u8]| -> u32 {
        bytes.chunks_exact(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum()
    };
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let mut sum = words(addresses) + words(message) + length + u32::from(ICMPV6);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// Sends whole Ethernet frames and receives nothing.
#[derive(Debug)]
pub struct FrameSocket(Socket);

impl FrameSocket {
    /// # Errors
    /// Without `CAP_NET_RAW`.
    pub fn open() -> io::Result<Self> {
        // Without a protocol a packet socket receives nothing (packet(7)).
        let socket = Socket::new(Domain::PACKET, Type::RAW, None)?;
        socket.set_nonblocking(true)?;
        Ok(Self(socket))
    }

    /// # Errors
    /// When the interface is gone or down, or its queue is full.
    pub fn send(&self, index: u32, frame: &[u8]) -> io::Result<()> {
        self.0.send_to(frame, &link_layer_address(index)?).map(drop)
    }
}

fn link_layer_address(index: u32) -> io::Result<SockAddr> {
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: sockaddr_ll is one of the kernel's socket addresses: plain integers that fit the storage.
    let address = unsafe { storage.view_as::<libc::sockaddr_ll>() };
    address.sll_family = libc::AF_PACKET as libc::sa_family_t;
    address.sll_ifindex = i32::try_from(index).map_err(|_| io::ErrorKind::InvalidInput)?;
    let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the storage holds a sockaddr_ll, which is `length` bytes long.
    Ok(unsafe { SockAddr::new(storage, length) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gratuitous_arp_is_a_broadcast_request_with_the_address_as_sender_and_target() {
        let frame = gratuitous_arp([0x02, 0, 0, 0, 0, 0x01], Ipv4Addr::new(203, 0, 113, 10));
        #[rustfmt::skip]
        let golden = [
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02, 0, 0, 0, 0, 0x01, 0x08, 0x06,
            0x00, 0x01, 0x08, 0x00, 0x06, 0x04, 0x00, 0x01,
            0x02, 0, 0, 0, 0, 0x01, 203, 0, 113, 10,
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 203, 0, 113, 10,
        ];
        assert_eq!(frame, golden);
    }

    #[test]
    fn an_unsolicited_advertisement_overrides_and_comes_from_the_address_itself_to_all_nodes() {
        let address = "2001:db8::10".parse().unwrap();
        let frame = unsolicited_advertisement([0, 0, 0x5e, 0, 2, 51], address, true);
        #[rustfmt::skip]
        let golden = [
            0x33, 0x33, 0, 0, 0, 0x01, 0x00, 0x00, 0x5e, 0x00, 0x02, 0x33, 0x86, 0xdd,
            0x60, 0, 0, 0, 0x00, 0x20, 0x3a, 0xff,
            0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
            0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x01,
            0x88, 0x00, 0x1a, 0xda, 0xa0, 0, 0, 0,
            0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x10,
            0x02, 0x01, 0x00, 0x00, 0x5e, 0x00, 0x02, 0x33,
        ];
        assert_eq!(frame, golden);
        let host = unsolicited_advertisement([0, 0, 0x5e, 0, 2, 51], address, false);
        assert_eq!(host[58], 0x20, "not a router");
    }
}
