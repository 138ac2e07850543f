//! One record of a json-file log back to the bytes it was made of.
//!
//! Owns parsing of records, those written by Docker's daemon included. Decodes in place: the text of a
//! record is never longer than its JSON. Never reads files.

use std::ops::Range;

use memchr::{memchr, memchr2};

use super::Stream;

/// Where the parts of a record lie in the buffer that was decoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Decoded {
    pub stream: Stream,
    pub text: Range<usize>,
    pub time: Range<usize>,
    /// A JSON object.
    pub attrs: Option<Range<usize>>,
}

const PREFIX: &[u8] = b"{\"log\":\"";

/// Decodes the record `record` (without its newline), whose first byte has the index `base` in the
/// caller's buffer. `None` when it is no record.
pub(super) fn decode(record: &mut [u8], base: usize) -> Option<Decoded> {
    let decoded = decode_usual(record).or_else(|| decode_any(record))?;
    let shift = |range: Range<usize>| range.start + base..range.end + base;
    Some(Decoded {
        stream: decoded.stream,
        text: shift(decoded.text),
        time: shift(decoded.time),
        attrs: decoded.attrs.map(shift),
    })
}

/// The order of members that every writer of the format uses. Changes nothing when it answers `None`
/// before the text was decoded; members after the text are checked first for that reason.
fn decode_usual(record: &mut [u8]) -> Option<Decoded> {
    if !record.starts_with(PREFIX) {
        return None;
    }
    let text_end = string_end(record, PREFIX.len())?;
    let rest = &record[text_end + 1..];
    let (stream, after_stream) = if let Some(rest) = rest.strip_prefix(b",\"stream\":\"stdout\"") {
        (Stream::Stdout, rest)
    } else {
        (Stream::Stderr, rest.strip_prefix(b",\"stream\":\"stderr\"")?)
    };
    let mut at = record.len() - after_stream.len();
    let mut attrs = None;
    if let Some(object) = after_stream.strip_prefix(b",\"attrs\":") {
        let start = record.len() - object.len();
        let length = object_length(object)?;
        attrs = Some(start..start + length);
        at = start + length;
    }
    let time_start = at + record[at..].strip_prefix(b",\"time\":\"").map(|_| b",\"time\":\"".len())?;
    let time_end = time_start + memchr(b'"', &record[time_start..])?;
    if &record[time_end..] != b"\"}" {
        return None;
    }
    let length = unescape(&mut record[PREFIX.len()..text_end])?;
    Some(Decoded { stream, text: PREFIX.len()..PREFIX.len() + length, time: time_start..time_end, attrs })
}

/// Any order of members and white space, for logs that other programs wrote. The parts are laid out
/// anew at the front of the record.
fn decode_any(record: &mut [u8]) -> Option<Decoded> {
    #[derive(serde::Deserialize)]
    struct Any {
        #[serde(default)]
        log: String,
        #[serde(default)]
        stream: String,
        time: String,
        attrs: Option<serde_json::Value>,
    }
    let any: Any = serde_json::from_slice(record).ok()?;
    let stream = if any.stream == "stderr" { Stream::Stderr } else { Stream::Stdout };
    let attrs = any.attrs.map(|attrs| attrs.to_string()).unwrap_or_default();
    let (text_end, time_end) = (any.log.len(), any.log.len() + any.time.len());
    let end = time_end + attrs.len();
    record.get_mut(..text_end)?.copy_from_slice(any.log.as_bytes());
    record.get_mut(text_end..time_end)?.copy_from_slice(any.time.as_bytes());
    record.get_mut(time_end..end)?.copy_from_slice(attrs.as_bytes());
    let attrs = (end > time_end).then_some(time_end..end);
    Some(Decoded { stream, text: 0..text_end, time: text_end..time_end, attrs })
}

/// Index of the quote that ends the string whose first character is at `start`.
fn string_end(bytes: &[u8], start: usize) -> Option<usize> {
    let mut at = start;
    loop {
        at += memchr2(b'"', b'\\', bytes.get(at..)?)?;
        if bytes[at] == b'"' {
            return Some(at);
        }
        at += 2;
    }
}

/// Length of the JSON object at the front.
fn object_length(bytes: &[u8]) -> Option<usize> {
    let mut depth = 0usize;
    let mut at = 0;
    loop {
        match bytes.get(at)? {
            b'"' => at = string_end(bytes, at + 1)?,
            b'{' => depth += 1,
            b'}' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return Some(at + 1);
                }
            }
            _ if depth == 0 => return None,
            _ => {}
        }
        at += 1;
    }
}

/// Decodes JSON escapes in place; returns the new length.
fn unescape(text: &mut [u8]) -> Option<usize> {
    let Some(first) = memchr(b'\\', text) else { return Some(text.len()) };
    let (mut from, mut to) = (first, first);
    while from < text.len() {
        // Byte by byte: where there is one escape there are many, a few bytes apart.
        if text[from] != b'\\' {
            text[to] = text[from];
            (from, to) = (from + 1, to + 1);
            continue;
        }
        let (character, length) = escape_at(&text[from..])?;
        from += length;
        to += character.encode_utf8(&mut text[to..]).len();
    }
    Some(to)
}

/// The character an escape stands for and the escape's length.
fn escape_at(text: &[u8]) -> Option<(char, usize)> {
    let simple = match text.get(1)? {
        b'n' => '\n',
        b'r' => '\r',
        b't' => '\t',
        b'b' => '\u{8}',
        b'f' => '\u{c}',
        byte @ (b'"' | b'\\' | b'/') => char::from(*byte),
        b'u' => return unicode_escape(text),
        _ => return None,
    };
    Some((simple, 2))
}

fn unicode_escape(text: &[u8]) -> Option<(char, usize)> {
    let high = hex4(text.get(2..6)?)?;
    if (0xD800..0xDC00).contains(&high)
        && text.get(6..8) == Some(b"\\u")
        && let Some(low) = text.get(8..12).and_then(hex4)
        && (0xDC00..0xE000).contains(&low)
    {
        let code = 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
        return Some((char::from_u32(code)?, 12));
    }
    // A lone surrogate reads as the replacement character, as in Go.
    Some((char::from_u32(high).unwrap_or('\u{fffd}'), 6))
}

fn hex4(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0, |value, digit| Some(value << 4 | char::from(*digit).to_digit(16)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::encode::LineEncoder;

    fn check(record: &str, stream: Stream, text: &str, time: &str, attrs: Option<&str>) {
        let mut bytes = record.as_bytes().to_vec();
        let decoded = decode(&mut bytes, 0).unwrap_or_else(|| panic!("{record}"));
        let part = |range: Range<usize>| String::from_utf8(bytes[range].to_vec()).unwrap();
        assert_eq!(decoded.stream, stream, "{record}");
        assert_eq!(part(decoded.text), text, "{record}");
        assert_eq!(part(decoded.time), time, "{record}");
        assert_eq!(decoded.attrs.map(part).as_deref(), attrs, "{record}");
    }

    #[test]
    fn decodes_what_writers_write() {
        use Stream::{Stderr, Stdout};
        check(r#"{"log":"a\n","stream":"stdout","time":"T"}"#, Stdout, "a\n", "T", None);
        check(r#"{"log":"","stream":"stderr","time":"T"}"#, Stderr, "", "T", None);
        check(
            r#"{"log":"\"\\\/\u003c\u00e9\ud83d\udea2\ud800x","stream":"stdout","time":"T"}"#,
            Stdout,
            "\"\\/<é🚢\u{fffd}x",
            "T",
            None,
        );
        check(
            r#"{"log":"x","stream":"stdout","attrs":{"a":"}\"","b":{}},"time":"T"}"#,
            Stdout,
            "x",
            "T",
            Some(r#"{"a":"}\"","b":{}}"#),
        );
        check(r#"{ "time":"T", "stream":"stderr", "log":"x\n" }"#, Stderr, "x\n", "T", None);
    }

    #[test]
    fn refuses_what_is_no_record() {
        for text in [
            "",
            "{",
            "{\"log\":\"",
            "{\"log\":\"x\\",
            "{\"log\":\"x\"}",
            "[]",
            "\0\0\0",
            "{\"log\":\"x\\q\",\"stream\":\"stdout\",\"time\":\"T\"}",
            "{\"log\":\"x\",\"stream\":\"stdout\",\"attrs\":{,\"time\":\"T\"}",
        ] {
            assert_eq!(decode(&mut text.as_bytes().to_vec(), 0), None, "{text}");
        }
    }

    #[test]
    fn damaged_records_neither_panic_nor_reach_outside() {
        let whole = br#"{"log":"a\u00e9\ud83d\udea2\n","stream":"stdout","attrs":{"k":"v"},"time":"2026-01-01T00:00:00Z"}"#;
        let mut seed = 0x2545_F491_4F6C_DD1Du64;
        let mut random = |below: usize| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            (seed >> 11) as usize % below
        };
        for _ in 0..50_000 {
            let mut record = whole.to_vec();
            for _ in 0..=random(4) {
                if record.is_empty() {
                    break;
                }
                let at = random(record.len());
                match random(3) {
                    0 => record[at] = random(256) as u8,
                    1 => drop(record.remove(at)),
                    _ => record.truncate(at.max(1)),
                }
            }
            if let Some(decoded) = decode(&mut record, 0) {
                let ends = [decoded.text.end, decoded.time.end, decoded.attrs.map_or(0, |attrs| attrs.end)];
                assert!(ends.iter().all(|end| *end <= record.len()));
            }
        }
    }

    #[test]
    fn everything_encoded_decodes_to_itself() {
        let mut seed = 0x9E37_79B9_7F4A_7C15u64;
        for _ in 0..2000 {
            let text: String = (0..50)
                .map(|_| {
                    seed ^= seed << 13;
                    seed ^= seed >> 7;
                    seed ^= seed << 17;
                    let limit = if seed & 1 == 0 { 0x80 } else { 0x11_0000 };
                    char::from_u32((seed >> 8) as u32 % limit).unwrap_or('x')
                })
                .filter(|character| *character != '\n')
                .collect();
            let mut encoder = LineEncoder::new(Stream::Stdout, "");
            let mut record = Vec::new();
            encoder.encode(format!("{text}\n").as_bytes(), &mut record, usize::MAX);
            let length = record.len() - 1;
            let decoded = decode(&mut record[..length], 0).unwrap();
            assert_eq!(record[decoded.text].to_vec(), format!("{text}\n").into_bytes());
        }
    }
}
