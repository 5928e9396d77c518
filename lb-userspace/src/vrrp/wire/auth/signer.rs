//! What a sender adds.

use std::net::IpAddr;
use std::time::Duration;

use hmac::Mac as _;

use super::{BALANCE, HASH, KEY, MAGIC, Method, SEQUENCE, TRAILER, added, micros, window};
use crate::config::model::Authentication;
use crate::vrrp::wire::Checksum;
use crate::vrrp::wire::checksum::checksum;

/// Makes the messages of one node its own. It lives as long as what sends them, so that sequences ascend.
#[derive(Debug)]
pub struct Signer {
    method: Method,
    last: u64,
}

impl Signer {
    #[must_use]
    pub fn new(authentication: Option<&Authentication>) -> Self {
        Self { method: Method::new(authentication), last: 0 }
    }

    /// Other keys, or none; sequences go on.
    pub fn reconfigure(&mut self, authentication: Option<&Authentication>) {
        self.method = Method::new(authentication);
    }

    pub(in crate::vrrp::wire) fn password(&self) -> Option<[u8; 8]> {
        match &self.method {
            Method::Password(password) => Some(password.0),
            Method::None | Method::Keys { .. } => None,
        }
    }

    pub(in crate::vrrp::wire) fn trailer(
        &mut self,
        source: IpAddr,
        destination: IpAddr,
        message: &[u8],
        form: Checksum,
        interval: Duration,
        clock: Duration,
    ) -> Option<[u8; TRAILER]> {
        let Method::Keys { keys, .. } = &self.method else { return None };
        let key = keys.first()?;
        self.last = next_sequence(self.last, micros(clock), window(interval));
        let mut head = [0; HASH];
        head[..KEY].copy_from_slice(&MAGIC);
        head[KEY] = key.id;
        head[SEQUENCE..].copy_from_slice(&self.last.to_be_bytes());
        let hash = key.hash(source, destination, message, &head).finalize().into_bytes();
        let mut trailer = [0; TRAILER];
        trailer[..HASH].copy_from_slice(&head);
        trailer[HASH..].copy_from_slice(&hash[..TRAILER - HASH]);
        let balance = checksum(added(&trailer, form));
        trailer[BALANCE].copy_from_slice(&balance);
        Some(trailer)
    }
}

/// Greater than the last one, unless the clock was set back so far that a receiver refuses what is ahead of it, and has
/// forgotten what it heard before.
fn next_sequence(last: u64, clock: u64, window: u64) -> u64 {
    if last.saturating_sub(clock) > window { clock } else { clock.max(last.saturating_add(1)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences_ascend_when_the_clock_stands_still_or_is_set_back_a_little_and_follow_it_when_it_is_set_back_far()
     {
        assert_eq!(next_sequence(0, 1000, 10), 1000);
        assert_eq!(next_sequence(1000, 1000, 10), 1001);
        assert_eq!(next_sequence(1000, 990, 10), 1001);
        assert_eq!(next_sequence(1000, 989, 10), 989);
        assert_eq!(next_sequence(u64::MAX, u64::MAX, 10), u64::MAX);
    }
}
