//! The status: everything the daemon knows, as one value.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use lb_common::backend::{RESOLVED, SERVING};
use lb_common::limits;

use super::Daemon;
use super::checks::Checks;
use super::forwarding::{Forwarding, traffic};
use crate::config::model::{Backend, Protocol, Service};
use crate::dataplane::maps::MapAccessError;
use crate::health::{Machine, State};
use crate::status::{self, BackendState, Flows, ReasonCount, Status, Traffic};

impl Daemon {
    /// # Errors
    /// A map could not be read.
    pub(super) fn status(&self) -> Result<Status, MapAccessError> {
        let forwarding = &self.forwarding;
        let values = forwarding.actual.services.values();
        let tables: BTreeMap<u32, u32> = values.map(|value| (value.service, value.table)).collect();
        let services = self.config.services.iter().map(|service| self.service(service, &tables));
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
            services,
            flows: Flows {
                entries: forwarding.census.entries,
                capacity: u64::from(limits::FLOWS),
                expired: forwarding.expired,
            },
            packets: reasons(forwarding)?,
        })
    }

    /// `tables` are the tables in force, by number of their service.
    fn service(
        &self,
        service: &Service,
        tables: &BTreeMap<u32, u32>,
    ) -> Result<status::Service, MapAccessError> {
        let forwarding = &self.forwarding;
        let service_number = forwarding.plan.services.get(&service.name).copied();
        let table = service_number.and_then(|number| tables.get(&number)).copied();
        let share = |backend: u32| table.map_or(0.0, |table| forwarding.known.share(table, backend));
        let mut backends = Vec::new();
        for backend in &service.backends {
            let number = forwarding.number(&service.name, backend.socket());
            let health = Health::of(&self.checks, service, backend, unix(self.started_at));
            backends.push(status::Backend {
                address: backend.socket(),
                weight: backend.weight,
                state: health.state,
                since: health.since,
                reason: health.reason,
                check_seconds: health.check_seconds,
                share: number.map_or(0.0, share),
                traffic: number.map(|number| forwarding.traffic(number)).transpose()?.unwrap_or_default(),
                active_flows: number.and_then(|n| forwarding.census.active.get(&n)).copied().unwrap_or(0),
                next_hop: next_hop(forwarding, number, backend.address),
            });
        }
        if let Some(number) = service_number {
            backends.extend(self.draining(number)?);
        }
        Ok(status::Service {
            name: service.name.clone(),
            listen: service.listen.iter().map(|l| SocketAddr::new(l.address, l.ports.first)).collect(),
            protocol: protocol(service.protocol).to_owned(),
            forward: service.forward.method().as_str().to_owned(),
            scheduler: service.scheduler.as_str().to_owned(),
            traffic: self.sum(service_number, &backends),
            active_flows: backends.iter().map(|backend| backend.active_flows).sum(),
            backends,
        })
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
                    Some(name) => format!("{name} (removed, number {number})"),
                    None => format!("(removed, number {number})"),
                },
                listen: Vec::new(),
                protocol: String::new(),
                forward: String::new(),
                scheduler: String::new(),
                traffic: self.sum(Some(number), &backends),
                active_flows: backends.iter().map(|backend| backend.active_flows).sum(),
                backends,
            });
        }
        Ok(())
    }

    /// Traffic of a service: of its backends, and of those that are gone.
    fn sum(&self, service: Option<u32>, backends: &[status::Backend]) -> Traffic {
        let gone = service.and_then(|number| self.forwarding.retired.get(&number)).copied();
        let mut sum = traffic(gone.unwrap_or_default());
        for backend in backends {
            add(&mut sum, backend.traffic);
        }
        sum
    }

    /// Backends of a service that have left the configuration and still have flows.
    fn draining(&self, service: u32) -> Result<Vec<status::Backend>, MapAccessError> {
        let forwarding = &self.forwarding;
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
                let word = if record.flags & SERVING == 0 { "it was down when it left; " } else { "" };
                Ok(status::Backend {
                    address,
                    weight: 0,
                    state: BackendState::Draining,
                    since: self.reloads.status().applied_at,
                    reason: format!("not in the configuration any more; {word}{flows}"),
                    check_seconds: None,
                    share: 0.0,
                    traffic: forwarding.traffic(number)?,
                    active_flows: forwarding.census.active.get(&number).copied().unwrap_or(0),
                    next_hop: next_hop(forwarding, Some(number), address.ip()),
                })
            })
            .collect()
    }
}

struct Health {
    state: BackendState,
    since: f64,
    reason: String,
    check_seconds: Option<f64>,
}

impl Health {
    fn of(checks: &Checks, service: &Service, backend: &Backend, started: f64) -> Self {
        let Some(machine) = checks.machine(service, backend) else {
            let reason = "no check configured".to_owned();
            return Self { state: BackendState::Up, since: started, reason, check_seconds: None };
        };
        Self {
            state: match machine.state() {
                State::Checking => BackendState::Checking,
                State::Up => BackendState::Up,
                State::Down => BackendState::Down,
            },
            since: unix(SystemTime::now()) - Instant::now().duration_since(machine.since()).as_secs_f64(),
            reason: machine.reason(),
            check_seconds: Machine::check_duration(machine).map(|took| took.as_secs_f64()),
        }
    }
}

fn next_hop(forwarding: &Forwarding, number: Option<u32>, address: IpAddr) -> String {
    let trouble = forwarding.unresolved.get(&address);
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
    sum.new_flows += traffic.new_flows;
}

const fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    }
}

/// Seconds since the Unix epoch; a clock before it reads 0.
pub(super) fn unix(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
