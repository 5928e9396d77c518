//! Who may open a flow, and how many.

use lb_common::reason::Reason;
use lb_common::service::{Bucket, DENY_OTHERS, LISTS, Rate, SOURCE_ALLOWED, SOURCE_DENIED, Service};

use super::Asked;
use super::choose::client;
use crate::clock::now;
use crate::maps::{clients, rates, sources};
use crate::packet::Family;

/// Whether the service's lists let the source in.
#[inline(always)]
pub(crate) fn is_let_in<A: Family>(source: A, number: u32, service: &Service) -> bool {
    if service.flags & LISTS == 0 {
        return true;
    }
    match sources::get(number, source.mapped()) {
        SOURCE_ALLOWED => true,
        SOURCE_DENIED => false,
        _ => service.flags & DENY_OTHERS == 0,
    }
}

/// Sources are told apart by address for IPv4 and by /64 for IPv6, which is what one host may have: lengths as in a mapped
/// address.
const SOURCE_PREFIX: [u8; 2] = [64, 128];

/// Takes one flow from what the service and the source may still open.
#[inline(always)]
pub(super) fn limited<A: Family>(
    packet: &Asked<'_, A>,
    number: u32,
    service: &Service,
) -> Result<(), Reason> {
    if service.source_rate.per_jiffy != 0 {
        let client = client(packet.key.source, number, SOURCE_PREFIX[A::IS_V4 as usize]);
        match clients::get(&client) {
            Some(bucket) => {
                if !take(bucket, &service.source_rate) {
                    return Err(Reason::SourceLimit);
                }
            }
            None => clients::insert(&client, &begun(&service.source_rate)),
        }
    }
    if service.rate.per_jiffy != 0
        && let Some(bucket) = rates::get(number)
        && !take(bucket, &service.rate)
    {
        return Err(Reason::ServiceLimit);
    }
    Ok(())
}

/// One flow, in the unit of tokens.
const FLOW: u64 = 1 << 16;

/// A bucket of which one flow was taken.
#[inline(always)]
fn begun(rate: &Rate) -> Bucket {
    Bucket { tokens: u64::from(rate.burst) * FLOW - FLOW, last: now(), zero: 0 }
}

/// CPUs share a bucket without a lock: two that take at once may take one for the two of them.
#[inline(always)]
fn take(bucket: *mut Bucket, rate: &Rate) -> bool {
    let now = now();
    // SAFETY: an element of a map stays writable until this program ends.
    unsafe {
        let elapsed = now.wrapping_sub((*bucket).last);
        let full = u64::from(rate.burst) * FLOW;
        let tokens = (*bucket).tokens + u64::from(elapsed) * u64::from(rate.per_jiffy);
        let tokens = if tokens > full { full } else { tokens };
        (*bucket).last = now;
        let enough = tokens >= FLOW;
        (*bucket).tokens = if enough { tokens - FLOW } else { tokens };
        enough
    }
}
