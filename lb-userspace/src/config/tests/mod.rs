//! What a configuration may be, what it may not be, and what is said about it.

mod accepted;
mod conflicts;
mod files;
mod hostile;
mod refused;
mod service_forms;
mod service_mistakes;
mod vrrp_forms;
mod vrrp_mistakes;

use std::path::Path;

use super::model::Config;
use super::source::SecretError;
use super::{Host, Mistakes, parse};

/// One of everything.
const COMPLETE: &str = r#"node: lb-a
interfaces: [eth0, { name: eth1, mode: native }]
metrics: { listen: 127.0.0.1:9620 }

vrrp:
  - name: outside
    interface: eth0
    vrid: 51
    priority: 150
    advertise: 500ms
    preempt: false
    addresses: [203.0.113.10/24, 203.0.113.11]

services:
  - name: web
    listen: [203.0.113.10:80, "203.0.113.10:443"]
    protocol: tcp
    forward: nat
    scheduler: maglev
    check: { http: { path: /healthz, status: 204, host: www.example.com }, every: 5s, timeout: 1.5s, rise: 1, fall: 4 }
    backends:
      - 10.0.0.11:8080
      - { address: 10.0.0.12:8080, weight: 2 }
  - name: dns
    listen: 203.0.113.10:53
    protocol: udp
    forward: direct
    check: tcp
    backends: [10.0.0.21, 10.0.0.22:53, { address: 10.0.0.23, weight: 0 }]
"#;

fn host() -> Host {
    let interfaces = ["lo", "eth0", "eth1"].map(String::from).into();
    Host { hostname: "host-a".into(), interfaces }
}

/// Two files of keys, one of them wrong.
fn secrets(path: &Path) -> Result<String, SecretError> {
    match path.to_str() {
        Some("/etc/evenkeel/vrrp.keys") => {
            Ok("2 000102030405060708090a0b0c0d0e0f\n1 ffffffffffffffffffffffffffffffff\n".into())
        }
        Some("/etc/evenkeel/wrong.keys") => Ok("1 00\n".into()),
        _ => Err(SecretError::Missing),
    }
}

fn read(text: &str) -> Result<Config, Mistakes> {
    parse::parse(text, "evenkeel.yaml", &host(), &secrets)
}

/// What is said about a text, one line for each mistake.
fn said(text: &str) -> Vec<String> {
    read(text).expect_err("the text has mistakes").lines()
}

/// The one mistake of [`COMPLETE`] with `old` replaced by `new`, without the name of the file.
fn changed(old: &str, new: &str) -> String {
    assert_eq!(COMPLETE.matches(old).count(), 1, "`{old}` is there once");
    one(&COMPLETE.replace(old, new))
}

/// One service, whose keys these are.
fn service(keys: &str) -> String {
    format!("interfaces: [eth0]\nservices: [{{ name: a, {keys} }}]\n")
}

fn one(text: &str) -> String {
    let said = said(text);
    assert_eq!(said.len(), 1, "{said:#?}");
    said[0].strip_prefix("evenkeel.yaml:").expect("the line begins with the file").to_owned()
}
