//! Sends announcements, so many at a time.

use std::collections::BTreeMap;
use std::io;
use std::net::IpAddr;

use super::pacing::Pacing;
use super::target::Target;
use crate::net::address::Address;
use crate::net::announce::{FrameSocket, gratuitous_arp, unsolicited_advertisement};
use crate::net::sysctl;
use crate::vrrp::thing::name_of;

/// Frames in one go.
const SHARE: usize = 32;

#[derive(Debug, Default)]
pub(super) struct Announcer {
    pacing: Pacing,
    socket: Option<FrameSocket>,
    failing: bool,
}

impl Announcer {
    pub(super) fn add(&mut self, address: Address) {
        self.pacing.add(address);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.pacing.is_empty()
    }

    /// Announces every address that was not announced yet.
    ///
    /// # Errors
    /// As [`Self::send`].
    pub(super) fn send_urgent(&mut self, target: &Target) -> Result<(), String> {
        while self.pacing.is_urgent() {
            if !self.send(target)? {
                break;
            }
        }
        Ok(())
    }

    /// Sends a share of the announcements that are due; whether the network took it.
    ///
    /// # Errors
    /// Some can't be sent; given out once until one can.
    pub(super) fn send(&mut self, target: &Target) -> Result<bool, String> {
        let mut routers = BTreeMap::new();
        for _ in 0..SHARE {
            let Some(address) = self.pacing.peek() else { return Ok(true) };
            let announce = target.addresses.get(&address).and_then(|held| held.announce);
            let Some((index, mac)) = announce else {
                self.pacing.drop_next();
                continue;
            };
            match self.send_one(&mut routers, (index, mac), address.address) {
                Ok(()) => {
                    self.failing = false;
                    self.pacing.sent();
                }
                // The queue of the interface is full.
                Err(error) if is_full(&error) => return Ok(false),
                Err(error) => {
                    self.pacing.drop_next();
                    if !std::mem::replace(&mut self.failing, true) {
                        return Err(format!(
                            "cannot announce {} on interface {index}: {error}",
                            address.address
                        ));
                    }
                }
            }
        }
        Ok(true)
    }

    fn send_one(
        &mut self,
        routers: &mut BTreeMap<u32, bool>,
        (index, mac): (u32, [u8; 6]),
        address: IpAddr,
    ) -> io::Result<()> {
        let socket = match &self.socket {
            Some(socket) => socket,
            None => self.socket.insert(FrameSocket::open()?),
        };
        match address {
            IpAddr::V4(address) => socket.send(index, &gratuitous_arp(mac, address)),
            IpAddr::V6(address) => {
                let router = *routers.entry(index).or_insert_with(|| forwards(index));
                socket.send(index, &unsolicited_advertisement(mac, address, router))
            }
        }
    }
}

fn is_full(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::WouldBlock || error.raw_os_error() == Some(libc::ENOBUFS)
}

fn forwards(index: u32) -> bool {
    name_of(index)
        .is_some_and(|name| sysctl::read("ipv6", &name, "forwarding").is_ok_and(|forwarding| forwarding != 0))
}
