//! The answer to a packet of a connection whose backend is down: a RST that its client believes.

use aya_ebpf::bindings::xdp_md;

pub(crate) fn answer(_: *mut xdp_md) -> bool {
    false
}
