//! Kernel memory of a tracked flow.

use std::fs;

use evenkeel::config::model::Flows;
use evenkeel::dataplane::{DataPlane, Sizes, object};
use lb_common::addr::{Addr, V4};
use lb_common::flow::Set;

/// Bytes, with all halves of a flow.
const MOST: u64 = 160;
/// A `nat` flow has one for each direction.
const HALVES: u64 = 2;

/// Memory that the kernel accounts to the map of this process with values and entries like these.
fn memory(value_size: usize, entries: u32) -> Option<u64> {
    fs::read_dir("/proc/self/fdinfo").unwrap().flatten().find_map(|entry| {
        let text = fs::read_to_string(entry.path()).ok()?;
        let field = |name: &str| -> Option<u64> {
            text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
        };
        let same =
            field("value_size:") == Some(value_size as u64) && field("max_entries:") == Some(entries.into());
        field("memlock:").filter(|_| same)
    })
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_tracked_flow_takes_at_most_160_bytes_of_kernel_memory_with_both_its_halves() {
    let configured = Flows::default();
    let sizes = Sizes::of(configured.ipv4, configured.ipv6);
    let plane = DataPlane::load_private(object::EVENKEEL, sizes, 1024).unwrap();
    for (what, value_size, sets, entries) in [
        ("IPv4", size_of::<Set<V4>>(), sizes.sets4, configured.ipv4),
        ("IPv6", size_of::<Set<Addr>>(), sizes.sets6, configured.ipv6),
    ] {
        let bytes = memory(value_size, sets).expect("the kernel says what a map takes up");
        let flow = bytes * HALVES / u64::from(entries);
        println!("{what}: {bytes} bytes for {entries} halves, {flow} a flow of two");
        // Not less than the slots that hold them, or the kernel counts something else.
        assert!(bytes >= value_size as u64 * u64::from(sets), "{what}");
        assert!(flow <= MOST, "{what}: {flow} bytes a flow");
    }
    drop(plane);
}
