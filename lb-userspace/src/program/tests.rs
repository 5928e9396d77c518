use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt as _, symlink};

use super::*;

const LONG: Duration = Duration::from_secs(30);

/// A shell, run as whom the test runs as, so that it needs no root.
fn shell(script: &str) -> Program {
    let own = nix::unistd::User::from_uid(geteuid()).unwrap().unwrap().name;
    Program::new(&["/bin/sh", "-c", script, "sh"].map(str::to_owned), Some(&own))
}

async fn outcome(program: &Program, limit: Duration) -> String {
    let finished = program.run(Vec::new(), Vec::new(), limit).await;
    match finished.result {
        Ok(()) => "ok".to_owned(),
        Err(error) => error.to_string(),
    }
}

#[tokio::test]
async fn how_a_program_ends_is_told() {
    assert_eq!(outcome(&shell("exit 0"), LONG).await, "ok");
    assert_eq!(outcome(&shell("exit 3"), LONG).await, "exited with status 3");
    assert_eq!(outcome(&shell("kill -9 $$"), LONG).await, "killed by signal 9");
    assert_eq!(outcome(&Program::new(&[], None), LONG).await, "no program is named");
    let stranger = Program::new(&["/bin/true".to_owned()], Some("evenkeel-nobody-has-this-name"));
    assert!(outcome(&stranger, LONG).await.starts_with("there is no user evenkeel-nobody-has-this-name"));
}

#[tokio::test]
async fn a_program_gets_its_arguments_and_no_environment_but_what_is_meant_for_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("said");
    let program = shell(&format!("(echo \"$@\"; pwd; env) >{}", file.display()));
    let arguments = vec!["web".to_owned(), "a b".to_owned()];
    let finished = program.run(arguments, vec![("EVENKEEL_STATE", "master".to_owned())], LONG).await;
    finished.result.unwrap();
    let said = fs::read_to_string(file).unwrap();
    let mut lines = said.lines();
    assert_eq!((lines.next(), lines.next()), (Some("web a b"), Some("/")));
    let mut names: Vec<_> = lines.filter_map(|line| Some(line.split_once('=')?.0)).collect();
    names.retain(|name| !["PWD", "OLDPWD", "SHLVL", "_"].contains(name));
    names.sort_unstable();
    assert_eq!(names, ["EVENKEEL_STATE", "HOME", "LOGNAME", "PATH", "USER"]);
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_program_is_neither_spared_by_the_kernel_nor_real_time_nor_in_groups_of_the_daemon() {
    use nix::sys::resource::{Resource, setrlimit};

    let folder = tempfile::tempdir_in("/tmp").unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
    let file = folder.path().join("said");
    let ask = format!("(cat /proc/self/oom_score_adj; ulimit -r; id -u; id -G) >{}", file.display());
    // A negative one, and a limit of more than there is, need a right that root in a container lacks.
    fs::write("/proc/self/oom_score_adj", "500").unwrap();
    let _ = setrlimit(Resource::RLIMIT_RTPRIO, 10, 10);
    for (user, wanted) in [("nobody", "0\n0\n65534\n65534\n"), ("root", "0\n0\n0\n")] {
        let program = Program::new(&["/bin/bash", "-c", &ask].map(str::to_owned), Some(user));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        assert_eq!(runtime.block_on(outcome(&program, LONG)), "ok", "{user}");
        let said = fs::read_to_string(&file).unwrap();
        assert!(said.starts_with(wanted), "{user}: {said}");
        fs::remove_file(&file).unwrap();
    }
    fs::write("/proc/self/oom_score_adj", "0").unwrap();
}

#[tokio::test]
async fn what_outlasts_its_time_is_ended_with_all_that_it_started() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let rows = [("heeds SIGTERM", "sleep 1000"), ("ignores SIGTERM", "trap '' TERM; sleep 1000; sleep 1000")];
    for (what, rest) in rows {
        let program =
            shell(&format!("(trap '' TERM; sleep 1000; sleep 1000) & echo $! >{}; {rest}", file.display()));
        let finished = program.run(Vec::new(), Vec::new(), Duration::from_secs(1)).await;
        assert_eq!(finished.result.unwrap_err().to_string(), "still running after 1s", "{what}");
        let grandchild: i32 = fs::read_to_string(&file).unwrap().trim().parse().unwrap();
        assert!(runs(grandchild), "{what}");
        finished.left.unwrap().end().await;
        gone(grandchild).await;
    }
}

#[tokio::test]
async fn a_run_that_is_given_up_leaves_nothing_running() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let program = shell(&format!("echo $$ >{}.new; mv {0}.new {0}; exec sleep 1000", file.display()));
    let run = tokio::spawn(async move { program.run(Vec::new(), Vec::new(), LONG).await.result.is_ok() });
    while !file.exists() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    run.abort();
    gone(fs::read_to_string(&file).unwrap().trim().parse().unwrap()).await;
}

/// And is no zombie.
fn runs(pid: i32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap().trim_start().starts_with('Z'))
}

async fn gone(pid: i32) {
    let wait = async {
        while runs(pid) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LONG, wait).await.unwrap();
}

#[test]
fn what_only_root_can_change_is_trusted_and_nothing_else() {
    trusted::check(Path::new("/bin/sh")).unwrap();
    let refusal = |path: &Path| trusted::check(path).unwrap_err().to_string();
    assert!(refusal(Path::new("bin/sh")).contains("no absolute path"));
    assert!(refusal(Path::new("/nonexistent/x")).contains("/nonexistent cannot be looked at"));

    let folder = tempfile::tempdir_in("/tmp").unwrap();
    let file = folder.path().join("check");
    fs::write(&file, "").unwrap();
    assert!(refusal(&file).starts_with("/tmp "), "everybody can write to /tmp");
    assert!(refusal(&folder.path().join("../../bin/../tmp/x")).starts_with("/tmp "));
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn a_file_a_folder_or_a_link_that_others_can_change_is_refused() {
    let folder = tempfile::tempdir_in("/run").unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o755)).unwrap();
    let file = folder.path().join("check");
    fs::write(&file, "").unwrap();
    fs::set_permissions(&file, Permissions::from_mode(0o755)).unwrap();
    let link = folder.path().join("link");
    symlink("./check", &link).unwrap();
    trusted::check(&file).unwrap();
    trusted::check(&link).unwrap();

    fs::set_permissions(&file, Permissions::from_mode(0o775)).unwrap();
    let refusal = |path: &Path| trusted::check(path).unwrap_err().to_string();
    assert_eq!(
        refusal(&link),
        format!("{} can be written by others than root; `chmod go-w` it", file.display())
    );
    fs::set_permissions(&file, Permissions::from_mode(0o755)).unwrap();
    std::os::unix::fs::chown(&file, Some(65534), None).unwrap();
    assert!(refusal(&link).contains("check does not belong to root"));
    symlink("loop", folder.path().join("loop")).unwrap();
    assert!(refusal(&folder.path().join("loop")).contains("too many symbolic links"));
}
