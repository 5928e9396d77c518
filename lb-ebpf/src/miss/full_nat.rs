//! A source address and port of the node for a flow of `fullnat`.

use lb_common::flow::{FlowKey, HalfOpen};
use lb_common::reason::Reason;
use lb_common::service::{SOURCES, Service};

use super::reply::is_old;
use crate::forward::full_nat::{source, source_number};
use crate::globals;
use crate::maps::scratch::Decision;
use crate::maps::{flows, half_open, pools};
use crate::packet::Family;

/// Whether the address and port that the flow was given while it opened are still kept for it, by the reply half among the
/// half-open flows: that one may have made room for another.
#[inline(always)]
pub(super) fn is_kept<A: Family>(reply: &mut FlowKey<A>, half: &HalfOpen, decision: &Decision) -> bool {
    reply.destination = source(decision.source);
    reply.ports.destination = decision.source_port;
    half_open::get(reply).is_some_and(|kept| {
        kept.client == half.client
            && kept.client_port == half.client_port
            && kept.address == half.address
            && kept.port == half.port
    })
}

/// Finds one, in sixteen tries, that no other flow to this backend has, and enters the reply half among the half-open flows: of two CPUs that
/// try the same, one gets it, and while it is there no other flow does.
#[inline(always)]
pub(super) fn allocate<A: Family>(
    service: &Service,
    reply: &mut FlowKey<A>,
    half: &HalfOpen,
    decision: &mut Decision,
) -> Result<(), Reason> {
    let Some(pool) = pools::get(service.sources) else {
        return Err(Reason::Internal);
    };
    if pool.count == 0 || pool.ports == 0 {
        return Err(Reason::NoPort);
    }
    let (first, second) = (decision.hash as u32, (decision.hash >> 32) as u32);
    for step in 0..globals::ways() {
        let address = first.wrapping_add(step) % pool.count;
        let offset = second.wrapping_add(step.wrapping_mul(0x9e37_79b1)) % u32::from(pool.ports);
        let port = (u32::from(pool.first_port) + offset) as u16;
        reply.destination = A::from_mapped(pool.addresses[address as usize & (SOURCES - 1)]);
        reply.ports.destination = port.to_be();
        if flows::look_up(reply).is_none() && (half_open::insert(reply, half, true) || ek_take_over() != 0) {
            // Another CPU's flow may have gone from the one table to the other in between.
            if flows::look_up(reply).is_some() {
                half_open::remove(reply);
                continue;
            }
            decision.source = source_number(service.sources, address);
            decision.source_port = port.to_be();
            return Ok(());
        }
    }
    Err(Reason::NoPort)
}

/// Whether the half-open flow whose key was looked for last is too old, and the one in the scratch record has its port now.
/// Visible outside of the object, so that the verifier looks at it once.
#[unsafe(no_mangle)]
#[inline(never)]
pub(crate) extern "C" fn ek_take_over() -> u32 {
    u32::from(half_open::take_over(is_old))
}
