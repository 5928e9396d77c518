//! Forwarding method `direct`: the servers hold the service's address and answer the client themselves.

use anyhow::Result;
use xtask::testbed::Capture;

use crate::support::{
    A_WHILE, ONE_ARM_SERVICE, OneArm, assert_nothing_failed, assert_spread_over, datagrams, large_answers,
    new_connections,
};

#[test]
#[ignore = "needs root: cargo xtask test"]
fn connections_and_datagrams_spread_and_are_answered_straight_to_the_client() -> Result<()> {
    let one_arm = OneArm::build("direct")?;
    let at_client = Capture::start(&one_arm.client, "eth0", "tcp port 80 or udp port 53")?;
    let answers_at_node = Capture::start(
        one_arm.node.host(),
        "eth0",
        "(tcp src port 80 or udp src port 53) and dst host 192.0.2.100",
    )?;

    let report = new_connections(&one_arm.client, ONE_ARM_SERVICE).stop_after(A_WHILE)?;
    assert_spread_over(&report, &["s1", "s2"])?;
    assert_nothing_failed(&large_answers(&one_arm.client, ONE_ARM_SERVICE).stop_after(A_WHILE)?)?;

    assert_spread_over(&datagrams(&one_arm.client)?.stop_after(A_WHILE)?, &["s1", "s2"])?;

    at_client.finish_with_good_checksums()?;
    assert_eq!(answers_at_node.finish()?.packets, 0, "answers go back through the node");
    Ok(())
}
