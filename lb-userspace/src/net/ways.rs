//! Keeps the ways to backends known: resolves them when they are asked for, when the kernel says that a link, a neighbour
//! or a route that they rest on has changed, and again every second, as a notification may be lost.

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::time::Duration;

use rtnetlink::MulticastGroup;
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{AsyncSocket as _, AsyncSocketExt as _, SocketAddr, TokioSocket};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::next_hop::{self, Found};
use super::watched::Watched;

const INTERVAL: Duration = Duration::from_secs(1);
/// A netlink answer that takes longer is given up; the next round asks again.
const LIMIT: Duration = Duration::from_secs(5);
/// Notifications come in bursts: at least this long after a round they are left to add up.
const GAP: Duration = Duration::from_millis(20);
/// At least so many times what a round took is the pause after it, so that no flood of notifications makes the daemon do
/// nothing else.
const PAUSE: u32 = 4;
const GROUPS: [MulticastGroup; 4] =
    [MulticastGroup::Link, MulticastGroup::Neigh, MulticastGroup::Ipv4Route, MulticastGroup::Ipv6Route];
/// The kernel sends no larger ones (`NLMSG_GOODSIZE`, a page; IPv6 routes with many next hops take more).
const NOTIFICATION: usize = 32 * 1024;

/// Starts the task; it ends when either channel closes.
///
/// # Errors
/// No netlink socket can be opened.
pub fn start(
    mut destinations: watch::Receiver<BTreeSet<IpAddr>>,
    found: mpsc::Sender<Found>,
) -> io::Result<()> {
    let (connection, netlink, _) = rtnetlink::new_connection()?;
    let mut notifications = Notifications::subscribe()?;
    tokio::spawn(connection);
    tokio::spawn(async move {
        let mut watched = Watched::default();
        loop {
            let wanted = destinations.borrow_and_update().clone();
            let began = Instant::now();
            match timeout(LIMIT, next_hop::resolve(&netlink, &wanted)).await {
                Ok(Ok(round)) => {
                    watched.clone_from(&round.watched);
                    if found.send(round).await.is_err() {
                        return;
                    }
                }
                Ok(Err(error)) => tracing::warn!("the ways to the backends are not followed: {error}"),
                Err(_) => {
                    tracing::warn!("the ways to the backends are not followed: netlink does not answer")
                }
            }
            // What has happened since it began waits in the socket.
            let next = next_round(&mut notifications, &watched, pause(began.elapsed()));
            tokio::select! {
                wanted = destinations.changed() => if wanted.is_err() { return },
                () = next => {}
            }
        }
    });
    Ok(())
}

/// Until it is time for the next round.
async fn next_round(notifications: &mut Notifications, watched: &Watched, pause: Duration) {
    let ended = Instant::now();
    let mut next = ended + INTERVAL;
    loop {
        tokio::select! {
            // However many notifications there are.
            biased;
            () = sleep_until(next) => return,
            () = notifications.of(watched) => next = ended + pause,
        }
    }
}

fn pause(took: Duration) -> Duration {
    (took * PAUSE).clamp(GAP, INTERVAL)
}

/// The kernel's notifications of changes.
struct Notifications {
    socket: TokioSocket,
    received: Vec<u8>,
}

impl Notifications {
    fn subscribe() -> io::Result<Self> {
        let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
        let groups = GROUPS.iter().fold(0, |groups, group| groups | 1 << (*group as u32 - 1));
        socket.socket_mut().bind(&SocketAddr::new(0, groups))?;
        Ok(Self { socket, received: Vec::with_capacity(NOTIFICATION) })
    }

    /// Waits for one that may change what is watched, or for the news that some were lost.
    async fn of(&mut self, watched: &Watched) {
        loop {
            self.received.clear();
            match self.socket.recv(&mut self.received).await {
                Ok(()) if watched.concerned_by(&self.received) => return,
                Ok(()) => {}
                // ENOBUFS: more came than the socket holds.
                Err(error) => {
                    tracing::debug!("notifications of the kernel are lost: {error}");
                    sleep(GAP).await;
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_after_a_round_grows_with_what_it_takes_and_is_never_longer_than_without_notifications() {
        let milliseconds = Duration::from_millis;
        assert_eq!(pause(milliseconds(0)), milliseconds(20));
        assert_eq!(pause(milliseconds(30)), milliseconds(120));
        assert_eq!(pause(LIMIT), INTERVAL);
    }
}
