//! The daemon goes away and comes back; the data plane stays.

use anyhow::{Result, ensure};
use xtask::testbed::clients::MySqlSession;
use xtask::testbed::data_centre::{DataCentre, Plan};

use crate::support::{A_WHILE, assert_spread_over, data_centre, new_connections};

const CONNECTION: &str = "SELECT CONNECTION_ID();";

#[test]
#[ignore = "needs root: cargo xtask test"]
fn an_established_connection_survives_kill_9_and_restart_of_the_daemon() -> Result<()> {
    let mut data_centre = data_centre(Plan { database: true, ..Plan::WEB })?;
    let mut session = MySqlSession::open(&data_centre.client, DataCentre::database_service())?;
    let before = session.query(CONNECTION)?;

    data_centre.nodes[0].kill_daemon()?;
    data_centre.nodes[0].start_daemon()?;
    data_centre.nodes[0].wait_until_backends_are_up()?;

    let after = session.query(CONNECTION)?;
    ensure!(before == after, "the connection was {before} and is {after}");
    let report = new_connections(&data_centre.client, DataCentre::web_service()).stop_after(A_WHILE)?;
    assert_spread_over(&report, &["web-1", "web-2"])
}
