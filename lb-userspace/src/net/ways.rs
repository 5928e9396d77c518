//! Keeps the ways to backends known: resolves them when they are asked for, and again every second, so that a route or a
//! neighbour that changes is followed.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use tokio::sync::{mpsc, watch};

use super::next_hop::{self, Unresolved};
use crate::desired::Way;

const INTERVAL: Duration = Duration::from_secs(1);
/// A netlink answer that takes longer is given up; the next round asks again.
const LIMIT: Duration = Duration::from_secs(5);

/// What one round found, by destination.
pub type Ways = BTreeMap<IpAddr, Result<Way, Unresolved>>;

/// Starts the task; it ends when either channel closes.
///
/// # Errors
/// No netlink socket can be opened.
pub fn start(
    mut destinations: watch::Receiver<BTreeSet<IpAddr>>,
    found: mpsc::Sender<Ways>,
) -> io::Result<()> {
    let (connection, netlink, _) = rtnetlink::new_connection()?;
    tokio::spawn(connection);
    tokio::spawn(async move {
        loop {
            let wanted = destinations.borrow_and_update().clone();
            match tokio::time::timeout(LIMIT, next_hop::resolve(&netlink, &wanted)).await {
                Ok(Ok(ways)) => {
                    if found.send(ways).await.is_err() {
                        return;
                    }
                }
                Ok(Err(error)) => tracing::warn!("the ways to the backends are not followed: {error}"),
                Err(_) => {
                    tracing::warn!("the ways to the backends are not followed: netlink does not answer")
                }
            }
            if let Ok(Err(_)) = tokio::time::timeout(INTERVAL, destinations.changed()).await {
                return;
            }
        }
    });
    Ok(())
}
