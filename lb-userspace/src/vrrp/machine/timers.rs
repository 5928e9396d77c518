//! The timers of RFC 9568 section 6.1 and RFC 3768 section 6.1.
#![deny(clippy::disallowed_methods)]

use std::time::Duration;

use crate::config::model::Version;

/// For another node that takes over to be late, and its advertisement to arrive.
const LEAVE_MARGIN: Duration = Duration::from_millis(200);

/// Active_Down_Interval (Master_Down_Interval in RFC 3768) for the interval that the master tells.
pub(in super::super) fn down_interval(version: Version, priority: u8, interval: Duration) -> Duration {
    3 * interval + skew(version, priority, interval)
}

/// Skew_Time: the lower the priority, the later. Version 2 counts in parts of a second, whatever the interval.
pub(in super::super) fn skew(version: Version, priority: u8, interval: Duration) -> Duration {
    let whole = match version {
        Version::V2 => Duration::from_secs(1),
        Version::V3 => interval,
    };
    whole * (256 - u32::from(priority)) / 256
}

/// Longest time that a master which hands over waits for another node: a backup takes over after its skew, which for every
/// priority is shorter than an interval, and in version 2 than a second.
#[must_use]
pub fn leave_limit(version: Version, interval: Duration) -> Duration {
    let longest_skew = match version {
        Version::V2 => Duration::from_secs(1),
        Version::V3 => interval,
    };
    longest_skew + LEAVE_MARGIN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_skew_is_a_part_of_the_interval_in_version_3_and_of_a_second_in_version_2() {
        let ten = Duration::from_secs(10);
        assert_eq!(skew(Version::V3, 100, ten), Duration::from_micros(6_093_750));
        assert_eq!(skew(Version::V2, 100, ten), Duration::from_micros(609_375));
        assert_eq!(down_interval(Version::V2, 255, ten), 3 * ten + Duration::from_secs(1) / 256);
    }
}
