use std::net::IpAddr;

use aya::Ebpf;
use aya::maps::{HashMap, MapData};
use lb_common::addr::Addr;

use super::names::DECAP as NAME;
use super::{MapAccessError, MapOpenError, access, take};

/// Outer destinations that tunnel headers are removed for.
pub struct Decap(HashMap<MapData, Addr, u32>);

impl Decap {
    pub(in crate::dataplane) fn open(ebpf: &mut Ebpf) -> Result<Self, MapOpenError> {
        take(ebpf, NAME).map(Self)
    }

    pub fn add(&mut self, destination: IpAddr) -> Result<(), MapAccessError> {
        access(self.0.insert(Addr::from(destination), 1, 0), NAME, "write to")
    }
}
