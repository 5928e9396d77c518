//! Capacities of the maps.

/// Listen addresses, of each family.
pub const LISTENERS: u32 = 4096;
/// Places where listen addresses are found by one look, both families together. Of a thousand addresses some thirty have
/// a place that is another's, and are found as all were without. A power of two.
pub const NEAR: u32 = 1 << 14;
/// Addresses with ranges of ports, both families together.
pub const RANGED: u32 = 1024;
/// Services, counted by family.
pub const SERVICES: u32 = 4096;
/// Backends of all services, those that are draining included. A slot of the flow table holds 16 bits of their number.
pub const BACKENDS: u32 = 16_384;
/// Tables that can exist at once; a service has one, and two while its pool is changing.
pub const TABLES: u32 = 4096;
/// Tables that one run of the program `tables` tells of, and bytes of its packet; [`TABLES`] is a multiple.
pub const TABLES_A_RUN: u32 = 256;
/// Entries of one table: prime, so that every backend's permutation visits every entry (Maglev, NSDI 2016, section 3.4),
/// and large enough that 100 backends stay within 0.2 % of their weights.
pub const TABLE_ENTRIES: u32 = 65_537;
/// Sets of the flow table for IPv4 as it comes, for 1,048,576 halves in four fifths of its slots; user space asks for what the
/// configuration says.
pub const SETS4: u32 = 81_920;
/// As [`SETS4`], for IPv6 and 262,144 halves.
pub const SETS6: u32 = 20_480;
/// Words of two fingerprints each, of flows that have shown one packet. A power of two.
pub const SEEN: u32 = 1 << 17;
/// Entries of the table of flows that have shown one packet only; the oldest make room for new ones.
pub const HALF_OPEN: u32 = 1 << 16;
/// Next hops to clients: what 16 bits can tell apart would be four times as many. A power of two.
pub const HOPS: u32 = 1 << 14;
/// Sources that persistence or a limit remembers; the oldest make room.
pub const CLIENTS: u32 = 1 << 17;
/// Prefixes of sources, of all services.
pub const SOURCE_PREFIXES: u32 = 1 << 16;
/// QUIC server ids, of all services.
pub const QUIC_IDS: u32 = BACKENDS;
/// Packets in fragments of which the first was seen lately.
pub const FRAGMENTS: u32 = 1 << 14;
/// Interfaces the program may send out of.
pub const INTERFACES: u32 = 64;
/// MAC addresses of the node, all interfaces together.
pub const STATIONS: u32 = 2048;
/// Outer destinations that `decap` removes tunnel headers for.
pub const DECAP: u32 = 256;
/// Virtual addresses that are held and not accepted for: of every virtual router of an interface a hundred, twice.
pub const REFUSED: u32 = 1 << 16;
/// Instances whose packets are counted when they are not accepted.
pub const REFUSAL_COUNTERS: u32 = 1024;
