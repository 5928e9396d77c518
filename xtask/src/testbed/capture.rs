//! Packets as a host sees them.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use super::{Host, Process, wait_for};
use crate::shell::capture;

/// tcpdump on one interface of a host.
#[derive(Debug)]
pub struct Capture {
    process: Process,
    file: PathBuf,
    name: String,
}

/// A frame, as it was on the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Since the Unix epoch.
    pub at: Duration,
    pub bytes: Vec<u8>,
}

/// What tcpdump, which computes every checksum again, makes of a capture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checksums {
    pub packets: usize,
    /// Packets with a wrong checksum, as tcpdump shows them.
    pub bad: Vec<String>,
}

impl Capture {
    /// Begins to capture what `filter` (pcap-filter(7)) matches; all of it is seen from here on.
    ///
    /// # Errors
    /// tcpdump does not start: no such interface, or a filter that is none.
    pub fn start(host: &Host, interface: &str, filter: &str) -> Result<Self> {
        let file = host.folder().join(format!("{interface}.pcap"));
        let mut command = host.command("tcpdump");
        command
            .args(["-i", interface, "-Z", "root", "--immediate-mode", "-U", "-n", "-w"])
            .arg(&file)
            .arg(filter);
        let name = format!("{} {interface}", host.name());
        let mut process = host.spawn(&format!("tcpdump-{interface}"), &mut command)?;
        wait_for("tcpdump to listen", Duration::from_secs(10), || {
            process.still_runs()?;
            Ok(process.log().contains("listening on").then_some(()))
        })?;
        Ok(Self { process, file, name })
    }

    /// Ends the capture and looks at every checksum in it: IP, TCP, UDP, also behind a tunnel header.
    ///
    /// # Errors
    /// tcpdump cannot read what it wrote.
    pub fn finish(mut self) -> Result<Checksums> {
        self.process.stop()?;
        let text = capture(Command::new("tcpdump").args(["-n", "-t", "-vvv", "-r"]).arg(&self.file))?;
        Ok(Checksums::from_tcpdump(&text))
    }

    /// Ends the capture and returns what it has seen.
    ///
    /// # Errors
    /// tcpdump had to leave frames out, or wrote what is no capture.
    pub fn finish_with_frames(mut self) -> Result<Vec<Frame>> {
        self.process.stop()?;
        let log = self.process.log();
        if !log.lines().any(|line| line == "0 packets dropped by kernel") {
            bail!("the capture on {} is not whole: {log}", self.name);
        }
        let bytes = fs::read(&self.file).with_context(|| format!("cannot read {}", self.file.display()))?;
        frames(&bytes).with_context(|| format!("{} is no capture", self.file.display()))
    }

    /// Ends the capture.
    ///
    /// # Errors
    /// It has seen nothing, or a packet with a wrong checksum.
    pub fn finish_with_good_checksums(self) -> Result<usize> {
        let name = self.name.clone();
        let seen = self.finish()?;
        if seen.packets == 0 {
            bail!("the capture on {name} has seen no packet");
        }
        if let Some(first) = seen.bad.first() {
            bail!(
                "{name}: {} of {} packets have a wrong checksum, the first is {first}",
                seen.bad.len(),
                seen.packets
            );
        }
        Ok(seen.packets)
    }
}

/// In the byte order of this host, which wrote it, with microseconds (pcap-savefile(5)).
fn frames(file: &[u8]) -> Option<Vec<Frame>> {
    let number = |at: &[u8]| -> Option<u32> { Some(u32::from_ne_bytes(at.get(..4)?.try_into().ok()?)) };
    (number(file)? == 0xa1b2_c3d4).then_some(())?;
    let mut rest = file.get(24..)?;
    let mut frames = Vec::new();
    while !rest.is_empty() {
        let at = Duration::new(number(rest)?.into(), number(rest.get(4..)?)?.checked_mul(1000)?);
        let length = number(rest.get(8..)?)? as usize;
        let end = length.checked_add(16)?;
        frames.push(Frame { at, bytes: rest.get(16..end)?.to_vec() });
        rest = rest.get(end..)?;
    }
    Some(frames)
}

impl Checksums {
    /// Lines that go on a packet are indented.
    fn from_tcpdump(text: &str) -> Self {
        let wrong = ["incorrect", "bad cksum", "bad udp cksum", "bad tcp cksum", "bad icmp6 cksum", "wrong"];
        Self {
            packets: text.lines().filter(|line| !line.starts_with(char::is_whitespace)).count(),
            bad: text
                .lines()
                .filter(|line| wrong.iter().any(|sign| line.contains(sign)))
                .map(|line| line.trim().to_owned())
                .collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_checksum_is_seen_whatever_protocol_it_is_of() {
        let text = "IP (tos 0x0, ttl 64, id 1, offset 0, flags [DF], proto TCP (6), length 60)\n    \
                    10.0.0.1.4 > 10.0.0.2.80: Flags [S], cksum 0x1234 (correct), seq 1\n\
                    IP (tos 0x0, ttl 64, id 1, offset 0, flags [DF], proto TCP (6), length 60, bad cksum 1 (->2)!)\n    \
                    10.0.0.1.4 > 10.0.0.2.80: Flags [S], cksum 0x1234 (incorrect -> 0x4321), seq 1\n\
                    IP (tos 0x0, ttl 64, id 1, offset 0, flags [DF], proto UDP (17), length 60)\n    \
                    10.0.0.1.4 > 10.0.0.2.53: [bad udp cksum 0x1 -> 0x2!] 1+ A? a. (19)\n";
        let seen = Checksums::from_tcpdump(text);
        assert_eq!(seen.packets, 3);
        assert_eq!(seen.bad.len(), 3);
    }
}
