//! Whatever is there and whatever is wanted.

use proptest::prelude::*;

use super::*;

/// Does to the mirror what the kernel would do.
fn carry_out(mirror: &mut Mirror, held: &mut BTreeSet<Thing>, steps: &[Step]) {
    for step in steps {
        held.extend(step.thing());
        match step {
            Step::Lower(_) => drop(mirror.take(&macvlan_message(MACVLAN, Family::V4, false))),
            Step::Raise(_) | Step::MakeMacvlan(..) => {
                mirror.take(&macvlan_message(MACVLAN, Family::V4, matches!(step, Step::Raise(_))));
            }
            Step::Remove(thing) => {
                held.remove(thing);
                match thing {
                    Thing::Address(at) => drop(mirror.address_gone(*at)),
                    Thing::Route(route) => drop(mirror.routes.remove(route)),
                    Thing::Rule(rule) => drop(mirror.rules.remove(rule)),
                    Thing::Arp { index, setting, before } => {
                        mirror.arp.insert((*index, *setting), *before);
                    }
                    Thing::Macvlan(_) => {
                        let mut gone = rtnetlink::packet_route::link::LinkMessage::default();
                        gone.header.index = MACVLAN;
                        mirror.take(&Message::DelLink(gone));
                    }
                }
            }
            Step::SetArp { index, setting, .. } => {
                mirror.arp.insert((*index, *setting), setting.value());
            }
            Step::AddAddress(at, attributes) => {
                let Message::NewAddress(message) = address::add(*at, attributes).message else {
                    unreachable!()
                };
                mirror.take(&Message::NewAddress(message));
            }
            Step::SetUp(name, _) => drop(mirror.astray.remove(name)),
            Step::AddRoute(route) => drop(mirror.routes.insert(route.clone())),
            Step::AddRule(rule) => drop(mirror.rules.insert(rule.clone())),
        }
    }
}

fn any_group() -> impl Strategy<Value = Wanted> {
    let addresses = prop::collection::btree_set(1_u8..6, 1..4);
    (any::<bool>(), any::<bool>(), addresses).prop_map(|(hold, owner, numbers)| {
        let texts: Vec<String> = numbers.iter().map(|number| format!("192.0.2.{number}")).collect();
        let priority = if owner { Priority::OWNER } else { Priority::DEFAULT };
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        wanted(hold, &Instance { priority, ..instance(&texts) })
    })
}

proptest! {
    #[test]
    fn whatever_was_there_a_few_plans_make_it_what_it_should_be_and_the_end_leaves_what_was_not_ours(
        found in prop::collection::btree_map(1_u8..8, (any::<bool>(), 23_u8..26), 0..6),
        groups in prop::collection::vec(any_group(), 0..4),
        macvlan: bool,
    ) {
        let there = found.iter().map(|(number, (ours, length))| {
            present(at(BASE, &format!("192.0.2.{number}"), *length), *ours)
        });
        let mut host = mirror(&there.collect::<Vec<_>>());
        host.arp = ArpSetting::ALL.map(|setting| ((BASE, setting), 0)).into();
        let mut groups = groups;
        if macvlan && let Some(member) = groups.first_mut().and_then(|group| group.members.first_mut()) {
            member.virtual_mac = true;
        }
        let before = host.clone();
        let mut held = BTreeSet::new();
        for _ in 0..4 {
            held.extend(adopted(&host, &target(&host, &groups).1, &held));
            let next = steps(&host, &groups, &held);
            carry_out(&mut host, &mut held, &next);
        }
        prop_assert_eq!(steps(&host, &groups, &held), []);
        for thing in wanted_things(&target(&host, &groups).1) {
            prop_assert!(held.contains(&thing), "the guard knows of {thing}");
            if let Thing::Address(at) = thing {
                prop_assert!(host.present(at).is_some());
            }
        }
        for _ in 0..4 {
            let next = steps(&host, &[], &held);
            carry_out(&mut host, &mut held, &next);
        }
        prop_assert_eq!(&held, &BTreeSet::new(), "nothing is left to the guard");
        prop_assert!(host.arp.values().all(|value| *value == 0));
        let was_there = |present: &&Present| before.present(present.at).is_some();
        prop_assert!(host.on(BASE).iter().all(was_there));
        prop_assert_eq!(host.on(MACVLAN).len(), 0);
    }
}
