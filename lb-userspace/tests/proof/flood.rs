//! A flood of spoofed packets beside established flows. `cargo xtask bench flood` sends ten times as many.

use lb_common::reason::Reason;

use crate::siege::{ACK, Cost, SYN, Siege};

/// Of each method.
const FLOWS: u32 = 25_000;
const SYNS: u32 = 1_000_000;
const ACKS: u32 = 200_000;

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_flood_takes_no_established_flow_away_and_fills_no_table() {
    let mut siege = Siege::new(FLOWS);
    siege.hold();
    let mut cost = Cost::default();
    let opened = siege.counted(Reason::Opening);
    for (flags, sources) in [(SYN, 0..SYNS), (ACK, SYNS..SYNS + ACKS)] {
        for source in sources {
            siege.strike(source, flags, &mut cost);
            if source % 16 == 0 {
                siege.hit(source / 16, &mut cost);
            }
        }
    }
    assert_eq!(
        siege.counted(Reason::Opening) - opened,
        u64::from(SYNS + ACKS),
        "each is forwarded, and leaves no flow"
    );
    siege.hold();
}
