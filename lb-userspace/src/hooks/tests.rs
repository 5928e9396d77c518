use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;

use tokio::task::spawn_blocking;

use super::*;
use crate::status::InstanceState::{Backup, Fault, Master};

const LIMIT: Duration = Duration::from_secs(30);

fn own_user() -> String {
    nix::unistd::User::from_uid(nix::unistd::geteuid()).unwrap().unwrap().name
}

fn shell(script: &str) -> HookScript {
    let command = ["/bin/sh", "-c", script, "sh"].map(str::to_owned).to_vec();
    HookScript { command, user: Some(own_user()), timeout: LIMIT }
}

fn transition(priority: u8) -> Transition {
    let (from, to) = if priority.is_multiple_of(2) { (Backup, Master) } else { (Master, Fault) };
    let (instance, reason) = ("web".to_owned(), "eth1 is down".to_owned());
    Transition { at: SystemTime::now(), instance, from, to, priority, reason }
}

async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LIMIT, wait).await.unwrap_or_else(|_| panic!("not within {LIMIT:?}: {what}"));
}

fn lines(path: &Path) -> Vec<String> {
    fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn a_script_is_told_of_every_transition_in_order_and_a_slow_one_delays_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    let words =
        "\"$@\" $EVENKEEL_INSTANCE $EVENKEEL_FROM $EVENKEEL_STATE $EVENKEEL_PRIORITY $EVENKEEL_REASON";
    let quick = shell(&format!("echo {words} >>{}", file("quick").display()));
    let go = file("go");
    let slow =
        format!("while ! [ -e {} ]; do sleep 0.02; done; echo $3 >>{}", go.display(), file("slow").display());
    let mut hooks = Hooks::new();
    hooks.configure(&model::Hooks { scripts: vec![shell(&slow), quick], fifo: None });
    (1..=4).for_each(|priority| hooks.tell(&transition(priority)));
    eventually("the quick one is told of all", || lines(&file("quick")).len() == 4).await;
    let wanted = [
        "web fault 1 web master fault 1 eth1 is down",
        "web master 2 web backup master 2 eth1 is down",
        "web fault 3 web master fault 3 eth1 is down",
        "web master 4 web backup master 4 eth1 is down",
    ];
    assert_eq!(lines(&file("quick")), wanted);
    assert!(lines(&file("slow")).is_empty());
    fs::write(go, "").unwrap();
    hooks.finish(LIMIT).await;
    assert_eq!(lines(&file("slow")), ["1", "2", "3", "4"]);
}

#[tokio::test]
async fn a_script_that_fails_or_hangs_is_counted_and_the_next_transition_is_told() {
    let hang = HookScript { timeout: Duration::from_millis(200), ..shell("[ $3 = 2 ] || sleep 1000") };
    let mut hooks = Hooks::new();
    hooks.configure(&model::Hooks { scripts: vec![hang], fifo: None });
    hooks.tell(&transition(1));
    eventually("it is given up", || hooks.reports()[0].failed == 1).await;
    assert_eq!(hooks.reports()[0].error.as_deref(), Some("still running after 200ms"));
    hooks.tell(&transition(2));
    eventually("it is told again", || hooks.reports()[0].waiting == 0).await;
    let report = hooks.reports().remove(0);
    assert_eq!((report.told, report.failed, report.dropped, report.error), (2, 1, 0, None));
}

#[tokio::test]
async fn a_hook_that_stays_keeps_what_waits_and_one_that_is_gone_ends_what_it_is_at() {
    let folder = tempfile::tempdir().unwrap();
    let (go, said) = (folder.path().join("go"), folder.path().join("said"));
    let body = |name: &str| {
        let wait = format!("while ! [ -e {} ]; do sleep 0.02; done", go.display());
        shell(&format!("echo begin {name} $3 >>{0}; {wait}; echo {name} $3 >>{0}", said.display()))
    };
    let mut hooks = Hooks::new();
    hooks.configure(&model::Hooks { scripts: vec![body("stays"), body("goes")], fifo: None });
    [1, 2].map(transition).iter().for_each(|transition| hooks.tell(transition));
    eventually("both have begun", || lines(&said).len() == 2).await;
    hooks.configure(&model::Hooks { scripts: vec![body("stays")], fifo: None });
    fs::write(&go, "").unwrap();
    let has = |line: &str| lines(&said).iter().any(|said| said == line);
    eventually("what was begun is ended, and what stays goes on", || has("goes 1") && has("stays 2")).await;
    hooks.finish(LIMIT).await;
    assert!(!has("begin goes 2"));
}

#[tokio::test]
async fn who_comes_late_to_the_fifo_reads_what_has_waited_and_then_what_happens() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("transitions");
    let mut hooks = Hooks::new();
    hooks.configure(&model::Hooks { scripts: Vec::new(), fifo: Some(path.clone()) });
    eventually("it is made", || path.exists()).await;
    let metadata = fs::metadata(&path).unwrap();
    assert!(metadata.file_type().is_fifo());
    assert_eq!(metadata.permissions().mode() & 0o7777, 0o600);
    hooks.tell(&transition(200));
    eventually("it is in hand", || hooks.hooks.iter().all(|hook| hook.queue.is_busy())).await;
    let many = (0..=255).chain(0..=255).chain(0..=9);
    many.for_each(|priority| hooks.tell(&transition(priority)));
    let report = hooks.reports().remove(0);
    assert_eq!((report.waiting, report.dropped), (queue::MOST + 1, 10), "one is in hand");

    let read = |lines: usize| {
        let path = path.clone();
        spawn_blocking(move || {
            let reader = BufReader::new(fs::File::open(path).unwrap());
            let priority =
                |line: String| serde_json::from_str::<serde_json::Value>(&line).unwrap()["priority"].as_u64();
            reader.lines().take(lines).map(|line| priority(line.unwrap()).unwrap()).collect::<Vec<_>>()
        })
    };
    let told = tokio::time::timeout(LIMIT, read(513)).await.unwrap().unwrap();
    assert_eq!((told[0], told[1]), (200, 10));
    assert_eq!(told[503..], [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    hooks.tell(&transition(42));
    let after = tokio::time::timeout(LIMIT, read(1)).await.unwrap().unwrap();
    assert_eq!(after, [42]);
    eventually("nothing waits", || hooks.reports()[0].waiting == 0).await;
    let report = hooks.reports().remove(0);
    assert_eq!((report.failed, report.error), (0, None), "that nobody reads is no failure");
}

#[tokio::test]
async fn a_transition_that_cannot_be_written_counts_once_as_failed_whatever_the_reasons() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("missing/transitions");
    let mut hooks = Hooks::new();
    hooks.configure(&model::Hooks { scripts: Vec::new(), fifo: Some(path.clone()) });
    let has_error = |text: &str| {
        let report = hooks.reports().remove(0);
        report.error.is_some_and(|error| error.contains(text))
    };
    eventually("no folder", || has_error("cannot make the FIFO")).await;
    assert_eq!(hooks.reports()[0].failed, 0, "there was no transition");
    hooks.tell(&transition(1));
    eventually("it failed", || hooks.reports()[0].failed == 1).await;
    fs::create_dir(path.parent().unwrap()).unwrap();
    // Renamed into place: the FIFO may be made meanwhile.
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    fs::rename(&file, &path).unwrap();
    eventually("another reason", || has_error("is no FIFO")).await;
    fs::remove_file(&path).unwrap();
    eventually("it works, and nobody reads", || hooks.reports()[0].error.is_none()).await;
    let report = hooks.reports().remove(0);
    assert_eq!((report.told, report.failed, report.waiting), (0, 1, 1));
}

#[tokio::test]
async fn a_hook_is_known_by_its_program_and_never_by_its_arguments() {
    let hook = |command: &[&str]| {
        let command = command.iter().map(|&word| word.to_owned()).collect();
        HookScript { command, user: Some(own_user()), timeout: LIMIT }
    };
    let scripts = vec![
        hook(&["/bin/true", "--token", "b"]),
        hook(&["/bin/echo"]),
        hook(&["/bin/true", "--token", "a"]),
    ];
    let mut hooks = Hooks::new();
    let names = |hooks: &Hooks| hooks.reports().into_iter().map(|report| report.hook).collect::<Vec<_>>();
    hooks.configure(&model::Hooks { scripts: scripts.clone(), fifo: Some("/nonexistent/fifo".into()) });
    assert_eq!(names(&hooks), ["/bin/true", "/bin/echo", "/bin/true #2", "/nonexistent/fifo"]);
    hooks.configure(&model::Hooks { scripts: scripts[1..].to_vec(), fifo: None });
    assert_eq!(names(&hooks), ["/bin/echo", "/bin/true #2"], "what stays keeps its name");
    hooks.configure(&model::Hooks { scripts, fifo: None });
    assert_eq!(names(&hooks), ["/bin/true", "/bin/echo", "/bin/true #2"], "and no two have the same");
}

#[tokio::test]
async fn a_file_where_the_fifo_should_be_is_left_alone_and_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("transitions");
    fs::write(&path, "mine").unwrap();
    let mut hooks = Hooks::new();
    hooks.configure(&model::Hooks { scripts: Vec::new(), fifo: Some(path.clone()) });
    hooks.tell(&transition(1));
    eventually("it is told", || {
        hooks.reports()[0].error.as_ref().is_some_and(|error| error.contains("is no FIFO"))
    })
    .await;
    assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
}
