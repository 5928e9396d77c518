mod authentication;
mod frames;
mod golden;
mod properties;
mod reasons;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use super::auth::{Receiver, Signer};
use super::checksum::{checksum, sum};
use super::*;
use crate::config::model::{Authentication, Key, Secret, Version, Vrid};

const SOURCE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const SOURCE_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
const OWN: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
const OWN_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);
/// 2023-11-14.
const CLOCK: Duration = Duration::from_secs(1_700_000_000);

fn vrid(vrid: u8) -> Vrid {
    Vrid::new(vrid).unwrap()
}

fn advert() -> Advert {
    Advert {
        vrid: vrid(51),
        priority: 150,
        interval: Duration::from_secs(1),
        addresses: Addresses::V4(vec![Ipv4Addr::new(203, 0, 113, 10)]),
    }
}

fn advert_v6() -> Advert {
    let local = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x10);
    let global = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10);
    Advert { addresses: Addresses::V6(vec![local, global]), ..advert() }
}

fn source(family: Family) -> IpAddr {
    match family {
        Family::V4 => SOURCE.into(),
        Family::V6 => SOURCE_V6.into(),
    }
}

fn meta(family: Family) -> Meta {
    Meta { source: source(family), destination: family.group(), ttl: TTL }
}

fn expected(version: Version, family: Family) -> Expected<'static> {
    let own = match family {
        Family::V4 => OWN.into(),
        Family::V6 => OWN_V6.into(),
    };
    let interval = Duration::from_secs(1);
    Expected { vrid: vrid(51), version, family, own: Some(own), unicast: None, interval }
}

/// To the group, as RFC 9568 says.
fn message(advert: &Advert, version: Version, authentication: Option<&Authentication>) -> Vec<u8> {
    let family = advert.addresses.family();
    let mut signer = Signer::new(authentication);
    advert.message(version, source(family), family.group(), Checksum::Message, &mut signer, CLOCK)
}

/// Without authentication.
fn plainly(payload: &[u8], meta: Meta, expected: &Expected<'_>) -> Result<Received, Discard> {
    decode(payload, meta, expected, &mut Receiver::new(None), CLOCK)
}

fn password(password: &str) -> Authentication {
    Authentication::Password(Secret(password.into()))
}

fn key(id: u8, byte: u8) -> Key {
    Key { id, secret: Secret(vec![byte; 32]) }
}

fn keys(keys: &[Key], required: bool) -> Authentication {
    Authentication::Keys { keys: keys.to_vec(), required }
}
