//! The programs that a packet goes on in. User space fills them in before it attaches the first one.

use aya_ebpf::btf_maps::ProgramArray;
use aya_ebpf::macros::btf_map;
use aya_ebpf::programs::XdpContext;
use lb_common::programs;

pub(crate) use lb_common::programs::{IPV6, REST};

#[btf_map(name = "ek_programs")]
static PROGRAMS: ProgramArray<{ programs::COUNT as usize }> = ProgramArray::new();

/// Returns only if there is none.
#[inline(always)]
pub(crate) fn go_on(ctx: &XdpContext, program: u32) {
    // SAFETY: nothing here waits to be dropped.
    unsafe { PROGRAMS.tail_call(ctx, program) };
}
