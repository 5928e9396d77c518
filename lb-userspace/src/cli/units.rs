//! Numbers as a person reads them.

#![deny(clippy::disallowed_methods)]

/// Seconds as the two largest units: `3 d 4 h`, `5 min 10 s`, `0.4 s`.
#[must_use]
pub fn duration(seconds: f64) -> String {
    const UNITS: [(&str, u64); 4] = [("d", 86_400), ("h", 3_600), ("min", 60), ("s", 1)];
    // Clocks that were set back, and a float that is no number, give 0.
    let seconds = seconds.max(0.0);
    if seconds < 1.0 {
        return format!("{seconds:.1} s");
    }
    let whole = seconds as u64;
    let largest = UNITS.iter().position(|(_, size)| whole >= *size).unwrap_or(UNITS.len() - 1);
    let (unit, size) = UNITS[largest];
    let first = format!("{} {unit}", whole / size);
    match UNITS.get(largest + 1) {
        Some((next, next_size)) if whole % size >= *next_size => {
            format!("{first} {} {next}", whole % size / next_size)
        }
        _ => first,
    }
}

/// A time of the past as seen from `now`, both in seconds since the Unix epoch: `5 min 10 s ago`.
#[must_use]
pub fn ago(then: f64, now: f64) -> String {
    format!("{} ago", duration(now - then))
}

/// With a comma at every thousand: `1,234,567`.
#[must_use]
pub fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

/// In powers of 1024: `512 B`, `1.5 KiB`.
#[must_use]
pub fn bytes(value: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if value < 1024 {
        return format!("{value} B");
    }
    let mut scaled = value as f64 / 1024.0;
    let mut unit = 0;
    // What would be rounded to "1024.0" is one of the next unit.
    while scaled >= 1023.95 && unit + 1 < UNITS.len() {
        scaled /= 1024.0;
        unit += 1;
    }
    format!("{scaled:.1} {}", UNITS[unit])
}

/// A part of one: `33.3 %`.
#[must_use]
pub fn percent(part: f64) -> String {
    format!("{:.1} %", part * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_its_two_largest_units() {
        let written: Vec<_> =
            [0.0, 0.44, 1.0, 59.9, 60.0, 310.0, 7_200.0, 273_600.0, 86_460.0].map(duration).into();
        assert_eq!(
            written,
            ["0.0 s", "0.4 s", "1 s", "59 s", "1 min", "5 min 10 s", "2 h", "3 d 4 h", "1 d"]
        );
    }

    #[test]
    fn a_clock_set_back_gives_zero_and_no_number_does_not_panic() {
        assert_eq!(duration(-5.0), "0.0 s");
        assert_eq!(duration(f64::NAN), "0.0 s");
        assert!(duration(f64::INFINITY).contains(" d"));
    }

    #[test]
    fn counts_are_grouped_by_thousands() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(count), ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn bytes_are_scaled_by_1024() {
        assert_eq!(
            [0, 1023, 1024, 1536, 1024 * 1024 - 1, u64::MAX].map(bytes),
            ["0 B", "1023 B", "1.0 KiB", "1.5 KiB", "1.0 MiB", "16.0 EiB"]
        );
    }
}
