//! What of a flow is remembered, and whose replies are taken.

use std::net::SocketAddr;

use lb_common::reason::Reason;
use lb_common::service::{Method, STATELESS, Scheduler};

use super::{Half, Model, Tuple, over, reply_half, reply_of};
use crate::frames::RST;
use crate::ports::{self, Parsed};
use crate::world::{FIRST_PORT, Kind, PORTS, Seen, pool};

impl Model {
    pub(super) fn store(
        &mut self,
        packet: &Parsed,
        seen: &Seen,
        flow: &mut Half,
        kind: Kind,
        known: bool,
    ) -> Reason {
        let (nat, full) = (flow.method == Method::Nat, flow.method == Method::FullNat);
        if nat && self.reply_taken(packet, &reply_of(&packet.tuple, flow)) {
            return Reason::ReplyTaken;
        }
        if packet.flags & RST != 0 {
            return if full && !known { Reason::NoService } else { Reason::Untracked };
        }
        if full && !self.keeps_port(packet, flow) {
            flow.given = Some(self.new_port(packet, seen, flow));
        }
        let reply = reply_of(&packet.tuple, flow);
        let back = reply_half(packet, flow);
        if !packet.is_bare_syn() && (known || self.shown.contains(&packet.tuple)) {
            self.flows.insert(packet.tuple, *flow);
            if nat || full {
                self.flows.insert(reply, back);
                self.half_open.remove(&reply);
            }
            self.half_open.remove(&packet.tuple);
            self.shown.remove(&packet.tuple);
            return Reason::NewFlow;
        }
        self.shown.insert(packet.tuple);
        if nat || full {
            self.half_open.insert(reply, back);
        }
        let scheduled = !Scheduler::is_hash(kind.scheduler as u8) || self.moves(packet, kind);
        if full || !known && scheduled && kind.flags & STATELESS == 0 {
            self.half_open.insert(packet.tuple, *flow);
        }
        Reason::Opening
    }

    /// Whether the port that a `fullnat` flow was given while it opened is still kept for it.
    fn keeps_port(&self, packet: &Parsed, flow: &Half) -> bool {
        flow.given.is_some()
            && self.half_open.get(&reply_of(&packet.tuple, flow)).is_some_and(|half| {
                half.reply.is_some_and(|(service, client, _)| {
                    (service, client) == (packet.tuple.destination, packet.tuple.source)
                })
            })
    }

    /// The port that the program gave a flow, which must be one that nobody else has.
    fn new_port(&self, packet: &Parsed, seen: &Seen, flow: &Half) -> SocketAddr {
        let given = ports::source_of(&seen.frame).unwrap();
        let v6 = packet.tuple.source.is_ipv6();
        assert!(
            pool(v6).contains(&given.ip()) && (FIRST_PORT..FIRST_PORT + PORTS).contains(&given.port()),
            "{given}"
        );
        let reply = reply_of(&packet.tuple, &Half { given: Some(given), ..*flow });
        assert!(
            !self.flows.contains_key(&reply) && !self.half_open.contains_key(&reply),
            "{given} is another flow's"
        );
        given
    }

    /// Whether another flow gets the replies; one that is over is forgotten.
    fn reply_taken(&mut self, packet: &Parsed, reply: &Tuple) -> bool {
        let taken = self.is_taken(packet, reply);
        if !taken && let Some(Half { reply: Some((end, client, _)), .. }) = self.flows.remove(reply) {
            self.flows.remove(&Tuple { source: client, destination: end, protocol: reply.protocol });
        }
        taken
    }

    pub(super) fn is_taken(&self, packet: &Parsed, reply: &Tuple) -> bool {
        let Some(Half { reply: Some((end, client, _)), ended, .. }) = self.flows.get(reply).copied() else {
            return false;
        };
        let forward = Tuple { source: client, destination: end, protocol: reply.protocol };
        end != packet.tuple.destination
            && self.flows.get(&forward).is_some_and(|forward| !over(forward.ended, ended))
    }
}
