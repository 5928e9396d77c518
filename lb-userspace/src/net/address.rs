//! IPv4 addresses of an interface, by netlink.

use std::net::{IpAddr, Ipv4Addr};

use futures_util::StreamExt;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{
    AddressAttribute, AddressHeaderFlags, AddressMessage, AddressProtocol,
};
use rtnetlink::{AddressMessageBuilder, Handle};

/// `IFA_PROTO` of addresses that Evenkeel adds, shown by `ip address` as `proto 0x70`; below 4 is the kernel's own.
/// Kernels before 5.18 ignore it.
const PROTOCOL: AddressProtocol = AddressProtocol::Other(0x70);

/// An IPv4 address as the kernel holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Present {
    pub address: Ipv4Addr,
    pub length: u8,
    /// In a network that an earlier address of the interface is in.
    pub secondary: bool,
    /// Added by Evenkeel, as far as the kernel keeps that.
    pub ours: bool,
}

#[derive(Debug, thiserror::Error)]
#[error("cannot {action} on interface {index}: {source}")]
pub struct AddressError {
    action: String,
    index: u32,
    source: rtnetlink::Error,
}

/// IPv4 addresses of the interface, in the kernel's order.
///
/// # Errors
/// When the kernel refuses or the netlink connection is gone.
pub async fn list(netlink: &Handle, index: u32) -> Result<Vec<Present>, AddressError> {
    let mut request = netlink.address().get().set_link_index_filter(index);
    let header = &mut request.message_mut().header;
    header.family = AddressFamily::Inet;
    // Filters in the kernel too, for a connection with strict checking.
    header.index = index;
    let mut replies = std::pin::pin!(request.execute());
    let mut present = Vec::new();
    while let Some(reply) = replies.next().await {
        let message = reply.map_err(|source| error("list addresses".into(), index, source))?;
        present.extend(parse(&message));
    }
    Ok(present)
}

/// Adds an address; one that is there already is no error.
///
/// # Errors
/// When the kernel refuses or the netlink connection is gone.
pub async fn add(netlink: &Handle, index: u32, address: Ipv4Addr, length: u8) -> Result<(), AddressError> {
    let mut request = netlink.address().add(index, IpAddr::V4(address), length);
    request.message_mut().attributes.push(AddressAttribute::Protocol(PROTOCOL));
    match request.execute().await {
        Err(source) if errno(&source) != Some(libc::EEXIST) => {
            Err(error(format!("add {address}/{length}"), index, source))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Removes an address; one that is gone, with or without its interface, is no error.
///
/// # Errors
/// When the kernel refuses or the netlink connection is gone.
pub async fn delete(netlink: &Handle, index: u32, address: Ipv4Addr, length: u8) -> Result<(), AddressError> {
    let message = AddressMessageBuilder::<Ipv4Addr>::new().index(index).address(address, length).build();
    match netlink.address().del(message).execute().await {
        Err(source) if !matches!(errno(&source), Some(libc::EADDRNOTAVAIL | libc::ENODEV)) => {
            Err(error(format!("remove {address}/{length}"), index, source))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

fn parse(message: &AddressMessage) -> Option<Present> {
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(IpAddr::V4(address)) => Some(*address),
        _ => None,
    })?;
    Some(Present {
        address: local,
        length: message.header.prefix_len,
        secondary: message.header.flags.contains(AddressHeaderFlags::Secondary),
        ours: message.attributes.contains(&AddressAttribute::Protocol(PROTOCOL)),
    })
}

fn error(action: String, index: u32, source: rtnetlink::Error) -> AddressError {
    AddressError { action, index, source }
}

fn errno(error: &rtnetlink::Error) -> Option<i32> {
    match error {
        rtnetlink::Error::NetlinkError(message) => Some(-message.raw_code()),
        _ => None,
    }
}
