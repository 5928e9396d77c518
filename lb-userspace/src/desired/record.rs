//! Settings of a service in the words of the data plane.

use std::net::IpAddr;
use std::time::Duration;

use lb_common::backend;
use lb_common::service::{
    CAPPED, DENY_OTHERS, FEW, LISTS, MEMBERS, Method, NO_TABLE, PER_PACKET, RESET, Rate, Scheduler, Service,
};

use super::{Family, Outer};
use crate::config::model::{self, Config, Encapsulation, Forward, ForwardingMethod, OnDown, Prefix};
use crate::sched::Kind;

/// The record but for tables and index of source addresses. `lists`: the service has sources that are allowed or denied.
pub(super) fn record(
    config: &Config,
    configured: &model::Service,
    family: Family,
    lists: bool,
    hz: u32,
) -> Service {
    let rate = |limit: Option<model::Rate>| limit.map_or_else(Rate::default, |limit| rate(limit, hz));
    Service {
        table: NO_TABLE,
        previous: NO_TABLE,
        method: method(configured.forward.method()) as u8,
        scheduler: scheduler(configured.scheduler) as u8,
        flags: flags(configured, lists),
        mss: configured.mss.unwrap_or(0),
        persistence_prefix: configured.persistence.map_or(0, |persistence| match family {
            Family::V4 => 96 + persistence.ipv4_prefix,
            Family::V6 => persistence.ipv6_prefix,
        }),
        quic_length: configured.quic.map_or(0, |quic| quic.id_length),
        persistence: configured.persistence.map_or(0, |persistence| jiffies(persistence.timeout, hz)),
        rate: rate(configured.limits.new_flows),
        source_rate: rate(configured.limits.new_flows_per_source),
        half_open: jiffies(half_open(config, configured), hz),
        ..Service::default()
    }
}

/// How long a flow lasts that has shown one packet. UDP has no handshake: one question may have a long answer.
fn half_open(config: &Config, configured: &model::Service) -> Duration {
    match configured.protocol {
        model::Protocol::Tcp => config.flows.timeouts.syn_recv,
        model::Protocol::Udp => config.flows.timeouts.udp,
    }
}

fn flags(configured: &model::Service, lists: bool) -> u16 {
    let bits = [
        (configured.down == OnDown::Reset, RESET),
        (configured.per_packet, PER_PACKET),
        // Who allows nobody of a family denies all of it.
        (lists || !configured.allow.is_empty(), LISTS),
        (!configured.allow.is_empty(), DENY_OTHERS),
        (configured.backends.iter().any(|backend| backend.limit.is_some()), CAPPED),
    ];
    bits.into_iter().filter(|(set, _)| *set).fold(0, |flags, (_, bit)| flags | bit)
}

/// Rounded up: what is configured is kept at least that long.
fn jiffies(duration: Duration, hz: u32) -> u32 {
    let jiffies = (duration.as_nanos() * u128::from(hz)).div_ceil(1_000_000_000);
    // Jiffies are compared by the sign of their difference.
    jiffies.min(i32::MAX as u128) as u32
}

/// With 100 jiffies a second the most that can be told is 6.5 million flows a second.
fn rate(limit: model::Rate, hz: u32) -> Rate {
    let tokens = (u64::from(limit.per_second) << 16) / u64::from(hz.max(1));
    Rate { per_jiffy: tokens.clamp(1, u64::from(u32::MAX)) as u32, burst: limit.burst }
}

const fn method(method: ForwardingMethod) -> Method {
    match method {
        ForwardingMethod::Nat => Method::Nat,
        ForwardingMethod::Tunnel => Method::Tunnel,
        ForwardingMethod::Direct => Method::Direct,
        ForwardingMethod::FullNat => Method::FullNat,
    }
}

const fn scheduler(scheduler: model::Scheduler) -> Scheduler {
    match scheduler {
        model::Scheduler::Maglev | model::Scheduler::Failover => Scheduler::Flow,
        model::Scheduler::SourceHash => Scheduler::Source,
        model::Scheduler::RoundRobin | model::Scheduler::Weighted => Scheduler::Turn,
        model::Scheduler::LeastConn => Scheduler::LeastConnections,
        model::Scheduler::Overflow => Scheduler::Overflow,
        model::Scheduler::Random => Scheduler::Random,
    }
}

/// What the service's table is built like. One that is picked from by [`super::Service::members`] has a table too: that it
/// has one says that somebody takes new flows.
pub(super) const fn kind(scheduler: model::Scheduler) -> Kind {
    match scheduler {
        model::Scheduler::Maglev | model::Scheduler::SourceHash => Kind::Consistent,
        model::Scheduler::RoundRobin => Kind::Turns,
        model::Scheduler::Weighted | model::Scheduler::LeastConn | model::Scheduler::Random => {
            Kind::WeightedTurns
        }
        model::Scheduler::Failover | model::Scheduler::Overflow => Kind::First,
    }
}

pub(super) const fn members(scheduler: model::Scheduler) -> usize {
    match scheduler {
        model::Scheduler::LeastConn => FEW as usize,
        model::Scheduler::Overflow => MEMBERS,
        model::Scheduler::Maglev
        | model::Scheduler::SourceHash
        | model::Scheduler::RoundRobin
        | model::Scheduler::Weighted
        | model::Scheduler::Failover
        | model::Scheduler::Random => 0,
    }
}

/// Whether something else than the table decides where flows go.
pub(super) fn always_moved(configured: &model::Service) -> bool {
    configured.persistence.is_some()
        || configured.quic.is_some()
        || configured.backends.iter().any(|backend| backend.limit.is_some())
        || !Scheduler::is_hash(scheduler(configured.scheduler) as u8)
}

/// `None` for a service that is no tunnel.
pub(super) fn outer(configured: &model::Service, backend: IpAddr) -> Option<Outer> {
    let Forward::Tunnel(tunnel) = &configured.forward else {
        return None;
    };
    let (encapsulation, gue_port) = match tunnel.encapsulation {
        Encapsulation::Gue { port } => (backend::Encapsulation::Gue, port),
        Encapsulation::Ip => (backend::Encapsulation::Ip, 0),
    };
    let prefix = if backend.is_ipv4() { tunnel.source.ipv4 } else { tunnel.source.ipv6 };
    Some(Outer { encapsulation, gue_port, source: prefix.map(spread) })
}

/// The network part of a prefix, and how many of its last bits vary: no more than a hash of the flow has.
fn spread(prefix: Prefix) -> (IpAddr, u8) {
    let mask = |bits: u32, length: u8| bits.saturating_sub(u32::from(length));
    match prefix.address {
        IpAddr::V4(address) => {
            let host = mask(32, prefix.length);
            let network = u32::MAX.checked_shl(host).unwrap_or(0) & address.to_bits();
            (IpAddr::V4(network.into()), host as u8)
        }
        IpAddr::V6(address) => {
            let host = mask(128, prefix.length);
            let network = u128::MAX.checked_shl(host).unwrap_or(0) & address.to_bits();
            (IpAddr::V6(network.into()), host.min(32) as u8)
        }
    }
}
