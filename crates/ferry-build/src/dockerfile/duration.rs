//! Go's duration syntax: `1h2m3.5s`, `300ms`.

/// Nanoseconds per unit, longest names first so that `ms` is not read as minutes.
const UNITS: [(&str, f64); 8] =
    [("ns", 1.0), ("us", 1e3), ("µs", 1e3), ("μs", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 6e10), ("h", 3.6e12)];

/// Parses a duration into nanoseconds.
pub fn parse_duration(text: &str) -> Result<i64, String> {
    let refuse = |what: &str| format!("{what} in duration {text:?}");
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0);
    }
    if rest.is_empty() {
        return Err(refuse("no number"));
    }
    let mut total = 0.0_f64;
    while !rest.is_empty() {
        let digits =
            rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(|| refuse("missing unit"))?;
        let number: f64 = rest[..digits].parse().map_err(|_| refuse("bad number"))?;
        rest = &rest[digits..];
        let unit_end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let unit = &rest[..unit_end];
        let (_, scale) =
            UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(|| refuse("unknown unit"))?;
        total += number * scale;
        rest = &rest[unit_end..];
    }
    // 2^63 nanoseconds is 292 years.
    if total >= i64::MAX as f64 {
        return Err(refuse("too much"));
    }
    let nanoseconds = total.round() as i64;
    Ok(if negative { -nanoseconds } else { nanoseconds })
}

#[cfg(test)]
mod tests {
    use super::parse_duration;

    #[test]
    fn durations() {
        for (text, wanted) in [
            ("30s", 30_000_000_000),
            ("1m30s", 90_000_000_000),
            ("1.5h", 5_400_000_000_000),
            ("300ms", 300_000_000),
            ("0", 0),
            ("-1s", -1_000_000_000),
        ] {
            assert_eq!(parse_duration(text), Ok(wanted), "{text}");
        }
        for text in ["", "5", "s", "5x", "1..2s", "999999999h"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }
}
