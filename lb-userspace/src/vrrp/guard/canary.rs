//! How the guard learns of the daemon's death before the daemon is all gone.
//!
//! A killed process first gives its memory back, and only then closes its descriptors: with flow tables of many megabytes
//! mapped, that takes tens of milliseconds. A thread with a table of descriptors of its own (unshare(2), `CLONE_FILES`)
//! closes them as soon as it ends itself (`do_exit` in the kernel's kernel/exit.c: `exit_files` of each thread), and a
//! signal that kills the process ends it at once.

use std::io::{self, PipeReader, Read};
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd};
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::sync::mpsc;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::SigSet;

use super::super::realtime;

/// Names the descriptor to the guard.
const VARIABLE: &str = "EVENKEEL_GUARD_CANARY";

/// The daemon's end: a pipe that nobody ever writes to, and that ends when the daemon begins to.
#[derive(Debug)]
pub(super) struct Canary(PipeReader);

impl Canary {
    /// Starts the thread that holds the other end of the pipe, alone.
    pub(super) fn start() -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        let (apart, is_apart) = mpsc::channel();
        let held = writer.as_raw_fd();
        std::thread::Builder::new().name("guard canary".into()).spawn(move || {
            // To end at once, on a busy host too.
            realtime::enter();
            let result = stand_apart(held);
            // Else the table may have copies of everything that is open, which must end with this thread.
            let stands_apart = result.is_ok();
            let _ = apart.send(result);
            if stands_apart {
                loop {
                    std::thread::park();
                }
            }
        })?;
        is_apart.recv().map_err(io::Error::other)??;
        // The thread's table has a copy, which is closed with it.
        drop(writer);
        Ok(Self(reader))
    }

    /// Hands the reading end to a process that is about to be started.
    pub(super) fn hand_to(&self, command: &mut Command) {
        let descriptor = self.0.as_raw_fd();
        command.env(VARIABLE, descriptor.to_string());
        let inherit = move || {
            // SAFETY: the daemon's end outlives the fork, which copied it.
            let descriptor = unsafe { BorrowedFd::borrow_raw(descriptor) };
            fcntl(descriptor, FcntlArg::F_SETFD(FdFlag::empty())).map(drop).map_err(io::Error::from)
        };
        // SAFETY: one system call and no memory: safe between fork and exec.
        unsafe { command.pre_exec(inherit) };
    }
}

/// Gives the calling thread a table of its own, with nothing in it but one descriptor and the standard ones: a copy of
/// anything else would stay open when all others close it. It takes no signals: a handler that tells the other threads by a
/// descriptor would find none here, and the signal would be lost.
fn stand_apart(held: RawFd) -> io::Result<()> {
    SigSet::all().thread_block()?;
    unshare(CloneFlags::CLONE_FILES)?;
    let held = held.cast_unsigned();
    for (first, last) in [(3, held - 1), (held + 1, u32::MAX)] {
        // SAFETY: in the thread's own table, where nothing uses any of them.
        if first <= last && unsafe { libc::close_range(first, last, 0) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// What the guard reads: to its end, or to where the daemon began to end.
pub(super) struct UntilDeath<R> {
    lines: R,
    canary: Option<OwnedFd>,
}

impl<R: AsFd> UntilDeath<R> {
    /// With the canary that the environment names, if it does.
    pub(super) fn new(lines: R) -> Self {
        let named = std::env::var(VARIABLE).ok().and_then(|text| text.parse::<RawFd>().ok());
        let is_open = |descriptor: &RawFd| {
            // SAFETY: only asked whether it is open.
            let descriptor = unsafe { BorrowedFd::borrow_raw(*descriptor) };
            fcntl(descriptor, FcntlArg::F_GETFD).is_ok()
        };
        // SAFETY: it was handed to this process, which has no other use for it.
        let canary =
            named.filter(|named| *named > 2).filter(is_open).map(|fd| unsafe { OwnedFd::from_raw_fd(fd) });
        Self { lines, canary }
    }

    /// Whether there is something to read, or the end of it; else the daemon is ending.
    fn wait(&self) -> io::Result<bool> {
        let Some(canary) = &self.canary else { return Ok(true) };
        loop {
            let mut both = [
                PollFd::new(self.lines.as_fd(), PollFlags::POLLIN),
                PollFd::new(canary.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut both, PollTimeout::NONE) {
                Ok(_) => return Ok(both[0].any().unwrap_or(true)),
                Err(nix::errno::Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

impl<R: AsFd + Read> Read for UntilDeath<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.wait()? { self.lines.read(buffer) } else { Ok(0) }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn what_was_told_before_the_death_is_read_and_then_comes_the_end() {
        let (lines, mut told) = io::pipe().unwrap();
        let (canary, held) = io::pipe().unwrap();
        let mut reader = UntilDeath { lines, canary: Some(canary.into()) };
        told.write_all(b"before").unwrap();
        drop(held);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "before");
    }

    #[test]
    fn a_process_has_the_canary_and_it_does_not_end_while_this_one_lives() {
        let canary = Canary::start().unwrap();
        let mut command = Command::new("/bin/sh");
        // 124: nothing came to read within the time, not even an end. The shell redirects from descriptors below 10 only.
        command.args(["-c", &format!("exec timeout 1 cat /proc/self/fd/${VARIABLE}")]);
        canary.hand_to(&mut command);
        assert_eq!(command.status().unwrap().code(), Some(124));
    }

    /// Masks of the signals that each of these threads blocks; those of other tests may be just beginning.
    fn blocked_by_canaries() -> Vec<u64> {
        let tasks = std::fs::read_dir("/proc/self/task").unwrap().map(|task| task.unwrap().path());
        let statuses = tasks.filter_map(|task| std::fs::read_to_string(task.join("status")).ok());
        let canaries = statuses.filter(|status| status.starts_with("Name:\tguard canary\n"));
        canaries
            .map(|status| {
                let mask = status.lines().find_map(|line| line.strip_prefix("SigBlk:\t")).unwrap();
                u64::from_str_radix(mask, 16).unwrap()
            })
            .collect()
    }

    #[test]
    fn a_signal_for_the_daemon_never_goes_to_the_thread() {
        let _canary = Canary::start().unwrap();
        let stop = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP].map(|signal| 1 << (signal - 1));
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let masks = blocked_by_canaries();
            if !masks.is_empty() && masks.iter().all(|mask| stop.iter().all(|bit| mask & bit != 0)) {
                return;
            }
            assert!(Instant::now() < deadline, "{masks:x?}");
            std::thread::yield_now();
        }
    }

    #[test]
    fn the_thread_keeps_no_other_descriptor_open() {
        let (before, held_before) = io::pipe().unwrap();
        let room = io::pipe().unwrap();
        let (after, held_after) = io::pipe().unwrap();
        // Its own are the lowest that are free: those of the others lie on both sides of them.
        drop(room);
        let _canary = Canary::start().unwrap();
        drop((held_before, held_after));
        for reader in [before, after] {
            let mut ends = [PollFd::new(reader.as_fd(), PollFlags::POLLIN)];
            assert_eq!(poll(&mut ends, PollTimeout::from(10_000_u16)).unwrap(), 1, "no end within 10 s");
            assert_eq!(ends[0].revents(), Some(PollFlags::POLLHUP));
        }
    }
}
