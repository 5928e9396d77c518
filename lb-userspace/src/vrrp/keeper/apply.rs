//! Carries steps out, and keeps the guard told of what is held.

use std::collections::BTreeSet;
use std::io;

use super::mirror::Mirror;
use super::plan::Step;
use super::settings;
use super::target::Macvlan;
use crate::net::address::{self, Present};
use crate::net::netlink::{Answer, Request, Requests};
use crate::net::{link, route, rule, sysctl};
use crate::vrrp::guard::Guard;
use crate::vrrp::thing::{Thing, name_of, undo};

#[derive(Debug)]
pub(super) struct Applier {
    guard: Guard,
    /// Done, or begun, and not undone.
    held: BTreeSet<Thing>,
}

impl Applier {
    pub(super) fn new(guard: Guard) -> Self {
        Self { guard, held: BTreeSet::new() }
    }

    pub(super) fn held(&self) -> &BTreeSet<Thing> {
        &self.held
    }

    pub(super) fn adopt(&mut self, things: Vec<Thing>) {
        self.guard.hold(&things);
        self.held.extend(things);
    }

    /// Does the steps in order, each whatever becomes of the others; the mirror has what was done. One answer for each.
    ///
    /// # Errors
    /// The kernel gives no answers.
    pub(super) fn apply(
        &mut self,
        netlink: &mut Requests,
        steps: &[Step],
        mirror: &mut Mirror,
    ) -> io::Result<Vec<Answer>> {
        let things: Vec<Thing> = steps.iter().filter_map(Step::thing).collect();
        self.adopt(things);
        let mut answers = Vec::with_capacity(steps.len());
        // What is undone in one go, and what is done in one.
        for steps in steps.chunk_by(|a, b| matches!(a, Step::Remove(_)) == matches!(b, Step::Remove(_))) {
            answers.extend(self.apply_alike(netlink, steps, mirror)?);
        }
        Ok(answers)
    }

    fn apply_alike(
        &mut self,
        netlink: &mut Requests,
        steps: &[Step],
        mirror: &mut Mirror,
    ) -> io::Result<Vec<Answer>> {
        let removals: Vec<Thing> = steps.iter().filter_map(removal).cloned().collect();
        if removals.is_empty() {
            return apply_additions(netlink, steps, mirror);
        }
        let answers = undo(netlink, &removals)?;
        let undone = removals.into_iter().zip(&answers).filter(|(_, answer)| answer.is_ok());
        let undone: Vec<Thing> = undone.map(|(thing, _)| thing).collect();
        for thing in &undone {
            match thing {
                Thing::Address(at) => drop(mirror.address_gone(*at)),
                Thing::Route(route) => drop(mirror.routes.remove(route)),
                Thing::Rule(rule) => drop(mirror.rules.remove(rule)),
                Thing::Macvlan(_) | Thing::Arp { .. } => {}
            }
            self.held.remove(thing);
        }
        self.guard.release(&undone);
        Ok(answers)
    }
}

fn removal(step: &Step) -> Option<&Thing> {
    match step {
        Step::Remove(thing) => Some(thing),
        Step::Lower(_)
        | Step::MakeMacvlan(..)
        | Step::SetArp { .. }
        | Step::SetUp(..)
        | Step::Raise(_)
        | Step::AddAddress(..)
        | Step::AddRoute(_)
        | Step::AddRule(_) => None,
    }
}

fn apply_additions(netlink: &mut Requests, steps: &[Step], mirror: &mut Mirror) -> io::Result<Vec<Answer>> {
    let mut answered = netlink.execute(steps.iter().filter_map(request).collect())?.into_iter();
    let mut answers = Vec::with_capacity(steps.len());
    for step in steps {
        let mut answer = if request(step).is_some() {
            answered.next().unwrap_or_else(|| Err(io::ErrorKind::UnexpectedEof.into()))
        } else {
            Ok(())
        };
        // Nothing tells one rule from another that says the same.
        if let (Step::AddAddress(..) | Step::AddRule(_), Err(error)) = (step, &answer)
            && error.kind() == io::ErrorKind::AlreadyExists
        {
            answer = Ok(());
        }
        if answer.is_ok() {
            answer = complete(step, mirror);
        }
        answers.push(answer);
    }
    Ok(answers)
}

fn request(step: &Step) -> Option<Request> {
    match step {
        Step::Lower(index) => Some(link::raise(*index, false)),
        Step::Raise(index) => Some(link::raise(*index, true)),
        Step::MakeMacvlan(name, macvlan) => Some(link::make_macvlan(name, macvlan.below, macvlan.mac)),
        Step::AddAddress(address, attributes) => Some(address::add(*address, attributes)),
        Step::AddRoute(route) => Some(route::add(route)),
        Step::AddRule(rule) => Some(rule::add(rule)),
        Step::Remove(_) | Step::SetArp { .. } | Step::SetUp(..) => None,
    }
}

/// What no netlink request does; and the mirror, for what the kernel tells of late or not at all.
fn complete(step: &Step, mirror: &mut Mirror) -> Answer {
    match step {
        Step::AddAddress(at, attributes) => {
            let (label, scope) = (attributes.label.clone(), attributes.scope);
            let present = Present { at: *at, secondary: false, ours: true, tentative: false, label, scope };
            mirror.address(present);
        }
        Step::AddRoute(route) => drop(mirror.routes.insert(route.clone())),
        Step::AddRule(rule) => drop(mirror.rules.insert(rule.clone())),
        Step::MakeMacvlan(name, Macvlan { family, .. }) | Step::SetUp(name, family) => {
            // Until it is known to be done.
            mirror.astray.insert(name.clone());
            settings::set(name, *family)?;
            mirror.astray.remove(name);
        }
        Step::SetArp { index, setting, .. } => {
            let Some(name) = name_of(*index) else { return Ok(()) };
            sysctl::write("ipv4", &name, setting.key(), setting.value())?;
            mirror.arp.insert((*index, *setting), setting.value());
        }
        Step::Lower(_) | Step::Raise(_) | Step::Remove(_) => {}
    }
    Ok(())
}
