use aya::Ebpf;
use aya::maps::{MapData, PerCpuArray, PerCpuValues};
use aya::util::nr_cpus;
use lb_common::counters::BackendCounters;

use super::names::COUNTERS as NAME;
use super::{MapAccessError, MapOpenError, access, take};

/// What was forwarded for each backend.
pub struct Counters(PerCpuArray<MapData, BackendCounters>);

impl Counters {
    pub(in crate::dataplane) fn open(ebpf: &mut Ebpf) -> Result<Self, MapOpenError> {
        take(ebpf, NAME).map(Self)
    }

    /// Sum over all CPUs.
    pub fn read(&self, backend: u32) -> Result<BackendCounters, MapAccessError> {
        let values = access(self.0.get(&backend, 0), NAME, "read")?;
        Ok(values.iter().fold(BackendCounters::default(), |sum, cpu| add(sum, *cpu)))
    }

    /// Starts from zero, for a number that is given to another backend.
    pub fn clear(&mut self, backend: u32) -> Result<(), MapAccessError> {
        let cpus = access(nr_cpus().map_err(|(_, error)| error), NAME, "count the CPUs for")?;
        let zeros = PerCpuValues::try_from(vec![BackendCounters::default(); cpus]);
        let zeros = access(zeros, NAME, "write to")?;
        access(self.0.set(backend, zeros, 0), NAME, "write to")
    }
}

pub(super) const fn add(a: BackendCounters, b: BackendCounters) -> BackendCounters {
    BackendCounters {
        packets: a.packets.wrapping_add(b.packets),
        bytes: a.bytes.wrapping_add(b.bytes),
        reply_packets: a.reply_packets.wrapping_add(b.reply_packets),
        reply_bytes: a.reply_bytes.wrapping_add(b.reply_bytes),
        new_flows: a.new_flows.wrapping_add(b.new_flows),
    }
}
