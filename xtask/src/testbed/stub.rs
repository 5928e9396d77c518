//! The program that passes everything, for the peers of interfaces that run XDP.
//!
//! veth takes what its peer sends by XDP only while it polls, and it polls only while it runs a program itself.

use std::fs;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result};
use aya::Ebpf;
use aya::programs::Xdp;
use aya::programs::xdp::XdpMode;

use super::Host;
use crate::workspace;

/// Attached to an interface for as long as this or a clone lives.
#[derive(Debug, Clone)]
pub struct Stub(Arc<Mutex<Ebpf>>);

impl Stub {
    pub(super) fn load() -> Result<Self> {
        let path = workspace::xdp_object("evenkeel-pass")?;
        let object = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut ebpf = Ebpf::load(&object).with_context(|| format!("cannot load {}", path.display()))?;
        program(&mut ebpf)?.load().context("the kernel refuses the program that passes everything")?;
        Ok(Self(Arc::new(Mutex::new(ebpf))))
    }

    pub(super) fn attach(&self, host: &Host, interface: &str) -> Result<()> {
        host.enter(|| {
            let mut ebpf = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            program(&mut ebpf)?
                .attach(interface, XdpMode::Driver)
                .with_context(|| format!("cannot attach XDP to {interface} on {}", host.name()))?;
            Ok(())
        })
    }
}

fn program(ebpf: &mut Ebpf) -> Result<&mut Xdp> {
    let program = ebpf.program_mut("pass").context("evenkeel-pass has no program `pass`")?;
    program.try_into().context("`pass` is no XDP program")
}
