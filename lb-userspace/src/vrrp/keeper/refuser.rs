//! Accept_Mode of RFC 9568 section 6.1: has the kernel drop what is sent to addresses that are held and not accepted for.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::mirror::{Mirror, Names};
use super::refusals::{Identity, Refusals, identity};
use super::target::Target;
use super::wanted::{Wanted, macvlan_name};
use crate::dataplane::refuse::{self, Refuse, RefuseError, Way};
use crate::vrrp::log::log;
use crate::vrrp::thing::Thing;

const RETRY_EVERY: Duration = Duration::from_secs(30);

/// What is not accepted, and where.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Refusing {
    instances: BTreeSet<Identity>,
    /// Names by number: of all groups, for the host takes a packet to any of its addresses by any interface.
    interfaces: BTreeMap<u32, String>,
    /// Those that are held.
    addresses: BTreeMap<IpAddr, Identity>,
    /// Interfaces on which an earlier process may have left something.
    bases: BTreeMap<u32, String>,
}

impl Refusing {
    pub(super) fn new<'a>(
        mirror: &Mirror,
        names: &Names,
        groups: impl Iterator<Item = &'a Wanted> + Clone,
    ) -> Self {
        let mut refusing = Self::default();
        let interface = |index: u32| Some((index, mirror.by_index(index)?.name.clone()));
        let bases = groups.clone().flat_map(Wanted::interfaces).filter_map(|name| names.index(name));
        refusing.bases = bases.filter_map(interface).collect();
        for wanted in groups {
            for member in wanted.members.iter().filter(|member| !member.accept) {
                let identity = identity(&member.interface, member.vrid);
                if wanted.hold {
                    let addresses = member.addresses.iter().map(|address| address.prefix.address);
                    refusing.addresses.extend(addresses.map(|address| (address, identity.clone())));
                }
                refusing.instances.insert(identity);
                if let (true, Some(base)) = (member.virtual_mac, names.index(&member.interface)) {
                    let names = member.families().map(|family| macvlan_name(family, member.vrid, base));
                    let links = names.filter_map(|name| mirror.by_name(&name));
                    refusing.interfaces.extend(links.map(|link| (link.index, link.name.clone())));
                }
            }
        }
        if !refusing.instances.is_empty() {
            refusing.interfaces.extend(refusing.bases.clone());
        }
        refusing
    }
}

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
        }
    }

    /// To be called before addresses are added, so that they never answer, and again after some were removed. An address
    /// stays listed until it is gone from the host.
    pub(super) fn follow(&mut self, refusing: Refusing, held: &BTreeSet<Thing>, target: &Target) {
        let leaving = if self.listed.is_empty() { BTreeSet::new() } else { leaving(held, target) };
        let same = self.last == refusing
            && self.listed.keys().all(|at| refusing.addresses.contains_key(at) || leaving.contains(at));
        if same && self.retry_at.is_none_or(|at| Instant::now() < at) {
            return;
        }
        self.clean_up(&refusing);
        if refusing.instances.is_empty() && !self.listed.keys().any(|at| leaving.contains(at)) {
            self.program = None;
            self.listed.clear();
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
        let attached: BTreeSet<u32> = program.interfaces().collect();
        for (index, name) in refusing.interfaces.iter().filter(|(index, _)| !attached.contains(index)) {
            result = result.and(program.attach(*index, name));
        }
        result
    }
}

/// Addresses that are there and are to be removed.
fn leaving(held: &BTreeSet<Thing>, target: &Target) -> BTreeSet<IpAddr> {
    let leaving = held.iter().filter_map(|thing| match thing {
        Thing::Address(at) if !target.addresses.contains_key(at) => Some(at.address),
        _ => None,
    });
    leaving.collect()
}
