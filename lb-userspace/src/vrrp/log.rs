//! Logging for threads that wait for nothing: whoever reads the log may be slow, and its lock may be taken.

use std::sync::LazyLock;
use std::sync::mpsc::{SyncSender, sync_channel};

use tokio::sync::oneshot;

/// Lines that can wait; more are lost.
const CAPACITY: usize = 256;

type Line = Box<dyn FnOnce() + Send>;

/// The thread that writes; `None` if it could not be started.
static WRITER: LazyLock<Option<SyncSender<Line>>> = LazyLock::new(|| {
    let (sender, lines) = sync_channel::<Line>(CAPACITY);
    let write_all = move || lines.into_iter().for_each(|line| line());
    std::thread::Builder::new().name("vrrp log".into()).spawn(write_all).ok().map(|_| sender)
});

/// Has a line written soon, by calling a `tracing` macro on another thread.
pub(super) fn log(line: impl FnOnce() + Send + 'static) {
    if let Some(writer) = &*WRITER {
        // Full: losing the line is better than losing the mastership.
        let _ = writer.try_send(Box::new(line));
    }
}

/// Resolves when all lines so far are written.
pub(super) async fn flushed() {
    let (done, written) = oneshot::channel();
    log(move || {
        let _ = done.send(());
    });
    // An error means that the line was lost: then there is nothing to wait for.
    let _ = written.await;
}
