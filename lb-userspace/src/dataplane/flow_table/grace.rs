//! Waiting until every program that runs now has ended.

use std::io;
use std::sync::Once;
use std::thread;
use std::time::Duration;

/// Far longer than a program runs, on a kernel that does not tell.
const LONG_ENOUGH: Duration = Duration::from_secs(1);

static TOLD: Once = Once::new();

/// XDP programs run as readers of RCU, so they have ended when the kernel says that a grace period is over.
/// `MEMBARRIER_CMD_GLOBAL` is `synchronize_rcu` (kernel/sched/membarrier.c), some 10 ms. It refuses on a kernel with
/// `nohz_full` processors, and with a single processor it returns at once, though a kernel with real-time
/// preemption may have set a program aside for us there: then time has to do.
pub fn wait() {
    if processors() > 1 {
        match membarrier() {
            Ok(()) => return,
            Err(error) => TOLD.call_once(|| {
                tracing::info!("membarrier: {error}; slots of ended flows are freed a second later instead");
            }),
        }
    }
    thread::sleep(LONG_ENOUGH);
}

fn membarrier() -> io::Result<()> {
    // SAFETY: the call takes numbers only.
    let result = unsafe { libc::syscall(libc::SYS_membarrier, libc::MEMBARRIER_CMD_GLOBAL, 0, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn processors() -> libc::c_long {
    // SAFETY: the call takes a number only.
    unsafe { libc::sysconf(libc::_SC_NPROCESSORS_ONLN) }
}
