//! The types a flag's value can have, read as Go reads them.

/// A type that flags can have.
pub trait FlagValue {
    /// Given without a value it means true.
    const IS_SWITCH: bool = false;
    /// Takes one more value: replaces, or adds to a list. The error is the reason only.
    fn set(&mut self, text: &str) -> Result<(), String>;
}

impl FlagValue for bool {
    const IS_SWITCH: bool = true;

    fn set(&mut self, text: &str) -> Result<(), String> {
        *self = match text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => true,
            "0" | "f" | "F" | "false" | "FALSE" | "False" => false,
            _ => return Err(format!("strconv.ParseBool: parsing {text:?}: invalid syntax")),
        };
        Ok(())
    }
}

/// A switch that knows whether it was given.
impl FlagValue for Option<bool> {
    const IS_SWITCH: bool = true;

    fn set(&mut self, text: &str) -> Result<(), String> {
        let mut value = false;
        value.set(text)?;
        *self = Some(value);
        Ok(())
    }
}

impl FlagValue for String {
    fn set(&mut self, text: &str) -> Result<(), String> {
        text.clone_into(self);
        Ok(())
    }
}

impl FlagValue for Option<String> {
    fn set(&mut self, text: &str) -> Result<(), String> {
        *self = Some(text.to_owned());
        Ok(())
    }
}

impl FlagValue for Vec<String> {
    fn set(&mut self, text: &str) -> Result<(), String> {
        self.push(text.to_owned());
        Ok(())
    }
}

impl FlagValue for Option<i64> {
    fn set(&mut self, text: &str) -> Result<(), String> {
        *self =
            Some(text.parse().map_err(|_| format!("strconv.ParseInt: parsing {text:?}: invalid syntax"))?);
        Ok(())
    }
}

/// A size with a unit: `64m`, `1.5g`, `1024`; `-1` where a flag allows it.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Bytes(pub i64);

impl FlagValue for Option<Bytes> {
    fn set(&mut self, text: &str) -> Result<(), String> {
        *self = Some(Bytes::parse(text)?);
        Ok(())
    }
}

impl Bytes {
    /// Reads a size in binary units.
    pub fn parse(text: &str) -> Result<Bytes, String> {
        let refuse = || format!("invalid size: '{text}'");
        if text == "-1" {
            return Ok(Bytes(-1));
        }
        let end = text.rfind(|c: char| c.is_ascii_digit() || c == '.').ok_or_else(refuse)? + 1;
        let number: f64 = text[..end].parse().map_err(|_| refuse())?;
        let factor: u64 = match text[end..].trim_start().to_ascii_lowercase().as_str() {
            "" | "b" => 1,
            "k" | "kb" | "kib" => 1 << 10,
            "m" | "mb" | "mib" => 1 << 20,
            "g" | "gb" | "gib" => 1 << 30,
            "t" | "tb" | "tib" => 1 << 40,
            "p" | "pb" | "pib" => 1 << 50,
            other => return Err(format!("invalid suffix: '{other}'")),
        };
        let bytes = number * factor as f64;
        if !(0.0..=i64::MAX as f64).contains(&bytes) {
            return Err(refuse());
        }
        Ok(Bytes(bytes as i64))
    }
}

/// CPUs as a decimal number, kept in billionths.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct NanoCpus(pub i64);

impl FlagValue for NanoCpus {
    fn set(&mut self, text: &str) -> Result<(), String> {
        let refuse = || format!("failed to parse {text} as a rational number");
        let value: f64 = text.parse().map_err(|_| refuse())?;
        let digits = text.rsplit_once('.').map_or(0, |(_, fraction)| fraction.trim_end_matches('0').len());
        if digits > 9 {
            return Err("value is too precise".into());
        }
        if !value.is_finite() || value.abs() > 1e9 {
            return Err(refuse());
        }
        *self = NanoCpus((value * 1e9).round() as i64);
        Ok(())
    }
}

/// A duration as Go writes it (`1h15m30.918273645s`), in nanoseconds.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Duration(pub i64);

impl FlagValue for Option<Duration> {
    fn set(&mut self, text: &str) -> Result<(), String> {
        *self = Some(Duration::parse(text)?);
        Ok(())
    }
}

impl Duration {
    /// Reads a duration.
    pub fn parse(text: &str) -> Result<Duration, String> {
        let refuse = || format!("time: invalid duration {text:?}");
        let (sign, mut rest) = match text.strip_prefix('-') {
            Some(rest) => (-1.0, rest),
            None => (1.0, text.strip_prefix('+').unwrap_or(text)),
        };
        if rest == "0" {
            return Ok(Duration(0));
        }
        if rest.is_empty() {
            return Err(refuse());
        }
        let mut total = 0.0;
        while !rest.is_empty() {
            let end = rest
                .find(|c: char| !c.is_ascii_digit() && c != '.')
                .ok_or_else(|| format!("time: missing unit in duration {text:?}"))?;
            let number: f64 = rest[..end].parse().map_err(|_| refuse())?;
            rest = &rest[end..];
            let unit_end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
            let unit = match &rest[..unit_end] {
                "ns" => 1.0,
                "us" | "µs" | "μs" => 1e3,
                "ms" => 1e6,
                "s" => 1e9,
                "m" => 60e9,
                "h" => 3600e9,
                other => return Err(format!("time: unknown unit {other:?} in duration {text:?}")),
            };
            total += number * unit;
            rest = &rest[unit_end..];
        }
        if total > i64::MAX as f64 {
            return Err(refuse());
        }
        Ok(Duration((sign * total) as i64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        for (text, wanted) in [
            ("0", 0),
            ("10", 10),
            ("10b", 10),
            ("64k", 65536),
            ("64KB", 65536),
            ("1.5g", 1_610_612_736),
            ("1 MiB", 1 << 20),
            ("-1", -1),
        ] {
            assert_eq!(Bytes::parse(text), Ok(Bytes(wanted)), "{text}");
        }
        for text in ["", "m", "1x", "-5", "1..5m", "nan", "9999999p"] {
            assert!(Bytes::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations() {
        for (text, wanted) in [
            ("0", 0),
            ("1s", 1_000_000_000),
            ("1m30s", 90_000_000_000),
            ("1.5ms", 1_500_000),
            ("-2h", -7_200_000_000_000),
        ] {
            assert_eq!(Duration::parse(text), Ok(Duration(wanted)), "{text}");
        }
        for text in ["", "5", "s", "1x", "1s5"] {
            assert!(Duration::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn cpus() {
        let check = |text: &str| {
            let mut value = NanoCpus::default();
            value.set(text).map(|()| value.0)
        };
        assert_eq!(check("1.5"), Ok(1_500_000_000));
        assert_eq!(check(".25"), Ok(250_000_000));
        assert!(check("one").is_err() && check("0.0000000001").is_err() && check("inf").is_err());
    }
}
