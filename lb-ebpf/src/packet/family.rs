//! What differs between the two versions of IP; the rest of the program is written once for both.

use aya_ebpf::programs::XdpContext;
use lb_common::addr::{Addr, V4};
use lb_common::checksum::Update;
use lb_common::reason::Reason;

use super::extensions::{self, Chain};
use super::parse::{self, Packet};
use super::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ipv4, Ipv6};
use crate::maps::flows::Table;
use crate::maps::listeners;

pub(crate) trait Family: Table {
    type Header: Copy;
    const ETHERTYPE: u16;

    /// A whole TCP or UDP packet; `None` for what is not one, and `why` then says what it is: a fragment, or a packet with
    /// extension headers, by [`Reason::Fragment`].
    fn parse(ctx: &XdpContext, why: &mut Reason) -> Option<Packet<Self>>;

    /// What is before the transport header, wherever that is. The IP header was found to be whole.
    fn chain(ctx: &XdpContext) -> Result<Chain<Self>, Reason>;

    /// The service that listens on a port, and under port 0 the number of the address's ranges.
    fn listener(address: Self, port: u16, protocol: u8) -> u32;

    /// # Safety
    /// The header was compared with the end of the packet.
    unsafe fn hops_left(header: *mut Self::Header) -> u8;

    /// Counts the hop.
    ///
    /// # Safety
    /// As above.
    unsafe fn forwarded(header: *mut Self::Header);

    /// Puts other addresses in, and counts the hop.
    ///
    /// # Safety
    /// As above.
    unsafe fn readdress(header: *mut Self::Header, source: Self, destination: Self);

    /// What a change of address does to a checksum that covers it.
    fn update(update: Update, old: Self, new: Self) -> Update;

    /// Traffic class, of which the upper six bits are the differentiated services and the lower two ECN.
    ///
    /// # Safety
    /// As above.
    unsafe fn traffic_class(header: *mut Self::Header) -> u8;
}

impl Family for V4 {
    type Header = Ipv4;
    const ETHERTYPE: u16 = ETHERTYPE_IPV4;

    #[inline(always)]
    fn parse(ctx: &XdpContext, why: &mut Reason) -> Option<Packet<Self>> {
        parse::ipv4(ctx, why)
    }

    #[inline(always)]
    fn chain(ctx: &XdpContext) -> Result<Chain<Self>, Reason> {
        extensions::ipv4(ctx)
    }

    #[inline(always)]
    fn listener(address: Self, port: u16, protocol: u8) -> u32 {
        listeners::exact4(address, port, protocol)
    }

    #[inline(always)]
    unsafe fn hops_left(header: *mut Ipv4) -> u8 {
        // SAFETY: by the caller.
        unsafe { (*header).ttl() }
    }

    #[inline(always)]
    unsafe fn forwarded(header: *mut Ipv4) {
        // SAFETY: by the caller.
        unsafe {
            (*header).ttl_protocol[0] -= 1;
            // One less in the upper byte of a word is one more in that of the sum's complement (RFC 1624, and
            // `ip_decrease_ttl` in include/net/ip.h).
            let sum = u32::from((*header).checksum) + u32::from(0x0100_u16.to_be());
            (*header).checksum = (sum + u32::from(sum >= 0xffff)) as u16;
        }
    }

    #[inline(always)]
    unsafe fn readdress(header: *mut Ipv4, source: Self, destination: Self) {
        // SAFETY: by the caller.
        unsafe {
            let update = Update::new((*header).checksum)
                .u32((*header).source.0, source.0)
                .u32((*header).destination.0, destination.0);
            (*header).source = source;
            (*header).destination = destination;
            decrement_ttl(header, update);
        }
    }

    #[inline(always)]
    fn update(update: Update, old: Self, new: Self) -> Update {
        update.u32(old.0, new.0)
    }

    #[inline(always)]
    unsafe fn traffic_class(header: *mut Ipv4) -> u8 {
        // SAFETY: by the caller.
        unsafe { (*header).tos }
    }
}

/// Decrements the time to live; the header checksum takes that and whatever `update` already holds.
///
/// # Safety
/// The header was compared with the end of the packet.
#[inline(always)]
unsafe fn decrement_ttl(header: *mut Ipv4, update: Update) {
    // SAFETY: by the caller.
    unsafe {
        let old = (*header).ttl_protocol;
        (*header).ttl_protocol[0] = old[0] - 1;
        (*header).checksum =
            update.u16(u16::from_ne_bytes(old), u16::from_ne_bytes((*header).ttl_protocol)).finish();
    }
}

impl Family for Addr {
    type Header = Ipv6;
    const ETHERTYPE: u16 = ETHERTYPE_IPV6;

    #[inline(always)]
    fn parse(ctx: &XdpContext, why: &mut Reason) -> Option<Packet<Self>> {
        parse::ipv6(ctx, why)
    }

    #[inline(always)]
    fn chain(ctx: &XdpContext) -> Result<Chain<Self>, Reason> {
        extensions::ipv6(ctx)
    }

    #[inline(always)]
    fn listener(address: Self, port: u16, protocol: u8) -> u32 {
        listeners::exact6(address, port, protocol)
    }

    #[inline(always)]
    unsafe fn hops_left(header: *mut Ipv6) -> u8 {
        // SAFETY: by the caller.
        unsafe { (*header).hop_limit }
    }

    #[inline(always)]
    unsafe fn forwarded(header: *mut Ipv6) {
        // SAFETY: by the caller.
        unsafe { (*header).hop_limit -= 1 };
    }

    #[inline(always)]
    unsafe fn readdress(header: *mut Ipv6, source: Self, destination: Self) {
        // SAFETY: by the caller.
        unsafe {
            (*header).source = source;
            (*header).destination = destination;
            Self::forwarded(header);
        }
    }

    #[inline(always)]
    fn update(update: Update, old: Self, new: Self) -> Update {
        let ([a, b, c, d], [e, f, g, h]) = (old.words(), new.words());
        update.u32(a, e).u32(b, f).u32(c, g).u32(d, h)
    }

    #[inline(always)]
    unsafe fn traffic_class(header: *mut Ipv6) -> u8 {
        // SAFETY: by the caller.
        let [a, b, ..] = unsafe { (*header).version_class_label }.to_ne_bytes();
        a << 4 | b >> 4
    }
}
