//! Why a packet got its verdict: one name, one per-CPU counter, one metric label.

/// What happens to a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Sent on by the program itself.
    Forward,
    /// Not sent on; its sender gets an answer from the program itself.
    Answer,
    /// Left to the kernel, as it came.
    Pass,
    Drop,
}

impl Verdict {
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Forward => "forward",
            Self::Answer => "answer",
            Self::Pass => "pass",
            Self::Drop => "drop",
        }
    }
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal, $verdict:ident;)+) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[repr(u32)]
        pub enum Reason {
            $($(#[doc = $doc])+ $name),+
        }

        impl Reason {
            pub const ALL: &[Self] = &[$(Self::$name),+];

            /// Name in metrics, status and docs.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text),+ }
            }

            #[inline(always)]
            #[must_use]
            pub const fn verdict(self) -> Verdict {
                match self { $(Self::$name => Verdict::$verdict),+ }
            }
        }
    };
}

reasons! {
    /// A packet of a known flow, sent to its backend.
    Flow = "flow", Forward;
    /// A reply of a known `nat` or `fullnat` flow, sent to its client.
    Reply = "reply", Forward;
    /// The packet with which a flow enters the flow table, the second of its client.
    NewFlow = "new_flow", Forward;
    /// A SYN, or the first packet of a flow that is not known: forwarded, with at most an entry among the half-open flows.
    Opening = "opening", Forward;
    /// Sent to a backend without an entry in the flow table: the table is full, or a RST belongs to no flow.
    Untracked = "untracked", Forward;
    /// A packet of a service that schedules every packet by itself.
    PerPacket = "per_packet", Forward;
    /// A QUIC packet, sent to the backend that its connection id names.
    ConnectionId = "connection_id", Forward;
    /// A later fragment of a packet, sent where its first one went.
    Fragment = "fragment", Forward;
    /// An ICMP error about a packet of a flow, sent to the end it is meant for.
    IcmpError = "icmp_error", Forward;
    /// With the tunnel header larger than the way to the backend takes: the sender is told the size that fits.
    FragmentationNeeded = "fragmentation_needed", Answer;
    /// A ping to a service's address, answered.
    Echo = "echo", Answer;
    /// A packet of a connection whose backend is down: its client was sent a RST.
    Reset = "reset", Answer;
    /// Neither IPv4 nor IPv6: ARP and the rest are the kernel's.
    NotIp = "not_ip", Pass;
    /// Neither TCP nor UDP, nor ICMP about a flow or to a service: VRRP, neighbour discovery and the rest are the kernel's.
    OtherProtocol = "other_protocol", Pass;
    /// Neither a flow nor a service.
    NoService = "no_service", Pass;
    /// Sent to another host's MAC address: the switch floods, or somebody captures on this interface.
    OtherHost = "other_host", Pass;
    /// Cut short, or a header that contradicts itself.
    Malformed = "malformed", Pass;
    /// The service has no backend that takes new flows.
    NoBackend = "no_backend", Drop;
    /// For a service, and sent to the MAC address of a virtual router that this node is not the master of, or not yet.
    NotMaster = "not_master", Drop;
    /// Every backend of the service has as many flows as its limit allows.
    BackendLimit = "backend_limit", Drop;
    /// The service's lists of sources do not allow this one.
    Denied = "denied", Drop;
    /// More new flows than the service's limit allows.
    ServiceLimit = "service_limit", Drop;
    /// More new flows than the limit for one source allows.
    SourceLimit = "source_limit", Drop;
    /// The flow table is full, and a `nat` or `fullnat` flow can't do without an entry.
    FlowTableFull = "flow_table_full", Drop;
    /// All ports of the source addresses of `fullnat` are in use towards this backend.
    NoPort = "no_port", Drop;
    /// Another flow of the same client gets the backend's replies: its port is in use towards another service.
    ReplyTaken = "reply_taken", Drop;
    /// A later fragment for a service whose first one was not seen, or one that would overwrite a transport header.
    StrayFragment = "stray_fragment", Drop;
    /// The packet has no hop left to live.
    TtlExceeded = "ttl_exceeded", Drop;
    /// The MAC address of the way to the backend is not known yet; user space is finding it out.
    NextHopUnresolved = "next_hop_unresolved", Drop;
    /// The way back to the client is not known.
    NoWayBack = "no_way_back", Drop;
    /// With the tunnel header larger than the way to the backend takes, from a sender that can't be told.
    TooBig = "too_big", Drop;
    /// The frame has no room in front for a tunnel header or a tag: the driver's headroom is too small.
    NoHeadroom = "no_headroom", Drop;
    /// The next hop leaves by an interface that the configuration does not list.
    InterfaceNotListed = "interface_not_listed", Drop;
    /// A map holds what it never should; please report it.
    Internal = "internal", Drop;
}

impl Reason {
    pub const COUNT: u32 = Self::ALL.len() as u32;
    /// From here on, packets are dropped.
    pub const FIRST_DROP: u32 = Self::NoBackend as u32;

    /// Whether it is the number of a reason by which the sender gets an answer.
    #[inline(always)]
    #[must_use]
    pub const fn is_answer(number: u32) -> bool {
        Self::FragmentationNeeded as u32 <= number && number <= Self::Reset as u32
    }
}

#[cfg(test)]
mod tests {
    use super::{Reason, Verdict};

    #[test]
    fn every_reason_is_its_own_index_and_has_a_name_of_its_own() {
        let names: std::collections::BTreeSet<_> = Reason::ALL.iter().map(|r| r.as_str()).collect();
        assert_eq!(names.len(), Reason::ALL.len());
        for (index, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index);
            assert_eq!(reason.verdict() == Verdict::Drop, *reason as u32 >= Reason::FIRST_DROP);
            assert_eq!(reason.verdict() == Verdict::Answer, Reason::is_answer(*reason as u32));
        }
    }
}
