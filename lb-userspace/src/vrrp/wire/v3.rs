//! What is particular to version 3 (RFC 9568 section 5.2).

use std::net::IpAddr;
use std::time::Duration;

use super::checksum::{is_right, pseudo_header_sum, sum};
use super::{Checksum, Discard, Meta};

pub(super) const VERSION: u8 = 3;
/// Unit of the interval field (section 5.2.7).
const CENTISECOND: Duration = Duration::from_millis(10);
/// Above are four reserved bits, ignored on receipt (section 5.2.6).
const MAX_CENTISECONDS: u16 = 0x0fff;

pub(super) fn interval_field(interval: Duration) -> [u8; 2] {
    let centiseconds = u16::try_from(interval.as_millis() / CENTISECOND.as_millis());
    centiseconds.unwrap_or(MAX_CENTISECONDS).clamp(1, MAX_CENTISECONDS).to_be_bytes()
}

pub(super) fn interval(field: [u8; 2]) -> Result<Duration, Discard> {
    let centiseconds = u16::from_be_bytes(field) & MAX_CENTISECONDS;
    if centiseconds == 0 { Err(Discard::BadInterval) } else { Ok(CENTISECOND * u32::from(centiseconds)) }
}

/// The form that the checksum of a message has; over IPv6 there is but one.
pub(super) fn checksum_of(message: &[u8], meta: Meta) -> Option<Checksum> {
    let message_sum = sum(message);
    if matches!(meta.source, IpAddr::V4(_)) && is_right(message_sum) {
        return Some(Checksum::Message);
    }
    let with_pseudo_header = message_sum + pseudo_header_sum(meta.source, meta.destination, message.len());
    is_right(with_pseudo_header).then_some(Checksum::PseudoHeader)
}
