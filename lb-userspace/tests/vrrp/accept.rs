//! What a master does with packets to its virtual addresses, by `accept`.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::Duration;

use aya::programs::{SchedClassifier, TcAttachType};
use evenkeel::config::model::{Instance, Prefix};
use evenkeel::dataplane::refuse::{PROGRAM, Refuse, Way, take_off};
use evenkeel::status::InstanceState::Master;
use nix::net::if_::if_nametoindex;

use crate::lab::{Host, Lab, VIRTUAL, eventually, instance, runtime, start_keeper};
use crate::next_hop;

const V6: &str = "2001:db8::10";
/// Without a listener.
const PORT: u16 = 9;
const PATIENCE: Duration = Duration::from_secs(1);

fn addresses() -> [IpAddr; 2] {
    [IpAddr::V4(VIRTUAL), V6.parse().unwrap()]
}

fn dual(accept: bool, virtual_mac: bool) -> Instance {
    let mut dual = Instance { accept, virtual_mac, ..instance(100) };
    dual.addresses.push(Prefix { address: V6.parse().unwrap(), length: 64 }.into());
    dual
}

fn answers_ping(client: &Host, address: IpAddr) -> bool {
    let shown = client.output(&["ping", "-n", "-c", "2", "-i", "0.1", "-W", "1", &address.to_string()]);
    shown.contains(" 0% packet loss")
}

fn connect(client: &Host, address: IpAddr) -> ErrorKind {
    let connected = client.run(|| TcpStream::connect_timeout(&SocketAddr::new(address, PORT), PATIENCE));
    connected.unwrap_err().kind()
}

/// Asks anew for the MAC address of an address, and then whether it is still there.
fn assert_resolves(client: &Host, address: IpAddr) {
    let address = address.to_string();
    let shown = || client.output(&["ip", "neigh", "show", &address, "dev", "eth0"]);
    let _ = client.output(&["ip", "neigh", "del", &address, "dev", "eth0"]);
    let _ = client.output(&["ping", "-n", "-c", "1", "-W", "1", &address]);
    let entry = shown();
    let mac = entry.split_whitespace().skip_while(|word| *word != "lladdr").nth(1);
    let mac = mac.unwrap_or_else(|| panic!("{address} is not resolved: {entry}")).to_owned();
    client.ip(&["neigh", "change", &address, "lladdr", &mac, "dev", "eth0", "nud", "probe"]);
    eventually("a unicast solicitation is answered", || shown().contains("REACHABLE"));
}

fn programs(host: &Host) -> Vec<String> {
    let (_, programs) = host.run(|| SchedClassifier::query_tcx("eth0", TcAttachType::Ingress)).unwrap();
    programs.iter().map(|program| program.name_as_str().unwrap().to_owned()).collect()
}

fn filters(host: &Host) -> usize {
    let shown = host.output(&["tc", "filter", "show", "dev", "eth0", "ingress"]);
    shown.matches(&format!("{PROGRAM} direct-action")).count()
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_master_that_does_not_accept_is_resolved_and_silent_and_one_that_accepts_answers() {
    for virtual_mac in [false, true] {
        let lab = next_hop::lab(2);
        let [host, client] = &lab.hosts[..] else { unreachable!() };
        let mut node = host.start(dual(false, virtual_mac));
        node.wait_for(Master);
        for address in addresses() {
            eventually("the address is there", || {
                host.output(&["ip", "address"]).contains(&format!("{address}/"))
            });
            assert_resolves(client, address);
            let before = node.status().refused_packets.unwrap();
            assert!(!answers_ping(client, address), "{address}, virtual MAC: {virtual_mac}");
            assert_eq!(connect(client, address), ErrorKind::TimedOut);
            assert!(node.status().refused_packets.unwrap() >= before + 3, "two pings, a connection");
        }
        assert!(answers_ping(client, IpAddr::V4(host.address)), "the host's own address");
        assert_eq!(node.status().note, None);

        node.handle.reconfigure(vec![dual(true, virtual_mac)]);
        for address in addresses() {
            eventually("it accepts now", || answers_ping(client, address));
            assert_eq!(connect(client, address), ErrorKind::ConnectionRefused);
        }
        assert_eq!(node.status().refused_packets, None);
        assert_eq!(programs(host), [""; 0], "nothing is loaded for instances that accept");

        node.handle.reconfigure(vec![dual(false, virtual_mac)]);
        for address in addresses() {
            eventually("it does not accept any more", || !answers_ping(client, address));
        }
        assert!(programs(host).contains(&PROGRAM.to_owned()) || filters(host) == 1);
        node.stop();
        assert_eq!((programs(host), filters(host)), (Vec::new(), 0));
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn an_address_that_comes_and_goes_answers_at_no_moment() {
    let lab = Lab::new(2);
    let [host, client] = &lab.hosts[..] else { unreachable!() };
    let mac = host.output(&["cat", "/sys/class/net/eth0/address"]);
    let address = VIRTUAL.to_string();
    client.ip(&["neigh", "replace", &address, "lladdr", mac.trim(), "dev", "eth0", "nud", "permanent"]);
    let shown = std::thread::scope(|scope| {
        let pings = scope.spawn(|| client.output(&["ping", "-n", "-q", "-i", "0.002", "-w", "4", &address]));
        let mut node = host.start(Instance { accept: false, ..instance(100) });
        node.wait_for(Master);
        lab.wait_for_holder(0);
        eventually("pings were dropped", || {
            node.status().refused_packets.is_some_and(|packets| packets > 50)
        });
        node.stop();
        assert!(lab.holders().is_empty());
        pings.join().unwrap()
    });
    assert!(shown.contains(" 0 received"), "{shown}");
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_filter_of_older_kernels_refuses_too_and_one_left_behind_is_taken_off() {
    let lab = Lab::new(2);
    let [host, client] = &lab.hosts[..] else { unreachable!() };
    let address = IpAddr::V4(host.address);
    let attach = || {
        let mut refuse = Refuse::load(Way::Filter).unwrap();
        refuse.add(address, 0).unwrap();
        refuse.attach(if_nametoindex("eth0").unwrap(), "eth0").unwrap();
        refuse
    };
    assert!(answers_ping(client, address));
    let refuse = host.run(attach);
    assert!(!answers_ping(client, address));
    assert!(refuse.refused().packets(0).unwrap() > 0);
    // A process that is killed drops nothing.
    std::mem::forget(refuse);
    assert_eq!(filters(host), 1);
    let again = host.run(attach);
    assert_eq!(filters(host), 1, "it took the place of the one left behind");
    std::mem::forget(again);

    let node = host.start(instance(100));
    eventually("the next start takes it off", || filters(host) == 0 || Way::of_kernel() == Way::Link);
    runtime().block_on(node.handle.stop());
    host.run(|| take_off("eth0"));
    assert_eq!(filters(host), 0);
    assert!(answers_ping(client, address));

    let refuse = host.run(attach);
    host.run(|| drop(refuse));
    assert!(answers_ping(client, address));
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn an_instance_whose_program_cannot_be_loaded_becomes_master_and_says_so() {
    let lab = Lab::new(2);
    let [host, client] = &lab.hosts[..] else { unreachable!() };
    let keeper = host.run(|| {
        drop_bpf_capabilities();
        start_keeper()
    });
    let mut node = host.start_with(Instance { accept: false, ..instance(100) }, &keeper);
    node.wait_for(Master);
    lab.wait_for_holder(0);
    assert!(answers_ping(client, IpAddr::V4(VIRTUAL)));
    let status = node.status();
    let note = status.note.unwrap();
    assert!(note.contains("`accept: false`") && note.contains("CAP_BPF"), "{note}");
    assert_eq!(status.refused_packets, None);
}

/// Of this thread and those that it starts.
fn drop_bpf_capabilities() {
    const VERSION_3: u32 = 0x2008_0522;
    const SYS_ADMIN: u32 = 21;
    const BPF: u32 = 39;
    let header = [VERSION_3, 0];
    // Effective, permitted and inheritable: of capabilities 0 to 31, then of 32 to 63.
    let mut sets = [[0_u32; 3]; 2];
    // SAFETY: capget(2) writes, and capset(2) reads, as much as version 3 of the header says.
    unsafe {
        assert_eq!(libc::syscall(libc::SYS_capget, header.as_ptr(), sets.as_mut_ptr()), 0);
        for capability in [SYS_ADMIN, BPF] {
            for set in &mut sets[capability as usize / 32] {
                *set &= !(1 << (capability % 32));
            }
        }
        assert_eq!(libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()), 0);
    }
}
