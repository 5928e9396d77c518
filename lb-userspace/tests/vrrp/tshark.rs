//! What is sent, of every kind, as tshark reads it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use evenkeel::config::model::{Authentication, Key, Secret, Version, Vrid};
use evenkeel::vrrp::wire::auth::Signer;
use evenkeel::vrrp::wire::{Addresses, Advert, Checksum, Family, frames, packet};

const MAC: [u8; 6] = [0x00, 0x00, 0x5e, 0x00, 0x01, 0x33];
const MTU: usize = 1500;
const SOURCE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const SOURCE_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1);
const PEER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
const PEER_V6: Ipv6Addr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 2);
/// As Wireshark numbers them.
pub(crate) const GOOD: &str = "1";

/// One message: what tshark should read, and the frames it is in.
struct Sent {
    what: String,
    fields: String,
    frames: Vec<Vec<u8>>,
}

#[test]
#[ignore = "needs root: cargo xtask test"]
fn tshark_finds_nothing_malformed_and_every_checksum_right() {
    let folder = tempfile::tempdir().unwrap();
    for form in [Checksum::Message, Checksum::PseudoHeader] {
        let sent = all_kinds(form);
        let file = folder.path().join("sent.pcap");
        std::fs::write(&file, pcap(sent.iter().flat_map(|sent| &sent.frames))).unwrap();
        let read = read_by_tshark(&file, form);
        assert_eq!(read.len(), sent.len(), "{read:?}");
        for (Sent { what, fields, .. }, read) in sent.iter().zip(read) {
            assert_eq!(read, *fields, "{form:?}, {what}");
        }
    }
}

fn all_kinds(form: Checksum) -> Vec<Sent> {
    let v4 = |count| Addresses::V4(vec![Ipv4Addr::new(203, 0, 113, 10); count]);
    let v6 = |count| Addresses::V6(vec![Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0x10); count]);
    let password = Authentication::Password(Secret(b"secret".to_vec()));
    let key = Key { id: 7, secret: Secret(vec![7; 32]) };
    let keys = Authentication::Keys { keys: vec![key], required: true };
    let mut kinds = Vec::new();
    for unicast in [false, true] {
        for count in [1, 255] {
            kinds.push(sent(Version::V2, v4(count), form, None, unicast));
            kinds.push(sent(Version::V2, v4(count), form, Some(&password), unicast));
            for authentication in [None, Some(&keys)] {
                kinds.push(sent(Version::V3, v4(count), form, authentication, unicast));
                // Unicast over IPv6, the kernel makes header and fragments.
                let count = if unicast { count.min(80) } else { count };
                kinds.push(sent(Version::V3, v6(count), form, authentication, unicast));
            }
        }
    }
    kinds
}

fn sent(
    version: Version,
    addresses: Addresses,
    form: Checksum,
    authentication: Option<&Authentication>,
    unicast: bool,
) -> Sent {
    let family = addresses.family();
    let count = match &addresses {
        Addresses::V4(addresses) => addresses.len(),
        Addresses::V6(addresses) => addresses.len(),
    };
    let (source, peer) = match family {
        Family::V4 => (IpAddr::V4(SOURCE), IpAddr::V4(PEER)),
        Family::V6 => (IpAddr::V6(SOURCE_V6), IpAddr::V6(PEER_V6)),
    };
    let advert =
        Advert { vrid: Vrid::new(51).unwrap(), priority: 150, interval: Duration::from_secs(2), addresses };
    let destination = if unicast { peer } else { family.group() };
    let (mut signer, clock) = (Signer::new(authentication), Duration::from_secs(1_700_000_000));
    let message = advert.message(version, source, destination, form, &mut signer, clock);
    let number = if version == Version::V2 { "2" } else { "3" };
    let interval = if version == Version::V2 { "2;" } else { ";200" };
    let ip_checksum = if family == Family::V4 { GOOD } else { "" };
    Sent {
        what: format!(
            "version {number}, {family:?}, {count} addresses, {authentication:?}, unicast {unicast}"
        ),
        // No malformed, no expert's remark.
        fields: format!("{number};1;51;150;{count};{interval};{GOOD};{ip_checksum};;"),
        frames: if unicast { vec![to_peer(&message, family)] } else { frames(MAC, MTU, source, &message, 9) },
    }
}

/// With the headers that the kernel makes.
fn to_peer(message: &[u8], family: Family) -> Vec<u8> {
    let macs = [[2, 0, 0, 0, 0, 2], MAC].concat();
    match family {
        Family::V4 => [&macs[..], &[0x08, 0x00], &packet(SOURCE, PEER, message)].concat(),
        Family::V6 => {
            let length = u16::try_from(message.len()).unwrap().to_be_bytes();
            let header = [&[0x6c, 0, 0, 0][..], &length, &[112, 255], &SOURCE_V6.octets(), &PEER_V6.octets()];
            [&macs[..], &[0x86, 0xdd], &header.concat(), message].concat()
        }
    }
}

/// By the file format of libpcap, with Ethernet inside (pcap-savefile(5)).
fn pcap<'a>(frames: impl Iterator<Item = &'a Vec<u8>>) -> Vec<u8> {
    let word = |number: usize| u32::try_from(number).unwrap().to_be_bytes();
    let mut file = [word(0xa1b2_c3d4), [0, 2, 0, 4], word(0), word(0), word(65_535), word(1)].concat();
    for (second, frame) in frames.enumerate() {
        file.extend([word(second), word(0), word(frame.len()), word(frame.len())].concat());
        file.extend(frame);
    }
    file
}

/// One line for each message of VRRP.
fn read_by_tshark(file: &Path, form: Checksum) -> Vec<String> {
    let of_vrrp = ["version", "type", "virt_rtr_id", "prio", "addr_count", "adver_int", "short_adver_int"];
    let of_vrrp = of_vrrp.iter().chain(&["checksum.status"]).map(|field| format!("vrrp.{field}"));
    let others = ["ip.checksum.status", "_ws.malformed", "_ws.expert.message"];
    let fields: Vec<String> = of_vrrp.chain(others.map(str::to_owned)).collect();
    read(file, form, &fields.iter().map(String::as_str).collect::<Vec<_>>())
}

/// One line for each message of VRRP, its fields between semicolons.
pub(crate) fn read(file: &Path, form: Checksum, fields: &[&str]) -> Vec<String> {
    let as_in_v2 = if form == Checksum::Message { "TRUE" } else { "FALSE" };
    let mut tshark = Command::new("tshark");
    tshark.arg("-r").arg(file).args(["-n", "-Y", "vrrp", "-o", "ip.check_checksum:TRUE"]);
    tshark.args(["-o", &format!("vrrp.v3_checksum_as_in_v2:{as_in_v2}")]);
    tshark.args(["-T", "fields", "-E", "separator=;"]);
    for field in fields {
        tshark.args(["-e", field]);
    }
    let output = tshark.output().expect("tshark starts: cargo xtask test installs it");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}
