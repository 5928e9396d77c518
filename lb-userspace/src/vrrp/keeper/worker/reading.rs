//! What there is on the host, read and followed.

use std::collections::BTreeMap;

use tokio::time::Instant;

use super::super::changes::log_problem;
use super::super::kernel::{Kernel, Learned};
use super::super::settings;
use super::{MIN_GAP, READ_EVERY, Worker};
use crate::net::sysctl;
use crate::vrrp::thing::ArpSetting;

impl Worker {
    pub(super) fn read_if_due(&mut self) -> anyhow::Result<()> {
        use anyhow::Context as _;
        let kernel = match &mut self.kernel {
            Some(kernel) => kernel,
            None => {
                // What happened without a connection is not known.
                self.read_due = Instant::now();
                self.kernel.insert(Kernel::connect().context("cannot open a netlink socket")?)
            }
        };
        let members = || self.entries.values().flat_map(|entry| &entry.wanted.members);
        if members().any(|member| !member.routes.is_empty() || !member.rules.is_empty()) {
            kernel.watch_routes().context("cannot watch routes by netlink")?;
        }
        if self.read_due <= Instant::now() {
            let mut mirror = kernel.read().context("cannot read the host's interfaces by netlink")?;
            mirror.follow(&self.mirror);
            self.mirror = mirror;
            self.read_due = Instant::now() + READ_EVERY;
            self.routes_due = false;
            self.settings_due = true;
        }
        self.learn();
        Ok(())
    }

    /// Takes notifications; whether there was anything new.
    pub(super) fn learn(&mut self) -> bool {
        let Some(kernel) = &self.kernel else { return false };
        let Learned { changed, lost, incomplete } = kernel.learn(&mut self.mirror);
        if incomplete {
            self.read_due = self.read_due.min(Instant::now() + MIN_GAP);
        }
        self.routes_due |= lost && !(self.target.routes.is_empty() && self.mirror.routes.is_empty());
        changed || incomplete
    }

    pub(super) fn read_arp(&self) -> BTreeMap<(u32, ArpSetting), i32> {
        let both =
            self.target.quiet.iter().flat_map(|index| ArpSetting::ALL.map(|setting| (*index, setting)));
        let read = |(index, setting): (u32, ArpSetting)| {
            let link = self.mirror.by_index(index)?;
            Some(((index, setting), sysctl::read("ipv4", &link.name, setting.key()).ok()?))
        };
        both.filter_map(read).collect()
    }

    pub(super) fn check_settings(&mut self) {
        let there = self.target.macvlans.iter().filter(|(name, _)| self.mirror.by_name(name).is_some());
        let astray = there.filter(|(name, macvlan)| !settings::are_set(name, macvlan.family));
        self.mirror.astray = astray.map(|(name, _)| name.clone()).collect();
        let strict = self.target.has_v4_macvlans() && settings::host_filters_strictly();
        if strict && !std::mem::replace(&mut self.told_strict, true) {
            log_problem(
                "net.ipv4.conf.all.rp_filter is 1, which overrides the 0 of interfaces with virtual MAC addresses: what is sent \
                 to these addresses is dropped; set it to 0 or 2"
                    .to_owned(),
            );
        }
    }
}
