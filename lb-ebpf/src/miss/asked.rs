//! The packet that is to be decided about.

use lb_common::flow::FlowKey;

use crate::maps::scratch::{self, Decision, Request};
use crate::maps::stations;
use crate::packet::{Family, PROTOCOL_TCP, Tcp};

/// The packet that a request is about.
#[derive(Clone, Copy)]
pub(crate) struct Asked<'a, A> {
    pub(crate) key: &'a FlowKey<A>,
    pub(crate) request: &'a Request,
}

impl<A> Asked<'_, A> {
    #[inline(always)]
    pub(super) const fn is_tcp(&self) -> bool {
        self.key.protocol == PROTOCOL_TCP as u32
    }

    /// A SYN without ACK: somebody opens a connection, or pretends to.
    #[inline(always)]
    pub(super) const fn is_bare_syn(&self) -> bool {
        self.request.tcp_flags & (Tcp::SYN | Tcp::ACK) as u32 == Tcp::SYN as u32
    }

    /// See [`crate::balance::for_this_host`].
    #[inline(always)]
    pub(super) fn is_for_this_host(&self) -> bool {
        let way_back = self.request.way_back();
        stations::contains(way_back.ifindex, way_back.source)
    }

    #[inline(always)]
    pub(crate) const fn is_syn(&self) -> bool {
        self.request.tcp_flags & Tcp::SYN as u32 != 0
    }

    #[inline(always)]
    pub(crate) const fn tcp_flags(&self) -> u8 {
        self.request.tcp_flags as u8
    }
}

/// The packet in the scratch record, and what is decided about it so far.
#[inline(always)]
pub(crate) fn asked<A: Family>() -> Option<(Asked<'static, A>, &'static mut Decision)> {
    let scratch = scratch::get()?;
    // SAFETY: the record is this CPU's own; it holds a key of this family.
    unsafe {
        let request = &(*scratch).request;
        let key = &*(&raw const request.key).cast::<FlowKey<A>>();
        Some((Asked { key, request }, &mut (*scratch).decision))
    }
}
