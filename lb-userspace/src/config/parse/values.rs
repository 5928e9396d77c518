//! Values of one kind each: text, numbers, durations, choices, addresses.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::reader::{Item, Read, Reader, describe};
use super::suggest;
use crate::config::yaml::Value;

/// Linux's limit for a host name, enough for any name.
const NAME_LENGTH: usize = 64;

/// One word of a fixed list.
pub(super) struct Choice<T: 'static> {
    /// What it chooses, for a person.
    pub(super) what: &'static str,
    pub(super) words: &'static [(&'static str, T)],
    /// Words of other programs, and the word here.
    pub(super) instead: &'static [(&'static str, &'static str)],
    /// Words of the language that this version does not have.
    pub(super) later: &'static [&'static str],
}

impl<T: Copy> Choice<T> {
    /// What a word stands for, or is a slip of.
    pub(super) fn meant(&self, item: &Item<'_>) -> Option<T> {
        let Value::Text(text) = &item.node.value else { return None };
        if self.later.contains(&text.as_str()) {
            return None;
        }
        let words: Vec<&str> = self.words.iter().map(|(word, _)| *word).collect();
        let near = self.here(text).or_else(|| suggest::nearest(text, &words))?;
        self.words.iter().find(|(word, _)| *word == near).map(|(_, value)| *value)
    }

    /// The word here for a word of another program.
    fn here(&self, text: &str) -> Option<&'static str> {
        self.instead.iter().find(|(theirs, _)| theirs.eq_ignore_ascii_case(text)).map(|(_, here)| *here)
    }
}

impl Reader<'_> {
    /// `what` is what the text should be, such as `a path`.
    pub(super) fn text<'a>(&mut self, item: &Item<'a>, what: &str, example: &str) -> Read<&'a str> {
        let written = describe(&item.node.value);
        let message = match &item.node.value {
            Value::Text(text) if !text.is_empty() => return Ok(text),
            Value::Bool(_) | Value::Integer(..) | Value::Float(_) => {
                format!("{written} is not text, as YAML reads it; write it in quotes: `\"{written}\"`")
            }
            Value::Null | Value::Text(_) | Value::List(_) | Value::Map(_) => {
                format!("{written} is not {what}; write a text such as `{example}`")
            }
        };
        Err(self.mistake(&item.place(), message))
    }

    /// A name that fits the command line, a metric label and a log line.
    pub(super) fn name(&mut self, item: &Item<'_>) -> Read<String> {
        let name = self.text(item, "a name", "web")?;
        let valid = name.len() <= NAME_LENGTH
            && name.starts_with(|c: char| c.is_ascii_alphanumeric())
            && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'));
        if valid {
            return Ok(name.to_owned());
        }
        let message = format!(
            "{} is not a name; write at most {NAME_LENGTH} letters, digits, `-`, `_` and `.`, with a letter or \
             digit first",
            describe(&item.node.value)
        );
        Err(self.mistake(&item.place(), message))
    }

    /// A whole number in a range; `what` is what it should be, such as `a weight`.
    pub(super) fn integer<T>(&mut self, item: &Item<'_>, what: &str, range: RangeInclusive<T>) -> Read<T>
    where
        T: TryFrom<i128> + PartialOrd + std::fmt::Display,
    {
        if let Value::Integer(number, _) = &item.node.value
            && let Ok(number) = T::try_from(*number)
            && range.contains(&number)
        {
            return Ok(number);
        }
        let mut message = format!(
            "{} is not {what}; write a whole number from {} to {}",
            describe(&item.node.value),
            range.start(),
            range.end()
        );
        if let Value::Text(text) = &item.node.value
            && text.parse::<i128>().is_ok()
        {
            message.push_str(", without quotes");
        }
        Err(self.mistake(&item.place(), message))
    }

    pub(super) fn boolean(&mut self, item: &Item<'_>) -> Read<bool> {
        if let Value::Bool(value) = &item.node.value {
            return Ok(*value);
        }
        let message =
            format!("{} is neither true nor false; write `true` or `false`", describe(&item.node.value));
        Err(self.mistake(&item.place(), message))
    }

    /// A number with its unit. The range says where the number makes sense, `example` is in it.
    pub(super) fn duration(
        &mut self,
        item: &Item<'_>,
        range: RangeInclusive<Duration>,
        example: &str,
    ) -> Read<Duration> {
        let written = describe(&item.node.value);
        let message = match &item.node.value {
            Value::Text(text) => match parse_duration(text) {
                Some(duration) if range.contains(&duration) => return Ok(duration),
                Some(_) => format!("{written} is out of range; write {}", span(&range)),
                None => format!(
                    "{written} is not a duration; write a number and its unit `ms`, `s`, `m`, `h` or `d`, such as \
                     `{example}`"
                ),
            },
            Value::Integer(_, number) | Value::Float(number) => {
                let number = suggest::shorten(number);
                format!(
                    "{number} has no unit; write `{number}s` for seconds or `{number}ms` for milliseconds"
                )
            }
            Value::Null | Value::Bool(_) | Value::List(_) | Value::Map(_) => {
                format!("{written} is not a duration; write a number and its unit, such as `{example}`")
            }
        };
        Err(self.mistake(&item.place(), message))
    }

    pub(super) fn choice<T: Copy>(&mut self, item: &Item<'_>, choice: &Choice<T>) -> Read<T> {
        let words: Vec<&str> = choice.words.iter().map(|(word, _)| *word).collect();
        let written = describe(&item.node.value);
        let expected = suggest::any_of(&words);
        let what = choice.what;
        let Value::Text(text) = &item.node.value else {
            return Err(self.mistake(&item.place(), format!("{written} is not {what}; write {expected}")));
        };
        if let Some((_, value)) = choice.words.iter().find(|(word, _)| word == text) {
            return Ok(*value);
        }
        let message = if choice.later.contains(&text.as_str()) {
            format!("{written} is not available in this version; write {expected}")
        } else if let Some(here) = choice.here(text) {
            format!("{written} is not the word for {what} here; write `{here}` instead")
        } else if let Some(near) = suggest::nearest(text, &words) {
            format!("{written} is not {what}; did you mean `{near}`?")
        } else {
            format!("{written} is not {what}; write {expected}")
        };
        Err(self.mistake(&item.place(), message))
    }

    /// An interface that this host has.
    pub(super) fn interface(&mut self, item: &Item<'_>) -> Read<String> {
        let name = self.text(item, "an interface", "eth0")?;
        if self.host.interfaces.contains(name) {
            return Ok(name.to_owned());
        }
        let there: Vec<&str> = self.host.interfaces.iter().map(String::as_str).collect();
        let written = describe(&item.node.value);
        let message = match suggest::nearest(name, &there) {
            _ if there.is_empty() => format!("there is no interface {written}; this host has none"),
            Some(near) => format!(
                "there is no interface {written}; did you mean `{near}`? This host has {}",
                suggest::list(&there)
            ),
            None => format!("there is no interface {written}; this host has {}", suggest::list(&there)),
        };
        Err(self.mistake(&item.place(), message))
    }
}

/// A decimal number and a unit, exactly: `1.5s` is 1500 ms.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let unit_at = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(unit_at);
    let nanos_per_unit: u128 = match unit {
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        "d" => 86_400_000_000_000,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').map_or((number, None), |(w, f)| (w, Some(f)));
    let digits = |text: &str| !text.is_empty() && text.len() <= 9 && text.bytes().all(|b| b.is_ascii_digit());
    if !digits(whole) || fraction.is_some_and(|f| !digits(f)) {
        return None;
    }
    let fraction = fraction.unwrap_or("0");
    let scale = 10_u128.pow(fraction.len().try_into().ok()?);
    let nanos = whole.parse::<u128>().ok()? * nanos_per_unit
        + fraction.parse::<u128>().ok()? * nanos_per_unit / scale;
    u64::try_from(nanos).ok().map(Duration::from_nanos)
}

fn span(range: &RangeInclusive<Duration>) -> String {
    format!("from {} to {}", written(*range.start()), written(*range.end()))
}

/// A duration as a configuration writes it.
pub(super) fn written(duration: Duration) -> String {
    const UNITS: [(u128, &str); 3] = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m")];
    let millis = duration.as_millis();
    let whole = UNITS.iter().find(|(unit, _)| millis > 0 && millis.is_multiple_of(*unit));
    match whole {
        Some((unit, name)) => format!("{}{name}", millis / unit),
        None if millis < 1000 => format!("{millis}ms"),
        None => format!("{}s", duration.as_secs_f64()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_exact() {
        let millis = |text| parse_duration(text).map(|d| d.as_micros());
        assert_eq!(millis("1s"), Some(1_000_000));
        assert_eq!(millis("100ms"), Some(100_000));
        assert_eq!(millis("0.1s"), Some(100_000));
        assert_eq!(millis("40.95s"), Some(40_950_000));
        assert_eq!(millis("1m"), Some(60_000_000));
        assert_eq!(millis("1h"), Some(3_600_000_000));
        assert_eq!(millis("7d"), Some(604_800_000_000));
        for wrong in
            ["", "s", "1", "1 s", "-1s", "+1s", "1.s", ".5s", "1.2.3s", "1m30s", "1e3s", "1sec", "1S"]
        {
            assert_eq!(parse_duration(wrong), None, "{wrong}");
        }
        assert_eq!(parse_duration("9999999999s"), None);
        assert!(parse_duration("999999999h").is_none());
    }

    #[test]
    fn durations_are_shown_as_they_are_written() {
        for text in ["10ms", "1s", "40.95s", "15m", "1h", "7d"] {
            assert_eq!(parse_duration(text).map(written), Some(text.to_owned()));
        }
    }
}
