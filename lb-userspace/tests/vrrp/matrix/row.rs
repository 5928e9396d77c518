//! One kind of virtual router, as both nodes are configured, and how it looks on the wire.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use evenkeel::config::model::{Checksum, Instance, Prefix, Unicast, Version};
use evenkeel::vrrp::wire::Family;

use super::{Lab, OTHER, OWN, eventually};
use crate::lab::{INTERVAL, instance};
use crate::tshark;

const PREFIX_V4: &str = "203.0.113.10/24";
const PREFIXES_V6: [&str; 2] = ["fe80::10/64", "2001:db8::10/64"];

#[derive(Debug, Clone, Copy)]
pub(super) struct Row {
    version: Version,
    family: Family,
    unicast: bool,
    virtual_mac: bool,
}

pub(super) fn rows(version: Version) -> Vec<Row> {
    let families: &[Family] = if version == Version::V2 { &[Family::V4] } else { &[Family::V4, Family::V6] };
    let mut rows = Vec::new();
    for &family in families {
        for unicast in [false, true] {
            for virtual_mac in [false, true] {
                rows.push(Row { version, family, unicast, virtual_mac });
            }
        }
    }
    rows
}

impl Row {
    pub(super) fn lab(self) -> Lab {
        let lab = Lab::new(2);
        lab.add_ipv6();
        lab
    }

    /// Where a node sends from.
    pub(super) fn own(self, host: usize) -> IpAddr {
        match self.family {
            Family::V4 => format!("203.0.113.{}", host + 1).parse().unwrap(),
            Family::V6 if self.unicast => format!("2001:db8::{}", host + 1).parse().unwrap(),
            Family::V6 => format!("fe80::{}", host + 1).parse().unwrap(),
        }
    }

    fn interval(self) -> Duration {
        if self.version == Version::V2 { Duration::from_secs(1) } else { INTERVAL }
    }

    fn prefixes(self) -> Vec<&'static str> {
        match self.family {
            Family::V4 => vec![PREFIX_V4],
            Family::V6 => PREFIXES_V6.to_vec(),
        }
    }

    fn addresses(self) -> Vec<Prefix> {
        let split = |text: &str| {
            let (address, length) = text.split_once('/').unwrap();
            Prefix { address: address.parse().unwrap(), length: length.parse().unwrap() }
        };
        self.prefixes().into_iter().map(split).collect()
    }

    pub(super) fn instance(self, host: usize, priority: u8) -> Instance {
        let peers = vec![self.own(OWN + OTHER - host)];
        // keepalived sends unicast of IPv6 with the host's usual hop limit.
        let min_ttl = if self.family == Family::V6 { 64 } else { 255 };
        let unicast = Unicast { peers, sources: vec![self.own(host)], min_ttl };
        Instance {
            version: self.version,
            advertise: self.interval(),
            // keepalived takes no other form of the first that it hears.
            checksum: Checksum::PseudoHeader,
            unicast: self.unicast.then_some(unicast),
            virtual_mac: self.virtual_mac,
            addresses: self.addresses().into_iter().map(Into::into).collect(),
            ..instance(priority)
        }
    }

    pub(super) fn keepalived(self, priority: u8) -> String {
        let version = if self.version == Version::V2 { 2 } else { 3 };
        let mut lines = vec![
            "state BACKUP\n interface eth0\n virtual_router_id 51".to_owned(),
            format!("version {version}\n priority {priority}\n advert_int {}", self.interval().as_secs_f64()),
        ];
        if self.virtual_mac {
            lines.push("use_vmac".to_owned());
        }
        if self.virtual_mac && self.unicast {
            lines.push("vmac_xmit_base".to_owned());
        }
        if self.unicast {
            let (source, peer) = (self.own(OTHER), self.own(OWN));
            lines.push(format!("unicast_src_ip {source}\n unicast_peer {{\n {peer}\n }}"));
        }
        lines.push(format!("virtual_ipaddress {{\n {}\n }}", self.prefixes().join("\n ")));
        format!("vrrp_instance outside {{\n {}\n}}\n", lines.join("\n "))
    }

    /// Of all the addresses.
    pub(super) fn holders(self, lab: &Lab) -> Vec<usize> {
        let addresses = self.addresses();
        let all = |host: &usize| addresses.iter().all(|prefix| lab.hosts[*host].has(prefix.address));
        (0..lab.hosts.len()).filter(all).collect()
    }

    pub(super) fn wait_for_holder(self, lab: &Lab, host: usize) {
        eventually(&format!("{self:?}: host {host} alone holds all"), || self.holders(lab) == [host]);
    }

    /// What the first node sent.
    pub(super) fn assert_well_formed(self, lab: &Lab, file: &Path) {
        let fields = [
            "vrrp.version",
            "eth.src",
            "eth.dst",
            "ip.src",
            "ipv6.src",
            "ip.ttl",
            "ipv6.hlim",
            "ip.checksum.status",
            "vrrp.checksum.status",
            "_ws.malformed",
        ];
        let form = evenkeel::vrrp::wire::Checksum::PseudoHeader;
        let read = tshark::read(file, form, &fields);
        assert!(read.len() > 10, "{self:?}: {read:?}");
        let (mut expected, mac) = (self.fields(lab), mac_of(lab, OWN));
        let rhythm = expected.join(";");
        expected[1] = mac;
        let first = expected.join(";");
        // Of each of the two times it became master, before the addresses are there: switches must wait for them.
        let others: Vec<&String> = read.iter().filter(|line| **line != rhythm).collect();
        assert!(others.len() <= 2 && others.iter().all(|line| **line == first), "{self:?}: {others:?}");
    }

    fn fields(self, lab: &Lab) -> [String; 10] {
        let version = if self.version == Version::V2 { "2" } else { "3" };
        let (group, own) = match self.family {
            Family::V4 => ("01:00:5e:00:00:12", "00:00:5e:00:01:33"),
            Family::V6 => ("33:33:00:00:00:12", "00:00:5e:00:02:33"),
        };
        let source_mac = if self.virtual_mac && !self.unicast { own.to_owned() } else { mac_of(lab, OWN) };
        let destination_mac = if self.unicast { mac_of(lab, OTHER) } else { group.to_owned() };
        let source = self.own(OWN).to_string();
        let of_v4 = |text: &str| if self.family == Family::V4 { text.to_owned() } else { String::new() };
        let of_v6 = |text: &str| if self.family == Family::V6 { text.to_owned() } else { String::new() };
        [
            version.to_owned(),
            source_mac,
            destination_mac,
            of_v4(&source),
            of_v6(&source),
            of_v4("255"),
            of_v6("255"),
            of_v4(tshark::GOOD),
            tshark::GOOD.to_owned(),
            String::new(),
        ]
    }
}

fn mac_of(lab: &Lab, host: usize) -> String {
    lab.hosts[host].output(&["cat", "/sys/class/net/eth0/address"]).trim().to_owned()
}
