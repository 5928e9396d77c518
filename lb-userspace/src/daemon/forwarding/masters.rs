//! The virtual MAC addresses that the host has as master.
#![deny(clippy::disallowed_methods)]

use std::collections::BTreeSet;

use crate::config::model::Instance;
use crate::vrrp::keeper::virtual_macs;

#[derive(Debug, Default)]
pub(super) struct Masters {
    /// With their interfaces, whether these are up already or not.
    stations: BTreeSet<Station>,
    /// Names of the instances that were not as they were told at the last look.
    behind: BTreeSet<String>,
}

type Station = (String, [u8; 6]);

impl Masters {
    pub(super) fn stations(&self) -> &BTreeSet<Station> {
        &self.stations
    }

    /// An event told that it is, or is not; whether that changes the stations.
    pub(super) fn follow(&mut self, instance: &Instance, is_master: bool) -> bool {
        let before = self.stations.len();
        for station in stations(instance) {
            if is_master {
                self.stations.insert(station);
            } else {
                self.stations.remove(&station);
            }
        }
        self.stations.len() != before
    }

    /// What no event told, as too many waited, is followed when it still differs at the next look: what is seen may be a
    /// moment behind the event. Whether that changes the stations.
    pub(super) fn look<'a>(&mut self, instances: impl Iterator<Item = (&'a Instance, bool)>) -> bool {
        let before = std::mem::take(&mut self.behind);
        let mut changed = false;
        for (instance, is_master) in instances {
            if stations(instance).all(|station| self.stations.contains(&station) == is_master) {
                continue;
            }
            if before.contains(&instance.name) {
                changed |= self.follow(instance, is_master);
            } else {
                self.behind.insert(instance.name.clone());
            }
        }
        changed
    }
}

fn stations(instance: &Instance) -> impl Iterator<Item = Station> {
    virtual_macs(instance).map(|mac| (instance.interface.clone(), mac))
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::config::model::{Prefix, Vrid};

    const V4: [u8; 6] = [0, 0, 0x5e, 0, 1, 51];
    const V6: [u8; 6] = [0, 0, 0x5e, 0, 2, 51];

    fn instance(name: &str, addresses: &[&str]) -> Instance {
        let address = |text: &&str| Prefix { address: text.parse::<IpAddr>().unwrap(), length: 24 }.into();
        Instance {
            virtual_mac: true,
            addresses: addresses.iter().map(address).collect(),
            ..Instance::new(name, "eth0", Vrid::new(51).unwrap())
        }
    }

    fn of_v4() -> Instance {
        instance("four", &["203.0.113.10"])
    }

    fn macs(masters: &Masters) -> Vec<[u8; 6]> {
        masters.stations().iter().map(|(_, mac)| *mac).collect()
    }

    #[test]
    fn two_instances_of_one_virtual_router_id_and_one_family_each_leave_each_others_mac_alone() {
        let (four, six) = (of_v4(), instance("six", &["2001:db8::10"]));
        for (master, backup, mac) in [(&four, &six, V4), (&six, &four, V6)] {
            let mut masters = Masters::default();
            masters.follow(backup, true);
            masters.follow(master, true);
            masters.follow(backup, false);
            assert_eq!(macs(&masters), [mac]);
            for _ in 0..3 {
                assert!(!masters.look([(master, true), (backup, false)].into_iter()));
                assert_eq!(macs(&masters), [mac]);
            }
        }
    }

    #[test]
    fn an_instance_of_both_families_has_both_macs_and_one_without_virtual_mac_has_none() {
        let both = instance("both", &["203.0.113.10", "2001:db8::10"]);
        let mut masters = Masters::default();
        assert!(masters.follow(&both, true));
        assert_eq!(macs(&masters), [V4, V6]);
        let plain = Instance { virtual_mac: false, ..both };
        assert!(!masters.follow(&plain, false));
        assert_eq!(macs(&masters), [V4, V6]);
    }

    #[test]
    fn what_differs_at_two_looks_in_a_row_is_followed() {
        let four = of_v4();
        let mut masters = Masters::default();
        assert!(!masters.look([(&four, true)].into_iter()));
        assert_eq!(macs(&masters), [[0; 6]; 0]);
        assert!(masters.look([(&four, true)].into_iter()));
        assert_eq!(macs(&masters), [V4]);
        assert!(!masters.look([(&four, false)].into_iter()));
        assert!(masters.look([(&four, false)].into_iter()));
        assert_eq!(macs(&masters), [[0; 6]; 0]);
    }

    #[test]
    fn what_agrees_between_two_looks_is_forgotten() {
        let four = of_v4();
        let mut masters = Masters::default();
        for is_master in [true, false, true] {
            assert!(!masters.look([(&four, is_master)].into_iter()));
        }
        assert_eq!(macs(&masters), [[0; 6]; 0]);
    }
}
