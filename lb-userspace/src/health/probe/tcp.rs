//! The connection is accepted.

use std::net::SocketAddr;

use tokio::io::AsyncWriteExt;

use super::{ProbeError, connect};

/// Connects and closes by FIN. `SO_LINGER` 0 would spare this node a TIME_WAIT socket, but the RST makes servers log an
/// error for every probe, and one TIME_WAIT a probe is cheap: they differ in destination, so no port runs out.
pub(super) async fn probe(target: SocketAddr) -> Result<(), ProbeError> {
    let mut stream = connect(target).await?;
    // The verdict is in: a server that has closed first is no failure.
    let _ = stream.shutdown().await;
    Ok(())
}
