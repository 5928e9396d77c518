//! How often something is looked at, how long that may take, and how many results in a row count.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::reader::{Fields, Read, Reader};
use super::values::written;

const EVERY: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(3600);
const TIMEOUT: RangeInclusive<Duration> = Duration::from_millis(10)..=Duration::from_secs(3600);
const MAX_IN_A_ROW: u32 = 100;

pub(super) struct Pace {
    pub(super) every: Duration,
    pub(super) timeout: Duration,
    pub(super) rise: u32,
    pub(super) fall: u32,
}

impl Pace {
    pub(super) const DEFAULT: Self =
        Self { every: Duration::from_secs(2), timeout: Duration::from_secs(1), rise: 2, fall: 3 };

    /// `what` one look is, such as `probe`.
    pub(super) fn read(reader: &mut Reader<'_>, fields: &Fields<'_>, what: &str) -> Read<Self> {
        let default = Self::DEFAULT;
        let every = reader.optional(fields, "every", |reader, item| reader.duration(item, EVERY, "2s"));
        let every = every.map(|every| every.unwrap_or(default.every));
        let timeout = timeout(reader, fields, every.as_ref().ok().copied(), what);
        let mut in_a_row = |key| {
            reader.optional(fields, key, |reader, item| {
                reader.integer(item, &format!("a number of {what}s in a row"), 1..=MAX_IN_A_ROW)
            })
        };
        let (rise, fall) = (in_a_row("rise"), in_a_row("fall"));
        Ok(Self {
            every: every?,
            timeout: timeout?,
            rise: rise?.unwrap_or(default.rise),
            fall: fall?.unwrap_or(default.fall),
        })
    }
}

/// At most `every`, so that two never overlap. `every` is `None` when it is wrong.
fn timeout(
    reader: &mut Reader<'_>,
    fields: &Fields<'_>,
    every: Option<Duration>,
    what: &str,
) -> Read<Duration> {
    let default = Pace::DEFAULT.timeout;
    let Some(item) = fields.get("timeout") else {
        return Ok(every.map_or(default, |every| default.min(every)));
    };
    let timeout = reader.duration(&item, TIMEOUT, "1s")?;
    let Some(every) = every.filter(|every| timeout > *every) else { return Ok(timeout) };
    let message = format!(
        "{} is longer than `every`, {}; a {what} must end before the next begins, so write at most {1}, or a longer `every`",
        written(timeout),
        written(every)
    );
    Err(reader.mistake(&item.place(), message))
}
