//! Addresses, ports and prefixes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::reader::{Item, Read, Reader, Reported, describe};
use super::suggest;
use crate::config::model::{Ports, Prefix};
use crate::config::yaml::Value;

impl Reader<'_> {
    /// An address and port of any kind, for a socket of the daemon's own.
    pub(super) fn socket(&mut self, item: &Item<'_>, example: &str) -> Read<SocketAddr> {
        let text = self.text(item, "an address and port", example)?;
        let problem = match split(text) {
            Ok((_, None)) => format!("`{}` has no port", suggest::shorten(text)),
            Ok((address, Some(port))) => match single_port(port) {
                Ok(port) => return Ok(SocketAddr::new(address, port)),
                Err(problem) => problem,
            },
            Err(problem) => problem,
        };
        let message = format!("{problem}; write address and port, such as `{example}`");
        Err(self.mistake(&item.place(), message))
    }

    /// An address that a host can have, and its ports if any are written.
    pub(super) fn endpoint(&mut self, item: &Item<'_>, example: &str) -> Read<(IpAddr, Option<Ports>)> {
        if let Value::List(_) | Value::Map(_) = &item.node.value {
            let message = format!(
                "{} is not an address and port; write one such as `{example}`, and an IPv6 address with a port in \
                 quotes: `\"[2001:db8::10]:80\"`",
                describe(&item.node.value)
            );
            return Err(self.mistake(&item.place(), message));
        }
        let text = self.text(item, "an address and port", example)?;
        let (address, ports) = split(text)
            .and_then(|(address, text)| Ok((address, text.map(ports).transpose()?)))
            .map_err(|problem| {
                let message = format!("{problem}; write address and port, such as `{example}`");
                self.mistake(&item.place(), message)
            })?;
        self.host_address(item, address)?;
        Ok((address, ports))
    }

    /// An address that a host can have.
    pub(super) fn address(&mut self, item: &Item<'_>, example: &str) -> Read<IpAddr> {
        let text = self.text(item, "an address", example)?;
        let Ok(address) = text.parse() else {
            let message =
                format!("`{}` is not an address; write one such as `{example}`", suggest::shorten(text));
            return Err(self.mistake(&item.place(), message));
        };
        self.host_address(item, address)?;
        Ok(address)
    }

    /// An address of a host on the link, which may be a link-local one.
    pub(super) fn neighbour(&mut self, item: &Item<'_>, example: &str) -> Read<IpAddr> {
        match &item.node.value {
            Value::Text(text) if text.parse().is_ok_and(is_link_local) => {
                Ok(text.parse().expect("it was parsed for the guard"))
            }
            _ => self.address(item, example),
        }
    }

    /// An address with the length of its network, which is its own if none is written.
    pub(super) fn prefix(&mut self, item: &Item<'_>) -> Read<Prefix> {
        let text = self.text(item, "an address", "203.0.113.10/24")?;
        let (address, length) = text.split_once('/').map_or((text, None), |(a, l)| (a, Some(l)));
        let Ok(address) = address.parse::<IpAddr>() else {
            let message = format!(
                "`{}` is not an address; write one and the length of its network, such as `203.0.113.10/24` or \
                 `2001:db8::10/64`",
                suggest::shorten(address)
            );
            return Err(self.mistake(&item.place(), message));
        };
        if !is_link_local(address) {
            self.host_address(item, address)?;
        }
        let longest = longest(address);
        let length = length.map_or(Some(longest), |length| network_length(length, longest));
        let Some(length) = length.filter(|length| *length > 0) else {
            let message = format!(
                "`{}` has no network length from 1 to {longest} after the `/`",
                suggest::shorten(text)
            );
            return Err(self.mistake(&item.place(), message));
        };
        if let Some(kind) = not_a_host(address, length) {
            let message = format!("{text} is {kind} itself; write the address of a host in it");
            return Err(self.mistake(&item.place(), message));
        }
        Ok(Prefix { address, length })
    }

    /// A network, or one address, which is a network of its whole length.
    pub(super) fn network(&mut self, item: &Item<'_>, example: &str) -> Read<Prefix> {
        let text = self.text(item, "a prefix", example)?;
        let (address, length) = text.split_once('/').map_or((text, None), |(a, l)| (a, Some(l)));
        let written = suggest::shorten(text);
        let Ok(address) = address.parse::<IpAddr>() else {
            let message = format!(
                "`{written}` is neither a prefix nor an address; write one such as `{example}`, or an address alone"
            );
            return Err(self.mistake(&item.place(), message));
        };
        let longest = longest(address);
        let Some(length) = length.map_or(Some(longest), |length| network_length(length, longest)) else {
            let message = format!("`{written}` has no prefix length from 0 to {longest} after the `/`");
            return Err(self.mistake(&item.place(), message));
        };
        if let IpAddr::V6(v6) = address
            && let Some(v4) = v6.to_ipv4_mapped()
        {
            let message = format!("{v6} is an IPv4 address in IPv6's form; write {v4} and a length up to 32");
            return Err(self.mistake(&item.place(), message));
        }
        let network = network_of(address, length);
        if network != address {
            let message = format!(
                "{address} is longer than the prefix of {length} bits; write `{network}/{length}` for the network, or \
                 `{address}` for the one address"
            );
            return Err(self.mistake(&item.place(), message));
        }
        Ok(Prefix { address, length })
    }

    /// Refuses an address that packets from elsewhere never have as their destination.
    pub(super) fn host_address(&mut self, item: &Item<'_>, address: IpAddr) -> Read<()> {
        let mapped = |v6: Ipv6Addr| v6.to_ipv4_mapped();
        let problem = match address {
            IpAddr::V6(v6) if mapped(v6).is_some() => {
                let v4 = mapped(v6).map(|v4| v4.to_string()).unwrap_or_default();
                let message = format!("{address} is an IPv4 address in IPv6's form; write {v4}");
                return Err(self.mistake(&item.place(), message));
            }
            IpAddr::V6(v6) if v6.is_unicast_link_local() => {
                "is a link-local address, which means another host on every link; write a global or unique local address"
            }
            address if address.is_unspecified() => "stands for every address; write one address",
            IpAddr::V4(v4) if v4.is_broadcast() => "is an address of many hosts; write the address of one",
            address if address.is_multicast() => "is an address of many hosts; write the address of one",
            address if address.is_loopback() => {
                "is a loopback address, which packets from other hosts never have and XDP cannot forward to; write \
                 an address on the network"
            }
            IpAddr::V4(_) | IpAddr::V6(_) => return Ok(()),
        };
        Err(self.mistake(&item.place(), format!("{address} {problem}")))
    }

    /// One port or a range of them, by itself.
    pub(super) fn ports(&mut self, item: &Item<'_>, example: &str) -> Read<Ports> {
        let text = match &item.node.value {
            Value::Integer(_, written) => written,
            Value::Text(text) => text,
            other => {
                let message =
                    format!("{} is no range of ports; write one such as `{example}`", describe(other));
                return Err(self.mistake(&item.place(), message));
            }
        };
        ports(text).map_err(|problem| {
            self.mistake(&item.place(), format!("{problem}; write ports such as `{example}`"))
        })
    }

    /// An address that lacks the port it needs.
    pub(super) fn no_port(&mut self, item: &Item<'_>, address: IpAddr, because: &str, port: u16) -> Reported {
        if let Some(example) = unbracketed(item) {
            let message = format!(
                "`{address}` has no port, as all of it is an IPv6 address; write the address in brackets and the port \
                 behind them, such as `{example}`"
            );
            return self.mistake(&item.place(), message);
        }
        let (example, kind) = match address {
            IpAddr::V4(address) => (format!("{address}:{port}"), ""),
            IpAddr::V6(address) => (format!("\"[{address}]:{port}\""), ", an IPv6 address in brackets"),
        };
        let message =
            format!("`{address}` has no port{because}; write address and port{kind}, such as `{example}`");
        self.mistake(&item.place(), message)
    }
}

pub(super) fn is_link_local(address: IpAddr) -> bool {
    matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local())
}

const fn longest(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// What of its network an address is, if it is no host's. Networks of two addresses have hosts alone (RFC 3021, RFC 6164).
fn not_a_host(address: IpAddr, length: u8) -> Option<&'static str> {
    if length >= longest(address) - 1 {
        return None;
    }
    let of_network = network_of(address, length) == address;
    match address {
        IpAddr::V4(_) if of_network => Some("the address of the network"),
        // RFC 4291 section 2.6.1.
        IpAddr::V6(_) if of_network => Some("the anycast address of the network's routers"),
        IpAddr::V4(v4) => {
            let hosts = u32::MAX.checked_shr(length.into()).unwrap_or(0);
            (v4.to_bits() & hosts == hosts).then_some("the broadcast address")
        }
        IpAddr::V6(_) => None,
    }
}

/// `IPv4` or `IPv6`.
pub(super) const fn family(address: IpAddr) -> &'static str {
    if address.is_ipv4() { "IPv4" } else { "IPv6" }
}

/// An address and what is written for its port, or what is wrong with them.
fn split(text: &str) -> Result<(IpAddr, Option<&str>), String> {
    let written = suggest::shorten(text);
    if let Some((address, rest)) = text.strip_prefix('[').and_then(|text| text.split_once(']')) {
        let Ok(address) = address.parse::<Ipv6Addr>() else {
            return Err(format!("`{}` is not an IPv6 address", suggest::shorten(address)));
        };
        return match (rest.strip_prefix(':'), rest) {
            (Some(port), _) => Ok((address.into(), Some(port))),
            (None, "") => Ok((address.into(), None)),
            (None, _) => Err(format!("`{written}` goes on after the bracket without a `:`")),
        };
    }
    if let Ok(address) = text.parse() {
        return Ok((address, None));
    }
    let (address, port) = text.rsplit_once(':').unwrap_or((text, ""));
    if let Ok(address) = address.parse::<Ipv4Addr>() {
        Ok((address.into(), Some(port)))
    } else if address.parse::<Ipv6Addr>().is_ok() {
        Err(format!(
            "an IPv6 address with a port is written in brackets: `\"[{address}]:{}\"`",
            suggest::shorten(port)
        ))
    } else if address.contains(|c: char| c.is_alphabetic()) && !address.contains(':') {
        Err(format!("`{written}` is not an address, and names are not looked up"))
    } else {
        Err(format!("`{written}` is not an address"))
    }
}

/// An IPv6 address whose end looks like a port, with brackets.
fn unbracketed(item: &Item<'_>) -> Option<String> {
    let Value::Text(text) = &item.node.value else { return None };
    let (address, port) = text.rsplit_once(':')?;
    let (address, port) = (address.parse::<Ipv6Addr>().ok()?, single_port(port).ok()?);
    Some(format!("\"[{address}]:{port}\""))
}

/// `80`, `8000-8099` or `*`.
fn ports(text: &str) -> Result<Ports, String> {
    if text == "*" {
        return Ok(Ports::ALL);
    }
    let Some((first, last)) = text.split_once('-') else { return single_port(text).map(Ports::one) };
    let (first, last) = (single_port(first)?, single_port(last)?);
    if first > last {
        return Err(format!("the range {first}-{last} ends before it begins"));
    }
    Ok(Ports { first, last })
}

fn single_port(text: &str) -> Result<u16, String> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    match text.parse() {
        Ok(port) if digits && port != 0 => Ok(port),
        _ => Err(format!("`{}` is not a port from 1 to 65535", suggest::shorten(text))),
    }
}

fn network_length(text: &str, longest: u8) -> Option<u8> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    text.parse().ok().filter(|length| digits && *length <= longest)
}

/// The address with the bits behind the prefix cleared.
fn network_of(address: IpAddr, length: u8) -> IpAddr {
    let length = u32::from(length);
    match address {
        IpAddr::V4(v4) => {
            let hosts = u32::MAX.checked_shr(length).unwrap_or(0);
            Ipv4Addr::from_bits(v4.to_bits() & !hosts).into()
        }
        IpAddr::V6(v6) => {
            let hosts = u128::MAX.checked_shr(length).unwrap_or(0);
            Ipv6Addr::from_bits(v6.to_bits() & !hosts).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_and_its_ports_are_told_apart() {
        let read = |text: &str| {
            let (address, text) = split(text)?;
            let ports = text.map(ports).transpose()?.map_or_else(|| "none".to_owned(), |p| p.to_string());
            Ok::<_, String>((address.to_string(), ports))
        };
        for (text, address, ports) in [
            ("10.0.0.1", "10.0.0.1", "none"),
            ("10.0.0.1:80", "10.0.0.1", "80"),
            ("10.0.0.1:*", "10.0.0.1", "*"),
            ("10.0.0.1:1-65535", "10.0.0.1", "*"),
            ("10.0.0.1:8000-8099", "10.0.0.1", "8000-8099"),
            ("10.0.0.1:80-80", "10.0.0.1", "80"),
            ("2001:db8::1", "2001:db8::1", "none"),
            ("[2001:db8::1]", "2001:db8::1", "none"),
            ("[2001:db8::1]:80", "2001:db8::1", "80"),
            ("[2001:db8::1]:*", "2001:db8::1", "*"),
        ] {
            assert_eq!(read(text), Ok((address.to_owned(), ports.to_owned())), "{text}");
        }
        for wrong in [
            "",
            ":",
            ":80",
            "10.0.0.1:",
            "10.0.0.1:0",
            "10.0.0.1:+80",
            "10.0.0.1:80-",
            "10.0.0.1:-80",
            "10.0.0.1:90-80",
            "10.0.0.1:1-2-3",
            "10.0.0.1:**",
            "[10.0.0.1]:80",
            "[::1",
            "[2001:db8::1]80",
            "[2001:db8::1]:",
            "2001:db8::1:*",
            "2001:db8:0:0:0:0:0:1:80",
            "10.0.0.1:80:90",
            "fe80::1%eth0",
        ] {
            assert!(read(wrong).is_err(), "{wrong}: {:?}", read(wrong));
        }
    }

    #[test]
    fn a_network_has_no_bits_behind_its_length() {
        for (address, length, network) in [
            ("10.1.2.3", 0, "0.0.0.0"),
            ("10.1.2.3", 8, "10.0.0.0"),
            ("10.1.2.3", 32, "10.1.2.3"),
            ("2001:db8::1", 0, "::"),
            ("2001:db8::1", 64, "2001:db8::"),
            ("2001:db8::1", 128, "2001:db8::1"),
        ] {
            assert_eq!(network_of(address.parse().unwrap(), length), network.parse::<IpAddr>().unwrap());
        }
    }
}
