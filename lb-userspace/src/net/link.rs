//! State of an interface, by netlink.

use futures_util::StreamExt;
use rtnetlink::Handle;
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags, LinkMessage};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    pub index: u32,
    /// Administratively up, and with carrier.
    pub up: bool,
    /// `None` unless the interface is Ethernet-like.
    pub mac: Option<[u8; 6]>,
}

#[derive(Debug, thiserror::Error)]
#[error("cannot look up interface {name}: {source}")]
pub struct LinkError {
    name: String,
    source: rtnetlink::Error,
}

/// The interface of that name; `None` when there is none.
///
/// # Errors
/// When the kernel refuses or the netlink connection is gone.
pub async fn find(netlink: &Handle, name: &str) -> Result<Option<Link>, LinkError> {
    let mut replies = std::pin::pin!(netlink.link().get().match_name(name).execute());
    match replies.next().await {
        None => Ok(None),
        Some(Ok(message)) => Ok(Some(parse(&message))),
        Some(Err(rtnetlink::Error::NetlinkError(error))) if error.raw_code() == -libc::ENODEV => Ok(None),
        Some(Err(source)) => Err(LinkError { name: name.to_owned(), source }),
    }
}

fn parse(message: &LinkMessage) -> Link {
    let mac = message.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::Address(address) => address.as_slice().try_into().ok(),
        _ => None,
    });
    let up = message.header.flags.contains(LinkFlags::Up | LinkFlags::Running);
    Link { index: message.header.index, up, mac }
}
