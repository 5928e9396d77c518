//! One virtual router on the wire: an instance's advertisements of one family, as sent and as heard.

use std::io;
use std::net::IpAddr;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::socket::{AdvertSocket, Exit};
use super::wire::auth::{Receiver, Signer};
use super::wire::{self, Addresses, Advert, Checksum, Discard, Expected, Family, Received};
use crate::config::model::{self, Authentication, Instance, Unicast, Version, Vrid};

/// What of an instance a channel needs to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Settings {
    /// Number of its instance within the group.
    pub(super) member: usize,
    pub(super) interface: String,
    pub(super) family: Family,
    pub(super) vrid: Vrid,
    pub(super) version: Version,
    pub(super) interval: Duration,
    pub(super) virtual_mac: bool,
    checksum: model::Checksum,
    unicast: Option<Unicast>,
    authentication: Option<Authentication>,
    addresses: Addresses,
}

impl Settings {
    /// Of all channels of a group, in an order that is the same on every node, whatever the order of its configuration: the
    /// first decides between equal priorities.
    pub(super) fn of(group: &[Instance]) -> Vec<Self> {
        let members = group.iter().enumerate();
        let mut all: Vec<Self> =
            members.flat_map(|(member, instance)| Self::of_instance(member, instance)).collect();
        all.sort_by_key(|settings| (settings.vrid, settings.family));
        all
    }

    fn of_instance(member: usize, instance: &Instance) -> impl Iterator<Item = Self> {
        let (v4, v6): (Vec<_>, Vec<_>) = (instance.ipv4().collect(), instance.ipv6().collect());
        let families =
            [Addresses::V4(v4), Addresses::V6(v6)].into_iter().filter(|addresses| !addresses.is_empty());
        families.map(move |addresses| Self {
            member,
            interface: instance.interface.clone(),
            family: addresses.family(),
            vrid: instance.vrid,
            version: if addresses.family() == Family::V6 { Version::V3 } else { instance.version },
            interval: instance.advertise,
            virtual_mac: instance.virtual_mac,
            checksum: instance.checksum,
            unicast: instance.unicast.clone(),
            authentication: instance.authentication.clone(),
            addresses,
        })
    }

    fn is_the_same_as(&self, other: &Self) -> bool {
        (&self.interface, self.vrid, self.family) == (&other.interface, other.vrid, other.family)
    }

    /// Of its family.
    fn peers(&self) -> Option<Vec<IpAddr>> {
        let unicast = self.unicast.as_ref()?;
        Some(unicast.peers.iter().copied().filter(|&peer| Family::of(peer) == self.family).collect())
    }

    /// The address to send from that was configured, if one was.
    pub(super) fn source(&self) -> Option<IpAddr> {
        let sources = &self.unicast.as_ref()?.sources;
        sources.iter().copied().find(|&source| Family::of(source) == self.family)
    }
}

/// What was heard, and what is worth a line in the log.
pub(super) struct Taken {
    pub(super) received: Received,
    pub(super) remarks: Vec<String>,
}

pub(super) struct Channel {
    settings: Settings,
    peers: Option<Vec<IpAddr>>,
    socket: Option<AdvertSocket>,
    signer: Signer,
    receiver: Receiver,
    /// As the other nodes compute it: keepalived and FRR take no other form than theirs.
    form: Checksum,
    remarked_form: bool,
    /// The other node's interval that was last remarked as different from ours.
    remarked_interval: Option<Duration>,
    /// The other node's addresses that were last remarked as different from ours.
    remarked_addresses: Option<Addresses>,
}

impl Channel {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            peers: settings.peers(),
            socket: None,
            signer: Signer::new(settings.authentication.as_ref()),
            receiver: Receiver::new(settings.authentication.as_ref()),
            form: form(settings.checksum),
            remarked_form: false,
            remarked_interval: None,
            remarked_addresses: None,
            settings,
        }
    }

    pub(super) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Takes what a channel before a reload knew, if that was the same virtual router.
    pub(super) fn follow(&mut self, old: &mut Vec<Self>) {
        let Some(index) = old.iter().position(|old| old.settings.is_the_same_as(&self.settings)) else {
            return;
        };
        let mut before = old.swap_remove(index);
        if before.settings.checksum == self.settings.checksum {
            self.form = before.form;
            self.remarked_form = before.remarked_form;
        }
        // Their sequences go on.
        before.signer.reconfigure(self.settings.authentication.as_ref());
        before.receiver.reconfigure(self.settings.authentication.as_ref());
        self.signer = before.signer;
        self.receiver = before.receiver;
        if before.settings.unicast.is_some() == self.settings.unicast.is_some() {
            self.socket = before.socket;
        }
    }

    pub(super) fn exit(&self) -> Option<&Exit> {
        self.socket.as_ref().map(AdvertSocket::exit)
    }

    /// Opens the socket, unless it is open already with the same exit.
    pub(super) fn open(&mut self, exit: Exit) -> io::Result<()> {
        if self.exit() == Some(&exit) {
            return Ok(());
        }
        // Before the old one goes: what comes in between is heard.
        self.socket = Some(AdvertSocket::open(exit, self.settings.vrid, self.peers.is_some())?);
        Ok(())
    }

    pub(super) fn close(&mut self) {
        self.socket = None;
    }

    /// Ready when there may be a packet.
    pub(super) fn poll_readable(&self, context: &mut Context<'_>) -> Poll<()> {
        self.socket.as_ref().map_or(Poll::Pending, |socket| socket.poll_readable(context))
    }

    /// One advertisement, to the group or to every peer; how many packets it took. An error of one peer does not keep it
    /// from the others.
    pub(super) fn send(&mut self, priority: u8, holding: bool) -> io::Result<u64> {
        let Some(socket) = &mut self.socket else { return Ok(0) };
        let Settings { vrid, version, interval, addresses, family, .. } = &self.settings;
        let advert = Advert { vrid: *vrid, priority, interval: *interval, addresses: addresses.clone() };
        let source = socket.exit().primary;
        let (form, signer, clock) = (self.form, &mut self.signer, wall_clock());
        let Some(peers) = &self.peers else {
            let message = advert.message(*version, source, family.group(), form, signer, clock);
            return socket.send_to_group(&message, holding).map(|()| 1);
        };
        let mut result = Ok(0);
        for &peer in peers {
            let message = advert.message(*version, source, peer, form, signer, clock);
            match (socket.send_to_peer(peer, &message), &mut result) {
                (Ok(()), Ok(sent)) => *sent += 1,
                (Ok(()), Err(_)) => {}
                (Err(error), _) => result = Err(io::Error::other(format!("to {peer}: {error}"))),
            }
        }
        result
    }

    /// An advertisement that is there already, or the reason to ignore one.
    ///
    /// # Errors
    /// `WouldBlock` when there is none.
    pub(super) fn receive(&mut self, buffer: &mut [u8]) -> io::Result<Result<Taken, Discard>> {
        let Some(socket) = &self.socket else { return Err(io::ErrorKind::WouldBlock.into()) };
        let own = socket.exit().primary;
        let Some((meta, payload)) = socket.receive(buffer)? else { return Ok(Err(Discard::BadHeader)) };
        let Settings { vrid, version, family, interval, unicast, .. } = &self.settings;
        let unicast = self
            .peers
            .as_deref()
            .zip(unicast.as_ref())
            .map(|(peers, unicast)| wire::Unicast { peers, min_ttl: unicast.min_ttl });
        let expected = Expected {
            vrid: *vrid,
            version: *version,
            family: *family,
            own: Some(own),
            unicast,
            interval: *interval,
        };
        let decoded = wire::decode(payload, meta, &expected, &mut self.receiver, wall_clock());
        Ok(decoded.map(|received| {
            let remarks = self.remarks(&received);
            Taken { received, remarks }
        }))
    }

    fn remarks(&mut self, received: &Received) -> Vec<String> {
        let mut remarks = Vec::new();
        let source = received.source;
        if let Some(form) = received.checksum
            && self.settings.checksum == model::Checksum::Auto
        {
            self.form = form;
            if form == Checksum::PseudoHeader && !std::mem::replace(&mut self.remarked_form, true) {
                remarks
                    .push(format!("checksums of {source} cover a pseudo-header (RFC 5798): doing the same"));
            }
        }
        let interval = received.advert.interval;
        if interval == self.settings.interval {
            self.remarked_interval = None;
        } else if self.remarked_interval.replace(interval) != Some(interval) {
            remarks.push(format!(
                "{source} advertises every {interval:?}, this node every {:?}; give both the same",
                self.settings.interval
            ));
        }
        let addresses = &received.advert.addresses;
        if addresses.has_the_same_as(&self.settings.addresses) {
            self.remarked_addresses = None;
        } else if self.remarked_addresses.as_ref() != Some(addresses) {
            remarks.push(format!(
                "{source} has other virtual addresses, {addresses}, than this node, {}; give both the same",
                self.settings.addresses
            ));
            self.remarked_addresses = Some(addresses.clone());
        }
        remarks
    }
}

const fn form(policy: model::Checksum) -> Checksum {
    match policy {
        model::Checksum::Auto | model::Checksum::Message => Checksum::Message,
        model::Checksum::PseudoHeader => Checksum::PseudoHeader,
    }
}

fn wall_clock() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::model::Prefix;

    const OURS: [&str; 2] = ["192.0.2.10", "192.0.2.11"];

    fn channel() -> Channel {
        let prefix = |text: &&str| Prefix { address: text.parse().unwrap(), length: 24 }.into();
        let addresses = OURS.iter().map(prefix).collect();
        let instance = Instance { addresses, ..Instance::new("web", "eth0", Vrid::new(51).unwrap()) };
        Channel::new(Settings::of(&[instance]).remove(0))
    }

    fn heard(addresses: &[&str]) -> Received {
        let advert = Advert {
            vrid: Vrid::new(51).unwrap(),
            priority: 100,
            interval: Duration::from_secs(1),
            addresses: Addresses::V4(addresses.iter().map(|text| text.parse().unwrap()).collect()),
        };
        Received { source: "192.0.2.2".parse().unwrap(), advert, checksum: None, key: None }
    }

    #[test]
    fn other_addresses_are_remarked_once_for_each_time_they_are_others() {
        let mut channel = channel();
        let (same, other) = (["192.0.2.11", "192.0.2.10"], ["192.0.2.10", "192.0.2.99"]);
        assert_eq!(channel.remarks(&heard(&same)), [""; 0], "the order does not matter");
        for _ in 0..2 {
            let remark = "192.0.2.2 has other virtual addresses, 192.0.2.10 192.0.2.99, than this node, 192.0.2.10 \
                          192.0.2.11; give both the same";
            assert_eq!(channel.remarks(&heard(&other)), [remark]);
            assert_eq!(channel.remarks(&heard(&other)), [""; 0]);
            assert_eq!(channel.remarks(&heard(&same)), [""; 0]);
        }
    }
}
