//! Times as Docker writes and reads them.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;

/// Now, as Go's `RFC3339Nano` prints it.
pub fn now() -> String {
    format(Timestamp::now())
}

/// Go's `RFC3339Nano`: UTC, as many fraction digits as needed.
pub fn format(time: Timestamp) -> String {
    // jiff prints whole groups of digits; Go leaves out trailing zeros one by one.
    let text = time.strftime("%Y-%m-%dT%H:%M:%S%.f").to_string();
    let trimmed = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
    format!("{trimmed}Z")
}

/// The same with all nine fraction digits, as `logs --timestamps` prints it.
pub fn format_fixed(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%S%.9fZ").to_string()
}

/// Reads an RFC 3339 time; Go's zero time reads as nothing.
pub fn parse(text: &str) -> Option<Timestamp> {
    if text == ferry_api::ZERO_TIME {
        return None;
    }
    text.parse().ok()
}

/// Reads what clients send for `since` and `until`: seconds since 1970 with an optional fraction, or an
/// RFC 3339 time. Nothing, and the `0` old clients send for it, is no time.
pub fn parse_bound(text: &str) -> Result<Option<Timestamp>, String> {
    if text.is_empty() || text == "0" {
        return Ok(None);
    }
    if text.contains(['T', '-', ':']) && !text.starts_with('-') {
        return match text.parse() {
            Ok(time) => Ok(Some(time)),
            Err(_) => Err(format!("invalid time {text:?}: neither seconds since 1970 nor RFC 3339")),
        };
    }
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, "0"));
    let digits: String = fraction.chars().chain(std::iter::repeat('0')).take(9).collect();
    let parsed = seconds.parse::<i64>().ok().zip(digits.parse::<i32>().ok());
    match parsed.and_then(|(seconds, nanos)| Timestamp::new(seconds, nanos).ok()) {
        Some(time) => Ok(Some(time)),
        None => Err(format!("invalid time {text:?}: neither seconds since 1970 nor RFC 3339")),
    }
}

/// How long from now until `time`; zero when it is past.
pub fn until(time: Timestamp) -> Duration {
    Duration::try_from(time.duration_since(Timestamp::now())).unwrap_or(Duration::ZERO)
}

/// A file time as a timestamp.
pub fn from_system(time: SystemTime) -> Timestamp {
    Timestamp::try_from(time).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// `5 seconds`, `About a minute`, `3 hours`: Docker's rough durations in status texts.
pub fn human(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (minutes, hours) = (seconds / 60, (duration.as_secs_f64() / 3600.0).round() as u64);
    match seconds {
        0 => "Less than a second".into(),
        1 => "1 second".into(),
        2..60 => format!("{seconds} seconds"),
        _ if minutes == 1 => "About a minute".into(),
        _ if minutes < 60 => format!("{minutes} minutes"),
        _ if hours == 1 => "About an hour".into(),
        _ if hours < 48 => format!("{hours} hours"),
        _ if hours < 24 * 7 * 2 => format!("{} days", hours / 24),
        _ if hours < 24 * 30 * 2 => format!("{} weeks", hours / 24 / 7),
        _ if hours < 24 * 365 * 2 => format!("{} months", hours / 24 / 30),
        _ => format!("{} years", hours / 24 / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_are_gos() {
        for (nanos, text) in [
            (0, "2001-09-09T01:46:40Z"),
            (120_000_000, "2001-09-09T01:46:40.12Z"),
            (1, "2001-09-09T01:46:40.000000001Z"),
        ] {
            let time = Timestamp::new(1_000_000_000, nanos).unwrap();
            assert_eq!(format(time), text);
            assert_eq!(parse(text), Some(time));
        }
        assert_eq!(format_fixed(Timestamp::new(1, 5).unwrap()), "1970-01-01T00:00:01.000000005Z");
        assert_eq!(parse(ferry_api::ZERO_TIME), None);
    }

    #[test]
    fn bounds_read_in_every_spelling() {
        let time = |seconds, nanos| Ok(Some(Timestamp::new(seconds, nanos).unwrap()));
        assert_eq!(parse_bound(""), Ok(None));
        assert_eq!(parse_bound("0"), Ok(None));
        assert_eq!(parse_bound("12"), time(12, 0));
        assert_eq!(parse_bound("12.5"), time(12, 500_000_000));
        assert_eq!(parse_bound("12.000000001"), time(12, 1));
        assert_eq!(parse_bound("1970-01-01T00:00:12Z"), time(12, 0));
        assert!(parse_bound("yesterday").is_err());
        assert!(parse_bound("1.x").is_err());
    }

    #[test]
    fn rough_durations() {
        for (seconds, text) in [
            (0, "Less than a second"),
            (1, "1 second"),
            (59, "59 seconds"),
            (60, "About a minute"),
            (150, "2 minutes"),
            (3600, "About an hour"),
            (7200, "2 hours"),
            (86400 * 3, "3 days"),
            (86400 * 15, "2 weeks"),
            (86400 * 70, "2 months"),
            (86400 * 365 * 3, "3 years"),
        ] {
            assert_eq!(human(Duration::from_secs(seconds)), text);
        }
    }
}
