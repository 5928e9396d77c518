//! A client that asks an address for an echo every millisecond and notes every answer.
//!
//! ICMP, because the kernel answers it for whatever address it holds: nothing of the prober's own can be late or lost on
//! the other side. The kernel's limit on ICMP messages leaves echo replies out (`icmp_ratemask`, ip-sysctl).

use std::io::{ErrorKind, Read};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};
use socket2::{Domain, Protocol, Socket, Type};

use super::stats::Probe;
use crate::testbed::{Host, wait_for};

const EVERY: Duration = Duration::from_millis(1);
/// Answers in a row that show that all is well.
const STEADY: u64 = 1000;
const PATIENCE: Duration = Duration::from_secs(60);
/// For the answers to the last probes.
const GRACE: Duration = Duration::from_millis(300);
/// Above the real-time threads of the daemons, which it interrupts for some microseconds.
const REALTIME_PRIORITY: i32 = 2;

const ECHO_REQUEST: u8 = 8;
const ECHO_REPLY: u8 = 0;
const IDENTIFIER: [u8; 2] = *b"ek";

pub(super) struct Prober {
    began: Instant,
    shared: Arc<Shared>,
    threads: Option<Threads>,
}

struct Threads {
    sender: JoinHandle<Vec<Duration>>,
    receiver: JoinHandle<Vec<(usize, Duration)>>,
}

#[derive(Default)]
struct Shared {
    stop_sending: AtomicBool,
    stop_receiving: AtomicBool,
    ordinary: AtomicBool,
    /// One more than the number of the last probe that was answered.
    answered: AtomicU64,
    /// The number of the first probe since which every one was answered.
    unbroken_since: AtomicU64,
}

impl Prober {
    /// Begins to probe.
    pub(super) fn start(client: &Host, target: Ipv4Addr) -> Result<Self> {
        let socket = client.enter(|| {
            Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::ICMPV4)).context("cannot open an ICMP socket")
        })?;
        socket.set_read_timeout(Some(Duration::from_millis(50))).context("cannot set a time limit")?;
        let receiving = socket.try_clone().context("cannot use a socket twice")?;
        let began = Instant::now();
        let shared = Arc::new(Shared::default());
        let (first, second) = (Arc::clone(&shared), Arc::clone(&shared));
        let start = |name: &str| thread::Builder::new().name(name.to_owned());
        let receiver = start("probe answers").spawn(move || receive(&receiving, target, began, &first));
        let receiver = receiver.context("cannot start a thread")?;
        let sender = start("probes").spawn(move || send(&socket, target, began, &second));
        let sender = sender.context("cannot start a thread")?;
        Ok(Self { began, shared, threads: Some(Threads { sender, receiver }) })
    }

    /// As the times of the probes are told.
    pub(super) fn now(&self) -> Duration {
        self.began.elapsed()
    }

    /// Whether it runs before everything ordinary on this machine.
    pub(super) fn is_realtime(&self) -> bool {
        !self.shared.ordinary.load(Ordering::Relaxed)
    }

    /// Waits until a second's probes in a row, from now on, were answered.
    pub(super) fn wait_until_steady(&self) -> Result<()> {
        let from = self.shared.answered.load(Ordering::Relaxed);
        wait_for("a thousand probes in a row to be answered", PATIENCE, || {
            let since = self.shared.unbroken_since.load(Ordering::Relaxed).max(from);
            let answered = self.shared.answered.load(Ordering::Relaxed);
            Ok((answered >= since + STEADY).then_some(()))
        })
    }

    /// Ends, and returns every probe in the order that they were sent.
    pub(super) fn finish(mut self) -> Result<Vec<Probe>> {
        let threads = self.threads.take().context("the prober has ended already")?;
        self.shared.stop_sending.store(true, Ordering::Relaxed);
        let sent = threads.sender.join().map_err(|_| anyhow!("the thread that sends probes panicked"))?;
        thread::sleep(GRACE);
        self.shared.stop_receiving.store(true, Ordering::Relaxed);
        let answers =
            threads.receiver.join().map_err(|_| anyhow!("the thread that takes answers panicked"))?;
        let mut probes: Vec<Probe> = sent.into_iter().map(|sent| Probe { sent, answered: None }).collect();
        for (number, at) in answers {
            if let Some(probe) = probes.get_mut(number) {
                probe.answered.get_or_insert(at);
            }
        }
        Ok(probes)
    }
}

impl Drop for Prober {
    fn drop(&mut self) {
        self.shared.stop_sending.store(true, Ordering::Relaxed);
        self.shared.stop_receiving.store(true, Ordering::Relaxed);
    }
}

/// When each probe was sent.
fn send(socket: &Socket, target: Ipv4Addr, began: Instant, shared: &Shared) -> Vec<Duration> {
    enter_realtime(shared);
    let target = SocketAddr::from((target, 0)).into();
    let mut sent = Vec::new();
    let mut due = Duration::ZERO;
    while !shared.stop_sending.load(Ordering::Relaxed) {
        thread::sleep(due.saturating_sub(began.elapsed()));
        let now = began.elapsed();
        // One that cannot leave is one that is not answered: while the address is not resolved, the kernel keeps only
        // so many, and would have the prober wait.
        let _ = socket.send_to_with_flags(&request(sent.len()), &target, libc::MSG_DONTWAIT);
        sent.push(now);
        // After a stall the pace goes on from there: a burst would not show more.
        due = (due + EVERY).max(now);
    }
    sent
}

/// Numbers of the probes that were answered, and when.
fn receive(socket: &Socket, target: Ipv4Addr, began: Instant, shared: &Shared) -> Vec<(usize, Duration)> {
    enter_realtime(shared);
    let mut answers = Vec::new();
    let mut buffer = [0; 1500];
    while !shared.stop_receiving.load(Ordering::Relaxed) {
        let length = match (&*socket).read(&mut buffer) {
            Ok(length) => length,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => continue,
            // Nothing more can come; the probes show as lost.
            Err(_) => break,
        };
        let now = began.elapsed();
        let Some(number) = reply(&buffer[..length], target) else { continue };
        if number != shared.answered.load(Ordering::Relaxed) {
            shared.unbroken_since.store(number, Ordering::Relaxed);
        }
        shared.answered.store(number + 1, Ordering::Relaxed);
        answers.push((usize::try_from(number).unwrap_or(usize::MAX), now));
    }
    answers
}

/// An echo request (RFC 792) with the probe's number as data.
fn request(number: usize) -> [u8; 16] {
    let mut packet = [0; 16];
    packet[0] = ECHO_REQUEST;
    packet[4..6].copy_from_slice(&IDENTIFIER);
    packet[8..].copy_from_slice(&(number as u64).to_be_bytes());
    let sum: u32 = packet.chunks_exact(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    packet[2..4].copy_from_slice(&(!(folded as u16)).to_be_bytes());
    packet
}

/// The number of the probe that an IPv4 packet answers; `None` for any other packet.
fn reply(packet: &[u8], from: Ipv4Addr) -> Option<u64> {
    let header = usize::from(packet.first()? & 0x0f) * 4;
    let (source, message) = (packet.get(12..16)?, packet.get(header..)?);
    if source != from.octets() || *message.first()? != ECHO_REPLY || message.get(4..6)? != IDENTIFIER {
        return None;
    }
    message.get(8..16)?.try_into().ok().map(u64::from_be_bytes)
}

fn enter_realtime(shared: &Shared) {
    let parameters = libc::sched_param { sched_priority: REALTIME_PRIORITY };
    // SAFETY: the kernel only reads the parameters, which live across the call; 0 is the calling thread.
    let result = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameters) };
    if result != 0 {
        shared.ordinary.store(true, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGET: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);

    fn answer(number: usize) -> Vec<u8> {
        let mut packet = vec![0; 20];
        packet[0] = 0x45;
        packet[12..16].copy_from_slice(&TARGET.octets());
        packet.extend(request(number));
        packet[20] = ECHO_REPLY;
        packet
    }

    #[test]
    fn an_answer_names_its_probe_beyond_the_16_bits_of_icmp() {
        assert_eq!(reply(&answer(70_000), TARGET), Some(70_000));
    }

    #[test]
    fn what_is_no_answer_of_the_target_is_none() {
        let whole = answer(1);
        assert_eq!(reply(&whole, Ipv4Addr::new(192, 0, 2, 11)), None);
        let mut request = whole.clone();
        request[20] = ECHO_REQUEST;
        assert_eq!(reply(&request, TARGET), None);
        for length in 0..whole.len() {
            assert_eq!(reply(&whole[..length], TARGET), None, "{length}");
        }
    }

    #[test]
    fn a_request_has_a_checksum_that_sums_to_all_ones() {
        for number in [0, 1, 0xffff, 0x1234_5678] {
            let sum: u32 = request(number).chunks(2).map(|b| u32::from(b[0]) << 8 | u32::from(b[1])).sum();
            assert_eq!((sum & 0xffff) + (sum >> 16), 0xffff, "{number}");
        }
    }
}
