//! What is particular to version 2 (RFC 3768 section 5.3; authentication: RFC 2338 section 5.3).

use std::time::Duration;

use super::Discard;

pub(super) const VERSION: u8 = 2;
/// Authentication data, there whatever the authentication type is.
pub(super) const AUTHENTICATION: usize = 8;
pub(super) const NO_AUTHENTICATION: u8 = 0;
pub(super) const SIMPLE_TEXT_PASSWORD: u8 = 1;

/// In whole seconds, 1 to 255.
pub(super) fn interval_field(interval: Duration) -> u8 {
    u8::try_from(interval.as_secs()).unwrap_or(u8::MAX).max(1)
}

pub(super) fn interval(field: u8, expected: Duration) -> Result<Duration, Discard> {
    let interval = Duration::from_secs(field.into());
    if interval.is_zero() {
        return Err(Discard::BadInterval);
    }
    if interval == expected { Ok(interval) } else { Err(Discard::Interval) }
}
