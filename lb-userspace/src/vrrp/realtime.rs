//! Real-time scheduling for the threads of an instance.

use std::io;
use std::sync::Once;

/// The lowest real-time priority: above everything ordinary, below whatever else the host runs in real time.
const PRIORITY: i32 = 1;

/// Lets the calling thread run before every ordinary one. Without the right to, it runs as it is and the log says so,
/// once.
pub(super) fn enter() {
    static WARNED: Once = Once::new();
    let parameters = libc::sched_param { sched_priority: PRIORITY };
    let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
    // SAFETY: the kernel only reads the parameters, which live across the call; 0 is the calling thread.
    let result = unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) };
    if result != 0 {
        let error = io::Error::last_os_error();
        WARNED.call_once(|| {
            tracing::warn!(
                "VRRP runs without real-time priority: {error}; a busy host may delay advertisements (grant CAP_SYS_NICE)"
            );
        });
    }
}
