//! Points in time: read from the API and from flags, shown in words and as Go shows them.

use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use super::units;
use crate::flags::Duration;

/// Seconds since 1970 now.
pub fn now() -> i64 {
    Timestamp::now().as_second()
}

/// Seconds since 1970 of an RFC 3339 time; None for Go's zero time and for what is no time.
pub fn parse(text: &str) -> Option<i64> {
    if text.starts_with("0001-01-01T") {
        return None;
    }
    text.parse::<Timestamp>().ok().map(Timestamp::as_second)
}

/// `15 hours ago`.
pub fn ago(seconds: i64) -> String {
    format!("{} ago", units::duration((now() - seconds).max(0)))
}

/// As Go prints a time in the local zone: `2006-01-02 15:04:05 -0700 MST`.
pub fn local(seconds: i64) -> String {
    match Timestamp::from_second(seconds) {
        Ok(time) => time.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S %z %Z").to_string(),
        Err(_) => seconds.to_string(),
    }
}

/// The same of an RFC 3339 time, with the fraction of a second that it has.
pub fn local_with_fraction(text: &str) -> Option<String> {
    let time = text.parse::<Timestamp>().ok()?.to_zoned(TimeZone::system());
    let fraction = match time.subsec_nanosecond() {
        0 => String::new(),
        nanoseconds => format!(".{nanoseconds:09}").trim_end_matches('0').to_owned(),
    };
    Some(format!("{}{fraction} {}", time.strftime("%Y-%m-%d %H:%M:%S"), time.strftime("%z %Z")))
}

/// The zone as RFC 3339 has it: Go writes UTC as `Z`.
fn zone(time: &Zoned) -> String {
    match time.offset().seconds() {
        0 => "Z".into(),
        _ => time.strftime("%:z").to_string(),
    }
}

/// RFC 3339 in the local zone, as `history` shows it.
pub fn local_rfc3339(seconds: i64) -> String {
    match Timestamp::from_second(seconds) {
        Ok(time) => {
            let time = time.to_zoned(TimeZone::system());
            format!("{}{}", time.strftime("%Y-%m-%dT%H:%M:%S"), zone(&time))
        }
        Err(_) => seconds.to_string(),
    }
}

/// RFC 3339 with nine digits of nanoseconds in the local zone, as `events` shows it.
pub fn local_nanoseconds(nanoseconds: i64) -> String {
    match Timestamp::from_nanosecond(nanoseconds.into()) {
        Ok(time) => {
            let time = time.to_zoned(TimeZone::system());
            format!("{}{}", time.strftime("%Y-%m-%dT%H:%M:%S.%9f"), zone(&time))
        }
        Err(_) => nanoseconds.to_string(),
    }
}

/// What `--since` and `--until` take, as the API takes it: seconds with an optional fraction. A duration
/// (`10m`) counts back from now; a date without a zone is local.
pub fn query(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Ok(String::new());
    }
    let plain = text.strip_prefix('-').unwrap_or(text);
    if plain.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return Ok(text.to_owned());
    }
    if let Ok(Duration(back)) = Duration::parse(text) {
        let then = Timestamp::now().as_nanosecond() - i128::from(back);
        return Ok(seconds_text(then));
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(seconds_text(time.as_nanosecond()));
    }
    let local = text.trim_end_matches('Z');
    let zone = if local == text { TimeZone::system() } else { TimeZone::UTC };
    let formats = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H", "%Y-%m-%d"];
    let date = formats.iter().find_map(|format| {
        let parsed = jiff::fmt::strtime::parse(format, local).ok()?;
        let date = parsed.to_datetime().or_else(|_| parsed.to_date().map(|date| date.at(0, 0, 0, 0))).ok()?;
        date.to_zoned(zone.clone()).ok()
    });
    match date.map(|date: Zoned| date.timestamp().as_nanosecond()) {
        Some(time) => Ok(seconds_text(time)),
        None => Err(format!(
            "{text:?} is neither a time (RFC 3339, a date, seconds since 1970) nor a duration like 10m"
        )),
    }
}

fn seconds_text(nanoseconds: i128) -> String {
    let billion = 1_000_000_000;
    format!("{}.{:09}", nanoseconds.div_euclid(billion), nanoseconds.rem_euclid(billion))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries() {
        for (text, wanted) in [
            ("", ""),
            ("0", "0"),
            ("1700000000.5", "1700000000.5"),
            ("2023-11-14T22:13:20Z", "1700000000.000000000"),
            ("2023-11-14T22:13:20.25Z", "1700000000.250000000"),
            ("2023-11-14T23:13:20+01:00", "1700000000.000000000"),
            ("2023-11-14Z", "1699920000.000000000"),
        ] {
            assert_eq!(query(text).as_deref(), Ok(wanted), "{text}");
        }
        assert!(query("yesterday").is_err());
        let back: f64 = query("10m").unwrap().parse().unwrap();
        assert!((now() as f64 - 600.0 - back).abs() < 5.0);
    }

    #[test]
    fn zero_time_is_no_time() {
        assert_eq!(parse(ferry_api::ZERO_TIME), None);
        assert_eq!(parse("1970-01-01T00:00:05.5Z"), Some(5));
    }
}
