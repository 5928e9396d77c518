//! Which Maglev tables exist, for user space.

use aya_ebpf::programs::XdpContext;
use lb_common::limits::TABLES_A_RUN;

use crate::maps::tables;
use crate::packet::at;

/// Takes a number from the first word of the packet, and writes over each byte of the packet whether the table of that
/// number and its own offset exists.
#[inline(always)]
pub fn list(ctx: &XdpContext) -> Option<()> {
    let first: *mut u32 = at(ctx, 0)?;
    let out: *mut [u8; TABLES_A_RUN as usize] = at(ctx, 0)?;
    // SAFETY: `at` compared all of both with the end of the packet.
    unsafe {
        let first = *first;
        for offset in 0..TABLES_A_RUN {
            (*out)[offset as usize] = u8::from(tables::exists(first.wrapping_add(offset)));
        }
    }
    Some(())
}
