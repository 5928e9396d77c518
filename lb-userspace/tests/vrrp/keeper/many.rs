//! Thousands of addresses.

use std::time::Instant;

use evenkeel::config::model::{Instance, Vrid};
use evenkeel::vrrp::keeper::Registration;

use super::{address, instance, register, set_hold, wait_many, wait_released};
use crate::lab::{Lab, start_keeper};

const VRIDS: u8 = 50;
const ADDRESSES: u8 = 100;

#[test]
#[ignore = "needs root: cargo xtask test"]
fn thousands_of_addresses_come_and_go() {
    come_and_go(false);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn thousands_of_addresses_at_virtual_macs_come_and_go() {
    come_and_go(true);
}

fn come_and_go(virtual_mac: bool) {
    let lab = Lab::new(1);
    let host = &lab.hosts[0];
    let keeper = host.run(start_keeper);
    let all: Vec<Registration> = (1..=vrids())
        .map(|vrid| {
            let addresses = (1..=ADDRESSES).map(|last| address(&format!("10.1.{vrid}.{last}"), 32)).collect();
            let vrid = Vrid::new(vrid).unwrap();
            register(&keeper, &Instance { vrid, ..instance(virtual_mac, addresses) })
        })
        .collect();
    let count =
        || host.output(&["ip", "-4", "-o", "address"]).lines().filter(|line| line.contains(" 10.1.")).count();
    let wanted = usize::from(vrids()) * usize::from(ADDRESSES);
    let began = Instant::now();
    all.iter().for_each(|registration| set_hold(registration, true));
    wait_many(|| count() == wanted);
    println!("{wanted} addresses were there after {:?}", began.elapsed());
    let began = Instant::now();
    all.iter().for_each(|registration| set_hold(registration, false));
    wait_many(|| count() == 0);
    println!("and gone after {:?}", began.elapsed());
    all.into_iter().for_each(wait_released);
}

/// Beside the usual number, as many as there can be.
fn vrids() -> u8 {
    std::env::var("EVENKEEL_TEST_VRIDS").ok().and_then(|vrids| vrids.parse().ok()).unwrap_or(VRIDS)
}
