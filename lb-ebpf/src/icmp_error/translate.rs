//! An error rewritten for the end that it goes to.

use aya_ebpf::programs::XdpContext;
use lb_common::checksum::Update;
use lb_common::flow::Ports;

use super::{Error, parse};
use crate::maps::scratch;
use crate::packet::{Control, Ethernet, PROTOCOL_TCP, at, opaque};

/// Addresses and ports of a packet that goes the error's way, before and after.
struct Change<A> {
    source: [A; 2],
    destination: [A; 2],
    ports: [u32; 2],
}

impl<A: Control> Change<A> {
    #[inline(always)]
    fn of_transport(&self, checksum: u16) -> u16 {
        let update = A::update(Update::new(checksum), self.source[0], self.source[1]);
        A::update(update, self.destination[0], self.destination[1]).u32(self.ports[0], self.ports[1]).finish()
    }
}

/// Rewrites the error that is in the frame, as the scratch record says. The quotation is of a packet that went the other
/// way, so what is the source of the one is the destination of the other.
#[inline(always)]
pub(super) fn translate<A: Control>(ctx: &XdpContext) {
    let (Some(error), Some(scratch)) = (parse::<A>(ctx), scratch::get()) else {
        return;
    };
    // SAFETY: the record is this CPU's own.
    let about = unsafe { &(*scratch).about };
    let change = Change {
        source: [error.key.source, A::from_mapped(about.source)],
        destination: [error.key.destination, A::from_mapped(about.destination)],
        ports: [error.key.ports.turned().word(), Ports::from_word(about.ports).turned().word()],
    };
    let ([old_source, source], [_, destination]) = (change.source, change.destination);
    // SAFETY: parsing compared every header with the end of the packet.
    unsafe {
        // A router on the client's side keeps its address where the client keeps its own.
        let (old_sender, old_receiver) = A::addresses(error.ip);
        let sender = if source == old_source { old_sender } else { source };
        A::readdress(error.ip, sender, destination);
        let mut sum = Update::new((*error.icmp).checksum);
        sum = A::update_icmp(sum, old_sender, sender);
        sum = A::update_icmp(sum, old_receiver, destination);
        sum = A::requote(error.quoted, destination, source, sum);
        sum = sum.u32(change.ports[0], change.ports[1]);
        *error.ports.cast::<u32>() = change.ports[1];
        (*error.icmp).checksum = quoted_transport(ctx, &error, &change, sum).finish();
    }
}

/// The checksum in the quoted transport header, if it is there. Says what that does to the one of the message.
#[inline(always)]
fn quoted_transport<A: Control>(
    ctx: &XdpContext,
    error: &Error<A>,
    change: &Change<A>,
    sum: Update,
) -> Update {
    /// Of the checksum in a TCP header (RFC 9293 section 3.1).
    const CHECKSUM: usize = 16;
    // SAFETY: parsing compared the first eight bytes of the header with the end of the packet, and `at` the rest of it.
    unsafe {
        if error.key.protocol == u32::from(PROTOCOL_TCP) {
            let place = error.transport + CHECKSUM;
            if place + size_of::<u16>() <= size_of::<Ethernet>() + error.length
                && let Some(checksum) = at::<u16>(ctx, opaque(place))
            {
                let old = *checksum;
                *checksum = change.of_transport(old);
                return sum.u16(old, *checksum);
            }
            return sum;
        }
        let old = (*error.ports).checksum;
        // There is none (RFC 768).
        if old == 0 {
            return sum;
        }
        let new = change.of_transport(old);
        (*error.ports).checksum = if new == 0 { 0xffff } else { new };
        sum.u16(old, (*error.ports).checksum)
    }
}
