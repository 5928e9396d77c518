use std::collections::BTreeSet;

use super::*;

const DOCS: &str = include_str!("../../../docs/metrics.md");

fn sample() -> Status {
    serde_json::from_str(include_str!("../../tests/golden/status.json")).unwrap()
}

fn families(page: &str) -> BTreeSet<&str> {
    page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next()).collect()
}

#[test]
fn a_full_status_gives_this_page() {
    let page = render(&sample()).unwrap();
    assert_eq!(page, include_str!("../../tests/golden/metrics.prom"), "the page is now:\n{page}");
}

#[test]
fn each_metric_is_described_and_each_described_metric_exists() {
    let page = render(&sample()).unwrap();
    let described: BTreeSet<_> = DOCS
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split(['`', '{']).next())
        .filter(|name| name.starts_with("evenkeel_") || name.starts_with("process_"))
        .collect();
    assert_eq!(families(&page), described);
}

#[test]
fn the_page_follows_the_conventions_of_prometheus() {
    let page = render(&sample()).unwrap();
    let mut samples = BTreeSet::new();
    for line in page.lines() {
        if let Some(family) = line.strip_prefix("# TYPE ") {
            let (name, kind) = family.split_once(' ').unwrap();
            assert_eq!(name.ends_with("_total"), kind == "counter", "{line}");
        } else if !line.starts_with('#') {
            let (sample, value) = line.rsplit_once(' ').unwrap();
            assert!(value.parse::<f64>().is_ok_and(f64::is_finite), "{line}");
            assert!(samples.insert(sample), "twice: {line}");
        }
    }
    assert_eq!(families(&page).len(), page.lines().filter(|line| line.starts_with("# TYPE ")).count());
}

#[test]
fn backends_whose_labels_run_into_each_other_stay_apart() {
    let mut status = sample();
    let mut other = status.services[0].clone();
    status.services[0].name = "a1".to_owned();
    status.services[0].backends[0].address = "92.0.2.1:80".parse().unwrap();
    other.name = "a".to_owned();
    other.backends[0].address = "192.0.2.1:80".parse().unwrap();
    other.backends[0].weight = 77;
    status.services.push(other);
    let page = render(&status).unwrap();
    assert!(page.contains("evenkeel_backend_weight{service=\"a1\",backend=\"92.0.2.1:80\"} 1\n"));
    assert!(page.contains("evenkeel_backend_weight{service=\"a\",backend=\"192.0.2.1:80\"} 77\n"));
}

#[test]
fn a_label_cannot_break_out_of_its_quotes() {
    let mut status = sample();
    status.node = "a\"} 1\nevil 2 \\".to_owned();
    let page = render(&status).unwrap();
    assert!(page.contains(r#"node="a\"} 1\nevil 2 \\""#), "{page}");
}

#[test]
fn a_node_without_services_and_instances_has_a_page_too() {
    let mut status = sample();
    status.services.clear();
    status.instances.clear();
    status.interfaces.clear();
    status.packets.clear();
    let page = render(&status).unwrap();
    assert!(page.contains("evenkeel_flow_table_entries{family=\"ipv4\"} 1024\n"));
    assert!(!page.contains("evenkeel_backend_up"));
}
