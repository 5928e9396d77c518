//! What the thread that sweeps the flow tables is told.

use std::sync::Arc;

use lb_common::backend::Backend;
use lb_common::service::Scheduler;

use super::placed::Placed;
use crate::dataplane::expiry::Timeouts;
use crate::dataplane::flow_table::flow::Flow;
use crate::dataplane::flow_table::pool::{Member, Pool};
use crate::dataplane::sweep::{Handle, Misplaced, Orders};
use crate::reconcile::expected::Expected;
use crate::reconcile::plan::Actual;

/// The orders that stand.
pub(super) struct Standing {
    sweep: Option<Handle>,
    timeouts: Timeouts,
    /// The thread has heard what is so now.
    heard: bool,
    /// It looks for flows that are elsewhere than their table says.
    looking: bool,
}

impl Standing {
    pub(super) const fn new(sweep: Option<Handle>, timeouts: Timeouts) -> Self {
        Self { sweep, timeouts, heard: false, looking: false }
    }

    pub(super) fn set_timeouts(&mut self, timeouts: Timeouts) {
        self.heard &= self.timeouts == timeouts;
        self.timeouts = timeouts;
    }

    /// The maps have changed.
    pub(super) const fn renew(&mut self) {
        self.heard = false;
    }

    /// Gives the orders if they are others than before; if they are not heard, the next call tries again.
    pub(super) fn give(&mut self, actual: &Actual, placed: &Placed) {
        let by_table = |number: u32| {
            actual.services.get(&number).is_some_and(|record| Scheduler::is_hash(record.scheduler))
        };
        let looking = placed.is_waiting(by_table);
        if self.heard && looking == self.looking {
            return;
        }
        let Some(sweep) = &self.sweep else {
            return;
        };
        let orders = Orders {
            timeouts: self.timeouts,
            pool: Arc::new(pool(actual)),
            misplaced: looking.then(|| misplaced(Expected::of(actual))),
        };
        self.heard = match sweep.order(orders) {
            Ok(()) => true,
            Err(error) => {
                tracing::debug!("{error}");
                false
            }
        };
        self.looking = looking;
    }
}

fn misplaced(expected: Expected) -> Arc<Misplaced> {
    Arc::new(move |flow: &Flow| expected.misplaced(&flow.key, flow.backend))
}

fn pool(actual: &Actual) -> Pool {
    let members = actual.backends.iter().map(|(number, backend)| {
        let Backend { identity, address, port, .. } = *backend;
        (*number, Member { identity, address, port })
    });
    Pool::new(members, actual.pools.iter().map(|(number, sources)| (*number, *sources)))
}
