//! Trackers and hooks on real interfaces, programs, processes and neighbours.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking, its helpers too")]

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime};

use evenkeel::config::model::{Effect, HookScript, Hooks, Script, Subject, Track};
use evenkeel::hooks::{self, Transition};
use evenkeel::status::InstanceState;
use evenkeel::track::{TrackState, Trackers};
use tokio::sync::watch;

/// Far beyond what anything here takes, for a machine under load.
const LIMIT: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);

/// A network namespace of its own, gone with the test.
struct Namespace(String);

impl Namespace {
    fn new() -> Self {
        assert!(nix::unistd::geteuid().is_root(), "needs root: run it by `cargo xtask test`");
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let namespace = Self(format!("evenkeel-track-{}-{number}", std::process::id()));
        command("ip", &["netns", "add", &namespace.0]);
        namespace.ip("link set lo up");
        namespace
    }

    fn ip(&self, arguments: &str) {
        command("ip", &[&["-n", &self.0], &*arguments.split(' ').collect::<Vec<_>>()].concat());
    }

    /// Does something in it, on a thread of its own with a runtime.
    fn run<T: Send, F: Future<Output = T>>(&self, what: impl FnOnce() -> F + Send) -> T {
        let path = format!("/run/netns/{}", self.0);
        let inside = || {
            let file = fs::File::open(path).unwrap();
            nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            runtime().block_on(async { tokio::time::timeout(LIMIT, what()).await.unwrap() })
        };
        std::thread::scope(|scope| scope.spawn(inside).join().unwrap())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

fn command(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {error}");
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

/// One group that is in fault when the subject fails.
fn track(subject: Subject) -> (Trackers, watch::Receiver<TrackState>) {
    let mut trackers = Trackers::new();
    let tracks = vec![Track { subject, effect: Effect::Fault }];
    trackers.configure(BTreeMap::from([("g".to_owned(), tracks)]));
    let state = trackers.state("g").unwrap();
    (trackers, state)
}

/// Waits until the detail of the subject is this; returns whether it is well.
async fn until(state: &mut watch::Receiver<TrackState>, wanted: &str) -> bool {
    let told = state.wait_for(|state| state.subjects[0].detail.contains(wanted));
    let told = tokio::time::timeout(LIMIT, told).await.map(|told| told.unwrap().fault.is_none());
    told.unwrap_or_else(|_| panic!("never {wanted:?}: {:?}", state.borrow()))
}

/// A folder that everybody may write to, and a program in it.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
    folder
}

fn program(folder: &Path, name: &str, body: &str) -> String {
    let path = folder.join(name);
    fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
    path.to_str().unwrap().to_owned()
}

fn script(command: String, user: Option<&str>) -> Script {
    Script {
        command: vec![command],
        user: user.map(str::to_owned),
        every: Duration::from_millis(100),
        timeout: SECOND,
        rise: 1,
        fall: 1,
    }
}

fn pid_in(file: &Path) -> i32 {
    fs::read_to_string(file).unwrap().trim().parse().unwrap()
}

/// And is no zombie.
fn runs(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap().trim_start().starts_with('Z'))
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LIMIT, wait).await.unwrap_or_else(|_| panic!("not within {LIMIT:?}: {what}"));
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn an_interface_is_well_while_it_is_there_and_up_with_carrier() {
    let host = Namespace::new();
    host.run(async || {
        let (_trackers, mut state) = track(Subject::Interface("eth1".to_owned()));
        assert!(!until(&mut state, "there is none of this name").await);
        host.ip("link add eth1 type veth peer name far");
        assert!(!until(&mut state, "is down").await);
        host.ip("link set eth1 up");
        assert!(!until(&mut state, "has no carrier").await);
        host.ip("link set far up");
        assert!(until(&mut state, "is up, with carrier").await);
        host.ip("link set far down");
        assert!(!until(&mut state, "has no carrier").await);
        host.ip("link set far up");
        assert!(until(&mut state, "is up, with carrier").await);
        host.ip("link del eth1");
        assert!(!until(&mut state, "there is none of this name").await);
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_script_runs_as_nobody_in_no_other_group_and_its_status_decides() {
    let folder = folder();
    let (said, fail) = (folder.path().join("said"), folder.path().join("fail"));
    let body = format!("id -u >{0}; id -G >>{0}; [ ! -e {1} ]", said.display(), fail.display());
    let check = program(folder.path(), "check", &body);
    runtime().block_on(async {
        let (_trackers, mut state) = track(Subject::Script(script(check, None)));
        assert!(until(&mut state, "exited with status 0").await);
        let nobody = nix::unistd::User::from_name("nobody").unwrap().unwrap();
        let said = fs::read_to_string(said).unwrap();
        assert_eq!(said, format!("{}\n{}\n", nobody.uid, nobody.gid));
        fs::write(&fail, "").unwrap();
        assert!(!until(&mut state, "exited with status 1").await);
        fs::remove_file(&fail).unwrap();
        assert!(until(&mut state, "exited with status 0").await);
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_script_that_hangs_fails_and_is_killed_with_all_that_it_started_before_the_next_run() {
    let folder = folder();
    let (pids, again) = (folder.path().join("pids"), folder.path().join("again"));
    let check = program(
        folder.path(),
        "check",
        &format!(
            "if [ -s {0} ]; then kill -0 $(cat {0}) && exit 7; touch {1}; exit 0; fi\n\
             trap '' TERM; (trap '' TERM; exec sleep 1000) & echo $! >{0}; wait; wait; sleep 1000",
            pids.display(),
            again.display(),
        ),
    );
    runtime().block_on(async {
        let (_trackers, mut state) = track(Subject::Script(script(check, Some("nobody"))));
        assert!(!until(&mut state, "still running after 1s").await);
        let grandchild = pid_in(&pids);
        assert!(until(&mut state, "exited with status 0").await, "the next run sees none of the first");
        assert!(!runs(grandchild));
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn the_capabilities_of_the_unit_suffice_for_scripts() {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/evenkeel.service");
    let unit = fs::read_to_string(unit).unwrap();
    let set = unit.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet=")).unwrap();
    let set = set.split(' ').map(|name| format!(",+{}", name.strip_prefix("CAP_").unwrap().to_lowercase()));
    let set = format!("-all{}", set.collect::<String>());
    // These tests again, as a root that can do no more than the unit allows.
    let mut arguments = vec!["--bounding-set", &set, "--inh-caps", "-all", "--no-new-privs"];
    let binary = std::env::current_exe().unwrap();
    arguments.extend([binary.to_str().unwrap(), "--ignored", "--exact"]);
    arguments.push("a_script_runs_as_nobody_in_no_other_group_and_its_status_decides");
    arguments.push("a_script_that_hangs_fails_and_is_killed_with_all_that_it_started_before_the_next_run");
    command("setpriv", &arguments);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn what_others_may_write_is_not_run_as_root_and_a_script_that_is_not_there_says_so() {
    let folder = folder();
    let ran = folder.path().join("ran");
    let check = program(folder.path(), "check", &format!("touch {}", ran.display()));
    runtime().block_on(async {
        let (_trackers, mut state) = track(Subject::Script(script(check, Some("root"))));
        assert!(!until(&mut state, "it is not run as root").await);
        assert!(!ran.exists());
        let (_trackers, mut state) = track(Subject::Script(script("/bin/true".to_owned(), Some("root"))));
        assert!(until(&mut state, "exited with status 0").await);
        let (_trackers, mut state) = track(Subject::Script(script("/nonexistent/check".to_owned(), None)));
        assert!(!until(&mut state, "cannot start /nonexistent/check as nobody").await);
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_tracker_that_goes_leaves_no_script_running() {
    let folder = folder();
    let pid = folder.path().join("pid");
    let check = program(
        folder.path(),
        "check",
        &format!("echo $$ >{0}.new; mv {0}.new {0}; sleep 1000", pid.display()),
    );
    runtime().block_on(async {
        let (trackers, _state) = track(Subject::Script(Script { timeout: LIMIT, ..script(check, None) }));
        eventually("it runs", || pid.exists()).await;
        let number = pid_in(&pid);
        assert!(runs(number));
        drop(trackers);
        eventually("it is killed", || !runs(number)).await;
    });
}

/// Ends with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_process_is_well_while_one_of_its_name_runs() {
    let folder = folder();
    let name = "evk-tracked-process";
    let copy = folder.path().join(name);
    fs::copy("/bin/sleep", &copy).unwrap();
    let start = || Process(Command::new(&copy).arg("1000").spawn().unwrap());
    runtime().block_on(async {
        let (_trackers, mut state) = track(Subject::Process(name.to_owned()));
        assert!(!until(&mut state, "does not run").await);
        let one = start();
        assert!(until(&mut state, &format!("process {}", one.0.id())).await);
        let two = start();
        drop(one);
        assert!(until(&mut state, &format!("process {}", two.0.id())).await);
        drop(two);
        assert!(!until(&mut state, "does not run").await);
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_gateway_is_well_while_it_answers_by_either_family() {
    let (host, router) = (Namespace::new(), Namespace::new());
    host.ip(&format!("link add eth0 type veth peer name eth0 netns {}", router.0));
    for (namespace, last) in [(&host, 2), (&router, 1)] {
        namespace.ip("link set eth0 up");
        namespace.ip(&format!("address add 10.77.0.{last}/24 dev eth0"));
        namespace.ip(&format!("address add fd77::{last}/64 dev eth0 nodad"));
    }
    let v4: IpAddr = "10.77.0.1".parse().unwrap();
    let v6: IpAddr = "fd77::1".parse().unwrap();
    host.run(async || {
        let (_trackers4, mut state4) = track(Subject::Gateway(Some(v4)));
        let (_trackers6, mut state6) = track(Subject::Gateway(Some(v6)));
        let (_default, mut default) = track(Subject::Gateway(None));
        let (_own, mut own) = track(Subject::Gateway(Some("10.77.0.2".parse().unwrap())));
        assert!(until(&mut state4, "10.77.0.1 answers on eth0").await);
        assert!(until(&mut state6, "fd77::1 answers on eth0").await);
        assert!(until(&mut own, "this node's own").await);
        assert!(!until(&mut default, "there is no default route").await);
        host.ip("-6 route add default via fd77::1");
        assert!(until(&mut default, "fd77::1 answers").await);
        host.ip("route add default via 10.77.0.1");
        assert!(until(&mut default, "10.77.0.1 answers").await);

        router.ip("address flush dev eth0");
        assert!(!until(&mut state4, "10.77.0.1 does not answer").await);
        assert!(!until(&mut state6, "fd77::1 does not answer").await);
        assert!(!until(&mut default, "10.77.0.1 does not answer").await);

        router.ip("address add 10.77.0.1/24 dev eth0");
        router.ip("address add fd77::1/64 dev eth0 nodad");
        assert!(until(&mut state4, "10.77.0.1 answers").await);
        assert!(until(&mut state6, "fd77::1 answers").await);
        assert!(until(&mut default, "10.77.0.1 answers").await);
        host.ip("link set eth0 down");
        assert!(!until(&mut default, "there is no default route").await);
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn one_of_several_next_hops_of_the_default_route_is_enough() {
    let (host, router) = (Namespace::new(), Namespace::new());
    host.ip(&format!("link add eth0 type veth peer name eth0 netns {}", router.0));
    for (namespace, last) in [(&host, 2), (&router, 1)] {
        namespace.ip("link set eth0 up");
        namespace.ip(&format!("address add 10.77.0.{last}/24 dev eth0"));
    }
    host.ip("route add default nexthop via 10.77.0.9 dev eth0 nexthop via 10.77.0.1 dev eth0");
    host.run(async || {
        let (_trackers, mut state) = track(Subject::Gateway(None));
        assert!(until(&mut state, "10.77.0.1 answers on eth0").await);
    });
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_hook_runs_as_nobody_unless_it_is_told_otherwise() {
    let folder = folder();
    let said = |name: &str| -> PathBuf { folder.path().join(name) };
    let hook = |name: &str, user: Option<&str>| HookScript {
        command: vec![program(
            folder.path(),
            &format!("hook-{name}"),
            &format!("echo $(id -u) $@ >{}", said(name).display()),
        )],
        user: user.map(str::to_owned),
        timeout: LIMIT,
    };
    runtime().block_on(async {
        let mut hooks = hooks::Hooks::new();
        let scripts = vec![hook("default", None), hook("daemon", Some("daemon")), hook("root", Some("root"))];
        hooks.configure(&Hooks { scripts, fifo: None });
        hooks.tell(&Transition {
            at: SystemTime::now(),
            instance: "web".to_owned(),
            from: InstanceState::Backup,
            to: InstanceState::Master,
            priority: 150,
            reason: "no master is heard".to_owned(),
        });
        eventually("all are done", || hooks.reports().iter().all(|report| report.waiting == 0)).await;
        assert_eq!(fs::read_to_string(said("default")).unwrap(), "65534 web master 150\n");
        assert_eq!(fs::read_to_string(said("daemon")).unwrap(), "1 web master 150\n");
        assert!(!said("root").exists(), "others may write to its folder");
        let errors: Vec<_> = hooks.reports().into_iter().filter_map(|report| report.error).collect();
        assert!(errors[0].ends_with("it is not run as root"), "{errors:?}");
        hooks.finish(SECOND).await;
    });
}
