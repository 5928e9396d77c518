//! What goes wrong with a node by itself, and what it does about it.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use xtask::status::InstanceState;
use xtask::testbed::{Host, Node, TestBed, wait_for};
use xtask::workspace;

const A_LONG_TIME: Duration = Duration::from_secs(30);

fn configuration(interfaces: &str) -> String {
    format!(
        "interfaces: [{interfaces}]\n\
         metrics: {{ listen: 127.0.0.1:9620 }}\n\
         services:\n  \
           - name: web\n    \
             listen: [192.0.2.10:80]\n    \
             forward: nat\n    \
             backends: [10.0.0.21:80]\n"
    )
}

/// A node with an interface `d0` that has no native XDP: a bridge.
fn node(bed: &TestBed, interfaces: &str) -> Result<Node> {
    let host = bed.host("node")?;
    for words in [
        "link add d0 type bridge",
        "link add p0 type veth peer name p1",
        "link set p0 master d0",
        "link set p0 up",
        "link set p1 up",
        "link set d0 up",
    ] {
        host.run(["ip"].into_iter().chain(words.split(' ')))?;
    }
    host.add_address("d0", "192.0.2.11/24")?;
    Node::start(&host, &configuration(interfaces))
}

fn has_program(host: &Host) -> Result<bool> {
    Ok(host.run(["ip", "-details", "link", "show", "d0"])?.contains("prog/xdp"))
}

/// Maps are pinned in a folder that is named by their layout.
fn pinned(host: &Host, map: &str) -> Result<PathBuf> {
    let folders = fs::read_dir(host.bpf_folder())?.filter_map(Result::ok);
    let mut found = folders.map(|folder| folder.path().join(map)).filter(|path| path.exists());
    found.next().with_context(|| format!("{map} is not pinned"))
}

fn apply(node: &Node, configuration: &str) -> Result<String> {
    let file = node.host().folder().join("other.yaml");
    fs::write(&file, configuration)?;
    node.evenkeel(&["apply", &file.to_string_lossy()])
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_mode_that_the_driver_refuses_leaves_the_earlier_one_and_the_metrics_page() -> Result<()> {
    let bed = TestBed::for_test()?;
    let node = node(&bed, "{ name: d0, mode: generic }")?;
    let native = configuration("{ name: d0, mode: native }");
    for refused in [&native, &native.replace("127.0.0.1:9620", "0.0.0.0:9620")] {
        ensure!(apply(&node, refused).is_err(), "native XDP on a bridge");
        ensure!(has_program(node.host())?, "nothing is attached");
        ensure!(node.status()?.interfaces[0].mode == "generic", "{:?}", node.status()?.interfaces);
        ensure!(node.host().run(["ss", "-ltn"])?.contains("127.0.0.1:9620"), "the metrics page is closed");
    }

    let elsewhere = configuration("d0").replace("127.0.0.1:9620", "0.0.0.0:9620");
    apply(&node, &elsewhere)?;
    ensure!(node.host().run(["ss", "-ltn"])?.contains("0.0.0.0:9620"), "the metrics page did not move");
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn links_and_devices_that_somebody_removes_are_put_back() -> Result<()> {
    let bed = TestBed::for_test()?;
    let node = node(&bed, "d0")?;
    let links = node.host().bpf_folder().join("links");
    for link in fs::read_dir(&links)? {
        fs::remove_file(link?.path())?;
    }
    let pins = || Ok::<_, anyhow::Error>(fs::read_dir(&links)?.count());
    wait_for(
        "a new link, and what its program goes on in",
        A_LONG_TIME,
        || Ok((pins()? == 2).then_some(())),
    )?;
    wait_for("the program on the interface", A_LONG_TIME, || Ok(has_program(node.host())?.then_some(())))?;

    let map = pinned(node.host(), "ek_interfaces")?.to_string_lossy().into_owned();
    let link = fs::read_dir(&links)?.next().context("no link")??.file_name();
    let index: u32 = link.to_string_lossy().split('-').next().context("no index")?.parse()?;
    let key = index.to_ne_bytes().map(|byte| byte.to_string());
    let device = |action: &str| {
        let words = ["bpftool", "map", action, "pinned", &map, "key"].into_iter();
        node.host().run(words.chain(key.iter().map(String::as_str)))
    };
    device("delete")?;
    wait_for("the device in the map", A_LONG_TIME, || Ok(device("lookup").is_ok().then_some(())))?;
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn the_reason_for_generic_mode_is_kept_over_a_reload_and_said_after_a_restart() -> Result<()> {
    let bed = TestBed::for_test()?;
    let mut node = node(&bed, "d0")?;
    let note = |node: &Node| Ok::<_, anyhow::Error>(node.status()?.interfaces[0].note.clone());
    let before = note(&node)?;
    ensure!(before.as_ref().is_some_and(|note| note.contains("no native XDP")), "{before:?}");
    node.evenkeel(&["apply"])?;
    ensure!(note(&node)? == before, "{:?}", note(&node)?);
    node.kill_daemon()?;
    node.start_daemon()?;
    ensure!(note(&node)?.is_some(), "no reason after a restart");
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_start_with_a_wrong_file_goes_on_with_what_was_applied_last() -> Result<()> {
    let bed = TestBed::for_test()?;
    let mut node = node(&bed, "d0")?;
    let good = configuration("d0");
    for bad in ["services: [".to_owned(), configuration("{ name: d0, mode: native }")] {
        let before = node.status()?;
        node.write_configuration(&bad)?;
        node.wait_until_reload(&before)?;
        node.kill_daemon()?;
        node.start_daemon()?;
        let configuration = node.status()?.configuration;
        ensure!(configuration.reloads_failed == 1, "{configuration:?}");
        ensure!(!configuration.last_reload_errors.is_empty(), "{configuration:?}");
        ensure!(configuration.path.ends_with("last-applied.yaml"), "{configuration:?}");
        ensure!(node.status()?.services.len() == 1 && has_program(node.host())?, "it does not forward");
        node.write_configuration(&good)?;
        node.wait_until("the mended file applied", |status| {
            status.configuration.last_reload_errors.is_empty()
        })?;
    }
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn sigterm_during_the_start_ends_the_daemon_well() -> Result<()> {
    let bed = TestBed::for_test()?;
    let host = bed.host("node")?;
    let (file, run) = (host.folder().join("evenkeel.yaml"), host.folder().join("run"));
    fs::write(&file, configuration("lo"))?;
    let mut command = host.command(workspace::evenkeel()?);
    command.args(["run", "--config"]).arg(&file).arg("--run-dir").arg(&run);
    command.arg("--bpf-dir").arg(host.bpf_folder()).arg("--state-dir").arg(host.folder().join("state"));
    let mut daemon = host.spawn("evenkeel", &mut command)?;
    wait_for("the lock", A_LONG_TIME, || {
        daemon.still_runs()?;
        Ok(run.join("lock").exists().then_some(()))
    })?;
    daemon.signal(Signal::SIGHUP)?;
    let status = daemon.stop()?;
    ensure!(status.success(), "it ended with {status}:\n{}", daemon.log());
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn an_instance_that_is_removed_and_put_back_at_once_becomes_master_again() -> Result<()> {
    let bed = TestBed::for_test()?;
    let mut node = node(&bed, "d0")?;
    let without = configuration("d0");
    let with = format!(
        "{without}vrrp:\n  - name: front\n    interface: d0\n    vrid: 51\n    priority: 150\n    \
         advertise: 2s\n    addresses: [192.0.2.10/24]\n"
    );
    apply(&node, &with)?;
    node.wait_until_instances(InstanceState::Master)?;
    apply(&node, &without)?;
    ensure!(node.status()?.instances.is_empty(), "it is still there");
    // It serves on for an interval and two seconds, since nobody takes over.
    ensure!(node.host().has_address("192.0.2.10")?, "the daemon waited for it");
    apply(&node, &with)?;
    node.wait_until_instances(InstanceState::Master)?;
    node.host().wait_until_it_has("192.0.2.10")
}
