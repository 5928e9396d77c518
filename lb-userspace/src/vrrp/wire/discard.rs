//! Why a packet is ignored.

/// Why a packet was ignored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Discard {
    /// No IP header of the family, or one whose lengths contradict the packet.
    BadHeader,
    /// Of another virtual router on the same network.
    Vrid,
    /// Neither to the VRRP group nor to a single node.
    BadDestination,
    /// To this node alone, where the group's advertisements count.
    Unicast,
    /// To the group, where only those from peers count.
    Multicast,
    /// From a node that is no peer.
    UnknownPeer,
    /// TTL or hop limit below what is required: it may come from another network.
    BadTtl,
    /// Shorter than its header and address count say.
    Truncated,
    BadVersion,
    /// Not an advertisement.
    BadType,
    BadChecksum,
    /// It carries no address.
    AddressCount,
    /// Interval 0.
    BadInterval,
    /// From this node's own address: a loop, or an address used twice.
    OwnAddress,
    /// Another interval than this node's, in version 2 (RFC 3768 section 7.1).
    Interval,
    /// No password or hash where one is required.
    NoAuth,
    /// Another password, a hash that does not fit, or a method that is not configured here.
    BadAuth,
    /// Signed with a key whose number is not configured here.
    UnknownKey,
    /// Signed, and not newer than the last one from the same node.
    Replayed,
    /// Signed at another time than now, by this node's clock.
    Clock,
}

impl Discard {
    pub const ALL: [Self; 19] = [
        Self::BadHeader,
        Self::BadDestination,
        Self::Unicast,
        Self::Multicast,
        Self::UnknownPeer,
        Self::BadTtl,
        Self::Truncated,
        Self::BadVersion,
        Self::BadType,
        Self::BadChecksum,
        Self::AddressCount,
        Self::BadInterval,
        Self::OwnAddress,
        Self::Interval,
        Self::NoAuth,
        Self::BadAuth,
        Self::UnknownKey,
        Self::Replayed,
        Self::Clock,
    ];

    /// Metric label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BadHeader => "bad_header",
            Self::Vrid => "vrid",
            Self::BadDestination => "bad_destination",
            Self::Unicast => "unicast",
            Self::Multicast => "multicast",
            Self::UnknownPeer => "unknown_peer",
            Self::BadTtl => "bad_ttl",
            Self::Truncated => "truncated",
            Self::BadVersion => "bad_version",
            Self::BadType => "bad_type",
            Self::BadChecksum => "bad_checksum",
            Self::AddressCount => "address_count",
            Self::BadInterval => "bad_interval",
            Self::OwnAddress => "own_address",
            Self::Interval => "interval",
            Self::NoAuth => "no_auth",
            Self::BadAuth => "bad_auth",
            Self::UnknownKey => "unknown_key",
            Self::Replayed => "replayed",
            Self::Clock => "clock",
        }
    }
}
