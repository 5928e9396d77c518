//! Accept_Mode of RFC 9568 section 6.1: has the kernel drop what is sent to addresses that are held and not accepted for.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::refusals::Refusals;
use super::refusing::Refusing;
use super::target::Target;
use crate::dataplane::refuse::{self, Refuse, RefuseError, Way};
use crate::vrrp::log::log;
use crate::vrrp::thing::Thing;

const RETRY_EVERY: Duration = Duration::from_secs(30);

#[derive(Debug)]
pub(super) struct Refuser {
    way: Way,
    program: Option<Refuse>,
    /// Addresses that the program has, with their counters.
    listed: BTreeMap<IpAddr, u32>,
    refusals: Refusals,
    /// What was done last, and whether anything failed.
    last: Refusing,
    retry_at: Option<Instant>,
    problem: Option<String>,
    /// Interfaces where nothing of an earlier process is.
    clean: BTreeSet<u32>,
    unfinished: bool,
}

impl Refuser {
    pub(super) fn new(refusals: Refusals) -> Self {
        Self {
            way: Way::of_kernel(),
            program: None,
            listed: BTreeMap::new(),
            refusals,
            last: Refusing::default(),
            retry_at: None,
            problem: None,
            clean: BTreeSet::new(),
            unfinished: false,
        }
    }

    /// There are more interfaces to attach to than one call may keep others waiting for.
    pub(super) fn is_unfinished(&self) -> bool {
        self.unfinished
    }

    /// To be called before addresses are added, so that they never answer, and again after some were removed. An address
    /// stays listed until it is gone from the host.
    pub(super) fn follow(&mut self, refusing: Refusing, held: &BTreeSet<Thing>, target: &Target) {
        let leaving = if self.listed.is_empty() { BTreeSet::new() } else { leaving(held, target) };
        let same = self.last == refusing
            && self.listed.keys().all(|at| refusing.addresses.contains_key(at) || leaving.contains(at));
        if same && !self.unfinished && self.retry_at.is_none_or(|at| Instant::now() < at) {
            return;
        }
        self.clean_up(&refusing);
        if refusing.instances.is_empty() && !self.listed.keys().any(|at| leaving.contains(at)) {
            self.program = None;
            self.listed.clear();
            self.unfinished = false;
            self.refusals.unloaded();
            self.report(None);
        } else {
            let failed = self.refuse(&refusing, &leaving).err().map(|error| error.to_string());
            self.report(failed);
        }
        self.last = refusing;
    }

    fn report(&mut self, problem: Option<String>) {
        self.retry_at = problem.is_some().then(|| Instant::now() + RETRY_EVERY);
        let problem = problem.map(|problem| {
            format!("the virtual addresses accept packets despite `accept: false`: {problem}")
        });
        self.refusals.set_problem(problem.clone());
        if let Some(problem) = problem.clone().filter(|problem| self.problem.as_ref() != Some(problem)) {
            log(move || tracing::warn!("{problem}; trying again every {RETRY_EVERY:?}"));
        }
        self.problem = problem;
    }

    /// A link goes with its process; a filter does not.
    fn clean_up(&mut self, refusing: &Refusing) {
        self.clean.retain(|index| refusing.bases.contains_key(index));
        for (index, name) in &refusing.bases {
            if self.clean.insert(*index) && self.way == Way::Filter {
                refuse::take_off(name);
            }
        }
    }

    /// Does all that it can; the first error.
    fn refuse(&mut self, refusing: &Refusing, leaving: &BTreeSet<IpAddr>) -> Result<(), RefuseError> {
        self.refusals.count_for(&refusing.instances);
        let program = match &mut self.program {
            Some(program) => program,
            None => {
                let program = self.program.insert(Refuse::load(self.way)?);
                self.refusals.loaded(program.refused());
                self.refusals.count_for(&refusing.instances);
                program
            }
        };
        let mut result = Ok(());
        for (address, identity) in &refusing.addresses {
            let counter = self.refusals.counter(identity).unwrap_or(u32::MAX);
            if self.listed.get(address) == Some(&counter) {
                continue;
            }
            match program.add(*address, counter) {
                Ok(()) => drop(self.listed.insert(*address, counter)),
                Err(error) => result = result.and(Err(error.into())),
            }
        }
        self.listed.retain(|address, _| {
            let stays = refusing.addresses.contains_key(address) || leaving.contains(address);
            stays || program.remove(*address).is_err()
        });
        let gone: Vec<u32> =
            program.interfaces().filter(|index| !refusing.interfaces.contains_key(index)).collect();
        gone.into_iter().for_each(|index| program.detach(index));
        let (attached, unfinished) = attach(program, refusing);
        self.unfinished = unfinished;
        result.and(attached)
    }
}

/// Attaches to all interfaces that packets come in by from outside, and to one virtual MAC address's, which only its
/// neighbours on the same interface reach otherwise: it waits for an RCU grace period each time (`tcx_entry_sync` in
/// include/net/tcx.h). The first error, and whether there are more.
fn attach(program: &mut Refuse, refusing: &Refusing) -> (Result<(), RefuseError>, bool) {
    let attached: BTreeSet<u32> = program.interfaces().collect();
    let missing = refusing.interfaces.iter().filter(|(index, _)| !attached.contains(index));
    let (bases, mut macvlans): (Vec<_>, Vec<_>) =
        missing.partition(|(index, _)| refusing.bases.contains_key(index));
    let mut result = Ok(());
    for (index, name) in bases {
        let attached = program.attach(*index, name);
        result = result.and(attached);
    }
    while let Some((index, name)) = macvlans.pop() {
        match program.attach(*index, name) {
            Ok(()) => break,
            Err(error) => result = result.and(Err(error)),
        }
    }
    (result, !macvlans.is_empty())
}

/// Addresses that are there and are to be removed.
fn leaving(held: &BTreeSet<Thing>, target: &Target) -> BTreeSet<IpAddr> {
    let leaving = held.iter().filter_map(|thing| match thing {
        Thing::Address(at) if !target.addresses.contains_key(at) => Some(at.address),
        _ => None,
    });
    leaving.collect()
}
