//! The status as a page of plain text. What needs an operator stands on a line that begins with `!!`.

#![deny(clippy::disallowed_methods)]

use std::fmt::Write;

use comfy_table::{CellAlignment, ContentArrangement, Table, presets};

use crate::cli::units::{ago, bytes, count, duration, percent};
use crate::status::{
    Backend, BackendState, Configuration, Hook, Instance, InstanceState, Interface, Service, Status,
};

/// The page, at `now` seconds since the Unix epoch.
#[must_use]
pub fn render(status: &Status, now: f64) -> String {
    let mut page =
        format!("{}: evenkeel {}, up {}\n", status.node, status.version, duration(now - status.started_at));
    configuration(&mut page, &status.configuration, now);
    interfaces(&mut page, &status.interfaces);
    instances(&mut page, &status.instances, now);
    hooks(&mut page, &status.hooks);
    for service in &status.services {
        self::service(&mut page, service, now);
    }
    flows_and_drops(&mut page, status);
    page
}

fn configuration(page: &mut String, configuration: &Configuration, now: f64) {
    line(
        page,
        format_args!(
            "configuration {}, applied {}; reloads: {} done, {} failed",
            configuration.path,
            ago(configuration.applied_at, now),
            configuration.reloads_succeeded,
            configuration.reloads_failed
        ),
    );
    if configuration.last_reload_errors.is_empty() {
        return;
    }
    line(
        page,
        format_args!(
            "!! THE LAST RELOAD FAILED {} and changed nothing: what was applied before still runs.",
            ago(configuration.last_reload_at, now)
        ),
    );
    for text in configuration.last_reload_errors.iter().flat_map(|error| error.lines()) {
        line(page, format_args!("!!   {text}"));
    }
    line(page, format_args!("!! {}", remedy(configuration)));
}

/// Mistakes in the file begin with its name; anything else is wrong with the node, and `check` would not find it.
fn remedy(configuration: &Configuration) -> String {
    let Configuration { last_reload_path: path, last_reload_errors: errors, .. } = configuration;
    let in_file =
        errors.iter().any(|error| error.strip_prefix(path).is_some_and(|rest| rest.starts_with(':')));
    if in_file {
        format!("Correct it: `evenkeel check {path}` shows what is left, `evenkeel apply {path}` applies it.")
    } else {
        format!("The file is well-formed: mend what is said here on this node, then `evenkeel apply {path}`.")
    }
}

fn interfaces(page: &mut String, interfaces: &[Interface]) {
    let mut table = Table::new();
    table.set_header(["INTERFACE", "XDP", "NOTE"]);
    for interface in interfaces {
        table.add_row([&interface.name, &interface.mode, interface.note.as_deref().unwrap_or("-")]);
    }
    section(page, "Interfaces", table, &[]);
    for interface in interfaces.iter().filter(|interface| interface.mode == "none") {
        line(page, format_args!("!! {} forwards nothing: the XDP program is not attached.", interface.name));
    }
}

fn instances(page: &mut String, instances: &[Instance], now: f64) {
    if instances.is_empty() {
        return;
    }
    let mut table = Table::new();
    table.set_header(["INSTANCE", "STATE", "FOR", "WHY", "PEER", "PRIORITY", "VRID", "ON", "ADDRESSES"]);
    for instance in instances {
        let peer = instance.peer.as_ref().map_or_else(
            || "never heard".to_owned(),
            |peer| format!("{} priority {}, {}", peer.address, peer.priority, ago(peer.heard_at, now)),
        );
        table.add_row([
            instance.name.clone(),
            instance_state(instance.state).to_owned(),
            duration(now - instance.since),
            instance.reason.clone(),
            peer,
            priority(instance),
            instance.vrid.to_string(),
            instance.interface.clone(),
            instance.addresses.join(" "),
        ]);
    }
    section(page, "VRRP", table, &[5, 6]);
    for instance in instances {
        if instance.second_master {
            let peer = instance.peer.as_ref().map_or_else(String::new, |peer| format!(" ({})", peer.address));
            let why = instance.unheard_by.map_or("it was heard just now", |_| {
                "it does not hear this one. Look at the link between them and at firewalls (IP protocol 112)"
            });
            line(page, format_args!("!! {}: ANOTHER NODE IS MASTER TOO{peer}: {why}.", instance.name));
        }
        if instance.state == InstanceState::Fault {
            line(page, format_args!("!! {}: cannot serve: {}", instance.name, instance.reason));
        }
        if let Some(note) = &instance.note {
            line(page, format_args!("!! {}: {note}", instance.name));
        }
        if instance.stands_back {
            line(
                page,
                format_args!(
                    "{}: stands back after `evenkeel failover`; `evenkeel failover --undo {}` ends that.",
                    instance.name, instance.name
                ),
            );
        }
        for tracked in instance.tracked.iter().filter(|tracked| !tracked.ok) {
            let (name, subject, effect) = (&instance.name, &tracked.subject, &tracked.effect);
            line(page, format_args!("{name}: tracked {subject} fails ({effect}): {}", tracked.detail));
        }
        if instance.heard.len() > 1 {
            let nodes = instance.heard.iter().map(|peer| {
                format!("{} priority {}, {}", peer.address, peer.priority, ago(peer.heard_at, now))
            });
            line(page, format_args!("{}: heard {}", instance.name, nodes.collect::<Vec<_>>().join("; ")));
        }
        if let Some(last) = &instance.last_discarded
            && instance.state == InstanceState::Master
            && now - last.at < LATELY
        {
            line(
                page,
                format_args!(
                    "!! {}: packets of its own virtual router are ignored ({}): another node may be master too.",
                    instance.name, last.reason
                ),
            );
        }
        for (reason, packets) in instance.discarded.iter().filter(|(_, packets)| **packets > 0) {
            line(page, format_args!("{}: {} VRRP packets ignored: {reason}", instance.name, count(*packets)));
        }
    }
}

/// Seconds: longer than the longest interval between advertisements of version 3.
const LATELY: f64 = 60.0;

fn hooks(page: &mut String, hooks: &[Hook]) {
    for hook in hooks.iter().filter(|hook| hook.failed + hook.dropped > 0) {
        let (failed, dropped) = (count(hook.failed), count(hook.dropped));
        let why = hook.error.as_deref().map_or_else(String::new, |error| format!(": {error}"));
        line(page, format_args!("!! hook {}: {failed} failed, {dropped} lost{why}", hook.name));
    }
}

/// As it is, and as configured if that is another.
fn priority(instance: &Instance) -> String {
    if instance.priority == instance.configured_priority {
        instance.priority.to_string()
    } else {
        format!("{} of {}", instance.priority, instance.configured_priority)
    }
}

fn service(page: &mut String, service: &Service, now: f64) {
    let removed = service.listen.is_empty();
    let title = if removed {
        format!(
            "Service {}: not in the configuration any more; flows it has go on until they end",
            service.name
        )
    } else {
        let Service { name, protocol, forward, scheduler, .. } = service;
        format!("Service {name}: {protocol} {}, {forward}, {scheduler}", service.listen.join(" "))
    };
    let mut table = Table::new();
    table.set_header([
        "BACKEND",
        "STATE",
        "FOR",
        "WEIGHT",
        "SHARE",
        "ACTIVE",
        "INACTIVE",
        "NEW FLOWS",
        "PACKETS",
        "BYTES",
        "REPLIES",
        "REPLY BYTES",
        "WHY",
        "NEXT HOP",
    ]);
    for backend in &service.backends {
        table.add_row(backend_row(backend, now));
    }
    let sum = &service.traffic;
    table.add_row([
        "all".to_owned(),
        String::new(),
        String::new(),
        String::new(),
        String::new(),
        count(service.active_flows),
        count(service.inactive_flows),
        count(sum.new_flows),
        count(sum.packets),
        bytes(sum.bytes),
        count(sum.reply_packets),
        bytes(sum.reply_bytes),
    ]);
    section(page, &title, table, &[3, 4, 5, 6, 7, 8, 9, 10, 11]);
    if !removed && !service.backends.iter().any(|backend| backend.share > 0.0) {
        line(page, format_args!("!! {}: NO BACKEND TAKES NEW FLOWS", service.name));
    }
}

fn backend_row(backend: &Backend, now: f64) -> [String; 14] {
    let why = backend.check_seconds.map_or_else(
        || backend.reason.clone(),
        |seconds| format!("{} ({:.1} ms)", backend.reason, seconds * 1000.0),
    );
    [
        backend.address.clone(),
        backend_state(backend.state).to_owned(),
        duration(now - backend.since),
        backend.weight.to_string(),
        percent(backend.share),
        count(backend.active_flows),
        count(backend.inactive_flows),
        count(backend.traffic.new_flows),
        count(backend.traffic.packets),
        bytes(backend.traffic.bytes),
        count(backend.traffic.reply_packets),
        bytes(backend.traffic.reply_bytes),
        why,
        backend.next_hop.clone(),
    ]
}

fn flows_and_drops(page: &mut String, status: &Status) {
    let flows = &status.flows;
    line(page, format_args!(""));
    for (family, table) in [("IPv4", flows.ipv4), ("IPv6", flows.ipv6)] {
        let used = if table.capacity == 0 { 0.0 } else { table.entries as f64 / table.capacity as f64 };
        line(
            page,
            format_args!(
                "{family} flow table: {} of {} entries in use ({})",
                count(table.entries),
                count(table.capacity),
                percent(used)
            ),
        );
    }
    let states: Vec<_> = flows.states.iter().filter(|(_, flows)| **flows > 0).collect();
    let states = states.iter().map(|(state, flows)| format!("{} {state}", count(**flows)));
    let states = states.chain([format!("{} expired", count(flows.expired))]).collect::<Vec<_>>();
    line(page, format_args!("Flows: {}", states.join(", ")));
    let mut table = Table::new();
    table.set_header(["REASON", "PACKETS"]);
    for counted in status.packets.iter().filter(|counted| counted.verdict == "drop" && counted.packets > 0) {
        table.add_row([counted.reason.clone(), count(counted.packets)]);
    }
    if table.is_empty() {
        line(page, format_args!("No packet was dropped."));
    } else {
        section(page, "Dropped packets", table, &[1]);
    }
}

/// States that need an operator are in capitals.
const fn instance_state(state: InstanceState) -> &'static str {
    match state {
        InstanceState::Init => "init",
        InstanceState::Backup => "backup",
        InstanceState::Master => "master",
        InstanceState::Fault => "FAULT",
    }
}

const fn backend_state(state: BackendState) -> &'static str {
    match state {
        BackendState::Checking => "checking",
        BackendState::Up => "up",
        BackendState::Down => "DOWN",
        BackendState::Draining => "draining",
        BackendState::Disabled => "disabled",
    }
}

/// Puts a titled table on the page; `numbers` are the columns whose values are compared by their length.
fn section(page: &mut String, title: &str, mut table: Table, numbers: &[usize]) {
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Disabled);
    for column in numbers {
        if let Some(column) = table.column_mut(*column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    line(page, format_args!("\n{title}"));
    for row in table.lines() {
        line(page, format_args!(" {}", row.trim_end()));
    }
}

fn line(page: &mut String, text: std::fmt::Arguments<'_>) {
    writeln!(page, "{text}").expect("writing to a String cannot fail");
}
