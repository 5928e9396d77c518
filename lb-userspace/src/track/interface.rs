//! Interfaces: looked at when the kernel says that any has changed, and every 30 s, as a notification may be lost.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::pin::pin;
use std::time::Duration;

use futures_util::StreamExt as _;
use rtnetlink::packet_route::link::{LinkAttribute, LinkFlags};
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{AsyncSocket as _, AsyncSocketExt as _, SocketAddr, TokioSocket};
use rtnetlink::{Handle, MulticastGroup};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::Reporter;
use super::machine::Finding;
use crate::config::model::Subject;

const INTERVAL: Duration = Duration::from_secs(30);
const AGAIN: Duration = Duration::from_secs(1);
/// A netlink answer that takes longer is given up.
const LIMIT: Duration = Duration::from_secs(5);
/// At least so many times what a look took is the pause after it, so that no flood of notifications keeps the daemon from
/// its other work.
const PAUSE: u32 = 4;
/// The kernel sends no larger notifications of links (`NLMSG_GOODSIZE`, a page, or what one link takes).
const NOTIFICATION: usize = 32 * 1024;

#[derive(Debug, thiserror::Error)]
enum LookError {
    #[error("cannot open a netlink socket: {0}")]
    Open(#[from] io::Error),
    #[error("cannot read the links by netlink: {0}")]
    Read(#[from] rtnetlink::Error),
    #[error("netlink does not answer within {LIMIT:?}")]
    Late,
}

pub(super) async fn follow(mut wanted: watch::Receiver<BTreeSet<String>>, report: Reporter) {
    // What could not be looked at since the task began counts as ill; later it stays what it was.
    let mut seen = BTreeSet::new();
    loop {
        if let Err(error) = follow_until_error(&mut wanted, &report, &mut seen).await {
            tracing::warn!("tracked interfaces are not followed: {error}");
            for name in wanted.borrow().difference(&seen) {
                report.found(&Subject::Interface(name.clone()), Finding::Ill(error.to_string()));
            }
        }
        if wanted.has_changed().is_err() {
            return;
        }
        sleep(AGAIN).await;
    }
}

/// Returns without an error when nobody is left to say what is wanted.
async fn follow_until_error(
    wanted: &mut watch::Receiver<BTreeSet<String>>,
    report: &Reporter,
    seen: &mut BTreeSet<String>,
) -> Result<(), LookError> {
    let (connection, netlink, _) = rtnetlink::new_connection()?;
    tokio::spawn(connection);
    let notifications = subscribe()?;
    let mut received = Vec::with_capacity(NOTIFICATION);
    loop {
        let names = wanted.borrow_and_update().clone();
        let began = Instant::now();
        if !names.is_empty() {
            let links = timeout(LIMIT, links(&netlink)).await.map_err(|_| LookError::Late)??;
            for name in &names {
                report.found(&Subject::Interface(name.clone()), finding(links.get(name)));
            }
            seen.clone_from(&names);
        }
        // What has happened since it began waits in the socket.
        sleep(began.elapsed() * PAUSE).await;
        received.clear();
        tokio::select! {
            changed = wanted.changed() => if changed.is_err() { return Ok(()) },
            // An error is ENOBUFS: some were lost.
            _ = notifications.recv(&mut received) => {}
            () = sleep(INTERVAL) => {}
        }
    }
}

fn subscribe() -> io::Result<TokioSocket> {
    let mut socket = TokioSocket::new(NETLINK_ROUTE)?;
    socket.socket_mut().bind(&SocketAddr::new(0, 1 << (MulticastGroup::Link as u32 - 1)))?;
    Ok(socket)
}

/// Flags of all interfaces, by name.
async fn links(netlink: &Handle) -> Result<BTreeMap<String, LinkFlags>, rtnetlink::Error> {
    let mut links = BTreeMap::new();
    let mut replies = pin!(netlink.link().get().execute());
    while let Some(reply) = replies.next().await {
        let message = reply?;
        let name = message.attributes.into_iter().find_map(|attribute| match attribute {
            LinkAttribute::IfName(name) => Some(name),
            _ => None,
        });
        links.extend(name.map(|name| (name, message.header.flags)));
    }
    Ok(links)
}

/// `IFF_RUNNING` is what the driver, or a bond's or a VLAN's parts, say of the carrier (RFC 2863's operational state).
fn finding(flags: Option<&LinkFlags>) -> Finding {
    match flags {
        None => Finding::Ill("there is none of this name".to_owned()),
        Some(flags) if !flags.contains(LinkFlags::Up) => Finding::Ill("is down".to_owned()),
        Some(flags) if !flags.contains(LinkFlags::Running) => Finding::Ill("has no carrier".to_owned()),
        Some(_) => Finding::Well("is up, with carrier".to_owned()),
    }
}
