//! An interface as the kernel tells of it by netlink.

#![deny(clippy::disallowed_methods)]

use lb_common::backend::{SERVICE_TAG, TAGGED};
use rtnetlink::packet_route::link::{
    InfoData, InfoKind, InfoVlan, LinkAttribute, LinkFlags, LinkInfo, LinkLayerType, LinkMessage,
    VlanProtocol,
};

use super::{Below, Link};

/// An interface from what the kernel says of it.
#[must_use]
pub fn parse(message: &LinkMessage) -> Link {
    let ethernet = message.header.link_layer_type == LinkLayerType::Ether;
    let mut link = Link {
        index: message.header.index,
        name: message.header.index.to_string(),
        mac: None,
        mtu: 1500,
        up: message.header.flags.contains(LinkFlags::Up | LinkFlags::Running),
        below: None,
    };
    let mut below = None;
    let mut kind = None;
    let mut elsewhere = false;
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Address(address) if ethernet => link.mac = address.as_slice().try_into().ok(),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Link(index) => below = Some(*index),
            // The interface below is another network namespace's, and its index too.
            LinkAttribute::LinkNetNsId(_) => elsewhere = true,
            LinkAttribute::LinkInfo(infos) => kind = stacked(infos),
            _ => {}
        }
    }
    if let (Some(index), Some(tag), false) = (below, kind, elsewhere) {
        link.below = Some(Below { index, tag });
    }
    link
}

/// The tag of a VLAN interface, none for a macvlan interface; `None` for any other: `IFLA_LINK` of a veth, for example, is
/// its peer.
fn stacked(infos: &[LinkInfo]) -> Option<Option<u16>> {
    let kind = infos.iter().find_map(|info| match info {
        LinkInfo::Kind(kind) => Some(kind),
        _ => None,
    })?;
    let data = infos.iter().find_map(|info| match info {
        LinkInfo::Data(data) => Some(data),
        _ => None,
    });
    match (kind, data) {
        (InfoKind::MacVlan, _) => Some(None),
        (InfoKind::Vlan, Some(InfoData::Vlan(vlan))) => Some(Some(tag(vlan)?)),
        _ => None,
    }
}

fn tag(vlan: &[InfoVlan]) -> Option<u16> {
    let mut id = None;
    let mut service = 0;
    for info in vlan {
        match info {
            InfoVlan::Id(value) => id = Some(*value),
            InfoVlan::Protocol(VlanProtocol::Ieee8021Ad) => service = SERVICE_TAG,
            _ => {}
        }
    }
    // 12 bits (IEEE 802.1Q clause 9.6).
    id.filter(|id| *id < 1 << 12).map(|id| id | TAGGED | service)
}

#[cfg(test)]
mod tests {
    use rtnetlink::packet_core::Parseable as _;

    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];

    /// RTM_NEWLINK of `ip link add link eth0 name eth0.101 type vlan id 101`: index 34, on index 2.
    fn vlan_message(protocol: [u8; 2], id: [u8; 2], more: &[u8]) -> Vec<u8> {
        let mut message = vec![
            0x00,
            0x00, // family, padding
            0x01,
            0x00, // ARPHRD_ETHER
            0x22,
            0x00,
            0x00,
            0x00, // index 34
            0x43,
            0x10,
            0x01,
            0x00, // IFF_UP, BROADCAST, RUNNING, MULTICAST, LOWER_UP
            0x00,
            0x00,
            0x00,
            0x00, // change mask
            0x0d,
            0x00,
            0x03,
            0x00, // IFLA_IFNAME
            b'e',
            b't',
            b'h',
            b'0',
            b'.',
            b'1',
            b'0',
            b'1',
            0x00,
            0x00,
            0x00,
            0x00, //
            0x08,
            0x00,
            0x04,
            0x00, // IFLA_MTU
            0xd8,
            0x05,
            0x00,
            0x00, // 1496
            0x08,
            0x00,
            0x05,
            0x00, // IFLA_LINK
            0x02,
            0x00,
            0x00,
            0x00, //
            0x0a,
            0x00,
            0x01,
            0x00, // IFLA_ADDRESS
            0x02,
            0x00,
            0x00,
            0x00,
            0x00,
            0x01,
            0x00,
            0x00, //
            0x34,
            0x00,
            0x12,
            0x00, // IFLA_LINKINFO
            0x09,
            0x00,
            0x01,
            0x00, // IFLA_INFO_KIND
            b'v',
            b'l',
            b'a',
            b'n',
            0x00,
            0x00,
            0x00,
            0x00, //
            0x24,
            0x00,
            0x02,
            0x00, // IFLA_INFO_DATA
            0x06,
            0x00,
            0x05,
            0x00, // IFLA_VLAN_PROTOCOL
            protocol[0],
            protocol[1],
            0x00,
            0x00, //
            0x06,
            0x00,
            0x01,
            0x00, // IFLA_VLAN_ID
            id[0],
            id[1],
            0x00,
            0x00, //
            0x0c,
            0x00,
            0x02,
            0x00, // IFLA_VLAN_FLAGS
            0x01,
            0x00,
            0x00,
            0x00,
            0xff,
            0xff,
            0xff,
            0xff, // VLAN_FLAG_REORDER_HDR, mask
            0x04,
            0x00,
            0x03,
            0x00, // IFLA_VLAN_EGRESS_QOS, empty
        ];
        message.extend(more);
        message
    }

    fn parse_bytes(bytes: &[u8]) -> Link {
        parse(&LinkMessage::parse(bytes).unwrap())
    }

    #[test]
    fn a_vlan_interface_is_read_from_what_the_kernel_sends() {
        let link = parse_bytes(&vlan_message([0x81, 0x00], [101, 0], &[]));
        let below = Some(Below { index: 2, tag: Some(101 | TAGGED) });
        let wanted =
            Link { index: 34, name: "eth0.101".to_owned(), mac: Some(MAC), mtu: 1496, up: true, below };
        assert_eq!(link, wanted);
        let service = parse_bytes(&vlan_message([0x88, 0xa8], [0xfe, 0x0f], &[]));
        assert_eq!(service.below, Some(Below { index: 2, tag: Some(4094 | TAGGED | SERVICE_TAG) }));
    }

    #[test]
    fn a_vlan_interface_on_one_of_another_namespace_is_taken_for_the_lowest() {
        let elsewhere = [0x08, 0x00, 0x25, 0x00, 0x00, 0x00, 0x00, 0x00];
        assert_eq!(parse_bytes(&vlan_message([0x81, 0x00], [101, 0], &elsewhere)).below, None);
    }

    #[test]
    fn the_peer_of_a_veth_is_not_below_it_but_what_a_macvlan_is_made_on_is() {
        let message = |kind| {
            let mut message = LinkMessage::default();
            message.attributes =
                vec![LinkAttribute::Link(7), LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind)])];
            message
        };
        assert_eq!(parse(&message(InfoKind::Veth)).below, None);
        assert_eq!(parse(&message(InfoKind::Vlan)).below, None, "without an identifier");
        assert_eq!(parse(&message(InfoKind::MacVlan)).below, Some(Below { index: 7, tag: None }));
    }
}
