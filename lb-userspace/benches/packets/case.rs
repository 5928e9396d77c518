//! What is timed.

use lb_common::reason::Reason;
use lb_common::service::Method;

/// How packets are forwarded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Path {
    pub(crate) method: Method,
    /// Clients and service are IPv6.
    pub(crate) ipv6: bool,
    /// For `tunnel`: what is outside.
    pub(crate) outside: Outside,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outside {
    /// IP of the same family.
    Same,
    /// IP of the same family, and UDP.
    Gue,
    /// IPv6 around IPv4.
    Ipv6,
}

/// What is sent, over and over, each time by another client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A packet of an established flow.
    Hit,
    /// Back from the backend.
    Reply,
    /// The first packet after the SYN, of a flow that is not known.
    First,
    /// The second, which enters the flow into the flow table.
    New,
    /// A flood of bare SYNs.
    Syn,
    /// No packet: one read of the flow table, at so many places.
    Read,
}

impl Path {
    const fn of(method: Method, ipv6: bool) -> Self {
        Self { method, ipv6, outside: Outside::Same }
    }

    pub(crate) const ALL: [Self; 10] = [
        Self::of(Method::Tunnel, false),
        Self::of(Method::Direct, false),
        Self::of(Method::Nat, false),
        Self::of(Method::FullNat, false),
        Self::of(Method::Tunnel, true),
        Self::of(Method::Direct, true),
        Self::of(Method::Nat, true),
        Self::of(Method::FullNat, true),
        Self { method: Method::Tunnel, ipv6: false, outside: Outside::Gue },
        Self { method: Method::Tunnel, ipv6: false, outside: Outside::Ipv6 },
    ];

    /// Entries of the flow table that a flow takes up.
    pub(crate) const fn entries(self) -> u32 {
        if self.replies() { 2 } else { 1 }
    }

    /// Whether replies come back through the node.
    pub(crate) const fn replies(self) -> bool {
        matches!(self.method, Method::Nat | Method::FullNat)
    }

    pub(crate) fn kinds(self) -> Vec<Kind> {
        if self.outside != Outside::Same {
            return vec![Kind::Hit];
        }
        let mut kinds = vec![Kind::Hit, Kind::First, Kind::New, Kind::Syn];
        if self.replies() {
            kinds.insert(1, Kind::Reply);
        }
        if self == Self::ALL[0] {
            kinds.push(Kind::Read);
        }
        kinds
    }

    pub(crate) const fn method(self) -> &'static str {
        match (self.method, self.outside) {
            (Method::Tunnel, Outside::Same) => "tunnel",
            (Method::Tunnel, Outside::Gue) => "tunnel (GUE)",
            (Method::Tunnel, Outside::Ipv6) => "tunnel (4in6)",
            (Method::Direct, _) => "direct",
            (Method::Nat, _) => "nat",
            (Method::FullNat, _) => "fullnat",
        }
    }

    pub(crate) const fn family(self) -> &'static str {
        if self.ipv6 { "IPv6" } else { "IPv4" }
    }
}

impl Kind {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Hit => "flow",
            Self::Reply => "reply",
            Self::First => "first",
            Self::New => "new flow",
            Self::Syn => "SYN",
            Self::Read => "(one read)",
        }
    }

    /// What every round is counted as.
    pub(crate) const fn reason(self) -> Reason {
        match self {
            Self::Hit | Self::Read => Reason::Flow,
            Self::Reply => Reason::Reply,
            Self::New => Reason::NewFlow,
            Self::First | Self::Syn => Reason::Opening,
        }
    }
}
