//! Ranges: those that clients ask for, and those that chunks of an upload say they are.

/// What a `Range` header asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Range {
    /// From the first to before the second.
    Part(u64, u64),
    /// Nothing of it is there.
    Outside,
    /// Not a form that must be served; the whole is sent, as HTTP has it.
    Ignored,
}

/// Reads a `Range` header of a blob with so many bytes.
pub fn parse_range(text: &str, size: u64) -> Range {
    let Some((first, last)) = text.strip_prefix("bytes=").and_then(|spec| spec.split_once('-')) else {
        return Range::Ignored;
    };
    let number = |text: &str| text.trim().parse::<u64>().ok();
    match (first.trim(), last.trim()) {
        ("", length) => match number(length) {
            Some(0) => Range::Outside,
            Some(_) if size == 0 => Range::Outside,
            Some(length) => Range::Part(size.saturating_sub(length), size),
            None => Range::Ignored,
        },
        (first, last) => match (number(first), number(last), last) {
            (Some(first), None, "") if first < size => Range::Part(first, size),
            (Some(first), Some(last), _) if last < first => Range::Ignored,
            (Some(first), Some(last), _) if first < size => {
                Range::Part(first, last.saturating_add(1).min(size))
            }
            (Some(_), Some(_), _) | (Some(_), None, "") => Range::Outside,
            _ => Range::Ignored,
        },
    }
}

/// `FIRST-LAST`, with or without HTTP's `bytes ` in front and `/TOTAL` behind.
pub fn parse_chunk(text: &str) -> Option<(u64, u64)> {
    let text = text.strip_prefix("bytes ").unwrap_or(text);
    let (first, last) = text.split('/').next()?.split_once('-')?;
    let (first, last) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
    // The length of the range must be a number too.
    (first <= last && last < u64::MAX).then_some((first, last))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        for (text, size, range) in [
            ("bytes=0-0", 10, Range::Part(0, 1)),
            ("bytes=0-", 10, Range::Part(0, 10)),
            ("bytes=5-100", 10, Range::Part(5, 10)),
            ("bytes=-3", 10, Range::Part(7, 10)),
            ("bytes=-30", 10, Range::Part(0, 10)),
            ("bytes=10-", 10, Range::Outside),
            ("bytes=10-12", 10, Range::Outside),
            ("bytes=-0", 10, Range::Outside),
            ("bytes=0-", 0, Range::Outside),
            ("bytes=0-18446744073709551615", 10, Range::Part(0, 10)),
            ("bytes=5-4", 10, Range::Ignored),
            ("bytes=0-1,3-4", 10, Range::Ignored),
            ("bytes=x-", 10, Range::Ignored),
            ("items=0-1", 10, Range::Ignored),
            ("bytes=99999999999999999999-", 10, Range::Ignored),
        ] {
            assert_eq!(parse_range(text, size), range, "{text}");
        }
    }

    #[test]
    fn chunks() {
        for (text, range) in [
            ("0-9", Some((0, 9))),
            ("bytes 5-9/10", Some((5, 9))),
            ("5-5", Some((5, 5))),
            ("9-5", None),
            ("-5", None),
            ("5-", None),
            ("x", None),
            ("0-18446744073709551615", None),
        ] {
            assert_eq!(parse_chunk(text), range, "{text}");
        }
    }
}
