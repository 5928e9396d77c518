//! What a receiver requires.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use hmac::Mac as _;

use super::{HASH, KEY, MAGIC, Method, SEQUENCE, TRAILER, added, micros, window};
use crate::config::model::Authentication;
use crate::vrrp::wire::checksum::is_right;
use crate::vrrp::wire::{Checksum, Discard, Meta, v2};

/// Nodes of one virtual router whose last sequence is remembered.
const MOST_SOURCES: usize = 256;

/// Tells whether a message is from a node of this virtual router. It lives as long as the virtual router does, so that
/// nothing counts twice.
#[derive(Debug)]
pub struct Receiver {
    method: Method,
    /// Last sequence by node. Only who has a key gets in here.
    heard: BTreeMap<IpAddr, u64>,
}

impl Receiver {
    #[must_use]
    pub fn new(authentication: Option<&Authentication>) -> Self {
        Self { method: Method::new(authentication), heard: BTreeMap::new() }
    }

    /// Other keys, or none; what was heard before still does not count twice.
    pub fn reconfigure(&mut self, authentication: Option<&Authentication>) {
        self.method = Method::new(authentication);
    }

    /// Checks authentication type and data of version 2, which must be what is configured (RFC 3768 section 7.1).
    pub(in crate::vrrp::wire) fn check_text(&self, kind: u8, data: &[u8]) -> Result<(), Discard> {
        match (&self.method, kind) {
            (Method::Password(_), v2::NO_AUTHENTICATION) => Err(Discard::NoAuth),
            (Method::Password(password), v2::SIMPLE_TEXT_PASSWORD) if password.0 == data => Ok(()),
            (Method::None | Method::Keys { .. }, v2::NO_AUTHENTICATION) => Ok(()),
            (Method::None | Method::Password(_) | Method::Keys { .. }, _) => Err(Discard::BadAuth),
        }
    }

    /// Checks what follows a message of version 3; gives the number of the key that it is signed with.
    pub(in crate::vrrp::wire) fn check_trailer(
        &mut self,
        message: &[u8],
        rest: &[u8],
        meta: Meta,
        form: Checksum,
        interval: Duration,
        clock: Duration,
    ) -> Result<Option<u8>, Discard> {
        let Method::Keys { keys, required } = &self.method else { return Ok(None) };
        let Some(trailer) = rest.first_chunk::<TRAILER>().filter(|trailer| trailer.starts_with(&MAGIC))
        else {
            return if *required { Err(Discard::NoAuth) } else { Ok(None) };
        };
        let (head, hash) = trailer.split_first_chunk::<HASH>().ok_or(Discard::NoAuth)?;
        let key = keys.iter().find(|key| key.id == head[KEY]).ok_or(Discard::UnknownKey)?;
        let fits = key.hash(meta.source, meta.destination, message, head).verify_truncated_left(hash).is_ok();
        if !fits || !is_right(added(trailer, form)) {
            return Err(Discard::BadAuth);
        }
        let id = key.id;
        let [.., a, b, c, d, e, f, g, h] = *head;
        let sequence = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
        self.check_sequence(meta.source, sequence, micros(clock), window(interval))?;
        Ok(Some(id))
    }

    fn check_sequence(
        &mut self,
        source: IpAddr,
        sequence: u64,
        clock: u64,
        window: u64,
    ) -> Result<(), Discard> {
        if sequence.abs_diff(clock) > window {
            return Err(Discard::Clock);
        }
        // What is that far away is refused anyway; so a clock that was wrong by a year leaves nothing behind.
        self.heard.retain(|_, last| last.abs_diff(clock) <= window);
        if self.heard.get(&source).is_some_and(|last| sequence <= *last) {
            return Err(Discard::Replayed);
        }
        if self.heard.len() >= MOST_SOURCES && !self.heard.contains_key(&source) {
            let oldest = self.heard.iter().min_by_key(|(_, last)| **last).map(|(source, _)| *source);
            oldest.and_then(|oldest| self.heard.remove(&oldest));
        }
        self.heard.insert(source, sequence);
        Ok(())
    }
}

// The sequence ends the head.
const _: () = assert!(SEQUENCE + size_of::<u64>() == HASH);
