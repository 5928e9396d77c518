//! Values of one kind each: text, numbers, durations, choices, addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use super::reader::{Item, Read, Reader, Reported, describe};
use super::suggest;
use crate::config::model::Prefix;
use crate::config::yaml::Value;

/// Linux's limit for a host name, enough for any name.
const NAME_LENGTH: usize = 64;

/// One word of a fixed list.
pub(super) struct Choice<T: 'static> {
    /// What it chooses, for a person.
    pub(super) what: &'static str,
    pub(super) words: &'static [(&'static str, T)],
    /// Words of the language that this version does not have.
    pub(super) later: &'static [&'static str],
}

impl<T: Copy> Choice<T> {
    /// What a word that is none of these is a slip of.
    pub(super) fn meant(&self, item: &Item<'_>) -> Option<T> {
        let Value::Text(text) = &item.node.value else { return None };
        if self.later.contains(&text.as_str()) {
            return None;
        }
        let words: Vec<&str> = self.words.iter().map(|(word, _)| *word).collect();
        let near = suggest::nearest(text, &words)?;
        self.words.iter().find(|(word, _)| *word == near).map(|(_, value)| *value)
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
                    "{written} is not a duration; write a number and its unit `ms`, `s`, `m` or `h`, such as \
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

    /// An address and port of any family, for a socket of the daemon's own.
    pub(super) fn socket(&mut self, item: &Item<'_>, example: &str) -> Read<SocketAddr> {
        let text = self.text(item, "an address and port", example)?;
        match text.parse::<SocketAddr>() {
            Ok(socket) if socket.port() != 0 => Ok(socket),
            Ok(_) => Err(self.port_zero(item)),
            Err(_) => {
                let message = format!("{}; write address and port, such as `{example}`", not_a_socket(text));
                Err(self.mistake(&item.place(), message))
            }
        }
    }

    /// An IPv4 address that a host can have, and its port if one is written.
    pub(super) fn endpoint(&mut self, item: &Item<'_>, example: &str) -> Read<(Ipv4Addr, Option<u16>)> {
        let text = self.text(item, "an address and port", example)?;
        let (address, port) = match (text.parse::<SocketAddr>(), text.parse::<IpAddr>()) {
            (Ok(socket), _) => (socket.ip(), Some(socket.port())),
            (_, Ok(address)) => (address, None),
            (Err(_), Err(_)) => {
                let message =
                    format!("{}; write IPv4 address and port, such as `{example}`", not_a_socket(text));
                return Err(self.mistake(&item.place(), message));
            }
        };
        let address = self.host_address(item, address)?;
        if port == Some(0) { Err(self.port_zero(item)) } else { Ok((address, port)) }
    }

    /// An IPv4 address with the length of its network, 32 if none is written.
    pub(super) fn prefix(&mut self, item: &Item<'_>) -> Read<Prefix> {
        let text = self.text(item, "an address", "203.0.113.10/24")?;
        let (address, length) = text.split_once('/').map_or((text, None), |(a, l)| (a, Some(l)));
        let Ok(address) = address.parse::<IpAddr>() else {
            let message = format!(
                "`{}` is not an address; write an IPv4 address and the length of its network, such as \
                 `203.0.113.10/24`",
                suggest::shorten(address)
            );
            return Err(self.mistake(&item.place(), message));
        };
        let address = self.host_address(item, address)?;
        let Some(length) = length.map_or(Some(32), network_length) else {
            let message =
                format!("`{}` has no network length from 1 to 32 after the `/`", suggest::shorten(text));
            return Err(self.mistake(&item.place(), message));
        };
        let host_bits = u32::MAX.checked_shr(length.into()).unwrap_or(0);
        let host = address.to_bits() & host_bits;
        if length < 31 && (host == 0 || host == host_bits) {
            let kind = if host == 0 { "the address of the network" } else { "the broadcast address" };
            let message = format!("{text} is {kind} itself; write the address of a host in it");
            return Err(self.mistake(&item.place(), message));
        }
        Ok(Prefix { address: address.into(), length })
    }

    /// An address that packets from elsewhere can have as their destination.
    fn host_address(&mut self, item: &Item<'_>, address: IpAddr) -> Read<Ipv4Addr> {
        let problem = match address {
            IpAddr::V6(_) => "is IPv6, which is not available in this version; write an IPv4 address",
            IpAddr::V4(v4) if v4.is_unspecified() => "stands for every address; write one address",
            IpAddr::V4(v4) if v4.is_multicast() || v4.is_broadcast() => {
                "is an address of many hosts; write the address of one"
            }
            IpAddr::V4(v4) if v4.is_loopback() => {
                "is a loopback address, which packets from other hosts never have and XDP cannot forward to; write \
                 an address on the network"
            }
            IpAddr::V4(v4) => return Ok(v4),
        };
        Err(self.mistake(&item.place(), format!("{address} {problem}")))
    }

    fn port_zero(&mut self, item: &Item<'_>) -> Reported {
        self.mistake(&item.place(), "0 is not a port; write a port from 1 to 65535")
    }
}

/// What an address and port lacks.
fn not_a_socket(text: &str) -> String {
    let written = suggest::shorten(text);
    let (address, port) = text.rsplit_once(':').unwrap_or((text, ""));
    if text.parse::<IpAddr>().is_ok() {
        format!("`{written}` has no port")
    } else if address.parse::<Ipv4Addr>().is_ok() || bracketed(address).is_some() {
        format!("`{}` is not a port from 1 to 65535", suggest::shorten(port))
    } else if address.contains(|c: char| c.is_alphabetic()) && !address.contains(':') {
        format!("`{written}` is not an address, and names are not looked up")
    } else {
        format!("`{written}` is not an address")
    }
}

fn bracketed(address: &str) -> Option<Ipv6Addr> {
    address.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}

fn network_length(text: &str) -> Option<u8> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|length| digits && (1..=32).contains(length))
}

/// A decimal number and a unit, exactly: `1.5s` is 1500 ms.
fn parse_duration(text: &str) -> Option<Duration> {
    let unit_at = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(unit_at);
    let nanos_per_unit: u128 = match unit {
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
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
    let millis = duration.as_millis();
    if millis.is_multiple_of(3_600_000) && millis > 0 {
        format!("{}h", millis / 3_600_000)
    } else if millis < 1000 {
        format!("{millis}ms")
    } else {
        format!("{}s", duration.as_secs_f64())
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
        for text in ["10ms", "1s", "40.95s", "1h"] {
            assert_eq!(parse_duration(text).map(written), Some(text.to_owned()));
        }
    }
}
