//! Behind XDP, before the host's own stack: drops what is sent to a listed address, except what resolves it. That is how a
//! master does not accept packets to addresses that it does not own (Accept_Mode of RFC 9568
//! section 6.1).
//!
//! Loads are by helper, for the headers need not be in the linear part of the packet.

use core::mem::MaybeUninit;

use aya_ebpf::bindings::bpf_hdr_start_off::BPF_HDR_START_NET;
use aya_ebpf::bindings::{__sk_buff, TC_ACT_SHOT, TC_ACT_UNSPEC};
use aya_ebpf::helpers::generated::bpf_skb_load_bytes_relative;
use aya_ebpf::programs::TcContext;
use lb_common::addr::Addr;

use crate::maps::refuse::{count, counter};
use crate::packet::{ETHERTYPE_IPV4, ETHERTYPE_IPV6, Ipv6, PROTOCOL_ICMPV6};

/// Goes on with whatever other programs and filters there are.
const PASS: i32 = TC_ACT_UNSPEC;
const DROP: i32 = TC_ACT_SHOT;

/// Bits of a VLAN's number.
const VLAN: u32 = 0xfff;
/// Where an IPv4 header has the destination.
const DESTINATION: u32 = 16;

const NEIGHBOUR_SOLICITATION: u8 = 135;
const NEIGHBOUR_ADVERTISEMENT: u8 = 136;

#[inline(always)]
pub fn run(ctx: &TcContext) -> i32 {
    let skb = ctx.skb.skb;
    // SAFETY: the context is this program's own. VLAN 0 is a priority alone: the host takes the packet as if untagged.
    let (ethertype, tagged) =
        unsafe { ((*skb).protocol as u16, (*skb).vlan_present != 0 && (*skb).vlan_tci & VLAN != 0) };
    let destination = match ethertype {
        _ if tagged => None,
        ETHERTYPE_IPV4 => load(skb, DESTINATION).map(Addr::from_v4),
        ETHERTYPE_IPV6 => ipv6(skb),
        _ => None,
    };
    let Some(counter) = destination.and_then(counter) else {
        return PASS;
    };
    count(counter);
    DROP
}

/// The destination, unless the packet asks for an address or tells one.
#[inline(always)]
fn ipv6(skb: *mut __sk_buff) -> Option<Addr> {
    let ip: Ipv6 = load(skb, 0)?;
    // An IPv4 address is listed as it is mapped into IPv6, where nobody may send to it.
    if ip.destination.is_v4() {
        return None;
    }
    if ip.next_header == PROTOCOL_ICMPV6
        && matches!(
            load::<u8>(skb, size_of::<Ipv6>() as u32),
            Some(NEIGHBOUR_SOLICITATION | NEIGHBOUR_ADVERTISEMENT)
        )
    {
        return None;
    }
    Some(ip.destination)
}

/// From the network header on, whatever is before it.
#[inline(always)]
fn load<T: Copy>(skb: *mut __sk_buff, offset: u32) -> Option<T> {
    let mut value = MaybeUninit::<T>::uninit();
    // SAFETY: the value has room for as many bytes as are asked for.
    let failed = unsafe {
        bpf_skb_load_bytes_relative(
            skb.cast(),
            offset,
            value.as_mut_ptr().cast(),
            size_of::<T>() as u32,
            BPF_HDR_START_NET,
        )
    };
    // SAFETY: the helper has written all of it, and every type that is loaded here is plain numbers.
    (failed == 0).then(|| unsafe { value.assume_init() })
}
