//! What a decision comes to.

use lb_common::reason::Reason;

/// What is to be done with a packet, in one word: functions that are verified on their own hand back a number.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answer(pub(super) u32);

impl Answer {
    const REASON: u32 = 0xff;
    const FORWARD: u32 = 1 << 8;
    const REPLY: u32 = 1 << 9;
    pub(super) const RESET: u32 = 1 << 10;
    /// Go on: the scheduler chooses.
    pub(super) const CHOOSE: u32 = 1 << 11;
    /// Go on: it is chosen.
    pub(super) const STORE: u32 = Self::CHOOSE | 1;
    /// Nothing yet: the flow is not known, or its backend serves no more.
    pub(crate) const UNKNOWN: Self = Self(0);
    pub(crate) const LOST: Self = Self(1);
    const METHOD_SHIFT: u32 = 12;
    const BACKEND_SHIFT: u32 = 16;

    /// The reason says it.
    #[inline(always)]
    pub(crate) const fn because(reason: Reason) -> Self {
        Self(reason as u32)
    }

    /// On to a backend.
    pub(crate) const fn forward(reason: Reason, method: u32, backend: u32) -> Self {
        let method = (method & 7) << Self::METHOD_SHIFT;
        Self(reason as u32 | Self::FORWARD | method | backend << Self::BACKEND_SHIFT)
    }

    /// Back to the client that the half-open flow in the scratch record names.
    pub(crate) const fn reply(reason: Reason) -> Self {
        Self(reason as u32 | Self::REPLY)
    }

    #[inline(always)]
    pub(crate) const fn word(self) -> u32 {
        self.0
    }

    #[inline(always)]
    pub(crate) const fn from_word(word: u32) -> Self {
        Self(word)
    }

    #[inline(always)]
    pub(crate) const fn is_forward(self) -> bool {
        self.0 & Self::FORWARD != 0
    }

    /// Back to the client that the half-open flow in the scratch record names.
    #[inline(always)]
    pub(crate) const fn is_reply(self) -> bool {
        self.0 & Self::REPLY != 0
    }

    /// The client is to be sent a RST.
    #[inline(always)]
    pub(crate) const fn is_reset(self) -> bool {
        self.0 & Self::RESET != 0
    }

    #[inline(always)]
    pub(crate) const fn reason(self) -> u32 {
        self.0 & Self::REASON
    }

    #[inline(always)]
    pub(crate) const fn method(self) -> u32 {
        self.0 >> Self::METHOD_SHIFT & 7
    }

    #[inline(always)]
    pub(crate) const fn backend(self) -> u32 {
        self.0 >> Self::BACKEND_SHIFT
    }
}
