//! Bytes of a stream to records of the json-file format.
//!
//! Owns line splitting (16 KiB partials) and JSON escaping exactly as Docker's daemon does them, with
//! one difference: a partial is never cut inside a UTF-8 character, which Docker would damage.
//! Never touches a file.
//!
//! Speed: a batch is checked once for bytes that need escaping, eight or more bytes per instruction;
//! lines of a clean batch are copied whole between two ready-made pieces of JSON.

use memchr::{memchr, memchr_iter};

use super::Stream;

/// Docker's copier reads lines into a buffer of this size; longer lines are cut into partials.
pub const MAX_LINE: usize = 16 * 1024;

const PREFIX: &[u8] = b"{\"log\":\"";
const HEX: &[u8; 16] = b"0123456789abcdef";

/// Splits one stream into records.
#[derive(Debug)]
pub struct LineEncoder {
    stream: Stream,
    /// `,"attrs":{...}` or empty.
    attrs: Vec<u8>,
    /// What follows a whole line: `\n","stream":...,"time":"..."}` and a newline.
    suffix: Vec<u8>,
    /// The beginning of a line whose end has not come.
    unfinished: Vec<u8>,
}

impl LineEncoder {
    /// `attrs_json` is a JSON object, or empty for none.
    pub fn new(stream: Stream, attrs_json: &str) -> LineEncoder {
        let mut attrs = Vec::new();
        if !attrs_json.is_empty() {
            attrs.extend_from_slice(b",\"attrs\":");
            attrs.extend_from_slice(attrs_json.as_bytes());
        }
        let mut encoder = LineEncoder { stream, attrs, suffix: Vec::new(), unfinished: Vec::new() };
        encoder.set_time("1970-01-01T00:00:00Z");
        encoder
    }

    /// Sets the time of the records to come.
    pub fn set_time(&mut self, time: &str) {
        self.suffix.clear();
        self.suffix.extend_from_slice(b"\\n\",\"stream\":\"");
        self.suffix.extend_from_slice(self.stream.name().as_bytes());
        self.suffix.push(b'"');
        self.suffix.extend_from_slice(&self.attrs);
        self.suffix.extend_from_slice(b",\"time\":\"");
        self.suffix.extend_from_slice(time.as_bytes());
        self.suffix.extend_from_slice(b"\"}\n");
    }

    /// Appends records to `out` until it holds at least `limit` bytes or `input` is used up; returns
    /// how much of `input` was used. The beginning of an unfinished line counts as used and is kept.
    pub fn encode(&mut self, input: &[u8], out: &mut Vec<u8>, limit: usize) -> usize {
        let clean = is_clean_but_newlines(input);
        let mut used = 0;
        while used < input.len() && out.len() < limit {
            if self.unfinished.is_empty() {
                used += self.encode_whole_lines(&input[used..], clean, out, limit);
                if out.len() >= limit {
                    break;
                }
            }
            used += self.extend_unfinished(&input[used..], out);
        }
        used
    }

    /// True when the beginning of a line is kept.
    pub fn has_unfinished(&self) -> bool {
        !self.unfinished.is_empty()
    }

    /// Writes the beginning of an unfinished line as a partial, but for an incomplete character at its
    /// end when more bytes may come.
    pub fn flush_unfinished(&mut self, out: &mut Vec<u8>, at_end: bool) {
        let cut = if at_end { self.unfinished.len() } else { whole_characters(&self.unfinished) };
        if cut > 0 {
            self.record(Piece::UnfinishedPartial(cut), out);
            self.unfinished.drain(..cut);
        }
        if self.unfinished.is_empty() {
            self.unfinished = Vec::new();
        }
    }

    /// Lines that lie whole in `input`; stops before one that needs cutting or has no end yet.
    fn encode_whole_lines(&self, input: &[u8], clean: bool, out: &mut Vec<u8>, limit: usize) -> usize {
        let mut start = 0;
        for end in memchr_iter(b'\n', input) {
            if end - start >= MAX_LINE {
                break;
            }
            let line = &input[start..end];
            out.extend_from_slice(PREFIX);
            if clean {
                out.extend_from_slice(line);
            } else {
                escape(line, out);
            }
            out.extend_from_slice(&self.suffix);
            start = end + 1;
            if out.len() >= limit {
                break;
            }
        }
        start
    }

    /// Adds to the unfinished line up to its end or its largest size, whichever comes first.
    fn extend_unfinished(&mut self, input: &[u8], out: &mut Vec<u8>) -> usize {
        let room = MAX_LINE - self.unfinished.len();
        let window = &input[..input.len().min(room)];
        if let Some(end) = memchr(b'\n', window) {
            self.unfinished.extend_from_slice(&window[..end]);
            self.record(Piece::UnfinishedLine, out);
            self.unfinished.clear();
            return end + 1;
        }
        self.unfinished.extend_from_slice(window);
        if self.unfinished.len() == MAX_LINE {
            // A tail that is no character at all is cut where Docker cuts.
            let cut = match whole_characters(&self.unfinished) {
                0 => MAX_LINE,
                cut => cut,
            };
            self.record(Piece::UnfinishedPartial(cut), out);
            self.unfinished.drain(..cut);
        }
        window.len()
    }

    fn record(&self, piece: Piece, out: &mut Vec<u8>) {
        out.extend_from_slice(PREFIX);
        match piece {
            Piece::UnfinishedLine => {
                escape(&self.unfinished, out);
                out.extend_from_slice(&self.suffix);
            }
            Piece::UnfinishedPartial(cut) => {
                escape(&self.unfinished[..cut], out);
                out.extend_from_slice(&self.suffix[2..]);
            }
        }
    }
}

enum Piece {
    UnfinishedLine,
    UnfinishedPartial(usize),
}

/// Whether the bytes can be copied into JSON as they are, newlines apart.
fn is_clean_but_newlines(bytes: &[u8]) -> bool {
    // A plain fold over a block compiles to vector instructions; the early exit is per block.
    bytes.chunks(4096).all(|block| {
        let dirty =
            block.iter().fold(0u8, |dirty, &byte| dirty | u8::from(needs_attention(byte) & (byte != b'\n')));
        dirty == 0
    })
}

#[inline(always)]
#[allow(clippy::manual_range_contains)] // one comparison per line compiles to vector instructions
fn needs_attention(byte: u8) -> bool {
    (byte < 0x20)
        | (byte >= 0x80)
        | (byte == b'"')
        | (byte == b'\\')
        | (byte == b'<')
        | (byte == b'>')
        | (byte == b'&')
}

/// Length of the longest prefix that does not end inside a character that more bytes may complete.
fn whole_characters(bytes: &[u8]) -> usize {
    for back in 1..=bytes.len().min(3) {
        let at = bytes.len() - back;
        let wanted = match bytes[at] {
            0xC2..=0xDF => 2,
            0xE0..=0xEF => 3,
            0xF0..=0xF4 => 4,
            0x80..=0xBF => continue,
            _ => return bytes.len(),
        };
        return if back < wanted { at } else { bytes.len() };
    }
    bytes.len()
}

/// Appends `bytes` as the inside of a JSON string, byte for byte as Docker's `jsonlog` package does.
pub fn escape(bytes: &[u8], out: &mut Vec<u8>) {
    let mut start = 0;
    let mut at = 0;
    while at < bytes.len() {
        at += clean_length(&bytes[at..]);
        let Some(&byte) = bytes.get(at) else { break };
        out.extend_from_slice(&bytes[start..at]);
        if byte < 0x80 {
            escape_ascii(byte, out);
            at += 1;
        } else {
            at += copy_character(&bytes[at..], out);
        }
        start = at;
    }
    out.extend_from_slice(&bytes[start..]);
}

/// How many bytes at the front can be copied as they are.
fn clean_length(bytes: &[u8]) -> usize {
    let mut words = bytes.chunks_exact(8);
    let mut length = 0;
    for word in &mut words {
        let marks = attention_marks(u64::from_le_bytes(word.try_into().unwrap_or_default()));
        if marks != 0 {
            return length + marks.trailing_zeros() as usize / 8;
        }
        length += 8;
    }
    length + words.remainder().iter().take_while(|&&byte| !needs_attention(byte)).count()
}

/// The same question for eight bytes at once: the lowest set bit belongs to the first byte that needs
/// escaping. (Bits above it may be wrong: a subtraction borrows from the bytes after a hit.)
fn attention_marks(word: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const HIGH: u64 = 0x8080_8080_8080_8080;
    let below = |word: u64, limit: u8| word.wrapping_sub(ONES * u64::from(limit)) & !word & HIGH;
    let equal = |word: u64, byte: u8| below(word ^ (ONES * u64::from(byte)), 1);
    (word & HIGH)
        | below(word, 0x20)
        | equal(word | (ONES * 4), b'&') // also '"', which differs in that bit only
        | equal(word | (ONES * 2), b'>') // also '<'
        | equal(word, b'\\')
}

fn escape_ascii(byte: u8, out: &mut Vec<u8>) {
    match byte {
        b'\\' | b'"' => out.extend_from_slice(&[b'\\', byte]),
        b'\n' => out.extend_from_slice(b"\\n"),
        b'\r' => out.extend_from_slice(b"\\r"),
        _ => {
            out.extend_from_slice(b"\\u00");
            out.push(HEX[usize::from(byte >> 4)]);
            out.push(HEX[usize::from(byte & 0xF)]);
        }
    }
}

/// Copies the run of multi-byte characters at the front, replacing what is none; returns its length.
fn copy_character(bytes: &[u8], out: &mut Vec<u8>) -> usize {
    let run = bytes.iter().take_while(|&&byte| byte >= 0x80).count();
    let mut rest = &bytes[..run];
    while !rest.is_empty() {
        let (valid, bad) = match std::str::from_utf8(rest) {
            Ok(text) => (text, false),
            Err(error) => {
                let text = std::str::from_utf8(&rest[..error.valid_up_to()]).unwrap_or_default();
                (text, true)
            }
        };
        copy_valid(valid, out);
        rest = &rest[valid.len()..];
        if bad {
            // Go's decoder steps over one byte at a time.
            out.extend_from_slice(b"\\ufffd");
            rest = &rest[1..];
        }
    }
    run
}

/// U+2028 and U+2029 end lines in JavaScript, so Go escapes them.
fn copy_valid(text: &str, out: &mut Vec<u8>) {
    let mut start = 0;
    for (at, separator) in text.match_indices(['\u{2028}', '\u{2029}']) {
        out.extend_from_slice(&text.as_bytes()[start..at]);
        out.extend_from_slice(if separator == "\u{2028}" { b"\\u2028" } else { b"\\u2029" });
        start = at + separator.len();
    }
    out.extend_from_slice(&text.as_bytes()[start..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn escaped(bytes: &[u8]) -> String {
        let mut out = Vec::new();
        escape(bytes, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn escapes_as_docker_does() {
        for (input, expected) in [
            (&b"plain ~\x7f"[..], "plain ~\x7f"),
            (b"\"\\/", r#"\"\\/"#),
            (b"<a href='x'>&</a>", r"\u003ca href='x'\u003e\u0026\u003c/a\u003e"),
            (b"\n\r\t\x00\x1b[0m\x08", r"\n\r\u0009\u0000\u001b[0m\u0008"),
            ("grün 日本 🚢".as_bytes(), "grün 日本 🚢"),
            ("a\u{2028}b\u{2029}".as_bytes(), r"a\u2028b\u2029"),
            ("\u{fffd}".as_bytes(), "\u{fffd}"),
            (b"\xff\xfe", r"\ufffd\ufffd"),
            (b"a\xe2\x82z", r"a\ufffd\ufffdz"),
            (b"\xed\xa0\x80", r"\ufffd\ufffd\ufffd"),
            (b"\xc3\xa9\xc3", "é\\ufffd"),
            (b"0123456789abcdef0123456789abcde\"f", r#"0123456789abcdef0123456789abcde\"f"#),
        ] {
            assert_eq!(escaped(input), expected, "{input:?}");
        }
    }

    #[test]
    fn eight_bytes_at_once_agree_with_one() {
        for byte in 0..=255u8 {
            for at in 0..8 {
                let mut word = *b"abcdefgh";
                word[at] = byte;
                let expected = if needs_attention(byte) { at } else { 8 };
                assert_eq!(clean_length(&word), expected, "{byte:#x} at {at}");
            }
        }
        assert_eq!(clean_length(b"ab\x1f\"cdef"), 2);
    }

    fn records(inputs: &[&[u8]], attrs: &str) -> String {
        let mut encoder = LineEncoder::new(Stream::Stdout, attrs);
        encoder.set_time("T");
        let mut out = Vec::new();
        for input in inputs {
            assert_eq!(encoder.encode(input, &mut out, usize::MAX), input.len());
        }
        encoder.flush_unfinished(&mut out, true);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn lines_become_records() {
        assert_eq!(
            records(&[b"one\ntwo", b" halves\n\nno end"], ""),
            concat!(
                "{\"log\":\"one\\n\",\"stream\":\"stdout\",\"time\":\"T\"}\n",
                "{\"log\":\"two halves\\n\",\"stream\":\"stdout\",\"time\":\"T\"}\n",
                "{\"log\":\"\\n\",\"stream\":\"stdout\",\"time\":\"T\"}\n",
                "{\"log\":\"no end\",\"stream\":\"stdout\",\"time\":\"T\"}\n",
            )
        );
        assert_eq!(
            records(&[b"x\n"], r#"{"tag":"web"}"#),
            "{\"log\":\"x\\n\",\"stream\":\"stdout\",\"attrs\":{\"tag\":\"web\"},\"time\":\"T\"}\n"
        );
    }

    /// The lengths of the records' texts, with `+` for those that end a line.
    fn lengths(inputs: &[&[u8]]) -> Vec<String> {
        records(inputs, "")
            .lines()
            .map(|line| {
                let value: serde_json::Value = serde_json::from_str(line).unwrap();
                let text = value["log"].as_str().unwrap();
                let whole = if text.ends_with('\n') { "+" } else { "" };
                format!("{}{whole}", text.trim_end_matches('\n').len())
            })
            .collect()
    }

    #[test]
    fn long_lines_are_cut_where_docker_cuts() {
        let line = |length: usize| [vec![b'x'; length], vec![b'\n']].concat();
        assert_eq!(lengths(&[&line(MAX_LINE - 1)]), ["16383+"]);
        assert_eq!(lengths(&[&line(MAX_LINE)]), ["16384", "0+"]);
        assert_eq!(lengths(&[&line(MAX_LINE + 1)]), ["16384", "1+"]);
        assert_eq!(lengths(&[&line(3 * MAX_LINE - 1)]), ["16384", "16384", "16383+"]);
        let (head, tail) = (vec![b'x'; 20_000], line(13_000));
        assert_eq!(lengths(&[&head, &tail]), ["16384", "16384", "232+"]);
    }

    #[test]
    fn cuts_never_fall_inside_a_character() {
        let text = format!("{}{}\n", "x".repeat(MAX_LINE - 1), "é日🚢".repeat(5000));
        for piece in [1, 3, 1000, text.len()] {
            let inputs: Vec<&[u8]> = text.as_bytes().chunks(piece).collect();
            let joined: String = records(&inputs, "")
                .lines()
                .map(|line| {
                    let value: serde_json::Value = serde_json::from_str(line).unwrap();
                    value["log"].as_str().unwrap().to_owned()
                })
                .collect();
            assert!(joined == text, "pieces of {piece}");
        }
        let noise = vec![0x80u8; MAX_LINE * 2];
        assert_eq!(records(&[&noise], "").matches("ufffd").count(), noise.len());
    }

    #[test]
    fn the_limit_stops_after_a_record() {
        let mut encoder = LineEncoder::new(Stream::Stderr, "");
        let mut out = Vec::new();
        let input = b"a\nb\nc";
        assert_eq!(encoder.encode(input, &mut out, 1), 2);
        assert_eq!(encoder.encode(&input[2..], &mut out, 1), 0);
        let length = out.len();
        assert_eq!(encoder.encode(&input[2..], &mut out, length + 1), 2);
        assert_eq!(encoder.encode(&input[4..], &mut out, usize::MAX), 1);
        assert!(encoder.has_unfinished());
    }

    #[test]
    fn a_prompt_is_flushed_without_its_incomplete_character() {
        let mut encoder = LineEncoder::new(Stream::Stdout, "");
        let mut out = Vec::new();
        encoder.encode(b"name: \xe2\x82", &mut out, usize::MAX);
        encoder.flush_unfinished(&mut out, false);
        assert!(out.starts_with(b"{\"log\":\"name: \""));
        assert!(encoder.has_unfinished());
        out.clear();
        encoder.encode(b"\xac\n", &mut out, usize::MAX);
        assert!(out.starts_with("{\"log\":\"€\\n\"".as_bytes()));
    }
}
