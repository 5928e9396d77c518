//! The test bed itself, without Evenkeel.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Result;
use xtask::testbed::clients::{Connections, HttpClient, Load, MySqlSession};
use xtask::testbed::servers::{MariaDb, Nginx};
use xtask::testbed::{Capture, Host, TestBed, wait_for};

fn two_hosts(bed: &TestBed) -> Result<(Host, Host)> {
    let segment = bed.segment("segment")?;
    let (client, server) = (bed.host("client")?, bed.host("server")?);
    segment.attach(&client, "eth0", &["10.0.0.1/24"])?;
    segment.attach(&server, "eth0", &["10.0.0.2/24"])?;
    Ok((client, server))
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn http_clients_reach_nginx_with_good_checksums_on_the_wire() -> Result<()> {
    let bed = TestBed::for_test()?;
    let (client, server) = two_hosts(&bed)?;
    let _nginx = Nginx::start(&server)?;
    let capture = Capture::start(&client, "eth0", "tcp")?;
    let address = SocketAddr::from(([10, 0, 0, 2], 80));
    for connections in [Connections::Kept, Connections::PerRequest] {
        let load =
            Load::start(&client, 2, Duration::from_millis(1), || HttpClient::new(address, "/", connections));
        let report = load.stop_after(Duration::from_secs(1))?;
        assert_eq!(report.failed, 0, "{report:?}");
        assert!(report.answers["server"] > 10, "{report:?}");
    }
    assert!(capture.finish_with_good_checksums()? > 100);
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_load_counts_failures_and_the_time_without_answers() -> Result<()> {
    let bed = TestBed::for_test()?;
    let (client, server) = two_hosts(&bed)?;
    let mut nginx = Nginx::start(&server)?;
    let address = SocketAddr::from(([10, 0, 0, 2], 80));
    let load = Load::start(&client, 1, Duration::from_millis(5), || {
        HttpClient::new(address, "/", Connections::PerRequest)
    });
    std::thread::sleep(Duration::from_millis(500));
    nginx.kill()?;
    let report = load.stop_after(Duration::from_secs(1))?;
    assert!(report.failed > 0 && !report.answers.is_empty(), "{report:?}");
    assert!(report.gap >= Duration::from_secs(1), "{report:?}");
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_mysql_session_stays_open_between_queries() -> Result<()> {
    let bed = TestBed::for_test()?;
    let (client, server) = two_hosts(&bed)?;
    let _mariadb = MariaDb::start(&server)?;
    let mut session = MySqlSession::open(&client, SocketAddr::from(([10, 0, 0, 2], 3306)))?;
    assert_eq!(session.query("SELECT name FROM shop.server;")?, "server");
    let first = session.query("SELECT CONNECTION_ID();")?;
    assert_eq!(session.query("SELECT CONNECTION_ID();")?, first);
    Ok(())
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_dropped_bed_leaves_no_namespace_process_or_file() -> Result<()> {
    let bed = TestBed::for_test()?;
    let (_, server) = two_hosts(&bed)?;
    let folder = bed.folder().to_owned();
    let namespace = Path::new("/run/netns").join(server.namespace());
    let mut sleep = server.command("sleep");
    let mut process = server.spawn("sleep", sleep.arg("1000"))?;
    // It starts outside and enters; what has not come in yet is not the bed's.
    let inode = |path: &Path| fs::metadata(path).map(|metadata| metadata.ino()).ok();
    let inside = Path::new("/proc").join(process.pid().to_string()).join("ns/net");
    wait_for("the process to enter the namespace", Duration::from_secs(20), || {
        process.still_runs()?;
        Ok((inode(&inside) == inode(&namespace)).then_some(()))
    })?;
    assert!(folder.exists() && namespace.exists());
    drop(bed);
    assert!(!folder.exists() && !namespace.exists());
    // It leaves its namespace a moment before it can be waited for.
    wait_for("the process to end", Duration::from_secs(20), || Ok(process.still_runs().err()))?;
    Ok(())
}
