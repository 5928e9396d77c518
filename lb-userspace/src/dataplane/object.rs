//! The compiled programs, carried in the binary.

/// The balancer, and what user space asks of the kernel beside it.
pub static EVENKEEL: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/evenkeel-xdp"));

/// What of it a packet goes through: the program that is attached, and those that it goes on in.
pub const BALANCER: [&str; 3] = ["evenkeel", "evenkeel_ipv6", "evenkeel_rest"];

/// For backends: see lb-ebpf/src/decap.rs.
pub static DECAP: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/evenkeel-decap"));

/// For masters that do not accept what is sent to their virtual addresses: see lb-ebpf/src/refuse.rs.
pub static REFUSE: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/evenkeel-refuse"));

/// A program that passes every packet, for the far end of a veth: XDP can send into a veth only if its peer runs an
/// XDP program too.
pub static PASS: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/evenkeel-pass"));

/// The balancer wrapped for timing: see lb-ebpf/src/bench.rs. The daemon does not carry it: nothing there names it.
pub static BENCH: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/evenkeel-bench"));
