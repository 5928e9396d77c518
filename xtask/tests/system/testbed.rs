//! The test bed itself, without Evenkeel.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use xtask::testbed::clients::{Connections, HttpClient, Load, MySqlSession};
use xtask::testbed::servers::{MariaDb, Nginx};
use xtask::testbed::{Capture, Host, TestBed};

fn two_hosts(bed: &TestBed) -> (Host, Host) {
    let segment = bed.segment("segment").unwrap();
    let (client, server) = (bed.host("client").unwrap(), bed.host("server").unwrap());
    segment.attach(&client, "eth0", &["10.0.0.1/24"]).unwrap();
    segment.attach(&server, "eth0", &["10.0.0.2/24"]).unwrap();
    (client, server)
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn http_clients_reach_nginx_with_good_checksums_on_the_wire() {
    let bed = TestBed::for_test().unwrap();
    let (client, server) = two_hosts(&bed);
    let _nginx = Nginx::start(&server).unwrap();
    let capture = Capture::start(&client, "eth0", "tcp").unwrap();
    let address = SocketAddr::from(([10, 0, 0, 2], 80));
    for connections in [Connections::Kept, Connections::PerRequest] {
        let load =
            Load::start(&client, 2, Duration::from_millis(1), || HttpClient::new(address, "/", connections));
        let report = load.stop_after(Duration::from_secs(1)).unwrap();
        assert_eq!(report.failed, 0, "{report:?}");
        assert!(report.answers["server"] > 10, "{report:?}");
    }
    assert!(capture.finish_with_good_checksums().unwrap() > 100);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_load_counts_failures_and_the_time_without_answers() {
    let bed = TestBed::for_test().unwrap();
    let (client, server) = two_hosts(&bed);
    let mut nginx = Nginx::start(&server).unwrap();
    let address = SocketAddr::from(([10, 0, 0, 2], 80));
    let load = Load::start(&client, 1, Duration::from_millis(5), || {
        HttpClient::new(address, "/", Connections::PerRequest)
    });
    std::thread::sleep(Duration::from_millis(500));
    nginx.kill().unwrap();
    let report = load.stop_after(Duration::from_secs(1)).unwrap();
    assert!(report.failed > 0 && !report.answers.is_empty(), "{report:?}");
    assert!(report.gap >= Duration::from_secs(1), "{report:?}");
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_mysql_session_stays_open_between_queries() {
    let bed = TestBed::for_test().unwrap();
    let (client, server) = two_hosts(&bed);
    let _mariadb = MariaDb::start(&server).unwrap();
    let mut session = MySqlSession::open(&client, SocketAddr::from(([10, 0, 0, 2], 3306))).unwrap();
    assert_eq!(session.query("SELECT name FROM shop.server;").unwrap(), "server");
    let first = session.query("SELECT CONNECTION_ID();").unwrap();
    assert_eq!(session.query("SELECT CONNECTION_ID();").unwrap(), first);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_dropped_bed_leaves_no_namespace_process_or_file() {
    let bed = TestBed::for_test().unwrap();
    let (_, server) = two_hosts(&bed);
    let folder = bed.folder().to_owned();
    let namespace = Path::new("/run/netns").join(server.namespace());
    let mut sleep = server.command("sleep");
    let process = server.spawn("sleep", sleep.arg("1000")).unwrap();
    let proc = Path::new("/proc").join(process.pid().to_string()).join("ns/net");
    assert!(folder.exists() && namespace.exists() && proc.exists());
    drop(bed);
    assert!(!folder.exists() && !namespace.exists() && !proc.exists());
}
