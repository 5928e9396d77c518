//! What tells the packets of a pair from a stranger's: version 2's password (RFC 2338), which anybody on the network can
//! read, or a keyed hash between Evenkeel nodes.
//!
//! A hash is in a trailer behind a message of version 3, where other implementations see padding:
//!
//! | bytes | |
//! |---|---|
//! | 0 to 3 | `EKA1` |
//! | 4 | number of the key |
//! | 5 | 0 |
//! | 6, 7 | balance |
//! | 8 to 15 | sequence: microseconds since 1970 by the sender's clock, ascending |
//! | 16 to 31 | HMAC-SHA256 (RFC 2104), its first 16 bytes |
//!
//! The hash is over source, destination (16 bytes each, IPv4 mapped as in RFC 4291 section 2.5.5.2), the message, and the
//! first 16 bytes of the trailer, with 0 for the balance. The balance makes the checksum in the message right for message
//! and trailer together too: that is what a kernel computes for a socket with `IPV6_CHECKSUM`, as keepalived has.
//!
//! A receiver remembers the last sequence of each node. Before it has heard one, which is so after its start, a recorded
//! packet counts for as long as its sequence is near the present.

mod receiver;
mod signer;

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::Checksum;
use super::checksum::sum;
use crate::config::model::{Authentication, Secret};

pub use receiver::Receiver;
pub use signer::Signer;

/// Bytes of a signature behind a message.
pub const TRAILER: usize = 32;

const MAGIC: [u8; 4] = *b"EKA1";
const KEY: usize = 4;
const BALANCE: std::ops::Range<usize> = 6..8;
const SEQUENCE: usize = 8;
const HASH: usize = 16;

/// [`Authentication`], ready for use.
#[derive(Debug)]
enum Method {
    None,
    Password(Password),
    Keys { keys: Vec<Key>, required: bool },
}

struct Password([u8; 8]);

struct Key {
    id: u8,
    /// That has taken the secret in, and nothing else yet.
    hash: Hmac<Sha256>,
}

impl Method {
    fn new(authentication: Option<&Authentication>) -> Self {
        match authentication {
            None => Self::None,
            Some(Authentication::Password(secret)) => Self::Password(Password::new(secret)),
            Some(Authentication::Keys { keys, required }) => {
                let keys = keys.iter().map(|key| Key::new(key.id, &key.secret)).collect();
                Self::Keys { keys, required: *required }
            }
        }
    }
}

impl Password {
    /// Bytes beyond the field are left out.
    fn new(secret: &Secret) -> Self {
        let mut field = [0; 8];
        field.iter_mut().zip(&secret.0).for_each(|(field, secret)| *field = *secret);
        Self(field)
    }
}

impl Key {
    fn new(id: u8, secret: &Secret) -> Self {
        Self { id, hash: Hmac::new_from_slice(&secret.0).expect("HMAC takes keys of any length") }
    }

    /// `head` is the trailer before the hash, whatever its balance.
    fn hash(&self, source: IpAddr, destination: IpAddr, message: &[u8], head: &[u8; HASH]) -> Hmac<Sha256> {
        let mut unbalanced = *head;
        unbalanced[BALANCE].fill(0);
        let mut hash = self.hash.clone();
        for address in [source, destination] {
            hash.update(&mapped(address));
        }
        hash.update(message);
        hash.update(&unbalanced);
        hash
    }
}

fn mapped(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
        IpAddr::V6(address) => address.octets(),
    }
}

/// What the trailer adds to the sum that the checksum is over.
fn added(trailer: &[u8; TRAILER], form: Checksum) -> u32 {
    let length = match form {
        Checksum::Message => 0,
        // The pseudo-header has the length in it.
        Checksum::PseudoHeader => 32,
    };
    sum(trailer) + length
}

/// How far a sequence may be from the receiver's clock, in microseconds: what clocks may differ by.
fn window(interval: Duration) -> u64 {
    micros((interval * 10).max(Duration::from_secs(30)))
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({}, …)", self.id)
    }
}
