//! The hash that picks a Maglev entry. Both nodes of a pair must agree on it: changing it moves every flow.

use crate::flow::FlowKey;
use crate::limits::TABLE_ENTRIES;

/// Spreads a 5-tuple over 32 bits: two rounds of the 64-bit finalizer of MurmurHash3.
#[inline(always)]
#[must_use]
pub const fn flow_hash(key: &FlowKey) -> u32 {
    let addresses = ((u32::from_be(key.source) as u64) << 32) | u32::from_be(key.destination) as u64;
    let ports = ((u16::from_be(key.source_port) as u64) << 16) | u16::from_be(key.destination_port) as u64;
    (mix(mix(addresses) ^ ports ^ ((key.protocol as u64) << 32)) >> 32) as u32
}

/// Entry of a Maglev table for a hash, without a division.
#[inline(always)]
#[must_use]
pub const fn table_entry(hash: u32) -> u32 {
    ((hash as u64 * TABLE_ENTRIES as u64) >> 32) as u32
}

#[inline(always)]
const fn mix(mut x: u64) -> u64 {
    x ^= x >> 33;
    x = x.wrapping_mul(0xff51_afd7_ed55_8ccd);
    x ^= x >> 33;
    x = x.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    x ^ (x >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(source: u32, source_port: u16) -> FlowKey {
        FlowKey {
            source: source.to_be(),
            destination: 0xcb00_710a_u32.to_be(),
            source_port: source_port.to_be(),
            destination_port: 80_u16.to_be(),
            protocol: 6,
        }
    }

    #[test]
    fn hash_is_the_same_on_every_node_and_release() {
        assert_eq!(flow_hash(&key(0xc000_0201, 40_000)), 0x99e4_16c2);
    }

    #[test]
    fn neighbouring_ports_spread_evenly_over_the_table() {
        let mut buckets = [0_u32; 16];
        for port in 1024..=u16::MAX {
            buckets[(table_entry(flow_hash(&key(0xc000_0201, port))) * 16 / TABLE_ENTRIES) as usize] += 1;
        }
        let expected = (65_536 - 1024) / 16;
        for count in buckets {
            assert!(count.abs_diff(expected) < expected / 10, "{buckets:?}");
        }
    }

    #[test]
    fn every_hash_has_an_entry_inside_the_table() {
        assert_eq!(table_entry(0), 0);
        assert_eq!(table_entry(u32::MAX), TABLE_ENTRIES - 1);
    }
}
