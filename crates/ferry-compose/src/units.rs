//! Sizes, durations, booleans, modes and pull policies as Compose files write them.
//!
//! Owns parsing and the canonical spelling of units; errors are facts without a place.

use std::time::Duration;

/// Parses a size in bytes: `512`, `64k`, `1.5gb`, `100MiB`, `-1`. Units count in 1024s.
pub fn parse_bytes(text: &str) -> Result<i64, String> {
    let bad = || format!("invalid size \"{text}\"");
    let trimmed = text.trim();
    if trimmed == "-1" {
        return Ok(-1);
    }
    let split = trimmed.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(trimmed.len());
    let (number, unit) = trimmed.split_at(split);
    let number: f64 = number.parse().map_err(|_| bad())?;
    let unit = unit.trim().to_ascii_lowercase();
    let unit = unit.strip_suffix("ib").or_else(|| unit.strip_suffix('b')).unwrap_or(&unit);
    let shift = match unit {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        "p" => 50,
        _ => return Err(format!("{}: the unit \"{unit}\" is none of b, k, m, g, t, p", bad())),
    };
    let bytes = number * (1u64 << shift) as f64;
    if bytes > i64::MAX as f64 { Err(bad()) } else { Ok(bytes as i64) }
}

/// Parses `1m30s`, `500ms`, `1.5h`, `2d`, `1w`; the bare `0` too.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("invalid duration \"{text}\"");
    let mut rest = text.trim();
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(bad());
    }
    let mut nanos = 0f64;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !(c.is_ascii_digit() || c == '.'))
            .ok_or_else(|| format!("{}: a unit is missing (us, ms, s, m, h), as in \"{text}s\"", bad()))?;
        let number: f64 = rest[..digits].parse().map_err(|_| bad())?;
        let unit_end =
            rest[digits..].find(|c: char| c.is_ascii_digit() || c == '.').map_or(rest.len(), |n| n + digits);
        let scale = match &rest[digits..unit_end] {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            "d" => 86_400e9,
            "w" => 604_800e9,
            other => return Err(format!("{}: the unit \"{other}\" is none of us, ms, s, m, h, d, w", bad())),
        };
        nanos += number * scale;
        rest = &rest[unit_end..];
    }
    if nanos >= i64::MAX as f64 { Err(bad()) } else { Ok(Duration::from_nanos(nanos as u64)) }
}

/// The canonical spelling: `1h0m0s`, `1m30s`, `10s`, `500ms`.
pub fn format_duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    if nanos == 0 {
        return "0s".to_owned();
    }
    if nanos < 1_000_000_000 {
        let (unit, scale) = match nanos {
            0..1_000 => ("ns", 1.0),
            1_000..1_000_000 => ("µs", 1e3),
            _ => ("ms", 1e6),
        };
        return format!("{}{unit}", nanos as f64 / scale);
    }
    let seconds = duration.as_secs();
    let (hours, minutes) = (seconds / 3600, seconds / 60 % 60);
    let rest = (seconds % 60) as f64 + f64::from(duration.subsec_nanos()) / 1e9;
    match (hours, minutes) {
        (0, 0) => format!("{rest}s"),
        (0, _) => format!("{minutes}m{rest}s"),
        _ => format!("{hours}h{minutes}m{rest}s"),
    }
}

/// Booleans given as text; the second value says whether the spelling is deprecated.
pub fn parse_boolean(text: &str) -> Option<(bool, bool)> {
    match text.to_ascii_lowercase().as_str() {
        "true" => Some((true, false)),
        "false" => Some((false, false)),
        "y" | "yes" | "on" | "1" => Some((true, true)),
        "n" | "no" | "off" | "0" => Some((false, true)),
        _ => None,
    }
}

/// Whether a text is one of the pull policies.
pub fn is_pull_policy(text: &str) -> bool {
    match text {
        "always" | "never" | "build" | "if_not_present" | "missing" | "refresh" | "daily" | "weekly" => true,
        _ => text.strip_prefix("every_").is_some_and(|age| parse_duration(age).is_ok()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes() {
        for (text, expected) in [
            ("0", Some(0)),
            ("512", Some(512)),
            ("64k", Some(65536)),
            ("64kb", Some(65536)),
            ("1m", Some(1 << 20)),
            ("1.5gb", Some(3 << 29)),
            ("100MiB", Some(100 << 20)),
            ("2 G", Some(2 << 30)),
            ("10b", Some(10)),
            ("-1", Some(-1)),
            ("1x", None),
            ("m", None),
            ("", None),
            ("-5m", None),
            ("999999999p", None),
        ] {
            assert_eq!(parse_bytes(text).ok(), expected, "{text}");
        }
    }

    #[test]
    fn durations() {
        for (text, expected) in [
            ("10s", Some("10s")),
            ("1m30s", Some("1m30s")),
            ("90s", Some("1m30s")),
            ("500ms", Some("500ms")),
            ("1.5s", Some("1.5s")),
            ("1h", Some("1h0m0s")),
            ("1d", Some("24h0m0s")),
            ("1w", Some("168h0m0s")),
            ("250us", Some("250µs")),
            ("0", Some("0s")),
            ("5", None),
            ("5x", None),
            ("", None),
            ("s", None),
        ] {
            assert_eq!(parse_duration(text).ok().map(format_duration).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn pull_policies() {
        assert!(is_pull_policy("every_12h") && is_pull_policy("every_1w2d") && is_pull_policy("always"));
        assert!(!is_pull_policy("every_") && !is_pull_policy("often"));
    }
}
