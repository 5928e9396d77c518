//! Processes by name. While the one that was found last is there nothing else is looked at; /proc is searched only for what
//! is missing, and never for more than a tenth of the time.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::Reporter;
use super::machine::Finding;
use crate::config::model::Subject;

const INTERVAL: Duration = Duration::from_secs(1);
/// A search that took longer than a tenth of `INTERVAL` makes the pause longer.
const PAUSE: u32 = 9;
/// `TASK_COMM_LEN` of the kernel, without the zero at its end: a longer name is cut.
const NAME: usize = 15;

pub(super) async fn follow(mut wanted: watch::Receiver<BTreeSet<String>>, report: Reporter) {
    let mut known = BTreeMap::new();
    loop {
        let names = wanted.borrow_and_update().clone();
        let began = Instant::now();
        if !names.is_empty() {
            let before = std::mem::take(&mut known);
            let missing = names.clone();
            let failed = |error: String| tracing::warn!("tracked processes are not followed: {error}");
            match spawn_blocking(move || find(&missing, &before)).await {
                Ok(Ok(found)) => {
                    names.iter().for_each(|name| report_one(&report, name, found.get(name)));
                    known = found;
                }
                Ok(Err(error)) => failed(format!("cannot read /proc: {error}")),
                Err(error) => failed(error.to_string()),
            }
        }
        tokio::select! {
            changed = wanted.changed() => if changed.is_err() { return },
            () = sleep(INTERVAL.max(began.elapsed() * PAUSE)) => {}
        }
    }
}

fn report_one(report: &Reporter, name: &str, pid: Option<&u32>) {
    let finding = match pid {
        Some(pid) => Finding::Well(format!("runs as process {pid}")),
        None => Finding::Ill("does not run".to_owned()),
    };
    report.found(&Subject::Process(name.to_owned()), finding);
}

/// Of each name the number of one process that has it.
fn find(names: &BTreeSet<String>, before: &BTreeMap<String, u32>) -> io::Result<BTreeMap<String, u32>> {
    let mut found = BTreeMap::new();
    let mut missing = BTreeMap::new();
    for name in names {
        match before.get(name) {
            Some(pid) if running(*pid).is_some_and(|present| present == cut(name)) => {
                found.insert(name.clone(), *pid);
            }
            _ => drop(missing.insert(cut(name).to_vec(), name.clone())),
        }
    }
    if missing.is_empty() {
        return Ok(found);
    }
    for entry in fs::read_dir("/proc")? {
        let name = entry?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse().ok()) else { continue };
        if let Some(name) = running(pid).and_then(|present| missing.remove(&present)) {
            found.insert(name, pid);
            if missing.is_empty() {
                break;
            }
        }
    }
    Ok(found)
}

fn cut(name: &str) -> &[u8] {
    &name.as_bytes()[..name.len().min(NAME)]
}

/// The name of a process; `None` if it is gone, or a zombie.
fn running(pid: u32) -> Option<Vec<u8>> {
    parse(&fs::read(format!("/proc/{pid}/stat")).ok()?).map(<[u8]>::to_vec)
}

/// proc_pid_stat(5): `PID (NAME) STATE …`; the name may hold anything, parentheses too.
fn parse(stat: &[u8]) -> Option<&[u8]> {
    let start = stat.iter().position(|byte| *byte == b'(')? + 1;
    let end = stat.iter().rposition(|byte| *byte == b')')?;
    let state = stat.get(end + 2)?;
    if matches!(state, b'Z' | b'X') { None } else { stat.get(start..end) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_process_is_known_by_its_exact_name_unless_it_is_a_zombie() {
        assert_eq!(parse(b"7 (nginx) S 1 7 7"), Some(&b"nginx"[..]));
        assert_eq!(parse(b"7 (a) (b) R 1"), Some(&b"a) (b"[..]));
        assert_eq!(parse(b"7 (nginx) Z 1"), None);
        assert_eq!(parse(b"7 (nginx)"), None);
        assert_eq!(parse(b")("), None);
    }

    #[test]
    fn this_process_is_found_and_another_is_not() {
        let own = std::process::id();
        let name = String::from_utf8(running(own).unwrap()).unwrap();
        let names = BTreeSet::from([name.clone(), "no such".to_owned()]);
        let found = find(&names, &BTreeMap::new()).unwrap();
        assert_eq!(found.keys().collect::<Vec<_>>(), [&name]);
        let stale = BTreeMap::from([("no such".to_owned(), own), (name.clone(), own)]);
        assert_eq!(find(&names, &stale).unwrap(), BTreeMap::from([(name, own)]));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(stat in prop::collection::vec(prop::sample::select(b"() ZX7a".to_vec()), 0..12)) {
            let _ = parse(&stat);
        }
    }
}
