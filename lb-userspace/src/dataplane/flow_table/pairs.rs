//! Which half belongs to which, and what a half must be that is missing.

#![deny(clippy::disallowed_methods)]

use lb_common::addr::Address;
use lb_common::flow::{self, FlowKey, Ports, REPLY, Slot, UDP};
use lb_common::service::Method;

use super::flow::method;
use super::pool::{Member, Pool};
use super::{FlowTable, key};

/// The other half of a half.
#[derive(Debug, Clone, Copy)]
pub enum Other<A: Address> {
    /// There is to be none.
    None,
    There {
        number: u32,
        half: Slot<A>,
    },
    /// No half has its key.
    Missing,
    /// Another flow has its place.
    Taken,
    /// Nobody knows its key: its backend is not in the pool.
    Unknown,
}

impl<A: Address> FlowTable<A> {
    /// The other half of `half`, which is in the slot `number`.
    #[must_use]
    pub fn other_half(&self, number: u32, half: &Slot<A>, pool: &Pool) -> Other<A> {
        let (Some(method), reply) = (method(half.state), half.state & REPLY != 0) else {
            return Other::None;
        };
        match method {
            Method::Tunnel | Method::Direct => return Other::None,
            Method::FullNat if reply => return self.forward_half(number, half, pool),
            Method::Nat | Method::FullNat => {}
        }
        let Some(key) = other_key(half, pool) else {
            return Other::Unknown;
        };
        let Some((at, other)) = self.find(&key).and_then(|at| Some((at, self.get(at)?))) else {
            return Other::Missing;
        };
        let belong = if reply { belong(at, &other, half) } else { belong(number, half, &other) };
        if belong { Other::There { number: at, half: other } } else { Other::Taken }
    }

    /// With `fullnat` the reply half names the slot of the forward half, and nothing else tells the client.
    fn forward_half(&self, number: u32, reply: &Slot<A>, pool: &Pool) -> Other<A> {
        let at = reply.other.as_ref()[0];
        match self.get(at) {
            Some(forward) if at != number && belong(at, &forward, reply) => match other_key(&forward, pool) {
                Some(expected) if expected != key(reply) => Other::Taken,
                _ => Other::There { number: at, half: forward },
            },
            Some(_) => Other::Taken,
            None => Other::Missing,
        }
    }

    /// Has the processor fetch what [`Self::other_half`] will look at.
    pub(in crate::dataplane) fn touch_other(&self, half: &Slot<A>, pool: &Pool) {
        if let Some(key) = other_key(half, pool) {
            self.touch(&key);
        }
    }
}

/// Whether a reply half says that it belongs to a forward half. That its own key is the one that follows from the forward
/// half is another matter.
fn belong<A: Address>(number: u32, forward: &Slot<A>, reply: &Slot<A>) -> bool {
    let (there, back) = (Ports::from_word(forward.ports), Ports::from_word(reply.ports));
    let same = |mask: u32| (forward.state ^ reply.state) & mask == 0;
    same(flow::METHOD_MASK | UDP)
        && forward.state & REPLY == 0
        && reply.state & REPLY != 0
        && flow::backend(forward.place) == flow::backend(reply.place)
        && if flow::method(forward.state) == Method::FULL_NAT {
            reply.other.as_ref()[0] == number && back.destination == flow::port(forward.state)
        } else {
            A::from_other(&reply.other) == forward.destination
                && flow::port(reply.state) == there.destination
                && reply.destination == forward.source
                && back.destination == there.source
        }
}

/// The key of the other half; `None` if it does not follow from this one and the pool.
pub(super) fn other_key<A: Address>(half: &Slot<A>, pool: &Pool) -> Option<FlowKey<A>> {
    let method = method(half.state)?;
    let FlowKey { ports, protocol, .. } = key(half);
    if half.state & REPLY != 0 {
        return (method == Method::Nat).then(|| FlowKey {
            source: half.destination,
            destination: A::from_other(&half.other),
            ports: Ports { source: ports.destination, destination: flow::port(half.state) },
            protocol,
        });
    }
    let backend = member(half, pool)?;
    let (destination, destination_port) = match method {
        Method::Nat => (half.source, ports.source),
        Method::FullNat => (A::from_mapped(pool.source(half.other.as_ref()[1])?), flow::port(half.state)),
        Method::Tunnel | Method::Direct => return None,
    };
    Some(FlowKey {
        source: A::from_mapped(backend.address),
        destination,
        ports: Ports {
            source: if backend.port == 0 { ports.destination } else { backend.port },
            destination: destination_port,
        },
        protocol,
    })
}

/// The backend of a forward half.
fn member<'p, A: Address>(forward: &Slot<A>, pool: &'p Pool) -> Option<&'p Member> {
    pool.get(flow::backend(forward.place)).filter(|member| member.identity == forward.other.as_ref()[0])
}

/// The half that is to be beside `half`, which is in the slot `number`; `None` if not everything is known that it says.
/// That the lost half had seen a FIN or a RST stays unknown.
#[must_use]
pub(in crate::dataplane) fn missing_half<A: Address>(
    number: u32,
    half: &Slot<A>,
    pool: &Pool,
) -> Option<Slot<A>> {
    let key = other_key(half, pool)?;
    let method = flow::method(half.state);
    let mut other = half.source.to_other();
    let state = if half.state & REPLY != 0 {
        let identity = pool.get(flow::backend(half.place))?.identity;
        fill(other.as_mut(), identity);
        flow::live(method, half.state & UDP, 0)
    } else if method == Method::FULL_NAT {
        fill(other.as_mut(), number);
        flow::live(method, REPLY | half.state & UDP, 0)
    } else {
        other = half.destination.to_other();
        flow::live(method, REPLY | half.state & UDP, Ports::from_word(half.ports).destination)
    };
    let made = Slot {
        source: key.source,
        destination: key.destination,
        ports: key.ports.word(),
        state,
        last_seen: half.last_seen,
        place: half.place,
        other,
    };
    // A reply half names its backend by number and address only: the number may be another backend's now.
    let is_reply = half.state & REPLY != 0;
    (!is_reply || other_key(&made, pool) == Some(super::key(half))).then_some(made)
}

/// The first word, and zeros.
fn fill(words: &mut [u32], first: u32) {
    words.fill(0);
    words[0] = first;
}
