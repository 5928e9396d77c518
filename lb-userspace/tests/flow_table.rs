//! The flow tables as the program and user space have them at once: what one stores the other one finds.

#![expect(clippy::unwrap_used, reason = "what cannot go on has failed")]

use std::time::Duration;

use evenkeel::dataplane::flow_table::{FlowTable, grace};
use evenkeel::dataplane::sweep::{Now, Orders, Sweeper};
use evenkeel::dataplane::{DataPlane, Sizes, object};
use lb_common::addr::{Addr, Address, V4};
use lb_common::flow::{Ports, Slot, live, place};
use lb_common::reason::Reason;
use lb_common::service::Method;

const FLOWS: u16 = 600;
const SIZES: Sizes = Sizes { sets4: 1 << 8, sets6: 1 << 8 };

/// A flow by `direct`, of a backend that there need not be.
fn half<A: Address>(number: u16, source: Addr, destination: Addr) -> Slot<A> {
    let mut other = A::from_mapped(source).to_other();
    other.as_mut().fill(0);
    Slot {
        source: A::from_mapped(source),
        destination: A::from_mapped(destination),
        ports: Ports { source: (1000 + number).to_be(), destination: 80_u16.to_be() }.word(),
        state: live(Method::DIRECT, 0, 0),
        last_seen: 0,
        place: place(1, 0),
        other,
    }
}

fn half4(number: u16) -> Slot<V4> {
    half(number, Addr::from_v4(0xc000_0201_u32.to_be()), Addr::from_v4(0xcb00_710a_u32.to_be()))
}

fn half6(number: u16) -> Slot<Addr> {
    let address = |last: u32| Addr::from_words([0x2001_0db8_u32.to_be(), 0, 0, last.to_be()]);
    half(number, address(1), address(2))
}

/// An acknowledgement of the flow's client.
fn frame<A: Address>(half: &Slot<A>) -> Vec<u8> {
    let mut frame = vec![0; 12];
    if A::IS_V4 {
        frame.extend([8, 0, 0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0]);
        frame.extend(half.source.mapped().v4().to_ne_bytes());
        frame.extend(half.destination.mapped().v4().to_ne_bytes());
    } else {
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, 6, 64]);
        let words = [half.source.mapped().words(), half.destination.mapped().words()];
        frame.extend(words.concat().into_iter().flat_map(u32::to_ne_bytes));
    }
    frame.extend(half.ports.to_ne_bytes());
    frame.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 1, 0, 0, 0, 0, 0]);
    frame
}

/// The program tells a flow that it knows, in a frame for another host, from one that it does not.
fn known<A: Address>(plane: &mut DataPlane, halves: impl Iterator<Item = Slot<A>>) -> u64 {
    let count = |plane: &DataPlane| {
        let reasons = plane.reasons.read().unwrap();
        reasons.iter().find(|(reason, _)| *reason == Reason::OtherHost).map_or(0, |(_, count)| *count)
    };
    let before = count(plane);
    for half in halves {
        plane.run("evenkeel", &frame(&half), 0).unwrap();
    }
    count(plane) - before
}

fn store<A: Address>(table: &FlowTable<A>, halves: impl Iterator<Item = Slot<A>>) {
    for half in halves {
        table.insert(&half).unwrap();
    }
}

fn both(plane: &mut DataPlane) -> (u64, u64) {
    (known(plane, (0..FLOWS).map(half4)), known(plane, (0..FLOWS).map(half6)))
}

fn sweep(sweeper: &mut Sweeper, jiffies: u32) -> u64 {
    let ticks = |time: Duration| time.as_secs() as u32;
    sweeper.sweep(&Orders::default(), Now { jiffies, ticks: &ticks }, grace::wait).expired
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn the_program_finds_what_user_space_stores_until_it_has_expired() {
    let mut plane = DataPlane::load_private(object::EVENKEEL, SIZES, 1024).unwrap();
    let mut sweeper = plane.sweeper.take().unwrap();
    assert_eq!(both(&mut plane), (0, 0));
    store(&sweeper.ipv4, (0..FLOWS).map(half4));
    store(&sweeper.ipv6, (0..FLOWS).map(half6));
    assert_eq!(both(&mut plane), (FLOWS.into(), FLOWS.into()));
    assert_eq!(sweep(&mut sweeper, 899), 0);
    assert_eq!(both(&mut plane), (FLOWS.into(), FLOWS.into()));
    assert_eq!(sweep(&mut sweeper, 900), 2 * u64::from(FLOWS));
    assert_eq!(both(&mut plane), (0, 0));
    assert_eq!(sweeper.ipv4.live().count() + sweeper.ipv6.live().count(), 0);
}
