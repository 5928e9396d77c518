//! Hashes of 5-tuples: one that both nodes of a pair agree on, and one that an attacker does not know.

use crate::addr::Address;
use crate::flow::FlowKey;
use crate::limits::TABLE_ENTRIES;

/// Spreads a 5-tuple over 64 bits, of which the upper 32 pick a table entry. Both nodes must agree on it: changing it moves
/// every flow.
#[inline(always)]
#[must_use]
pub fn flow_hash<A: Address>(key: &FlowKey<A>) -> u64 {
    let mut x = A::mix(key.source, key.destination, 0);
    x ^= x >> 29;
    x = (x ^ tail(key)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    x ^= x >> 32;
    x = x.wrapping_mul(0x9e37_79b1_85eb_ca87);
    x ^ (x >> 32)
}

/// Ports and protocol.
#[inline(always)]
fn tail<A>(key: &FlowKey<A>) -> u64 {
    u64::from(key.protocol) << 32 | u64::from(key.ports.word())
}

/// To pick a table entry by the source address alone: all flows of a client, from whatever port, to whatever service address.
#[inline(always)]
#[must_use]
pub fn source_hash<A: Address>(source: A) -> u32 {
    (mix(A::mix(source, source, 0)) >> 32) as u32
}

/// Where a flow is in the flow table: the upper 32 bits tell the first set and the way it would have in it, the lower ones
/// the second set. `seed` is secret, so that nobody can fill the sets of others.
#[inline(always)]
#[must_use]
pub fn slot_hash<A: Address>(key: &FlowKey<A>, seed: u64) -> u64 {
    let mut x = A::mix(key.source, key.destination, seed);
    x ^= x >> 29;
    x = (x ^ (u64::from(key.protocol) << 32 | u64::from(key.ports.word())))
        .wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    x ^ (x >> 32)
}

/// Entry of a table for a hash, without a division.
#[inline(always)]
#[must_use]
pub const fn table_entry(hash: u32) -> u32 {
    ((hash as u64 * TABLE_ENTRIES as u64) >> 32) as u32
}

/// The 64-bit finalizer of MurmurHash3.
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
    use crate::addr::{Addr, V4};
    use crate::flow::Ports;

    fn key(source: u32, source_port: u16) -> FlowKey<V4> {
        FlowKey {
            source: V4(source.to_be()),
            destination: V4(0xcb00_710a_u32.to_be()),
            ports: Ports { source: source_port.to_be(), destination: 80_u16.to_be() },
            protocol: 6,
        }
    }

    fn key6(source: u32, source_port: u16) -> FlowKey<Addr> {
        let words = [0x2001_0db8_u32.to_be(), 0, 0, source.to_be()];
        let FlowKey { ports, protocol, .. } = key(0, source_port);
        let destination = Addr::from_words([0x2001_0db8_u32.to_be(), 1_u32.to_be(), 0, 16_u32.to_be()]);
        FlowKey { source: Addr::from_words(words), destination, ports, protocol }
    }

    #[test]
    fn hash_is_the_same_on_every_node_and_release() {
        assert_eq!(flow_hash(&key(0xc000_0201, 40_000)) >> 32, 0xcc16_c900);
        assert_eq!(flow_hash(&key6(0xc000_0201, 40_000)) >> 32, 0x1249_514d);
        assert_eq!(source_hash(key(0xc000_0201, 1).source), 0xddfb_c359);
    }

    fn even(hashes: impl Iterator<Item = u32>) {
        let mut buckets = [0_u32; 16];
        let mut count = 0;
        for hash in hashes {
            buckets[(u64::from(table_entry(hash)) * 16 / u64::from(TABLE_ENTRIES)) as usize] += 1;
            count += 1;
        }
        let expected = count / 16;
        for bucket in buckets {
            assert!(bucket.abs_diff(expected) < expected / 10, "{buckets:?}");
        }
    }

    #[test]
    fn neighbouring_ports_spread_evenly_over_the_table() {
        even((1024..=u16::MAX).map(|port| (flow_hash(&key(0xc000_0201, port)) >> 32) as u32));
        even((1024..=u16::MAX).map(|port| (flow_hash(&key6(0xc000_0201, port)) >> 32) as u32));
    }

    #[test]
    fn neighbouring_clients_spread_evenly_over_the_table() {
        even((0..60_000).map(|client| source_hash(key(0xc000_0000 + client, 1).source)));
        even((0..60_000).map(|client| source_hash(key6(client, 1).source)));
    }

    #[test]
    fn both_parts_of_a_slot_hash_spread_evenly_whatever_the_seed() {
        for seed in [0, 0x1234_5678_9abc_def0, u64::MAX] {
            for shift in [0, 8, 32, 40] {
                let part = move |hash: u64| (hash >> shift) as u32;
                let low = move |hash: u64| part(hash).reverse_bits();
                even((1024..=u16::MAX).map(|port| low(slot_hash(&key(0xc000_0201, port), seed))));
                even((0..60_000).map(|client| low(slot_hash(&key(0xc000_0000 + client, 1024), seed))));
                even((1024..=u16::MAX).map(|port| low(slot_hash(&key6(0xc000_0201, port), seed))));
                even((0..60_000).map(|client| low(slot_hash(&key6(client, 1024), seed))));
            }
        }
    }

    #[test]
    fn every_hash_has_an_entry_inside_the_table() {
        assert_eq!(table_entry(0), 0);
        assert_eq!(table_entry(u32::MAX), TABLE_ENTRIES - 1);
    }
}
