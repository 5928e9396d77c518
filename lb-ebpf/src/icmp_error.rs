//! ICMP errors about packets of flows.

use aya_ebpf::bindings::xdp_md;
use lb_common::reason::Reason;

use crate::outcome::Outcome;

#[inline(never)]
pub(crate) fn run(_ctx: *mut xdp_md, _tags: u32) -> u32 {
    Outcome::because(Reason::OtherProtocol).word()
}
