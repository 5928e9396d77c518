//! The metrics page, which moves to another address without being lost on the way.

use std::io;
use std::net::SocketAddr;

use thiserror::Error;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::control::{self, Command};

#[derive(Debug, Error)]
#[error("cannot serve metrics on {address}: {source}; `metrics.listen` needs a free address of this node")]
pub struct PageError {
    address: SocketAddr,
    #[source]
    source: io::Error,
}

pub(super) struct Page {
    commands: mpsc::Sender<Command>,
    served: Option<Served>,
}

struct Served {
    address: SocketAddr,
    task: JoinHandle<()>,
}

/// A move that can still be taken back.
#[must_use]
pub(super) enum Move {
    Stay,
    Close,
    Open {
        address: SocketAddr,
        listener: TcpListener,
        /// Where the page was that had to go first.
        instead_of: Option<SocketAddr>,
    },
}

impl Page {
    pub(super) const fn new(commands: mpsc::Sender<Command>) -> Self {
        Self { commands, served: None }
    }

    /// Takes the new address; the page stays where it is. Only where both addresses overlap, as 127.0.0.1:9620 and
    /// 0.0.0.0:9620 do, the page is closed for the new one.
    ///
    /// # Errors
    /// The address cannot be had. The page is where it was.
    pub(super) async fn prepare(&mut self, wanted: Option<SocketAddr>) -> Result<Move, PageError> {
        let served = self.served.as_ref().map(|served| served.address);
        if wanted == served {
            return Ok(Move::Stay);
        }
        let Some(address) = wanted else {
            return Ok(Move::Close);
        };
        let refused = |source| PageError { address, source };
        let source = match TcpListener::bind(address).await {
            Ok(listener) => return Ok(Move::Open { address, listener, instead_of: None }),
            Err(source) => source,
        };
        let overlaps = served.filter(|served| served.port() == address.port());
        if source.kind() != io::ErrorKind::AddrInUse || overlaps.is_none() {
            return Err(refused(source));
        }
        self.close().await;
        match TcpListener::bind(address).await {
            Ok(listener) => Ok(Move::Open { address, listener, instead_of: overlaps }),
            Err(source) => {
                self.open_again(overlaps).await;
                Err(refused(source))
            }
        }
    }

    pub(super) async fn commit(&mut self, to: Move) {
        match to {
            Move::Stay => {}
            Move::Close => self.close().await,
            Move::Open { address, listener, .. } => {
                self.close().await;
                self.serve(address, listener);
            }
        }
    }

    pub(super) async fn take_back(&mut self, to: Move) {
        if let Move::Open { listener, instead_of, .. } = to {
            drop(listener);
            self.open_again(instead_of).await;
        }
    }

    async fn open_again(&mut self, address: Option<SocketAddr>) {
        let Some(address) = address else {
            return;
        };
        match TcpListener::bind(address).await {
            Ok(listener) => self.serve(address, listener),
            Err(error) => tracing::error!("metrics are not served on {address} any more: {error}"),
        }
    }

    fn serve(&mut self, address: SocketAddr, listener: TcpListener) {
        self.served = Some(Served { address, task: control::serve_metrics(listener, self.commands.clone()) });
    }

    async fn close(&mut self) {
        if let Some(Served { task, .. }) = self.served.take() {
            task.abort();
            // The address is free once the task is gone.
            let _ = task.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpStream};

    use super::*;

    /// A page on a free port of 127.0.0.1.
    async fn served() -> (Page, SocketAddr) {
        let (commands, _) = mpsc::channel(1);
        let mut page = Page::new(commands);
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap();
        let to = page.prepare(Some(free)).await.unwrap();
        page.commit(to).await;
        (page, free)
    }

    fn everywhere(address: SocketAddr) -> SocketAddr {
        (Ipv4Addr::UNSPECIFIED, address.port()).into()
    }

    fn answers(address: SocketAddr) -> bool {
        TcpStream::connect(address).is_ok()
    }

    #[tokio::test]
    async fn the_page_moves_to_an_address_that_holds_its_own() {
        let (mut page, address) = served().await;
        let to = page.prepare(Some(everywhere(address))).await.unwrap();
        page.commit(to).await;
        assert!(answers((Ipv4Addr::new(127, 0, 0, 2), address.port()).into()));
        let to = page.prepare(Some(address)).await.unwrap();
        page.commit(to).await;
        assert!(answers(address));
        assert!(!answers((Ipv4Addr::new(127, 0, 0, 2), address.port()).into()));
    }

    #[tokio::test]
    async fn a_move_that_is_taken_back_leaves_the_page_where_it_was() {
        let (mut page, address) = served().await;
        for wanted in [Some(everywhere(address)), None, Some((Ipv4Addr::new(127, 0, 0, 2), 0).into())] {
            let to = page.prepare(wanted).await.unwrap();
            page.take_back(to).await;
            assert!(answers(address), "{wanted:?}");
            assert!(!answers((Ipv4Addr::new(127, 0, 0, 2), address.port()).into()), "{wanted:?}");
        }
    }

    #[tokio::test]
    async fn an_address_that_somebody_else_holds_is_refused_and_the_page_stays() {
        let (mut page, address) = served().await;
        let other = TcpListener::bind((Ipv4Addr::new(127, 0, 0, 2), address.port())).await.unwrap();
        for wanted in [other.local_addr().unwrap(), everywhere(address)] {
            assert!(page.prepare(Some(wanted)).await.is_err(), "{wanted}");
            assert!(answers(address), "{wanted}");
        }
    }
}
