//! The two ends of a reply as its client knows them.

use lb_common::flow::{self, FlowKey, HalfOpen, Ports};
use lb_common::service::Method;

use super::full_nat;
use crate::packet::Family;

pub(crate) struct Ends<A> {
    pub(crate) service: A,
    pub(crate) client: A,
    /// The service's first.
    pub(crate) ports: Ports,
}

impl<A: Family> Ends<A> {
    /// By the reply half's `state` and `other`, and with `fullnat` by the forward half: `None` if that has gone.
    #[inline(always)]
    pub(crate) fn of_flow(key: &FlowKey<A>, state: u32, other: &A::Other) -> Option<Self> {
        let mut ends = Self {
            service: A::from_other(other),
            client: key.destination,
            ports: Ports { source: flow::port(state), destination: key.ports.destination },
        };
        if flow::method(state) == Method::FULL_NAT {
            let forward = full_nat::forward_half(key, other.as_ref()[0])?;
            // SAFETY: a slot stays readable until this program ends.
            unsafe {
                ends.service = (*forward).destination;
                ends.client = (*forward).source;
                ends.ports = Ports::from_word((*forward).ports).turned();
            }
        }
        Some(ends)
    }

    /// By the reply half among the half-open flows.
    #[inline(always)]
    pub(crate) fn of_half_open(key: &FlowKey<A>, known: &HalfOpen) -> Self {
        let full = flow::method(known.state) == Method::FULL_NAT;
        Self {
            service: A::from_mapped(known.address),
            client: if full { A::from_mapped(known.client) } else { key.destination },
            ports: Ports {
                source: known.port,
                destination: if full { known.client_port } else { key.ports.destination },
            },
        }
    }
}
