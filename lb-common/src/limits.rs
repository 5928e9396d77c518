//! Capacities of the maps.

/// Services times their listen addresses.
pub const LISTENERS: u32 = 4096;
/// Backends of all services, those that are draining included.
pub const BACKENDS: u32 = 16_384;
/// Maglev tables that can exist at once; a service has one, and two while its pool is changing.
pub const TABLES: u32 = 4096;
/// Tables that one run of the program `tables` tells of, and bytes of its packet; [`TABLES`] is a multiple.
pub const TABLES_A_RUN: u32 = 256;
/// Entries of one Maglev table: prime, so that every backend's permutation visits every entry (Maglev, NSDI 2016,
/// section 3.4), and large enough that 100 backends stay within 0.2 % of their weights.
pub const TABLE_ENTRIES: u32 = 65_537;
/// Entries of the flow table. A `nat` flow has two, others one.
pub const FLOWS: u32 = 1 << 20;
/// Entries of the table of flows that have shown one packet only; the oldest make room for new ones.
pub const HALF_OPEN: u32 = 1 << 16;
/// Interfaces the program may send out of.
pub const INTERFACES: u32 = 64;
/// MAC addresses of the node, all interfaces together.
pub const STATIONS: u32 = 1024;
