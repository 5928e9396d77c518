//! What became of a packet, in one word: functions that the program calls hand back a number.

use aya_ebpf::bindings::xdp_action;
use lb_common::reason::{Reason, Verdict};

/// A [`Reason`], and the XDP action where the reason does not tell it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outcome(u32);

const ACTION_SHIFT: u32 = 8;

impl Outcome {
    /// Nothing yet: the flow is not known.
    pub(crate) const UNKNOWN: Self = Self(0);
    /// Nothing yet: the flow's backend serves no more.
    pub(crate) const LOST: Self = Self(1);
    /// Nothing yet: neither TCP nor UDP.
    pub(crate) const OTHER: Self = Self(2);
    /// Nothing yet: a fragment, or a packet with extension headers.
    pub(crate) const PIECE: Self = Self(3);

    #[inline(always)]
    pub(crate) const fn is_open(self) -> bool {
        self.0 <= Self::PIECE.0
    }

    /// Sent on by this action.
    #[inline(always)]
    pub(crate) const fn sent(reason: Reason, action: u32) -> Self {
        Self(reason as u32 | (action + 1) << ACTION_SHIFT)
    }

    /// As [`Self::sent`], of a reason by its number.
    #[inline(always)]
    pub(crate) const fn sent_by(reason: u32, action: u32) -> Self {
        Self(reason | (action + 1) << ACTION_SHIFT)
    }

    /// As [`Self::because`], of a reason by its number.
    #[inline(always)]
    pub(crate) const fn by_reason(reason: u32) -> Self {
        let drops = reason >= Reason::FIRST_DROP;
        let action = if drops { xdp_action::XDP_DROP } else { xdp_action::XDP_PASS };
        Self::sent_by(reason, action)
    }

    /// The reason says what is done.
    #[inline(always)]
    pub(crate) const fn because(reason: Reason) -> Self {
        let action = match reason.verdict() {
            Verdict::Drop => xdp_action::XDP_DROP,
            Verdict::Answer => xdp_action::XDP_TX,
            Verdict::Pass | Verdict::Forward => xdp_action::XDP_PASS,
        };
        Self::sent(reason, action)
    }

    /// `action` is what sends it.
    #[inline(always)]
    pub(crate) const fn of(reason: Reason, action: Result<u32, Reason>) -> Self {
        match action {
            Ok(action) => Self::sent(reason, action),
            Err(reason) => Self::because(reason),
        }
    }

    /// For the way through a function that is called.
    #[inline(always)]
    pub(crate) const fn word(self) -> u32 {
        self.0
    }

    #[inline(always)]
    pub(crate) const fn from_word(word: u32) -> Self {
        Self(word)
    }

    #[inline(always)]
    pub(crate) const fn reason(self) -> u32 {
        self.0 & ((1 << ACTION_SHIFT) - 1)
    }

    #[inline(always)]
    pub(crate) const fn action(self) -> u32 {
        (self.0 >> ACTION_SHIFT).wrapping_sub(1)
    }
}
