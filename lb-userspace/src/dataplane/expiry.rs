//! When a flow is over: a function of what its halves have shown and how long they have been silent.

#![deny(clippy::disallowed_methods)]

use std::time::Duration;

use lb_common::flow::{FlowKey, FlowValue, SEEN_FIN, SEEN_RST};

/// IPVS' defaults (`tcp_timeouts`, `udp_timeouts` in net/netfilter/ipvs), so that connections live as long as they did
/// there.
const ESTABLISHED: Duration = Duration::from_secs(15 * 60);
const FINISHING: Duration = Duration::from_secs(2 * 60);
const RESET: Duration = Duration::from_secs(10);
const UDP: Duration = Duration::from_secs(5 * 60);

const PROTOCOL_UDP: u32 = 17;

/// How full the flow table is. IPVS' table grows with its flows, this one does not: as it fills, connections that have
/// ended make room sooner. They are remembered only for packets that are still on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    None,
    /// Half full.
    Some,
    /// Four fifths full.
    High,
}

impl Pressure {
    pub(super) const fn of(entries: u64, capacity: u64) -> Self {
        if entries * 5 >= capacity * 4 {
            Self::High
        } else if entries * 2 >= capacity {
            Self::Some
        } else {
            Self::None
        }
    }

    /// How long a connection that has ended is remembered at the most.
    const fn ended(self) -> Duration {
        match self {
            Self::None => FINISHING,
            Self::Some => Duration::from_secs(10),
            Self::High => Duration::from_secs(1),
        }
    }
}

/// Both halves of a flow; `tunnel` and `direct` have one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Halves {
    pub(super) this: FlowValue,
    pub(super) other: Option<FlowValue>,
}

impl Halves {
    /// A RST of the client's side may be forged, and a flow that goes on after one shows it.
    fn reset_by_backend(&self) -> bool {
        let halves = [Some(self.this), self.other];
        halves.iter().flatten().any(|half| !half.is_forward() && half.phase & SEEN_RST != 0)
    }

    /// Reset, or finished by every half there is.
    fn ended(&self) -> bool {
        let other = self.other.map_or(SEEN_FIN, |other| other.phase);
        (self.this.phase | other) & SEEN_RST != 0 || self.this.phase & other & SEEN_FIN != 0
    }
}

/// Whether it is worth looking at the other half: no flow expires sooner.
#[must_use]
pub(super) fn may_expire(value: &FlowValue, silent: Duration, pressure: Pressure) -> bool {
    silent >= RESET.min(pressure.ended()) && (value.phase != 0 || silent >= FINISHING)
}

/// A flow is over when both halves were silent for as long as its state allows. A half without the other that it should
/// have is told by the same times.
#[must_use]
pub(super) fn expired(
    key: &FlowKey,
    halves: &Halves,
    pressure: Pressure,
    silent: impl Fn(u32) -> Duration,
) -> bool {
    let phase = halves.this.phase | halves.other.map_or(0, |other| other.phase);
    let by_state = if key.protocol == PROTOCOL_UDP {
        UDP
    } else if halves.reset_by_backend() {
        RESET
    } else if phase & SEEN_FIN != 0 {
        FINISHING
    } else {
        ESTABLISHED
    };
    let allowed = if key.protocol != PROTOCOL_UDP && halves.ended() {
        by_state.min(pressure.ended())
    } else {
        by_state
    };
    let last = silent(halves.this.last_seen);
    halves.other.map_or(last, |other| last.min(silent(other.last_seen))) >= allowed
}

#[cfg(test)]
mod tests {
    use lb_common::backend::NextHop;
    use lb_common::flow::{Half, VERSION};
    use proptest::prelude::*;

    use super::*;

    fn half(phase: u8, last_seen: u32) -> FlowValue {
        FlowValue {
            version: VERSION,
            half: Half::Forward as u8,
            method: 1,
            phase,
            backend: 0,
            service: 0,
            last_seen,
            address: 0,
            port: 0,
            zero: 0,
            return_hop: NextHop::default(),
        }
    }

    fn key(protocol: u32) -> FlowKey {
        FlowKey { source: 1, destination: 2, source_port: 3, destination_port: 4, protocol }
    }

    /// `last_seen` counts seconds ago here.
    fn ago(seconds: u32) -> Duration {
        Duration::from_secs(u64::from(seconds))
    }

    #[test]
    fn each_state_has_its_own_time() {
        for (protocol, phase, seconds) in [(6, 0, 900), (6, SEEN_FIN, 120), (6, SEEN_RST, 120), (17, 0, 300)]
        {
            let halves = |ago| Halves { this: half(phase, ago), other: None };
            assert!(
                !expired(&key(protocol), &halves(seconds - 1), Pressure::None, ago),
                "{protocol} {phase}"
            );
            assert!(expired(&key(protocol), &halves(seconds), Pressure::None, ago), "{protocol} {phase}");
        }
    }

    #[test]
    fn only_a_reset_by_the_backend_is_believed_at_once() {
        let by_backend = FlowValue { half: Half::Reply as u8, ..half(SEEN_RST, 11) };
        assert!(expired(
            &key(6),
            &Halves { this: half(0, 11), other: Some(by_backend) },
            Pressure::None,
            ago
        ));
        let open = FlowValue { half: Half::Reply as u8, ..half(0, 11) };
        assert!(!expired(
            &key(6),
            &Halves { this: half(SEEN_RST, 11), other: Some(open) },
            Pressure::None,
            ago
        ));
    }

    #[test]
    fn a_busy_half_keeps_a_silent_one_alive() {
        let halves = Halves { this: half(0, 10_000), other: Some(half(0, 1)) };
        assert!(!expired(&key(6), &halves, Pressure::None, ago));
    }

    #[test]
    fn a_fin_of_either_half_shortens_both() {
        let halves = Halves { this: half(0, 130), other: Some(half(SEEN_FIN, 130)) };
        assert!(expired(&key(6), &halves, Pressure::None, ago));
    }

    #[test]
    fn a_table_that_fills_forgets_what_has_ended_and_nothing_else() {
        let both = Halves { this: half(SEEN_FIN, 10), other: Some(half(SEEN_FIN, 10)) };
        let one = Halves { this: half(SEEN_FIN, 100), other: Some(half(0, 100)) };
        let idle = Halves { this: half(0, 800), other: Some(half(0, 800)) };
        for (pressure, forgotten) in [(Pressure::None, false), (Pressure::Some, true), (Pressure::High, true)]
        {
            assert_eq!(expired(&key(6), &both, pressure, ago), forgotten, "{pressure:?}");
            assert!(!expired(&key(6), &one, pressure, ago), "{pressure:?}");
            assert!(!expired(&key(6), &idle, pressure, ago), "{pressure:?}");
        }
        assert_eq!(Pressure::of(499, 1000), Pressure::None);
        assert_eq!(Pressure::of(500, 1000), Pressure::Some);
        assert_eq!(Pressure::of(800, 1000), Pressure::High);
    }

    proptest! {
        #[test]
        fn what_expires_was_worth_looking_at_from_one_of_its_halves(
            protocol in prop_oneof![Just(6_u32), Just(17)],
            phases in any::<(u8, u8)>(),
            silent in (0_u32..2000, 0_u32..2000),
            pressure in prop::sample::select(vec![Pressure::None, Pressure::Some, Pressure::High]),
        ) {
            let this = half(phases.0 & 3, silent.0);
            let other = half(phases.1 & 3, silent.1);
            if expired(&key(protocol), &Halves { this, other: Some(other) }, pressure, ago) {
                prop_assert!(may_expire(&this, ago(silent.0), pressure) || may_expire(&other, ago(silent.1), pressure));
            }
        }
    }
}
