//! The status: everything the daemon knows, as one value.

mod condition;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use lb_common::backend::{RESOLVED, SERVING};
use lb_common::flow::WAYS;

use super::Daemon;
use super::forwarding::{Forwarding, traffic};
use crate::admin::written;
use crate::config::model::{Backend, Protocol, Service};
use crate::dataplane::Sizes;
use crate::dataplane::maps::MapAccessError;
use crate::desired::{Family, Key};
use crate::hooks;
use crate::status::{self, BackendState, FlowTable, Flows, ReasonCount, Status, Traffic};
use condition::Condition;

impl Daemon {
    /// # Errors
    /// A map could not be read.
    pub(super) fn status(&self) -> Result<Status, MapAccessError> {
        let forwarding = &self.forwarding;
        let services = self.config.services.iter().map(|service| self.service(service));
        let mut services = services.collect::<Result<Vec<_>, _>>()?;
        self.removed(&mut services)?;
        let mut instances = self.instances.snapshots();
        let place = |name: &str| self.config.vrrp.iter().position(|instance| instance.name == name);
        instances.sort_by_key(|instance| place(&instance.name));
        Ok(Status {
            node: self.config.node.clone(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            started_at: unix(self.started_at),
            configuration: self.reloads.status(),
            interfaces: self.config.interfaces.iter().map(|i| interface(forwarding, &i.name)).collect(),
            instances,
            hooks: self.hooks.reports().into_iter().map(hook).collect(),
            services,
            flows: flows(forwarding),
            packets: reasons(forwarding)?,
        })
    }

    /// Sums of what the data plane has for each family.
    fn service(&self, service: &Service) -> Result<status::Service, MapAccessError> {
        let numbers: Vec<u32> = Family::ALL
            .into_iter()
            .filter_map(|family| {
                let key = Key { name: service.name.clone(), family };
                self.forwarding.plan.services.get(&key).copied()
            })
            .collect();
        let mut backends = Vec::new();
        for backend in &service.backends {
            backends.push(self.backend(service, backend)?);
        }
        for number in &numbers {
            backends.extend(self.draining(*number)?);
        }
        Ok(status::Service {
            name: service.name.clone(),
            listen: service.listen.iter().map(ToString::to_string).collect(),
            protocol: protocol(service.protocol).to_owned(),
            forward: service.forward.method().as_str().to_owned(),
            scheduler: service.scheduler.as_str().to_owned(),
            traffic: self.sum(&numbers, &backends),
            active_flows: backends.iter().map(|backend| backend.active_flows).sum(),
            inactive_flows: backends.iter().map(|backend| backend.inactive_flows).sum(),
            backends,
        })
    }

    fn backend(&self, service: &Service, backend: &Backend) -> Result<status::Backend, MapAccessError> {
        let forwarding = &self.forwarding;
        let number = |family| forwarding.number(&service.name, family, backend.socket());
        let numbers: Vec<u32> = Family::ALL.into_iter().filter_map(number).collect();
        let condition = Condition::of(&self.checks, service, backend, unix(self.started_at));
        let reach = forwarding.ways.reach(backend.address);
        let condition = match reach.takes_flows(service.check.is_some()) {
            true => condition,
            false => condition.out_of_reach(forwarding.ways.trouble(backend.address)),
        };
        let Condition { state, since, reason, check_seconds } = match self.admin.view(service, backend) {
            Some(view) => condition.overruled(&view),
            None => condition,
        };
        let mut traffic = Traffic::default();
        for number in &numbers {
            add(&mut traffic, forwarding.traffic(*number)?);
        }
        let census = &forwarding.census;
        Ok(status::Backend {
            address: written(backend.socket()),
            weight: backend.weight,
            state,
            since,
            reason,
            check_seconds,
            share: numbers.iter().map(|number| self.share(*number)).fold(0.0, f64::max),
            traffic,
            active_flows: numbers.iter().map(|number| census.active(*number)).sum(),
            inactive_flows: numbers.iter().map(|number| census.inactive(*number)).sum(),
            next_hop: next_hop(forwarding, numbers.first().copied(), backend.address),
        })
    }

    /// Part of its service's table that a backend has. A tunnel's backends are in the tables of both families, which are
    /// alike.
    fn share(&self, backend: u32) -> f64 {
        let forwarding = &self.forwarding;
        let service = forwarding.actual.backends.get(&backend).map(|record| record.service);
        let record = service.and_then(|service| forwarding.actual.services.get(&service));
        record.map_or(0.0, |record| forwarding.known.share(record.table, backend))
    }

    /// Services that have left the configuration and whose backends still have flows. A name with a space and brackets
    /// can't be a configured service's.
    fn removed(&self, services: &mut Vec<status::Service>) -> Result<(), MapAccessError> {
        let forwarding = &self.forwarding;
        let draining = forwarding.plan.draining.iter().filter_map(|number| {
            let backend = forwarding.actual.backends.get(number)?;
            Some(backend.service)
        });
        let configured: BTreeSet<u32> = forwarding.plan.services.values().copied().collect();
        let removed: BTreeSet<u32> = draining.filter(|number| !configured.contains(number)).collect();
        for number in removed {
            let backends = self.draining(number)?;
            services.push(status::Service {
                name: match forwarding.names.get(&number) {
                    Some(Key { name, .. }) => format!("{name} (removed, number {number})"),
                    None => format!("(removed, number {number})"),
                },
                listen: Vec::new(),
                protocol: String::new(),
                forward: String::new(),
                scheduler: String::new(),
                traffic: self.sum(&[number], &backends),
                active_flows: backends.iter().map(|backend| backend.active_flows).sum(),
                inactive_flows: backends.iter().map(|backend| backend.inactive_flows).sum(),
                backends,
            });
        }
        Ok(())
    }

    /// Traffic of services: of their backends, and of those that are gone.
    fn sum(&self, services: &[u32], backends: &[status::Backend]) -> Traffic {
        let mut sum = Traffic::default();
        for gone in services.iter().filter_map(|number| self.forwarding.retired.get(number)) {
            add(&mut sum, traffic(*gone));
        }
        for backend in backends {
            add(&mut sum, backend.traffic);
        }
        sum
    }

    /// Backends of a service that have left the configuration and still have flows.
    fn draining(&self, service: u32) -> Result<Vec<status::Backend>, MapAccessError> {
        let forwarding = &self.forwarding;
        let now = Instant::now();
        let draining = forwarding.plan.draining.iter().filter_map(|number| {
            let record = forwarding.actual.backends.get(number)?;
            (record.service == service).then_some((*number, record))
        });
        draining
            .map(|(number, record)| {
                let address = SocketAddr::new(record.address.into(), u16::from_be(record.port));
                let flows = match forwarding.flows_left(number) {
                    Some(1) => "1 flow left".to_owned(),
                    Some(flows) => format!("{flows} flows left"),
                    None => "flows not counted yet".to_owned(),
                };
                let (since, overdue) = forwarding.left(number, now).unwrap_or((now, false));
                let word = match (record.flags & SERVING, overdue) {
                    (0, true) => "its time to drain is over; ",
                    (0, false) => "it was down when it left; ",
                    _ => "",
                };
                Ok(status::Backend {
                    address: written(address),
                    weight: 0,
                    state: BackendState::Draining,
                    since: ago(since),
                    reason: format!("not in the configuration any more; {word}{flows}"),
                    check_seconds: None,
                    share: 0.0,
                    traffic: forwarding.traffic(number)?,
                    active_flows: forwarding.census.active(number),
                    inactive_flows: forwarding.census.inactive(number),
                    next_hop: next_hop(forwarding, Some(number), address.ip()),
                })
            })
            .collect()
    }
}

fn hook(report: hooks::Report) -> status::Hook {
    let hooks::Report { hook, told, failed, dropped, waiting, error } = report;
    status::Hook { name: hook, told, failed, dropped, waiting: waiting as u64, error }
}

fn flows(forwarding: &Forwarding) -> Flows {
    let census = &forwarding.census;
    let Sizes { sets4, sets6 } = forwarding.plane.sizes;
    let table = |entries, sets: u32| FlowTable { entries, capacity: u64::from(sets) * u64::from(WAYS) };
    Flows {
        ipv4: table(census.ipv4.entries, sets4),
        ipv6: table(census.ipv6.entries, sets6),
        expired: forwarding.expired,
        states: census.states.iter().map(|(state, flows)| (state.name().to_owned(), *flows)).collect(),
    }
}

fn next_hop(forwarding: &Forwarding, number: Option<u32>, address: IpAddr) -> String {
    let trouble = forwarding.ways.trouble(address).map(|trouble| &trouble.reason);
    match number.and_then(|number| forwarding.actual.backends.get(&number)) {
        Some(record) if record.flags & RESOLVED != 0 => {
            let mac = record.next_hop.destination.map(|byte| format!("{byte:02x}")).join(":");
            let index = record.next_hop.ifindex;
            let mut attached = forwarding.attached.iter();
            let name = attached.find(|(_, a)| a.as_ref().is_ok_and(|a| a.ifindex == index));
            let interface = name.map_or_else(
                || format!("interface {index}, which `interfaces` does not list: packets are dropped"),
                |(name, _)| name.clone(),
            );
            match trouble {
                Some(trouble) => format!("{mac} {interface}, as it was: {trouble}"),
                None => format!("{mac} {interface}"),
            }
        }
        _ => trouble.map_or_else(|| "not resolved yet".to_owned(), ToString::to_string),
    }
}

fn interface(forwarding: &Forwarding, name: &str) -> status::Interface {
    let (mode, note) = match forwarding.attached.get(name) {
        Some(Ok(attached)) if attached.native => ("native", attached.note.clone()),
        Some(Ok(attached)) => ("generic", attached.note.clone()),
        Some(Err(error)) => ("none", Some(error.clone())),
        None => ("none", None),
    };
    status::Interface { name: name.to_owned(), mode: mode.to_owned(), note }
}

fn reasons(forwarding: &Forwarding) -> Result<Vec<ReasonCount>, MapAccessError> {
    let counts = forwarding.plane.reasons.read()?;
    let count = |(reason, packets): (lb_common::reason::Reason, u64)| ReasonCount {
        reason: reason.as_str().to_owned(),
        verdict: reason.verdict().as_str().to_owned(),
        packets,
    };
    Ok(counts.into_iter().map(count).collect())
}

const fn add(sum: &mut Traffic, traffic: Traffic) {
    sum.packets += traffic.packets;
    sum.bytes += traffic.bytes;
    sum.reply_packets += traffic.reply_packets;
    sum.reply_bytes += traffic.reply_bytes;
    sum.new_flows += traffic.new_flows;
}

const fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    }
}

/// A past instant as seconds since the Unix epoch.
fn ago(then: Instant) -> f64 {
    unix(SystemTime::now()) - then.elapsed().as_secs_f64()
}

/// Seconds since the Unix epoch; a clock before it reads 0.
pub(super) fn unix(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
