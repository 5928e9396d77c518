//! Fingerprints of flows that have shown a packet: what tells a client's second packet from a flood of single ones. A word has
//! room for the last two that came to it, of four bytes each, so a flood costs a store each and pushes nothing out but other
//! fingerprints. One that is lost, or taken for another's, costs its flow or spares it one packet before it is stored.

use aya_ebpf::btf_maps::Array;
use aya_ebpf::macros::btf_map;
use lb_common::limits;

#[btf_map(name = "ek_seen")]
static SEEN: Array<u64, { limits::SEEN as usize }> = Array::new();

/// Leaves the fingerprint of a flow.
#[inline(always)]
pub(crate) fn mark(hash: u64) {
    if let Some(word) = SEEN.get_ptr_mut(index(hash)) {
        // SAFETY: an element of an array stays writable; the word is read and written whole.
        unsafe { *word = *word << 32 | hash >> 32 };
    }
}

/// Whether the flow left its fingerprint.
#[inline(always)]
pub(crate) fn contains(hash: u64) -> bool {
    let fingerprint = (hash >> 32) as u32;
    SEEN.get(index(hash))
        .is_some_and(|word| *word as u32 == fingerprint || (*word >> 32) as u32 == fingerprint)
}

/// Takes the fingerprint of a flow away: both, if its client sent its first packet again.
#[inline(always)]
pub(crate) fn forget(hash: u64) {
    if let Some(word) = SEEN.get_ptr_mut(index(hash)) {
        // SAFETY: as above.
        unsafe {
            let (mut newer, mut older) = (*word as u32, (*word >> 32) as u32);
            let fingerprint = (hash >> 32) as u32;
            if newer == fingerprint {
                newer = 0;
            }
            if older == fingerprint {
                older = 0;
            }
            *word = u64::from(older) << 32 | u64::from(newer);
        }
    }
}

#[inline(always)]
fn index(hash: u64) -> u32 {
    hash as u32 & (limits::SEEN - 1)
}
