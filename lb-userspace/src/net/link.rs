//! State of interfaces, and macvlan interfaces on them, as routing netlink has them.

use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use rtnetlink::packet_route::RouteNetlinkMessage as Message;
use rtnetlink::packet_route::link::{
    InfoData, InfoKind, InfoMacVlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, MacVlanMode,
};

use super::netlink::Request;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    pub name: String,
    /// Administratively up, and with carrier.
    pub up: bool,
    /// Administratively.
    pub raised: bool,
    /// `None` unless the interface is Ethernet-like.
    pub mac: Option<[u8; 6]>,
    /// Bytes of the largest IP packet.
    pub mtu: u32,
    /// The interface that a macvlan interface is on.
    pub macvlan_on: Option<u32>,
}

/// All interfaces.
#[must_use]
pub fn all() -> Message {
    Message::GetLink(LinkMessage::default())
}

/// Makes a macvlan interface that is down. Mode `bridge`: what comes from the network with this MAC address as its source
/// is still seen on the interface below (`macvlan_handle_frame` in drivers/net/macvlan.c).
#[must_use]
pub fn make_macvlan(name: &str, below: u32, mac: [u8; 6]) -> Request {
    let mut message = LinkMessage::default();
    let data = InfoData::MacVlan(vec![InfoMacVlan::Mode(MacVlanMode::Bridge)]);
    message.attributes = vec![
        LinkAttribute::IfName(name.to_owned()),
        LinkAttribute::Link(below),
        LinkAttribute::Address(mac.to_vec()),
        LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::MacVlan), LinkInfo::Data(data)]),
    ];
    Request { message: Message::NewLink(message), flags: NLM_F_CREATE | NLM_F_EXCL }
}

#[must_use]
pub fn delete(name: &str) -> Request {
    let mut message = LinkMessage::default();
    message.attributes = vec![LinkAttribute::IfName(name.to_owned())];
    Request { message: Message::DelLink(message), flags: 0 }
}

/// Administratively up or down.
#[must_use]
pub fn raise(index: u32, up: bool) -> Request {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message.header.change_mask = LinkFlags::Up;
    message.header.flags.set(LinkFlags::Up, up);
    Request { message: Message::SetLink(message), flags: 0 }
}

#[must_use]
pub fn parse(message: &LinkMessage) -> Link {
    let flags = message.header.flags;
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        up: flags.contains(LinkFlags::Up | LinkFlags::Running),
        raised: flags.contains(LinkFlags::Up),
        mac: None,
        mtu: 1500,
        macvlan_on: None,
    };
    let (mut below, mut macvlan) = (None, false);
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Address(address) => link.mac = address.as_slice().try_into().ok(),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Link(index) => below = Some(*index),
            LinkAttribute::LinkInfo(infos) => macvlan = infos.contains(&LinkInfo::Kind(InfoKind::MacVlan)),
            _ => {}
        }
    }
    link.macvlan_on = below.filter(|_| macvlan);
    link
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_macvlan_is_known_with_what_it_is_on_and_a_veth_is_on_nothing() {
        let mac = [0, 0, 0x5e, 0, 1, 51];
        let Message::NewLink(message) = make_macvlan("vrrp4.51.2", 2, mac).message else { unreachable!() };
        let wanted = Link {
            index: 0,
            name: "vrrp4.51.2".to_owned(),
            up: false,
            raised: false,
            mac: Some(mac),
            mtu: 1500,
            macvlan_on: Some(2),
        };
        assert_eq!(parse(&message), wanted);
        let mut veth = LinkMessage::default();
        veth.attributes =
            vec![LinkAttribute::Link(7), LinkAttribute::LinkInfo(vec![LinkInfo::Kind(InfoKind::Veth)])];
        assert_eq!(parse(&veth).macvlan_on, None);
    }
}
