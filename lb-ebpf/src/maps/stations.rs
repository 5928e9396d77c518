//! MAC addresses of this node. Written by user space only, but for a small cache in front: nearly every packet asks.

use aya_ebpf::btf_maps::{Array, HashMap};
use aya_ebpf::macros::btf_map;
use lb_common::limits;
use lb_common::station::{self, Station};

#[btf_map(name = "ek_stations")]
static STATIONS: HashMap<Station, u32, { limits::STATIONS as usize }> = HashMap::new();

/// Stations that were found lately, each in one word. User space clears it when a station goes.
#[btf_map(name = "ek_own")]
static OWN: Array<u64, { station::OWN as usize }> = Array::new();

/// Whether frames to this address, coming in by this interface, are for this node.
#[inline(always)]
pub(crate) fn contains(ifindex: u32, address: [u8; 6]) -> bool {
    let word = station::word(ifindex, address);
    let Some(own) = OWN.get_ptr_mut(station::index(word)) else {
        return false;
    };
    // SAFETY: an element of an array stays writable; the word is read and written whole.
    unsafe {
        if *own == word {
            return true;
        }
        // The value is not read.
        let found = STATIONS.get(Station { ifindex, address, zero: 0 }).is_some();
        if found {
            *own = word;
        }
        found
    }
}
