//! A routing netlink socket that answers before it returns, for threads that change much at once, and one for the kernel's
//! notifications.

use std::io;
use std::time::Duration;

use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::TimeVal;
use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::{
    NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use rtnetlink::packet_route::RouteNetlinkMessage as Message;
use rtnetlink::sys::protocols::NETLINK_ROUTE;
use rtnetlink::sys::{Socket, SocketAddr};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Requests that are sent in one piece; their answers fit the socket's usual buffer.
pub const BATCH: usize = 64;
/// The kernel answers while it is asked; only memory or the routing lock may keep it.
const LIMIT: Duration = Duration::from_secs(5);
/// Readings of something that changes meanwhile, before what was read last is taken.
const DUMPS: u32 = 5;
/// Bytes: tens of thousands of changes, most of them this daemon's own.
const NOTIFICATIONS: usize = 16 << 20;

/// What the kernel may refuse a request with (errno).
pub type Answer = Result<(), io::Error>;

/// A request and the `NLM_F_*` flags it needs, beyond those of every request.
#[derive(Debug, Clone)]
pub struct Request {
    pub message: Message,
    pub flags: u16,
}

/// Requests, each waited for.
#[derive(Debug)]
pub struct Requests {
    socket: Socket,
    sequence: u32,
}

impl Requests {
    /// In the network namespace of the calling thread.
    ///
    /// # Errors
    /// No socket can be opened.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        // Filters are the kernel's work, and answers do not repeat the requests.
        socket.set_netlink_get_strict_chk(true)?;
        socket.set_cap_ack(true)?;
        let limit = TimeVal::new(i64::try_from(LIMIT.as_secs()).unwrap_or(i64::MAX), 0);
        setsockopt(&socket, sockopt::ReceiveTimeout, &limit)?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Has every request carried out in order, however each of them ends; one answer for each.
    ///
    /// # Errors
    /// The kernel gives no answers; how far it came is not known.
    pub fn execute(&mut self, requests: Vec<Request>) -> io::Result<Vec<Answer>> {
        let mut answers = Vec::with_capacity(requests.len());
        let mut requests = requests.into_iter().peekable();
        while requests.peek().is_some() {
            self.execute_batch(requests.by_ref().take(BATCH), &mut answers)?;
        }
        Ok(answers)
    }

    fn execute_batch(
        &mut self,
        requests: impl Iterator<Item = Request>,
        answers: &mut Vec<Answer>,
    ) -> io::Result<()> {
        let first = self.sequence.wrapping_add(1);
        let mut bytes = Vec::new();
        let mut count = 0;
        for request in requests {
            self.append(&mut bytes, request.message, request.flags | NLM_F_ACK);
            count += 1;
        }
        self.socket.send(&bytes, 0)?;
        let mut answered = 0;
        while answered < count {
            self.receive(|message| {
                // What is left of an earlier request that was given up.
                if message.header.sequence_number.wrapping_sub(first) >= count {
                    return;
                }
                if let NetlinkPayload::Error(error) = message.payload {
                    answered += 1;
                    answers.push(match error.code {
                        None => Ok(()),
                        Some(code) => Err(io::Error::from_raw_os_error(code.get().saturating_neg())),
                    });
                }
            })?;
        }
        Ok(())
    }

    /// Everything of a kind that the request filters; read again while it changes meanwhile.
    ///
    /// # Errors
    /// The kernel refuses, or gives no answer.
    pub fn dump(&mut self, request: &Message) -> io::Result<Vec<Message>> {
        for _ in 1..DUMPS {
            let (found, interrupted) = self.dump_once(request)?;
            if !interrupted {
                return Ok(found);
            }
        }
        Ok(self.dump_once(request)?.0)
    }

    fn dump_once(&mut self, request: &Message) -> io::Result<(Vec<Message>, bool)> {
        let mut bytes = Vec::new();
        self.append(&mut bytes, request.clone(), NLM_F_DUMP);
        let sequence = self.sequence;
        self.socket.send(&bytes, 0)?;
        let (mut found, mut interrupted, mut end) = (Vec::new(), false, None);
        while end.is_none() {
            self.receive(|message| {
                if message.header.sequence_number != sequence {
                    return;
                }
                interrupted |= message.header.flags & NLM_F_DUMP_INTR != 0;
                match message.payload {
                    NetlinkPayload::InnerMessage(inner) => found.push(inner),
                    NetlinkPayload::Done(done) => end = Some(done.code),
                    NetlinkPayload::Error(error) => end = Some(error.raw_code()),
                    _ => {}
                }
            })?;
        }
        match end {
            Some(code) if code < 0 => Err(io::Error::from_raw_os_error(code.saturating_neg())),
            Some(_) | None => Ok((found, interrupted)),
        }
    }

    fn append(&mut self, bytes: &mut Vec<u8>, message: Message, flags: u16) {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = flags | NLM_F_REQUEST;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
        message.finalize();
        let start = bytes.len();
        // NLMSG_ALIGN.
        bytes.resize(start + message.buffer_len().next_multiple_of(4), 0);
        let end = start + message.buffer_len();
        message.serialize(&mut bytes[start..end]);
    }

    fn receive(&self, each: impl FnMut(NetlinkMessage<Message>)) -> io::Result<()> {
        let (bytes, _) = self.socket.recv_from_full()?;
        split(&bytes, each);
        Ok(())
    }
}

/// Every message of a datagram; what can't be read is left out.
fn split(mut bytes: &[u8], mut each: impl FnMut(NetlinkMessage<Message>)) {
    while let Some(header) = bytes.first_chunk::<4>() {
        let length = usize::try_from(u32::from_ne_bytes(*header)).unwrap_or(usize::MAX);
        let Some(message) = bytes.get(..length).filter(|message| !message.is_empty()) else { return };
        if let Ok(message) = NetlinkMessage::deserialize(message) {
            each(message);
        }
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
}

/// The kernel's notifications of changes.
#[derive(Debug)]
pub struct Notifications(AsyncFd<Socket>);

impl Notifications {
    /// In the network namespace of the calling thread, which must be inside a tokio runtime.
    ///
    /// # Errors
    /// No socket can be opened.
    pub fn subscribe(groups: &[MulticastGroup]) -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        // Without CAP_NET_ADMIN its usual size will do.
        let _ = setsockopt(&socket, sockopt::RcvBufForce, &NOTIFICATIONS);
        socket.bind_auto()?;
        for group in groups {
            socket.add_membership(*group as u32)?;
        }
        socket.set_non_blocking(true)?;
        // SAFETY: a Socket owns one open descriptor from its creation to its end, and is moved in here.
        let registered = unsafe { AsyncFd::register_with_interest(socket, Interest::READABLE) };
        Ok(Self(registered?))
    }

    /// Cancel safe. Resolves at least once after something came.
    pub async fn readable(&self) {
        // An error here is the runtime going away, which ends the caller too.
        if let Ok(mut ready) = self.0.readable().await {
            ready.clear_ready();
        }
    }

    /// Takes all that have come.
    ///
    /// # Errors
    /// Some were lost, mostly because more came than the socket holds (`ENOBUFS`).
    pub fn take(&self, mut each: impl FnMut(Message)) -> io::Result<()> {
        let mut result = Ok(());
        loop {
            match self.0.get_ref().recv_from_full() {
                Ok((bytes, _)) => split(&bytes, |message| {
                    if let NetlinkPayload::InnerMessage(message) = message.payload {
                        each(message);
                    }
                }),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return result,
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => result = Err(error),
                Err(error) => return Err(error),
            }
        }
    }
}
