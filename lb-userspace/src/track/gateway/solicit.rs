//! Asks a neighbour by an ARP request (RFC 826) or a Neighbour Solicitation (RFC 4861 section 4.3).

use std::io;
use std::mem::MaybeUninit;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddrV6};
use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt as _;
use rtnetlink::Handle;
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags};
use socket2::{Domain, Protocol, SockAddr, SockAddrStorage, Socket, Type};
use tokio::io::unix::AsyncFd;
use tokio::time::timeout;

use super::route::Hop;

const BROADCAST: [u8; 6] = [0xff; 6];
const ETH_P_ARP: u16 = 0x0806;
const ARP: usize = 28;
const SOLICITATION: usize = 32;
const ADVERTISEMENT: usize = 24;
/// Larger than what is looked at of any answer.
const RECEIVED: usize = 128;

/// The interface that is asked by.
#[derive(Debug)]
struct Interface {
    index: u32,
    name: String,
    /// `None` where there is no ARP: nobody to ask.
    mac: Option<[u8; 6]>,
    up: bool,
    /// IPv4 addresses with the lengths of their networks, in the kernel's order.
    addresses: Vec<(Ipv4Addr, u8)>,
}

/// Waits for the answer; what it says is for a person.
pub(super) async fn answers(netlink: &Handle, hop: Hop, limit: Duration) -> Result<String, String> {
    let asking = async {
        let interface =
            interface(netlink, hop.interface).await.map_err(|error| format!("netlink: {error}"))?;
        if !interface.up {
            return Err(format!("its interface {} is down, or has no carrier", interface.name));
        }
        let (Some(mac), Some(address)) = (interface.mac, hop.address) else {
            return Ok(format!("{} is up; nobody is asked by it", interface.name));
        };
        let asked = match address {
            IpAddr::V4(v4) => ask_arp(&interface, mac, v4).await,
            IpAddr::V6(v6) => ask_nd(&interface, mac, v6).await,
        };
        match asked {
            Ok(()) => Ok(format!("{address} answers on {}", interface.name)),
            Err(error) => Err(format!("cannot ask {address} on {}: {error}", interface.name)),
        }
    };
    let silent = || {
        let who = hop.address.map_or_else(|| "netlink".to_owned(), |address| address.to_string());
        Err(format!("{who} does not answer"))
    };
    timeout(limit, asking).await.unwrap_or_else(|_| silent())
}

async fn interface(netlink: &Handle, index: u32) -> Result<Interface, rtnetlink::Error> {
    let mut interface =
        Interface { index, name: index.to_string(), mac: None, up: false, addresses: Vec::new() };
    let mut replies = pin!(netlink.link().get().match_index(index).execute());
    while let Some(reply) = replies.next().await {
        let link = reply?;
        let flags = link.header.flags;
        interface.up = flags.contains(LinkFlags::Up | LinkFlags::Running);
        for attribute in link.attributes {
            match attribute {
                LinkAttribute::IfName(name) => interface.name = name,
                LinkAttribute::Address(mac) if !flags.intersects(LinkFlags::Noarp | LinkFlags::Loopback) => {
                    interface.mac = mac.as_slice().try_into().ok();
                }
                _ => {}
            }
        }
    }
    let mut replies = pin!(netlink.address().get().set_link_index_filter(index).execute());
    while let Some(reply) = replies.next().await {
        let message = reply?;
        let local = message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Local(IpAddr::V4(address)) => Some(*address),
            _ => None,
        });
        interface.addresses.extend(local.map(|address| (address, message.header.prefix_len)));
    }
    Ok(interface)
}

async fn ask_arp(interface: &Interface, mac: [u8; 6], target: Ipv4Addr) -> io::Result<()> {
    // Without a protocol a packet socket receives nothing, of other interfaces neither (packet(7)).
    let socket = Socket::new(Domain::PACKET, Type::DGRAM, None)?;
    socket.set_nonblocking(true)?;
    socket.bind(&link_layer(interface.index)?)?;
    let request = arp_request(mac, source(&interface.addresses, target), target);
    socket.send_to(&request, &link_layer(interface.index)?)?;
    receive(socket, |packet| is_arp_of(packet, target)).await
}

/// An address of the target's network, which every neighbour answers; without one none (RFC 5227 section 2.1.1).
fn source(addresses: &[(Ipv4Addr, u8)], target: Ipv4Addr) -> Ipv4Addr {
    let near = addresses.iter().find(|(address, length)| {
        (address.to_bits() ^ target.to_bits()).leading_zeros() >= u32::from(*length)
    });
    near.or_else(|| addresses.first()).map_or(Ipv4Addr::UNSPECIFIED, |(address, _)| *address)
}

fn arp_request(mac: [u8; 6], source: Ipv4Addr, target: Ipv4Addr) -> [u8; ARP] {
    let mut packet = [0; ARP];
    // Ethernet, IPv4, their address lengths, request.
    packet[..8].copy_from_slice(&[0, 1, 0x08, 0, 6, 4, 0, 1]);
    packet[8..14].copy_from_slice(&mac);
    packet[14..18].copy_from_slice(&source.octets());
    packet[24..].copy_from_slice(&target.octets());
    packet
}

/// Whatever it sends shows that it is there.
fn is_arp_of(packet: &[u8], sender: Ipv4Addr) -> bool {
    packet.len() >= ARP && packet[..6] == [0, 1, 0x08, 0, 6, 4] && packet[14..18] == sender.octets()
}

async fn ask_nd(interface: &Interface, mac: [u8; 6], target: Ipv6Addr) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV6, Type::RAW, Some(Protocol::ICMPV6))?;
    socket.set_nonblocking(true)?;
    socket.bind_device(Some(interface.name.as_bytes()))?;
    socket.set_multicast_if_v6(interface.index)?;
    // RFC 4861 section 7.1.1: whoever gets it with another knows that it was forwarded.
    socket.set_multicast_hops_v6(255)?;
    // The kernel adds the checksum to what a raw ICMPv6 socket sends (RFC 3542 section 3.1).
    let to = SocketAddrV6::new(solicited_node(target), 0, 0, interface.index);
    socket.send_to(&solicitation(mac, target), &to.into())?;
    receive(socket, |packet| is_advertisement_of(packet, target)).await
}

/// RFC 4291 section 2.7.1.
fn solicited_node(target: Ipv6Addr) -> Ipv6Addr {
    Ipv6Addr::from_bits(0xff02_0000_0000_0000_0000_0001_ff00_0000 | target.to_bits() & 0xff_ffff)
}

fn solicitation(mac: [u8; 6], target: Ipv6Addr) -> [u8; SOLICITATION] {
    let mut packet = [0; SOLICITATION];
    packet[0] = 135;
    packet[8..24].copy_from_slice(&target.octets());
    // Source link-layer address, in units of 8 bytes.
    packet[24..26].copy_from_slice(&[1, 1]);
    packet[26..].copy_from_slice(&mac);
    packet
}

fn is_advertisement_of(packet: &[u8], target: Ipv6Addr) -> bool {
    packet.len() >= ADVERTISEMENT && packet[..2] == [136, 0] && packet[8..24] == target.octets()
}

async fn receive(socket: Socket, wanted: impl Fn(&[u8]) -> bool) -> io::Result<()> {
    // SAFETY: the socket has one descriptor, and keeps it open until it is dropped.
    let socket = unsafe { AsyncFd::register(socket) }?;
    loop {
        let mut ready = socket.readable().await?;
        let mut bytes = [MaybeUninit::uninit(); RECEIVED];
        match ready.try_io(|socket| socket.get_ref().recv(&mut bytes)) {
            Ok(length) => {
                let length = length?;
                // SAFETY: the kernel has written that many bytes.
                let packet = unsafe { bytes[..length].assume_init_ref() };
                if wanted(packet) {
                    return Ok(());
                }
            }
            Err(_would_block) => {}
        }
        // A flood of other packets must not keep the runtime's thread.
        tokio::task::yield_now().await;
    }
}

/// Everybody on the interface, by ARP.
fn link_layer(index: u32) -> io::Result<SockAddr> {
    let mut storage = SockAddrStorage::zeroed();
    // SAFETY: sockaddr_ll is one of the kernel's socket addresses: plain integers that fit the storage.
    let address = unsafe { storage.view_as::<libc::sockaddr_ll>() };
    address.sll_family = libc::AF_PACKET as libc::sa_family_t;
    address.sll_protocol = ETH_P_ARP.to_be();
    address.sll_ifindex = i32::try_from(index).map_err(|_| io::ErrorKind::InvalidInput)?;
    address.sll_halen = 6;
    address.sll_addr[..6].copy_from_slice(&BROADCAST);
    let length = size_of::<libc::sockaddr_ll>() as libc::socklen_t;
    // SAFETY: the storage holds a sockaddr_ll, which is `length` bytes long.
    Ok(unsafe { SockAddr::new(storage, length) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

    #[test]
    fn an_arp_request_is_as_rfc_826_says_and_its_answer_is_known() {
        let (own, target) = (Ipv4Addr::new(10, 0, 0, 2), Ipv4Addr::new(10, 0, 0, 1));
        #[rustfmt::skip]
        let golden = [
            0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 1, 10, 0, 0, 2, 0, 0, 0, 0, 0, 0, 10, 0, 0, 1,
        ];
        let mut packet = arp_request(MAC, own, target);
        assert_eq!(packet, golden);
        assert!(!is_arp_of(&packet, target), "our own");
        packet[7] = 2;
        packet[14..18].copy_from_slice(&target.octets());
        assert!(is_arp_of(&packet, target));
        assert!(!is_arp_of(&packet[..27], target), "cut short");
    }

    #[test]
    fn the_sender_of_a_request_is_of_the_network_of_the_target_if_any_is() {
        let (far, near) = ((Ipv4Addr::new(192, 168, 1, 2), 24), (Ipv4Addr::new(10, 0, 0, 2), 24));
        let target = Ipv4Addr::new(10, 0, 0, 1);
        assert_eq!(source(&[far, near], target), near.0);
        assert_eq!(source(&[far], target), far.0);
        assert_eq!(source(&[], target), Ipv4Addr::UNSPECIFIED);
    }

    #[test]
    fn a_solicitation_is_as_rfc_4861_says_and_its_answer_is_known() {
        let target: Ipv6Addr = "fe80::12:3456".parse().unwrap();
        assert_eq!(solicited_node(target), "ff02::1:ff12:3456".parse::<Ipv6Addr>().unwrap());
        let mut packet = solicitation(MAC, target);
        assert_eq!((packet[0], &packet[24..]), (135, &[1, 1, 2, 0, 0, 0, 0, 1][..]));
        assert!(!is_advertisement_of(&packet, target));
        packet[0] = 136;
        assert!(is_advertisement_of(&packet[..24], target));
        assert!(!is_advertisement_of(&packet[..23], target), "cut short");
        assert!(!is_advertisement_of(&packet, "fe80::1".parse().unwrap()));
    }
}
