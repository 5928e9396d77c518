//! What the keeper does to the host and must be undone, be it by itself or by the guard.

use std::collections::BTreeSet;
use std::fmt;
use std::io;
use std::sync::Once;

use nix::net::if_::if_indextoname;
use serde::{Deserialize, Serialize};

use crate::net::address::{self, Address};
use crate::net::netlink::{Answer, Request, Requests};
use crate::net::route::{self, Route};
use crate::net::rule::{self, Rule};
use crate::net::{link, sysctl};
use crate::vrrp::log::log;

/// What an interface with virtual MAC addresses on it must not do with ARP, or it would give its own MAC address for virtual
/// addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ArpSetting {
    /// Answer for addresses of other interfaces.
    Ignore,
    /// Ask with the address of another interface as its own.
    Announce,
}

impl ArpSetting {
    pub(super) const ALL: [Self; 2] = [Self::Ignore, Self::Announce];

    pub(super) fn key(self) -> &'static str {
        match self {
            Self::Ignore => "arp_ignore",
            Self::Announce => "arp_announce",
        }
    }

    /// The mildest value that will do.
    pub(super) fn value(self) -> i32 {
        match self {
            Self::Ignore => 1,
            Self::Announce => 2,
        }
    }

    pub(super) fn will_do(self, value: i32) -> bool {
        // `arp_ignore` 2 does what 1 does, and more.
        value == self.value() || self == Self::Ignore && value == 2
    }
}

const PROMOTE: &str = "promote_secondaries";

/// In the order in which they are undone: what others notice first. An interface goes last, as the kernel waits for its
/// readers each time, which takes longer than a hundred addresses.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Thing {
    Rule(Rule),
    Route(Route),
    Address(Address),
    /// By name: it is told of before it exists.
    Macvlan(String),
    /// The interface's setting was changed from that.
    Arp {
        index: u32,
        setting: ArpSetting,
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
            Self::Arp { index, setting, .. } => write!(f, "{} of interface {index}", setting.key()),
        }
    }
}

/// Undoes each, in order; what is gone already is no error. One answer for each.
///
/// # Errors
/// The kernel gives no answers.
pub(super) fn undo(netlink: &mut Requests, things: &[Thing]) -> io::Result<Vec<Answer>> {
    let _promotion = Promotion::of(things);
    let requests = things.iter().filter_map(request).collect();
    let mut answers = netlink.execute(requests)?.into_iter();
    let undone = things.iter().map(|thing| match thing {
        Thing::Arp { index, setting, before } => put_back(*index, *setting, *before),
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
        Thing::Arp { .. } => None,
    }
}

fn forgive_gone(answer: Answer) -> Answer {
    match answer.as_ref().map_err(io::Error::raw_os_error) {
        Err(Some(libc::EADDRNOTAVAIL | libc::ENODEV | libc::ENXIO | libc::ESRCH | libc::ENOENT)) => Ok(()),
        Ok(()) | Err(_) => answer,
    }
}

/// Unless somebody changed it meanwhile.
fn put_back(index: u32, setting: ArpSetting, before: i32) -> Answer {
    let Some(name) = name_of(index) else { return Ok(()) };
    if sysctl::read("ipv4", &name, setting.key()).is_ok_and(|now| now == setting.value()) {
        sysctl::write("ipv4", &name, setting.key(), before)?;
    }
    Ok(())
}

/// While it lives, other addresses of a network stay when the first of it goes: they may be the host's own.
struct Promotion(Vec<String>);

impl Promotion {
    fn of(things: &[Thing]) -> Self {
        let indexes = things.iter().filter_map(|thing| match thing {
            Thing::Address(at) if at.address.is_ipv4() => Some(at.index),
            _ => None,
        });
        let names = indexes.collect::<BTreeSet<u32>>().into_iter().filter_map(name_of);
        let off = names.filter(|name| sysctl::read("ipv4", name, PROMOTE).is_ok_and(|value| value == 0));
        let set = |name: &String| match sysctl::write("ipv4", name, PROMOTE, 1) {
            Ok(()) => true,
            // The keeper adds again what is its own.
            Err(error) => {
                tell_once(name, &error);
                false
            }
        };
        Self(off.filter(set).collect())
    }
}

impl Drop for Promotion {
    fn drop(&mut self) {
        for name in &self.0 {
            // An error: the interface is gone.
            let _ = sysctl::write("ipv4", name, PROMOTE, 0);
        }
    }
}

fn tell_once(name: &str, error: &io::Error) {
    static TOLD: Once = Once::new();
    let line = format!(
        "virtual addresses: cannot set net.ipv4.conf.{name}.{PROMOTE}: {error}; an address of the host goes too when it was \
         added after a virtual one of its network, so set it to 1 or allow writing to /proc/sys/net"
    );
    TOLD.call_once(|| log(move || tracing::warn!("{line}")));
}

/// `None` when there is no such interface.
pub(super) fn name_of(index: u32) -> Option<String> {
    if_indextoname(index).ok()?.into_string().ok()
}
