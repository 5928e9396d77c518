//! `hooks`: who is told of transitions.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::reader::{Item, Read, Reader, Shape, Unique};
use crate::config::model::{HookScript, Hooks};
use crate::config::yaml::Value;

const HOOKS: Shape = Shape {
    what: "hooks",
    keys: &["scripts", "fifo"],
    later: &[],
    example: "{ scripts: [/etc/evenkeel/transition], fifo: /run/evenkeel-hooks/transitions }",
};

const SCRIPT: Shape = Shape {
    what: "a hook",
    keys: &["run", "user", "timeout"],
    later: &[],
    example: "{ run: /etc/evenkeel/transition, user: nobody, timeout: 30s }",
};

const PROGRAM: &str = "/etc/evenkeel/transition";
const FIFO: &str = "/run/evenkeel-hooks/transitions";
const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3600);
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(30);
/// Each is a process at every transition.
const MAX_SCRIPTS: usize = 16;

pub(super) fn hooks(reader: &mut Reader<'_>, item: &Item<'_>) -> Read<Hooks> {
    let fields = reader.fields(item, &HOOKS)?;
    let scripts = reader.optional(&fields, "scripts", scripts);
    let fifo = reader.optional(&fields, "fifo", |reader, item| reader.path(item, "a FIFO", FIFO));
    Ok(Hooks { scripts: scripts?.unwrap_or_default(), fifo: fifo? })
}

fn scripts(reader: &mut Reader<'_>, item: &Item<'_>) -> Read<Vec<HookScript>> {
    let items = reader.list(item, "[/etc/evenkeel/transition]")?;
    if items.len() > MAX_SCRIPTS {
        let message =
            format!("{} scripts; there are at most {MAX_SCRIPTS}, and one may run others", items.len());
        return Err(reader.mistake(&item.place(), message));
    }
    let mut commands = Unique::default();
    reader.each(&items, |reader, item| {
        let script = script(reader, item)?;
        commands.claim(reader, &item.place(), script.command.clone(), |line| {
            format!("this command is in the list already, on line {line}; remove one of the two")
        })?;
        Ok(script)
    })
}

fn script(reader: &mut Reader<'_>, item: &Item<'_>) -> Read<HookScript> {
    if !matches!(item.node.value, Value::Map(_)) {
        let command = reader.command(item, PROGRAM)?;
        return Ok(HookScript { command, user: None, timeout: DEFAULT_TIMEOUT });
    }
    let fields = reader.fields(item, &SCRIPT)?;
    let command = reader.required(&fields, "run", PROGRAM, |reader, item| reader.command(item, PROGRAM));
    let user = reader.optional(&fields, "user", Reader::user);
    let timeout = reader.optional(&fields, "timeout", |reader, item| reader.duration(item, TIMEOUT, "30s"));
    Ok(HookScript { command: command?, user: user?, timeout: timeout?.unwrap_or(DEFAULT_TIMEOUT) })
}
