//! A signal ends everything, also where nobody reads what is printed any more: `cargo xtask demo 2>&1 | tee log`.

use std::error::Error;
use std::fs;
use std::io::pipe;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const PATIENCE: Duration = Duration::from_secs(20);

#[test]
fn a_signal_ends_what_was_started_though_nobody_reads_the_output() -> Result<()> {
    let started = Path::new(env!("CARGO_TARGET_TMPDIR")).join("interrupt-started");
    let _ = fs::remove_file(&started);
    let cargo = script(&format!(
        "#!/bin/sh\necho $$ > {0}.new\nmv {0}.new {0}\nexec sleep 100\n",
        started.display()
    ))?;
    let (reader, writer) = pipe()?;
    drop(reader);
    let mut xtask = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .arg("build")
        .env("CARGO", cargo)
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .spawn()?;

    let deadline = Instant::now() + PATIENCE;
    while !started.exists() && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(10));
    }
    let child: i32 = fs::read_to_string(&started)?.trim().parse()?;
    kill(Pid::from_raw(i32::try_from(xtask.id())?), Signal::SIGINT)?;

    let status = ends(&mut xtask)?;
    assert_eq!(
        status.and_then(|status| status.code()),
        Some(130),
        "it ends by itself, as interrupted: {status:?}"
    );
    assert!(kill(Pid::from_raw(child), None).is_err(), "what it has started still runs");
    Ok(())
}

#[test]
fn an_error_that_nobody_reads_is_a_failure_and_no_panic() -> Result<()> {
    let cargo = script("#!/bin/sh\nexit 1\n")?;
    let (reader, writer) = pipe()?;
    drop(reader);
    let mut xtask = Command::new(env!("CARGO_BIN_EXE_xtask"))
        .arg("lint")
        .env("CARGO", cargo)
        .stdin(Stdio::null())
        .stdout(writer.try_clone()?)
        .stderr(writer)
        .spawn()?;
    assert_eq!(ends(&mut xtask)?.and_then(|status| status.code()), Some(1));
    Ok(())
}

/// How it ended, or that it did not.
fn ends(child: &mut Child) -> Result<Option<ExitStatus>> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        thread::sleep(Duration::from_millis(10));
    }
    child.kill()?;
    child.wait()?;
    Ok(None)
}

/// In the place of cargo.
fn script(text: &str) -> Result<PathBuf> {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("interrupt-cargo-{}", text.len()));
    fs::write(&path, text)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    Ok(path)
}
