use aya::Ebpf;
use aya::maps::{MapData, PerCpuArray};
use lb_common::reason::Reason;

use super::names::REASONS as NAME;
use super::{MapAccessError, MapOpenError, access, take};

/// Packets by reason.
pub struct Reasons(PerCpuArray<MapData, u64>);

impl Reasons {
    pub(in crate::dataplane) fn open(ebpf: &mut Ebpf) -> Result<Self, MapOpenError> {
        take(ebpf, NAME).map(Self)
    }

    /// Sum over all CPUs for every reason.
    pub fn read(&self) -> Result<Vec<(Reason, u64)>, MapAccessError> {
        Reason::ALL
            .iter()
            .map(|reason| {
                let values = access(self.0.get(&(*reason as u32), 0), NAME, "read")?;
                Ok((*reason, values.iter().sum()))
            })
            .collect()
    }
}
