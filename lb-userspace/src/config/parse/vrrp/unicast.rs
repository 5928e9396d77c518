//! `unicast`: single nodes instead of the multicast group.

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::super::addresses::{family, is_link_local};
use super::super::reader::{Fields, Item, Place, Read, Reader, Shape, Unique};
use super::Known;
use crate::config::model::Unicast;

const UNICAST: Shape = Shape {
    what: "unicast",
    keys: &["peers", "sources", "min_ttl"],
    later: &[],
    example: "{ peers: [192.0.2.2], sources: 192.0.2.1 }",
};

const PEERS: &str = "[192.0.2.2]";
const SOURCE: &str = "192.0.2.1";
const MAX_PEERS: usize = 32;
/// RFC 9568 section 5.1.1.3: what no router has forwarded.
const DEFAULT_MIN_TTL: u8 = 255;

/// Addresses of the node and its peers are added to `fixed`.
pub(super) fn unicast(
    reader: &mut Reader<'_>,
    item: &Item<'_>,
    known: &Known,
    fixed: &mut Vec<(Place, IpAddr, Option<String>)>,
) -> Read<Unicast> {
    let fields = reader.fields(item, &UNICAST)?;
    let mut seen = Unique::default();
    let mut address = |reader: &mut Reader<'_>, item: &Item<'_>| {
        let address = reader.neighbour(item, SOURCE)?;
        let link = is_link_local(address).then(|| known.interface.clone()).flatten();
        fixed.push((item.place(), address, link));
        seen.claim(reader, &item.place(), address, |line| {
            format!("{address} is in `unicast` already, on line {line}; remove one of the two")
        })?;
        of_family(reader, item, address, known)?;
        Ok(address)
    };
    let sources = reader.optional(&fields, "sources", |reader, item| {
        let sources = reader.each(&item.one_or_more(), &mut address)?;
        one_of_each_family(reader, item, &sources)?;
        Ok(sources)
    });
    let peers = reader.required(&fields, "peers", PEERS, |reader, item| {
        let items = reader.list(item, PEERS)?;
        if items.is_empty() || items.len() > MAX_PEERS {
            let message = format!("{} peers; there are 1 to {MAX_PEERS}, such as `{PEERS}`", items.len());
            return Err(reader.mistake(&item.place(), message));
        }
        reader.each(&items, &mut address)
    });
    let min_ttl =
        reader.optional(&fields, "min_ttl", |reader, item| reader.integer(item, "a TTL", 1..=u8::MAX));
    let peers = peers?;
    reach_every_family(reader, &fields, &peers, &known.families)?;
    Ok(Unicast { peers, sources: sources?.unwrap_or_default(), min_ttl: min_ttl?.unwrap_or(DEFAULT_MIN_TTL) })
}

fn of_family(reader: &mut Reader<'_>, item: &Item<'_>, address: IpAddr, known: &Known) -> Read<()> {
    let family = family(address);
    if known.families.is_empty() || known.families.contains(family) {
        return Ok(());
    }
    let message = format!(
        "{address} is {family}, and the instance has no such virtual address: nothing is sent there; remove it, or add \
         an {family} address to `addresses`"
    );
    Err(reader.mistake(&item.place(), message))
}

fn one_of_each_family(reader: &mut Reader<'_>, item: &Item<'_>, sources: &[IpAddr]) -> Read<()> {
    for name in ["IPv4", "IPv6"] {
        let count = sources.iter().filter(|source| family(**source) == name).count();
        if count > 1 {
            let message = format!("{count} sources of {name}; keep the one that the peers know this node by");
            return Err(reader.mistake(&item.place(), message));
        }
    }
    Ok(())
}

fn reach_every_family(
    reader: &mut Reader<'_>,
    fields: &Fields<'_>,
    peers: &[IpAddr],
    families: &BTreeSet<&'static str>,
) -> Read<()> {
    let missing = families.iter().find(|name| !peers.iter().any(|peer| family(*peer) == **name));
    let Some(missing) = missing else { return Ok(()) };
    let place = fields.get("peers").map_or_else(|| fields.at.clone(), |item| item.place());
    let message = format!(
        "the instance has {missing} addresses, and no peer is {missing}: none would hear of them; add the {missing} \
         address of each peer"
    );
    Err(reader.mistake(&place, message))
}
