//! What the keeper does to the host and must be undone, be it by itself or by the guard.

use std::fmt;
use std::io;

use nix::net::if_::if_indextoname;
use serde::{Deserialize, Serialize};

use crate::net::address::{self, Address};
use crate::net::netlink::{Answer, Request, Requests};
use crate::net::route::{self, Route};
use crate::net::rule::{self, Rule};
use crate::net::{link, sysctl};

/// A host that has virtual MAC addresses on an interface answers ARP there only for addresses of that interface, or it would
/// answer for virtual ones with its own MAC address (`arp_ignore` 1).
pub(super) const ARP_IGNORE: i32 = 1;

/// In the order in which they are undone: with an interface, its addresses are gone at once.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Thing {
    /// By name: it is told of before it exists.
    Macvlan(String),
    Rule(Rule),
    Route(Route),
    Address(Address),
    /// The interface's `arp_ignore` was changed from that.
    ArpIgnore {
        index: u32,
        before: i32,
    },
}

impl fmt::Display for Thing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Macvlan(name) => write!(f, "interface {name}"),
            Self::Rule(rule) => write!(f, "the rule of priority {} for table {}", rule.priority, rule.table),
            Self::Route(route) => write!(f, "the route to {}/{}", route.to.0, route.to.1),
            Self::Address(address) => write!(f, "{}/{}", address.address, address.length),
            Self::ArpIgnore { index, .. } => write!(f, "arp_ignore of interface {index}"),
        }
    }
}

/// Undoes each, in order; what is gone already is no error. One answer for each.
///
/// # Errors
/// The kernel gives no answers.
pub(super) fn undo(netlink: &mut Requests, things: &[Thing]) -> io::Result<Vec<Answer>> {
    let requests = things.iter().filter_map(request).collect();
    let mut answers = netlink.execute(requests)?.into_iter();
    let undone = things.iter().map(|thing| match thing {
        Thing::ArpIgnore { index, before } => put_arp_ignore_back(*index, *before),
        _ => forgive_gone(answers.next().unwrap_or_else(|| Err(io::ErrorKind::UnexpectedEof.into()))),
    });
    Ok(undone.collect())
}

fn request(thing: &Thing) -> Option<Request> {
    match thing {
        Thing::Macvlan(name) => Some(link::delete(name)),
        Thing::Rule(rule) => Some(rule::remove(rule)),
        Thing::Route(route) => Some(route::remove(route)),
        Thing::Address(address) => Some(address::remove(*address)),
        Thing::ArpIgnore { .. } => None,
    }
}

fn forgive_gone(answer: Answer) -> Answer {
    match answer.as_ref().map_err(io::Error::raw_os_error) {
        Err(Some(libc::EADDRNOTAVAIL | libc::ENODEV | libc::ENXIO | libc::ESRCH | libc::ENOENT)) => Ok(()),
        Ok(()) | Err(_) => answer,
    }
}

/// Unless somebody changed it meanwhile.
fn put_arp_ignore_back(index: u32, before: i32) -> Answer {
    let Some(name) = name_of(index) else { return Ok(()) };
    if sysctl::read("ipv4", &name, "arp_ignore").is_ok_and(|now| now == ARP_IGNORE) {
        sysctl::write("ipv4", &name, "arp_ignore", before)?;
    }
    Ok(())
}

/// `None` when there is no such interface.
pub(super) fn name_of(index: u32) -> Option<String> {
    if_indextoname(index).ok()?.into_string().ok()
}
