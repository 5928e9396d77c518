//! What nothing refers to once the steps before are done.

use std::collections::BTreeSet;

use super::{Actual, Circumstances, Plan, Step};

#[derive(Debug, Default)]
pub(super) struct Steps {
    pub(super) services: Vec<Step>,
    pub(super) rest: Vec<Step>,
}

pub(super) fn plan(actual: &Actual, circumstances: &Circumstances, plan: &Plan) -> Steps {
    let kept: BTreeSet<u32> = plan.services.values().copied().collect();
    let services = actual.services.keys().filter(|number| !kept.contains(number));
    let services: Vec<Step> = services.copied().map(Step::RemoveService).collect();
    let members = actual.members.keys().filter(|number| !kept.contains(number)).copied();
    let tables = tables(actual, &kept, plan);
    let tables = actual.tables.keys().filter(|number| !tables.contains(number)).copied();
    let wanted: BTreeSet<u32> = plan.backends.values().copied().collect();
    let backends = actual
        .backends
        .iter()
        .filter(|(number, _)| circumstances.unused.contains(number) && !wanted.contains(number))
        .map(|(number, backend)| Step::FreeBackend { number: *number, service: backend.service });
    let rest = members.map(Step::RemoveMembers).chain(tables.map(Step::RemoveTable)).chain(backends);
    Steps { services, rest: rest.collect() }
}

/// Tables that the services will have.
fn tables(actual: &Actual, kept: &BTreeSet<u32>, plan: &Plan) -> BTreeSet<u32> {
    let mut services = actual.services.clone();
    services.retain(|number, _| kept.contains(number));
    for step in &plan.steps {
        if let Step::WriteService(number, record) = step {
            services.insert(*number, *record);
        }
    }
    services.values().flat_map(|record| [record.table, record.previous]).collect()
}
