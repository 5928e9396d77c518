//! What holds between the values of one service.

use std::net::IpAddr;

use super::backends::Pool;
use crate::config::model::{Backend, Check, CheckKind, Forward, ForwardingMethod, Protocol, Scheduler};
use crate::config::parse::addresses::family;
use crate::config::parse::reader::{Fields, Place, Read, Reader};

/// What the rules are about; what is wrong in itself breaks no rule.
pub(super) struct Parts<'a> {
    pub(super) forward: &'a Read<Forward>,
    pub(super) check: &'a Read<Option<Check>>,
    pub(super) backends: &'a Read<Vec<(Backend, Place)>>,
}

pub(super) fn check(reader: &mut Reader<'_>, fields: &Fields<'_>, pool: &Pool<'_>, parts: &Parts<'_>) {
    per_packet(reader, fields, pool);
    mss(reader, fields, pool);
    if pool.protocol == Some(Protocol::Tcp)
        && let Some(item) = fields.get("quic")
    {
        reader.mistake(&item.place(), "QUIC is UDP; write `protocol: udp`, or remove `quic`");
    }
    if let (Ok(Some(check)), Ok(backends)) = (parts.check, parts.backends) {
        check_port(reader, fields, pool, check, backends);
    }
    if let (Ok(Forward::FullNat(fullnat)), Some(item)) = (parts.forward, fields.get("forward")) {
        source_families(reader, pool, &fullnat.sources, &item.place());
    }
    if let Ok(backends) = parts.backends {
        families(reader, pool, backends);
    }
}

fn per_packet(reader: &mut Reader<'_>, fields: &Fields<'_>, pool: &Pool<'_>) {
    let Some(item) = fields.get("per_packet").filter(|_| pool.per_packet) else { return };
    let place = item.place();
    if pool.protocol == Some(Protocol::Tcp) {
        let message =
            "`per_packet` would tear TCP connections apart; write `protocol: udp`, or remove `per_packet`";
        reader.mistake(&place, message);
    }
    let able = [Scheduler::RoundRobin, Scheduler::Weighted, Scheduler::Random];
    if let Some(scheduler) = pool.scheduler.filter(|scheduler| !able.contains(scheduler)) {
        let message = format!(
            "`{}` does not schedule packet by packet; write `scheduler: round-robin`, `weighted` or `random`, or remove \
             `per_packet`",
            scheduler.as_str()
        );
        reader.mistake(&place, message);
    }
    let fullnat = (pool.method == Some(ForwardingMethod::FullNat)).then_some("fullnat");
    let keys = ["persistence", "quic"].into_iter().filter(|key| fields.get(key).is_some());
    for other in keys.chain(fullnat) {
        let message =
            format!("`per_packet` leaves no flow behind, and `{other}` needs one; remove one of the two");
        reader.mistake(&place, message);
    }
}

fn mss(reader: &mut Reader<'_>, fields: &Fields<'_>, pool: &Pool<'_>) {
    let Some(item) = fields.get("mss") else { return };
    if pool.protocol == Some(Protocol::Udp) {
        reader.mistake(&item.place(), "UDP has no MSS; remove it");
    }
    if let Some(method) = pool.method.filter(|method| !method.rewrites_port()) {
        let message = format!(
            "with `{0}` the backend answers the client itself, so the answer, which carries the server's MSS, does not \
             pass this node; set the MSS on the backend (`ip route … advmss`), or use `forward: nat`",
            method.as_str()
        );
        reader.mistake(&item.place(), message);
    }
}

/// A check needs a port to connect to.
fn check_port(
    reader: &mut Reader<'_>,
    fields: &Fields<'_>,
    pool: &Pool<'_>,
    check: &Check,
    backends: &[(Backend, Place)],
) {
    // Without them a backend does not know its port either.
    let known = pool.method.is_some() && pool.listen.is_some();
    if !known || check.port.is_some() || backends.iter().all(|(backend, _)| backend.port.is_some()) {
        return;
    }
    let kind = match check.kind {
        CheckKind::Tcp => "tcp",
        CheckKind::Http { .. } => "http",
    };
    let place = fields.get("check").map_or_else(|| fields.at.clone(), |item| item.place());
    let message = format!(
        "the service listens on several ports and backends are written without one, so there is no port to probe; write \
         it in the check, such as `{{ {kind}: {{ port: 80 }} }}`"
    );
    reader.mistake(&place, message);
}

/// The node reaches a backend from an address of the client's family.
fn source_families(reader: &mut Reader<'_>, pool: &Pool<'_>, sources: &[IpAddr], place: &Place) {
    let listen = pool.listen.unwrap_or_default();
    for (ipv4, example) in [(true, "10.0.0.5"), (false, "fd00::5")] {
        let listens = listen.iter().any(|(listen, _)| listen.address.is_ipv4() == ipv4);
        if listens && !sources.iter().any(|source| source.is_ipv4() == ipv4) {
            let family = if ipv4 { "IPv4" } else { "IPv6" };
            let message = format!(
                "the service listens on {family}, and `sources` has no {family} address; add one of this node that \
                 nothing else uses, such as `{example}`"
            );
            reader.mistake(place, message);
        }
    }
}

/// Only a tunnel carries one family in the other.
fn families(reader: &mut Reader<'_>, pool: &Pool<'_>, backends: &[(Backend, Place)]) {
    let (Some(method), Some(listen)) = (pool.method, pool.listen) else { return };
    if method == ForwardingMethod::Tunnel {
        return;
    }
    let method = method.as_str();
    let backend_of = |ipv4| backends.iter().any(|(backend, _)| backend.address.is_ipv4() == ipv4);
    let served = [backend_of(false), backend_of(true)];
    let unserved = listen.iter().filter(|(listen, _)| !served[usize::from(listen.address.is_ipv4())]);
    for (listen, place) in unserved.clone() {
        let (own, other) = names(listen.address);
        let message = format!(
            "`{method}` does not change {own} to {other}, and no backend is {own}; add an {own} backend, listen \
             elsewhere, or use `forward: tunnel`"
        );
        reader.mistake(place, message);
    }
    if unserved.count() > 0 {
        return;
    }
    let listened = |address: IpAddr| listen.iter().any(|(l, _)| l.address.is_ipv4() == address.is_ipv4());
    for (backend, place) in backends.iter().filter(|(backend, _)| !listened(backend.address)) {
        let (own, other) = names(backend.address);
        let message = format!(
            "`{method}` does not change {other} to {own}, and the service does not listen on {own}; remove the backend, \
             add an {own} listen address, or use `forward: tunnel`"
        );
        reader.mistake(place, message);
    }
}

/// The family of an address, and the other one.
const fn names(address: IpAddr) -> (&'static str, &'static str) {
    (family(address), if address.is_ipv4() { "IPv6" } else { "IPv4" })
}
