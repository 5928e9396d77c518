//! A half of a flow in words of its own, the same for both families.

#![deny(clippy::disallowed_methods)]

use lb_common::addr::{Addr, Address};
use lb_common::flow::{
    self, FlowKey, METHOD_MASK, MappedKey, REPLY, SEEN_FIN, SEEN_RST, Slot, VERSION, VERSION_SHIFT,
};
use lb_common::service::Method;

use super::key;

/// One half of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    pub key: MappedKey,
    pub method: Method,
    pub half: Half,
    /// This half sent a FIN.
    pub fin: bool,
    /// This half sent a RST.
    pub rst: bool,
    /// Number of the backend on this node.
    pub backend: u32,
    /// Number of the return hop, 0 for none.
    pub hop: u32,
    /// Low 32 bits of jiffies.
    pub last_seen: u32,
}

/// Which half it is, and what it says of the other one. Ports are in network order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Half {
    /// Client to backend; with `tunnel` and `direct` there is no other.
    Forward { identity: u32 },
    /// Client to backend with `fullnat`: number of the source address (see [`super::pool::Pool::source`]), and the port.
    Allocated { identity: u32, source: u32, port: u16 },
    /// Backend to client with `nat`: what the client wrote to.
    Service { address: Addr, port: u16 },
    /// Backend to the node with `fullnat`: number of the slot of the forward half.
    Partner { slot: u32 },
}

impl Flow {
    /// `None` if a release with another layout wrote it.
    #[must_use]
    pub fn of<A: Address>(slot: &Slot<A>) -> Option<Self> {
        let method = method(slot.state)?;
        let port = flow::port(slot.state);
        let other = slot.other.as_ref();
        let half = match (method, slot.state & REPLY != 0) {
            (Method::FullNat, false) => Half::Allocated { identity: other[0], source: other[1], port },
            (_, false) => Half::Forward { identity: other[0] },
            (Method::FullNat, true) => Half::Partner { slot: other[0] },
            (_, true) => Half::Service { address: A::from_other(&slot.other).mapped(), port },
        };
        Some(Self {
            key: FlowKey::mapped(&key(slot)),
            method,
            half,
            fin: slot.state & SEEN_FIN != 0,
            rst: slot.state & SEEN_RST != 0,
            backend: flow::backend(slot.place),
            hop: flow::hop(slot.place),
            last_seen: slot.last_seen,
        })
    }

    #[must_use]
    pub const fn is_forward(&self) -> bool {
        matches!(self.half, Half::Forward { .. } | Half::Allocated { .. })
    }
}

/// How the flow of a half that is live is forwarded; `None` if a release with another layout wrote it.
pub(in crate::dataplane) const fn method(state: u32) -> Option<Method> {
    if state >> VERSION_SHIFT & 7 == VERSION {
        Method::from_u8(((state & METHOD_MASK) >> flow::METHOD_SHIFT) as u8)
    } else {
        None
    }
}

/// Whether there is a reply half to a forward half.
pub(in crate::dataplane) const fn has_two_halves(state: u32) -> bool {
    matches!(method(state), Some(Method::Nat | Method::FullNat))
}
