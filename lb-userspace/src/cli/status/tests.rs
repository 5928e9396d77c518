use tokio::net::UnixListener;

use super::*;
use crate::http::{Limits, Response, serve};
use crate::status::BackendState;

const SAMPLE: &str = include_str!("../../../tests/golden/status.json");
const NOW: f64 = 1_700_266_390.0;

fn sample() -> Status {
    serde_json::from_str(SAMPLE).unwrap()
}

#[test]
fn the_page_shows_what_runs_and_why_and_what_needs_an_operator() {
    let page = render(&sample(), NOW);
    assert_eq!(page, include_str!("../../../tests/golden/status.txt"), "the page is now:\n{page}");
}

#[test]
fn a_healthy_node_shows_no_alarm() {
    let mut status = sample();
    status.configuration.last_reload_errors.clear();
    status.interfaces.truncate(2);
    status.instances.truncate(1);
    status.instances[0].second_master = false;
    status.instances[0].note = None;
    status.instances[0].last_discarded = None;
    status.hooks.clear();
    status.services.truncate(1);
    status.packets.retain(|counted| counted.verdict != "drop");
    let page = render(&status, NOW);
    assert!(!page.contains("!!"), "{page}");
    assert!(page.contains("No packet was dropped."), "{page}");
}

#[test]
fn a_failed_reload_names_the_file_that_failed_and_check_only_where_it_would_find_something() {
    let mut status = sample();
    status.configuration.last_reload_path = "/root/other.yaml".to_owned();
    status.configuration.last_reload_errors = vec!["/root/other.yaml:1:1: nodes: unknown key".to_owned()];
    let page = render(&status, NOW);
    assert!(page.contains("`evenkeel check /root/other.yaml` shows what is left"), "{page}");
    status.configuration.last_reload_errors = vec!["cannot attach to eth1: busy".to_owned()];
    let page = render(&status, NOW);
    assert!(page.contains("then `evenkeel apply /root/other.yaml`"), "{page}");
    assert!(!page.contains("evenkeel check"), "{page}");
}

#[test]
fn a_removed_service_is_shown_while_it_drains_and_raises_no_alarm() {
    let mut status = sample();
    status.services.truncate(1);
    let service = &mut status.services[0];
    service.name = "web (removed, number 3)".to_owned();
    service.listen.clear();
    service.backends.retain(|backend| backend.state == BackendState::Draining);
    let page = render(&status, NOW);
    assert!(page.contains("\nService web (removed, number 3): not in the configuration any more;"), "{page}");
    assert!(page.contains("10.0.0.14:8080  draining"), "{page}");
    assert!(!page.contains("NO BACKEND TAKES"), "{page}");
}

#[test]
fn an_empty_node_has_a_page_too() {
    let mut status = sample();
    status.interfaces.clear();
    status.instances.clear();
    status.services.clear();
    status.packets.clear();
    status.flows.ipv4.capacity = 0;
    let page = render(&status, 0.0);
    assert!(page.starts_with("lb-a: evenkeel 0.1.0, up 0.0 s\n"), "{page}");
    assert!(page.contains("of 0 entries in use (0.0 %)"), "{page}");
}

#[test]
fn the_json_is_the_daemons_own_whatever_its_version() {
    let printed = pretty(br#"{"node":"lb-a","of_a_later_version":1}"#).unwrap();
    assert_eq!(printed, "{\n  \"node\": \"lb-a\",\n  \"of_a_later_version\": 1\n}\n");
    let reread: Status = serde_json::from_str(&pretty(SAMPLE.as_bytes()).unwrap()).unwrap();
    assert_eq!(reread, sample());
}

#[tokio::test]
async fn what_the_daemon_answers_is_printed_or_explained() {
    let directory = tempfile::tempdir().unwrap();
    let answers = [
        ("good", Response::json(StatusCode::OK, SAMPLE)),
        ("busy", Response::text(StatusCode::SERVICE_UNAVAILABLE, "starting\n")),
        ("older", Response::json(StatusCode::OK, "{}")),
    ];
    for (name, answer) in answers {
        let socket = directory.path().join(name);
        let listener = UnixListener::bind(&socket).unwrap();
        tokio::spawn(serve(listener, Limits::CONTROL, move |_| std::future::ready(answer.clone())));
        let result = ask(&socket, false, NOW).await.map_err(|error| error.to_string());
        match name {
            "good" => assert_eq!(result, Ok(render(&sample(), NOW))),
            "busy" => {
                assert_eq!(result, Err("the daemon answered 503 Service Unavailable: starting".to_owned()));
            }
            _ => assert!(result.unwrap_err().contains("`systemctl restart evenkeel`")),
        }
    }
    let error = run(&directory.path().join("none"), true).await.unwrap_err().to_string();
    assert!(error.contains("`systemctl start evenkeel`"), "{error}");
}
