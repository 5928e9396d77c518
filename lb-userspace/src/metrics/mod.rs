//! The status as a Prometheus page. Every metric is described in docs/metrics.md.

#![deny(clippy::disallowed_methods)]

mod page;

use crate::status::{Backend, BackendState, Hook, Instance, InstanceState, Service, Status};
use page::Page;

/// What [`render`] returns, as HTTP names it.
pub const CONTENT_TYPE: &str = prometheus::TEXT_FORMAT;

const INSTANCE_STATES: [(InstanceState, &str); 4] = [
    (InstanceState::Init, "init"),
    (InstanceState::Backup, "backup"),
    (InstanceState::Master, "master"),
    (InstanceState::Fault, "fault"),
];
const XDP_MODES: [&str; 3] = ["native", "generic", "none"];

/// The page a scrape gets: text format 0.0.4.
///
/// # Errors
/// When the encoder refuses a family, which would be a mistake in this module.
pub fn render(status: &Status) -> Result<String, prometheus::Error> {
    let mut page = Page::default();
    process(&mut page, status);
    configuration(&mut page, status);
    data_plane(&mut page, status);
    services(&mut page, &status.services);
    backends(&mut page, &status.services);
    instances(&mut page, &status.instances);
    tracked(&mut page, &status.instances);
    hooks(&mut page, &status.hooks);
    advertisements(&mut page, &status.instances);
    refused(&mut page, &status.instances);
    page.encode()
}

fn process(page: &mut Page, status: &Status) {
    page.gauge(
        "evenkeel_build_info",
        "Always 1; its labels say which version runs, and where.",
        ["version", "node"],
    )
    .add([&status.version, &status.node], 1.0);
    page.gauge("process_start_time_seconds", "When the daemon started, in seconds since the Unix epoch.", [])
        .add([], status.started_at);
}

fn configuration(page: &mut Page, status: &Status) {
    let configuration = &status.configuration;
    page.gauge(
        "evenkeel_config_last_reload_successful",
        "1 if the last reload was applied, 0 if it changed nothing because of errors.",
        [],
    )
    .add([], flag(configuration.last_reload_errors.is_empty()));
    page.gauge(
        "evenkeel_config_last_reload_timestamp_seconds",
        "When a reload was last tried, in seconds since the Unix epoch.",
        [],
    )
    .add([], configuration.last_reload_at);
    page.gauge(
        "evenkeel_config_last_reload_success_timestamp_seconds",
        "When the configuration in force was applied, in seconds since the Unix epoch.",
        [],
    )
    .add([], configuration.applied_at);
    let mut reloads = page.counter("evenkeel_config_reloads_total", "Reloads tried, by result.", ["result"]);
    reloads.add([&"success"], count(configuration.reloads_succeeded));
    reloads.add([&"failure"], count(configuration.reloads_failed));
}

fn data_plane(page: &mut Page, status: &Status) {
    let mut modes = page.gauge(
        "evenkeel_xdp_mode",
        "1 for the mode the XDP program is attached in, 0 for the others.",
        ["interface", "mode"],
    );
    for interface in &status.interfaces {
        for mode in XDP_MODES {
            modes.add([&interface.name, &mode], flag(interface.mode == mode));
        }
    }
    drop(modes);
    let mut packets =
        page.counter("evenkeel_packets_total", "Packets seen, by verdict and reason.", ["verdict", "reason"]);
    for counted in &status.packets {
        packets.add([&counted.verdict, &counted.reason], count(counted.packets));
    }
    drop(packets);
    let flows = &status.flows;
    let families = [("ipv4", flows.ipv4), ("ipv6", flows.ipv6)];
    let mut entries =
        page.gauge("evenkeel_flow_table_entries", "Entries in use in the flow table.", ["family"]);
    families.iter().for_each(|(family, table)| entries.add([family], count(table.entries)));
    drop(entries);
    let mut capacity =
        page.gauge("evenkeel_flow_table_capacity", "Entries the flow table has room for.", ["family"]);
    families.iter().for_each(|(family, table)| capacity.add([family], count(table.capacity)));
    drop(capacity);
    let mut states = page.gauge("evenkeel_flows", "Flows by state.", ["state"]);
    flows.states.iter().for_each(|(state, flows)| states.add([state], count(*flows)));
    drop(states);
    page.counter("evenkeel_flows_expired_total", "Flows removed because they were silent for too long.", [])
        .add([], count(flows.expired));
}

fn services(page: &mut Page, services: &[Service]) {
    let mut counter = |name, help, value: fn(&Service) -> u64| {
        let mut family = page.counter(name, help, ["service"]);
        for service in services {
            family.add([&service.name], count(value(service)));
        }
    };
    counter("evenkeel_service_packets_total", "Packets from clients, forwarded.", |s| s.traffic.packets);
    counter("evenkeel_service_bytes_total", "Bytes from clients, forwarded.", |s| s.traffic.bytes);
    counter("evenkeel_service_reply_packets_total", "Packets to clients, forwarded.", |s| {
        s.traffic.reply_packets
    });
    counter("evenkeel_service_reply_bytes_total", "Bytes to clients, forwarded.", |s| s.traffic.reply_bytes);
    counter("evenkeel_service_new_flows_total", "Flows started.", |s| s.traffic.new_flows);

    let mut gauge = |name, help, value: fn(&Service) -> u64| {
        let mut family = page.gauge(name, help, ["service"]);
        for service in services {
            family.add([&service.name], count(value(service)));
        }
    };
    gauge("evenkeel_service_active_flows", "Flows that neither end has begun to close.", |s| s.active_flows);
    gauge("evenkeel_service_inactive_flows", "Flows that have begun to end, still remembered.", |s| {
        s.inactive_flows
    });
    let mut serving =
        page.gauge("evenkeel_service_backends_serving", "Backends that get new flows now.", ["service"]);
    // A removed service is meant to have none.
    for service in services.iter().filter(|service| !service.listen.is_empty()) {
        serving.add([&service.name], service.backends.iter().filter(|b| b.share > 0.0).count() as f64);
    }
}

fn backends(page: &mut Page, services: &[Service]) {
    let mut counter = |name, help, value: fn(&Backend) -> u64| {
        let mut family = page.counter(name, help, ["service", "backend"]);
        for (service, backend) in each_backend(services) {
            family.add([&service.name, &backend.address], count(value(backend)));
        }
    };
    counter("evenkeel_backend_packets_total", "Packets to the backend.", |b| b.traffic.packets);
    counter("evenkeel_backend_bytes_total", "Bytes to the backend.", |b| b.traffic.bytes);
    counter("evenkeel_backend_reply_packets_total", "Packets from the backend.", |b| b.traffic.reply_packets);
    counter("evenkeel_backend_reply_bytes_total", "Bytes from the backend.", |b| b.traffic.reply_bytes);
    counter("evenkeel_backend_new_flows_total", "Flows started on the backend.", |b| b.traffic.new_flows);

    let mut gauge = |name, help, value: fn(&Backend) -> Option<f64>| {
        let mut family = page.gauge(name, help, ["service", "backend"]);
        for (service, backend) in each_backend(services) {
            if let Some(value) = value(backend) {
                family.add([&service.name, &backend.address], value);
            }
        }
    };
    gauge(
        "evenkeel_backend_active_flows",
        "Flows of the backend that neither end has begun to close.",
        |b| Some(count(b.active_flows)),
    );
    gauge(
        "evenkeel_backend_inactive_flows",
        "Flows of the backend that have begun to end, still remembered.",
        |b| Some(count(b.inactive_flows)),
    );
    gauge("evenkeel_backend_up", "1 if the backend is up, 0 if it is down or not checked yet.", |b| {
        let taken_out = matches!(b.state, BackendState::Draining | BackendState::Disabled);
        (!taken_out).then(|| flag(b.state == BackendState::Up))
    });
    gauge("evenkeel_backend_weight", "The configured weight.", |b| Some(f64::from(b.weight)));
    gauge("evenkeel_backend_new_flow_share_ratio", "Part of new flows the backend gets now, 0 to 1.", |b| {
        Some(b.share)
    });
    gauge("evenkeel_backend_check_duration_seconds", "How long the last check took.", |b| b.check_seconds);
}

/// The label is not `instance`: that one names the scraped target.
fn instances(page: &mut Page, instances: &[Instance]) {
    let mut states = page.gauge(
        "evenkeel_vrrp_state",
        "1 for the state the instance is in, 0 for the others.",
        ["vrrp_instance", "state"],
    );
    for instance in instances {
        for (state, name) in INSTANCE_STATES {
            states.add([&instance.name, &name], flag(instance.state == state));
        }
    }
    drop(states);
    let mut transitions = page.counter(
        "evenkeel_vrrp_transitions_total",
        "Times the instance entered the state.",
        ["vrrp_instance", "state"],
    );
    for instance in instances {
        for (state, name) in INSTANCE_STATES {
            let entered = instance.transitions.get(&state).copied().unwrap_or_default();
            transitions.add([&instance.name, &name], count(entered));
        }
    }
    drop(transitions);
    let mut gauge = |name, help, value: fn(&Instance) -> Option<f64>| {
        let mut family = page.gauge(name, help, ["vrrp_instance"]);
        for instance in instances {
            if let Some(value) = value(instance) {
                family.add([&instance.name], value);
            }
        }
    };
    gauge("evenkeel_vrrp_priority", "The priority the instance runs with.", |i| Some(f64::from(i.priority)));
    gauge("evenkeel_vrrp_configured_priority", "The priority as configured.", |i| {
        Some(f64::from(i.configured_priority))
    });
    gauge("evenkeel_vrrp_stands_back", "1 after a failover by command, while another node is master.", |i| {
        Some(flag(i.stands_back))
    });
    gauge("evenkeel_vrrp_second_master", "1 while another node claims to be master too.", |i| {
        Some(flag(i.second_master))
    });
    gauge(
        "evenkeel_vrrp_peer_heard_timestamp_seconds",
        "When another node was last heard, in seconds since the Unix epoch.",
        |i| i.peer.as_ref().map(|peer| peer.heard_at),
    );
}

fn tracked(page: &mut Page, instances: &[Instance]) {
    let help = "1 while what the instance tracks is well.";
    let mut family = page.gauge("evenkeel_vrrp_tracked_up", help, ["vrrp_instance", "subject"]);
    for instance in instances {
        for tracked in &instance.tracked {
            family.add([&instance.name, &tracked.subject], flag(tracked.ok));
        }
    }
}

fn hooks(page: &mut Page, hooks: &[Hook]) {
    let mut counter = |name, help, value: fn(&Hook) -> u64| {
        let mut family = page.counter(name, help, ["hook"]);
        for hook in hooks {
            family.add([&hook.name], count(value(hook)));
        }
    };
    counter("evenkeel_hook_transitions_total", "Transitions that the hook was told.", |hook| hook.told);
    counter("evenkeel_hook_failures_total", "Transitions that the hook failed to take.", |hook| hook.failed);
    counter(
        "evenkeel_hook_dropped_total",
        "Transitions that were lost because too many were waiting for the hook.",
        |hook| hook.dropped,
    );
}

fn advertisements(page: &mut Page, instances: &[Instance]) {
    let mut counter = |name, help, value: fn(&Instance) -> u64| {
        let mut family = page.counter(name, help, ["vrrp_instance"]);
        for instance in instances {
            family.add([&instance.name], count(value(instance)));
        }
    };
    counter("evenkeel_vrrp_advertisements_sent_total", "Advertisements sent.", |i| i.advertisements_sent);
    counter("evenkeel_vrrp_advertisements_received_total", "Valid advertisements received.", |i| {
        i.advertisements_received
    });
    counter(
        "evenkeel_vrrp_pseudo_header_checksums_total",
        "Valid advertisements whose checksum covers a pseudo-header.",
        |i| i.pseudo_header_checksums,
    );
    counter("evenkeel_vrrp_second_masters_total", "Times another node claimed to be master too.", |i| {
        i.second_masters
    });
    counter(
        "evenkeel_vrrp_lost_transitions_total",
        "Transitions that no hook was told of, because the daemon was too busy.",
        |i| i.lost_transitions,
    );
    let mut discarded = page.counter(
        "evenkeel_vrrp_discarded_total",
        "VRRP packets ignored, by reason.",
        ["vrrp_instance", "reason"],
    );
    for instance in instances {
        for (reason, packets) in &instance.discarded {
            discarded.add([&instance.name, reason], count(*packets));
        }
    }
}

fn refused(page: &mut Page, instances: &[Instance]) {
    let mut refused = page.counter(
        "evenkeel_vrrp_refused_packets_total",
        "Packets to the instance's addresses that were dropped, as it does not accept them.",
        ["vrrp_instance"],
    );
    for instance in instances {
        if let Some(packets) = instance.refused_packets {
            refused.add([&instance.name], count(packets));
        }
    }
}

fn each_backend(services: &[Service]) -> impl Iterator<Item = (&Service, &Backend)> {
    services.iter().flat_map(|service| service.backends.iter().map(move |backend| (service, backend)))
}

fn flag(set: bool) -> f64 {
    f64::from(u8::from(set))
}

/// Prometheus counts in doubles: exact up to 2^53.
fn count(value: u64) -> f64 {
    value as f64
}

#[cfg(test)]
mod tests;
