//! `group`: instances with one state.

use std::collections::BTreeMap;
use std::time::Duration;

use super::super::reader::{Fields, Read, Reader};
use super::super::values::written;
use super::Taken;
use crate::config::model::{Preempt, Priority};

/// The first member of each group.
pub(super) type Groups = BTreeMap<String, First>;

#[derive(Debug)]
pub(super) struct First {
    line: u64,
    /// `None` when it is wrong.
    priority: Option<Priority>,
    preempt: Option<Preempt>,
}

/// `priority` and `preempt` are `None` when they are wrong; `preempt` is `Some(None)` when it is not written.
pub(super) fn group(
    reader: &mut Reader<'_>,
    fields: &Fields<'_>,
    taken: &mut Taken,
    priority: Option<Priority>,
    preempt: Option<Option<Preempt>>,
) -> Read<Option<String>> {
    let Some(item) = fields.get("group") else { return Ok(None) };
    let name = reader.name(&item)?;
    let preempt = preempt.map(|preempt| preempt.unwrap_or(Preempt::After(Duration::ZERO)));
    let here = First { line: item.place().line, priority, preempt };
    let Some(first) = taken.groups.get(&name) else {
        taken.groups.insert(name.clone(), here);
        return Ok(Some(name));
    };
    let differ = [
        ("priority", differing(first.priority, here.priority, |priority| priority.as_u8().to_string())),
        ("preempt", differing(first.preempt, here.preempt, preempt_as_written)),
    ];
    let first_line = first.line;
    let mut reported = None;
    for (key, values) in differ {
        let Some((theirs, ours)) = values else { continue };
        let place = fields.get(key).unwrap_or_else(|| item.clone()).place();
        let message = format!(
            "{key} {ours}, and {theirs} in the instance of group `{name}` on line {first_line}; members of a group have \
             one state, so write the same `{key}` in each"
        );
        reported = Some(reader.mistake(&place, message));
    }
    reported.map_or(Ok(Some(name)), Err)
}

fn differing<T: PartialEq + Copy>(
    first: Option<T>,
    here: Option<T>,
    written: impl Fn(T) -> String,
) -> Option<(String, String)> {
    let (first, here) = (first?, here?);
    (first != here).then(|| (written(first), written(here)))
}

fn preempt_as_written(preempt: Preempt) -> String {
    match preempt {
        Preempt::Never => "`false`".into(),
        Preempt::After(Duration::ZERO) => "`true`".into(),
        Preempt::After(delay) => format!("`{{ delay: {} }}`", written(delay)),
    }
}
