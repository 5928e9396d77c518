//! Whether a neighbour answers ARP or ND, asked by frames of our own: neither what the kernel remembers of it nor the
//! neighbour table is touched, so that the way of other packets is not either.

mod route;
mod solicit;

use std::net::IpAddr;
use std::time::Duration;

use rtnetlink::Handle;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, timeout};

use self::route::Next;
use super::Reporter;
use super::machine::Finding;
use crate::config::model::Subject;

const INTERVAL: Duration = Duration::from_secs(1);
/// For one round, so that rounds do not overlap.
const LIMIT: Duration = Duration::from_millis(900);
/// Rounds in a row without an answer until it is ill.
const SILENT: u32 = 3;

/// `None`: of the default route, whichever that is at the time.
pub(super) async fn follow(gateway: Option<IpAddr>, report: Reporter) {
    let subject = Subject::Gateway(gateway);
    let mut netlink = None;
    let mut times = interval(INTERVAL);
    times.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut silent = 0_u32;
    loop {
        times.tick().await;
        match round(gateway, &mut netlink).await {
            Ok(detail) => {
                silent = 0;
                report.found(&subject, Finding::Well(detail));
            }
            Err(detail) => {
                silent = silent.saturating_add(1);
                if silent >= SILENT {
                    report.found(&subject, Finding::Ill(detail));
                }
            }
        }
    }
}

async fn round(gateway: Option<IpAddr>, netlink: &mut Option<Handle>) -> Result<String, String> {
    let handle = match netlink {
        Some(handle) => handle.clone(),
        None => netlink.insert(connect()?).clone(),
    };
    let found = match timeout(LIMIT, next_hops(&handle, gateway)).await {
        Ok(found) => found,
        Err(_) => {
            *netlink = None;
            Err("netlink does not answer".to_owned())
        }
    };
    let hops = match found? {
        Next::Own => return Ok("is this node's own address".to_owned()),
        Next::Hops(hops) => hops,
    };
    let mut asked = JoinSet::new();
    for hop in hops {
        let netlink = handle.clone();
        asked.spawn(async move { solicit::answers(&netlink, hop, LIMIT).await });
    }
    let mut last = Err("has no next hop".to_owned());
    while let Some(answer) = asked.join_next().await {
        last = answer.unwrap_or_else(|error| Err(error.to_string()));
        if last.is_ok() {
            break;
        }
    }
    last
}

async fn next_hops(netlink: &Handle, gateway: Option<IpAddr>) -> Result<Next, String> {
    match gateway {
        Some(address) => route::to(netlink, address).await,
        None => route::default(netlink).await,
    }
}

fn connect() -> Result<Handle, String> {
    let opened = rtnetlink::new_connection();
    let (connection, netlink, _) =
        opened.map_err(|error| format!("cannot open a netlink socket: {error}"))?;
    tokio::spawn(connection);
    Ok(netlink)
}
