//! When a flow is over: a function of what its halves have shown and how long they have been silent.

#![deny(clippy::disallowed_methods)]

use std::time::Duration;

use lb_common::flow::{REPLY, SEEN_FIN, SEEN_RST, UDP};

use super::flow_table::flow::has_two_halves;

/// How long a flow is kept after its last packet, by its state. By themselves those of IPVS (`tcp_timeouts` and
/// `udp_timeouts` in net/netfilter/ipvs/ip_vs_proto_{tcp,udp}.c), so that connections live as long as they did there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timeouts {
    pub established: Duration,
    pub fin_wait: Duration,
    pub close_wait: Duration,
    pub time_wait: Duration,
    pub close: Duration,
    /// Of half-open flows, which are in no flow table.
    pub syn_recv: Duration,
    pub udp: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            established: Duration::from_secs(15 * 60),
            fin_wait: Duration::from_secs(2 * 60),
            close_wait: Duration::from_secs(60),
            time_wait: Duration::from_secs(2 * 60),
            close: Duration::from_secs(10),
            syn_recv: Duration::from_secs(60),
            udp: Duration::from_secs(5 * 60),
        }
    }
}

/// What a flow's halves have shown, in IPVS' words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    Established,
    /// The client has ended it, and where the node sees the backend's packets, the backend has not.
    FinWait,
    /// The backend has ended it, the client has not.
    CloseWait,
    /// Both have, or the one whose packets the node sees.
    TimeWait,
    /// The backend has reset it.
    Close,
    Udp,
}

impl State {
    pub const ALL: [Self; 6] =
        [Self::Established, Self::FinWait, Self::CloseWait, Self::TimeWait, Self::Close, Self::Udp];

    /// As a label of metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Established => "established",
            Self::FinWait => "fin_wait",
            Self::CloseWait => "close_wait",
            Self::TimeWait => "time_wait",
            Self::Close => "close",
            Self::Udp => "udp",
        }
    }

    /// Whether IPVS would count it as an active connection.
    #[must_use]
    pub const fn is_active(self) -> bool {
        matches!(self, Self::Established | Self::Udp)
    }

    /// From the `state` of one half, and that of the other one where it is there. A RST of the client's side may be
    /// forged: it counts as the end of what the client sends, for a flow that goes on shows it, and does not count where
    /// a table that fills forgets what has ended.
    #[must_use]
    pub(super) const fn of(this: u32, other: Option<u32>) -> Self {
        let other = match other {
            Some(other) => other,
            None => 0,
        };
        let (client, backend) = if this & REPLY == 0 { (this, other) } else { (other, this) };
        if this & UDP != 0 {
            Self::Udp
        } else if backend & SEEN_RST != 0 {
            Self::Close
        } else if client & SEEN_FIN != 0 && (backend & SEEN_FIN != 0 || !has_two_halves(this)) {
            Self::TimeWait
        } else if client & (SEEN_FIN | SEEN_RST) != 0 {
            Self::FinWait
        } else if backend & SEEN_FIN != 0 {
            Self::CloseWait
        } else {
            Self::Established
        }
    }
}

/// How full a flow table is. IPVS' table grows with its flows, this one does not: as it fills, connections that have
/// ended make room sooner. They are remembered only for packets that are still on their way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Pressure {
    None,
    /// Half full.
    Some,
    /// Three quarters full: a little later the first flows find no slot (see [`lb_common::flow::CROWDED`]).
    High,
}

impl Pressure {
    pub(super) const fn of(entries: u64, capacity: u64) -> Self {
        if entries * 4 >= capacity * 3 {
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
            Self::None => Duration::MAX,
            Self::Some => Duration::from_secs(10),
            Self::High => Duration::from_secs(1),
        }
    }
}

/// Jiffies of silence that each state allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Allowed([u32; State::ALL.len()]);

impl Allowed {
    pub(super) fn new(timeouts: &Timeouts, pressure: Pressure, jiffies: impl Fn(Duration) -> u32) -> Self {
        Self(State::ALL.map(|state| {
            jiffies(match state {
                State::Established => timeouts.established,
                State::FinWait => timeouts.fin_wait,
                State::CloseWait => timeouts.close_wait,
                State::TimeWait => timeouts.time_wait.min(pressure.ended()),
                State::Close => timeouts.close.min(pressure.ended()),
                State::Udp => timeouts.udp,
            })
        }))
    }

    pub(super) const fn of(&self, state: State) -> u32 {
        self.0[state as usize]
    }

    /// Silence of one half from which on the other one is worth a look: no flow is over before one of its halves says so.
    pub(super) fn worth_a_look(&self, state: u32) -> u32 {
        let by_itself = self.of(State::of(state, None));
        if state & SEEN_FIN != 0 { by_itself.min(self.of(State::TimeWait)) } else { by_itself }
    }
}

/// Jiffies between two readings of their low 32 bits. What lies a little in the future is now: the data plane may have
/// written it after `now` was read.
pub(super) const fn silent(last_seen: u32, now: u32) -> u32 {
    const A_LITTLE: u32 = 1 << 20;
    let passed = now.wrapping_sub(last_seen);
    if passed > u32::MAX - A_LITTLE { 0 } else { passed }
}

#[cfg(test)]
mod tests {
    use lb_common::flow::live;
    use lb_common::service::Method;
    use proptest::prelude::*;

    use super::*;

    const NAT: u32 = Method::NAT;

    fn allowed(pressure: Pressure) -> Allowed {
        Allowed::new(&Timeouts::default(), pressure, |time| u32::try_from(time.as_secs()).unwrap())
    }

    #[test]
    fn each_state_is_told_by_what_the_halves_have_shown() {
        let (fin, rst) = (SEEN_FIN, SEEN_RST);
        for (client, backend, state) in [
            (0, 0, State::Established),
            (fin, 0, State::FinWait),
            (rst, 0, State::FinWait),
            (0, fin, State::CloseWait),
            (fin, fin, State::TimeWait),
            (rst, fin, State::FinWait),
            (0, rst, State::Close),
            (fin, rst, State::Close),
        ] {
            let (forward, reply) = (live(NAT, client, 80), live(NAT, REPLY | backend, 80));
            assert_eq!(State::of(forward, Some(reply)), state, "{client:#x} {backend:#x}");
            assert_eq!(State::of(reply, Some(forward)), state, "{client:#x} {backend:#x}");
        }
        assert_eq!(State::of(live(NAT, UDP, 80), Some(live(NAT, UDP | REPLY, 80))), State::Udp);
    }

    #[test]
    fn a_flow_of_one_half_has_ended_when_its_client_says_so() {
        for method in [Method::TUNNEL, Method::DIRECT] {
            assert_eq!(State::of(live(method, SEEN_FIN, 0), None), State::TimeWait);
            assert_eq!(State::of(live(method, SEEN_RST, 0), None), State::FinWait);
            assert_eq!(State::of(live(method, 0, 0), None), State::Established);
        }
    }

    #[test]
    fn states_last_as_long_as_with_ipvs_or_as_configured() {
        let seconds = |allowed: Allowed| State::ALL.map(|state| allowed.of(state));
        assert_eq!(seconds(allowed(Pressure::None)), [900, 120, 60, 120, 10, 300]);
        let timeouts = Timeouts { established: Duration::from_secs(86_400), ..Timeouts::default() };
        let configured = Allowed::new(&timeouts, Pressure::None, |time| time.as_secs() as u32 * 250);
        assert_eq!(configured.of(State::Established), 86_400 * 250);
    }

    #[test]
    fn a_table_that_fills_forgets_what_has_ended_and_nothing_else() {
        let seconds = |pressure| State::ALL.map(|state| allowed(pressure).of(state));
        assert_eq!(seconds(Pressure::Some), [900, 120, 60, 10, 10, 300]);
        assert_eq!(seconds(Pressure::High), [900, 120, 60, 1, 1, 300]);
        assert_eq!(Pressure::of(499, 1000), Pressure::None);
        assert_eq!(Pressure::of(500, 1000), Pressure::Some);
        assert_eq!(Pressure::of(750, 1000), Pressure::High);
    }

    #[test]
    fn silence_survives_the_wrap_of_jiffies_and_is_never_negative() {
        assert_eq!(silent(u32::MAX - 124, 125), 250);
        assert_eq!(silent(1000, 990), 0);
        assert_eq!(silent(0, 3_000_000_000), 3_000_000_000);
    }

    proptest! {
        #[test]
        fn what_expires_was_worth_looking_at_from_one_of_its_halves(
            udp in any::<bool>(),
            shown in any::<(u8, u8)>(),
            last in (0_u32..2000, 0_u32..2000),
            pressure in prop::sample::select(vec![Pressure::None, Pressure::Some, Pressure::High]),
            times in prop::array::uniform6(1_u64..2000),
        ) {
            let [established, fin_wait, close_wait, time_wait, close, udp_time] = times.map(Duration::from_secs);
            let timeouts = Timeouts {
                established, fin_wait, close_wait, time_wait, close, udp: udp_time, ..Timeouts::default()
            };
            let allowed = Allowed::new(&timeouts, pressure, |time| time.as_secs() as u32);
            let bits = |shown: u8| u32::from(shown) << SEEN_FIN.trailing_zeros() & (SEEN_FIN | SEEN_RST)
                | if udp { UDP } else { 0 };
            let (forward, reply) = (live(NAT, bits(shown.0), 80), live(NAT, REPLY | bits(shown.1), 80));
            if last.0.min(last.1) >= allowed.of(State::of(forward, Some(reply))) {
                prop_assert!(
                    last.0 >= allowed.worth_a_look(forward) || last.1 >= allowed.worth_a_look(reply)
                );
            }
        }
    }
}
