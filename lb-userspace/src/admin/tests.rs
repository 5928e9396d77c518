use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime};

use super::store;
use super::*;
use crate::config::model::{Admin, Config};
use crate::config::{Host, parse};

const TEXT: &str = r#"interfaces: [eth0]
services:
  - name: web
    listen: [203.0.113.10:80, "[2001:db8::10]:80"]
    forward: nat
    drain: 10m
    backends: [10.0.0.11:80, { address: 10.0.0.12:80, state: drain }, "[fd00::11]:80"]
  - name: api
    forward: nat
    listen: ["203.0.113.10:8000-8099"]
    backends: [10.0.0.11:80, 10.0.0.13]
"#;

fn config() -> Config {
    let host = Host { hostname: "lb".into(), interfaces: ["eth0".to_owned()].into() };
    parse(TEXT, "a.yaml", &host).unwrap()
}

fn names(name: &str) -> Vec<String> {
    resolve(name, &config()).unwrap().iter().map(ToString::to_string).collect()
}

struct Desk {
    machine: Machine,
    config: Config,
    start: Instant,
}

impl Desk {
    fn new() -> Self {
        let mut desk = Self { machine: Machine::default(), config: config(), start: Instant::now() };
        desk.machine.configure(&desk.config, desk.start, SystemTime::UNIX_EPOCH);
        desk
    }

    fn at(&self, seconds: u64) -> Instant {
        self.start + Duration::from_secs(seconds)
    }

    fn command(&mut self, state: Admin, deadline: Option<u64>, at: u64) -> bool {
        let name = Name { service: "web".to_owned(), backend: "10.0.0.11:80".parse().unwrap() };
        let since = SystemTime::UNIX_EPOCH + Duration::from_secs(at);
        let command = Command { state, since, deadline: deadline.map(Duration::from_secs) };
        self.machine.command(&name, Admin::Active, command, self.at(at))
    }

    /// Of a backend of `web`.
    fn standing(&self, backend: usize, at: u64) -> Standing {
        let service = &self.config.services[0];
        self.machine.standing(service, &service.backends[backend], self.at(at))
    }
}

#[test]
fn an_address_names_the_backend_in_every_service_and_a_service_before_it_in_that_one() {
    assert_eq!(names("10.0.0.11:80"), ["web/10.0.0.11:80", "api/10.0.0.11:80"]);
    assert_eq!(names("api/10.0.0.11:80"), ["api/10.0.0.11:80"]);
    assert_eq!(names("[fd00::11]:80"), ["web/[fd00::11]:80"]);
    assert_eq!(names("10.0.0.13"), ["api/10.0.0.13"]);
}

#[test]
fn a_wrong_name_is_answered_with_the_backends_there_are() {
    let error = resolve("10.0.0.99:80", &config()).unwrap_err().to_string();
    assert_eq!(
        error,
        "no backend `10.0.0.99:80`; there are: web/10.0.0.11:80, web/10.0.0.12:80, web/[fd00::11]:80, \
         api/10.0.0.11:80, api/10.0.0.13"
    );
    let error = resolve("api/10.0.0.12:80", &config()).unwrap_err();
    assert!(matches!(error, NameError::Unknown { .. }), "{error}");
    for wrong in ["", "web", "10.0.0.11:", "web/10.0.0.11:99999", "/"] {
        assert!(matches!(resolve(wrong, &config()), Err(NameError::Syntax(_))), "{wrong}");
    }
    let empty = Config { services: Vec::new(), ..config() };
    assert!(matches!(resolve("10.0.0.11:80", &empty), Err(NameError::None(_))));
}

#[test]
fn a_drained_backend_keeps_its_flows_until_its_time_is_over() {
    let mut desk = Desk::new();
    assert_eq!(desk.standing(0, 0), Standing::Active);
    assert!(desk.command(Admin::Drain, None, 100));
    assert_eq!(desk.standing(0, 699), Standing::Draining, "ten minutes, by the service");
    assert_eq!(desk.standing(0, 700), Standing::Out);
    assert!(desk.command(Admin::Drain, Some(5), 800));
    assert_eq!(desk.standing(0, 800), Standing::Out, "it began long ago");
    assert!(desk.command(Admin::Active, None, 801));
    assert_eq!(desk.standing(0, 801), Standing::Active);
    assert!(desk.command(Admin::Drain, Some(5), 900));
    assert_eq!(desk.standing(0, 904), Standing::Draining);
    assert_eq!(desk.standing(0, 905), Standing::Out);
}

#[test]
fn a_disabled_backend_is_out_at_once() {
    let mut desk = Desk::new();
    assert!(desk.command(Admin::Disabled, None, 1));
    assert_eq!(desk.standing(0, 1), Standing::Out);
    assert!(!desk.command(Admin::Disabled, None, 50), "it was so already");
    let service = &desk.config.services[0];
    let view = desk.machine.view(service, &service.backends[0], desk.at(60)).unwrap();
    assert!(view.by_command);
    assert_eq!(view.since, SystemTime::UNIX_EPOCH + Duration::from_secs(1), "since it was first said");
}

#[test]
fn the_configuration_drains_too_and_a_command_takes_it_back() {
    let mut desk = Desk::new();
    assert_eq!(desk.standing(1, 599), Standing::Draining);
    assert_eq!(desk.standing(1, 600), Standing::Out);
    let name = Name { service: "web".to_owned(), backend: "10.0.0.12:80".parse().unwrap() };
    let back = Command { state: Admin::Active, since: SystemTime::UNIX_EPOCH, deadline: None };
    assert!(desk.machine.command(&name, Admin::Drain, back, desk.at(601)));
    assert_eq!(desk.standing(1, 601), Standing::Active);
    desk.machine.configure(&desk.config, desk.at(602), SystemTime::UNIX_EPOCH);
    assert_eq!(desk.standing(1, 602), Standing::Active, "a reload keeps the command");
}

#[test]
fn a_command_ends_when_its_backend_leaves_the_configuration() {
    let mut desk = Desk::new();
    desk.command(Admin::Disabled, None, 1);
    let mut without = desk.config.clone();
    without.services[0].backends.remove(0);
    assert!(desk.machine.configure(&without, desk.at(2), SystemTime::UNIX_EPOCH));
    desk.machine.configure(&desk.config, desk.at(3), SystemTime::UNIX_EPOCH);
    assert_eq!(desk.standing(0, 3), Standing::Active);
    assert!(desk.machine.commands().is_empty());
}

#[test]
fn a_restart_goes_on_with_the_commands_and_the_time_they_have_left() {
    let mut desk = Desk::new();
    desk.command(Admin::Drain, Some(60), 100);
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join(store::FILE), store::text(desk.machine.commands())).unwrap();
    let commands = store::read(folder.path()).unwrap();
    assert_eq!(&commands, desk.machine.commands());

    let wall = |seconds| SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
    let restarted = Instant::now() + Duration::from_secs(1_000_000);
    let mut machine = Machine::new(commands, restarted, wall(130));
    machine.configure(&desk.config, restarted, wall(130));
    let service = &desk.config.services[0];
    let after =
        |seconds| machine.standing(service, &service.backends[0], restarted + Duration::from_secs(seconds));
    assert_eq!((after(29), after(30)), (Standing::Draining, Standing::Out));
}

#[test]
fn no_file_is_no_command_and_a_broken_one_is_named() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(store::read(folder.path()).unwrap(), BTreeMap::new());
    std::fs::write(folder.path().join(store::FILE), "[{").unwrap();
    let error = store::read(folder.path()).unwrap_err().to_string();
    assert!(error.contains("backends.json is not as it was written"), "{error}");
}
