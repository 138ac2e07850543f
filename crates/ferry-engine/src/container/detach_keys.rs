//! The keys that let go of a container (`ctrl-p,ctrl-q`), found in a stream of input. Pure.

/// Docker's default.
const DEFAULT: [u8; 2] = [0x10, 0x11];

/// A key sequence and how much of it has been seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DetachKeys {
    keys: Vec<u8>,
    seen: usize,
}

/// A key that cannot be meant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Invalid detach keys ({keys}) provided: Unknown character: '{unknown}'")]
pub struct InvalidKeys {
    /// As given.
    pub keys: String,
    /// The part that is wrong.
    pub unknown: String,
}

/// What a piece of input means.
#[derive(Debug, PartialEq, Eq)]
pub enum Scan {
    /// These bytes are for the container; a begun sequence is kept back.
    Pass(Vec<u8>),
    /// The sequence is complete.
    Detach,
}

impl Default for DetachKeys {
    fn default() -> Self {
        Self { keys: DEFAULT.into(), seen: 0 }
    }
}

impl DetachKeys {
    /// Reads `ctrl-p,ctrl-q`, `a,b`, `DEL`; nothing means the default.
    pub fn parse(text: &str) -> Result<Self, InvalidKeys> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let keys = text.split(',').map(|name| key(name).ok_or_else(|| unknown(text, name)));
        Ok(Self { keys: keys.collect::<Result<_, _>>()?, seen: 0 })
    }

    /// Looks at a piece of input.
    pub fn scan(&mut self, input: &[u8]) -> Scan {
        let mut pass = Vec::with_capacity(input.len() + self.seen);
        for byte in input {
            if *byte == self.keys[self.seen] {
                self.seen += 1;
                if self.seen == self.keys.len() {
                    self.seen = 0;
                    return Scan::Detach;
                }
                continue;
            }
            pass.extend_from_slice(&self.keys[..self.seen]);
            self.seen = 0;
            if *byte == self.keys[0] && self.keys.len() > 1 {
                self.seen = 1;
            } else {
                pass.push(*byte);
            }
        }
        Scan::Pass(pass)
    }
}

fn unknown(keys: &str, name: &str) -> InvalidKeys {
    InvalidKeys { keys: keys.to_owned(), unknown: name.to_owned() }
}

fn key(name: &str) -> Option<u8> {
    if let Some(control) = name.strip_prefix("ctrl-") {
        return match control.as_bytes() {
            [letter @ b'a'..=b'z'] => Some(letter - b'a' + 1),
            [symbol @ (b'@' | b'[' | b'\\' | b']' | b'^' | b'_')] => Some(symbol & 0x1f),
            _ => None,
        };
    }
    match name.as_bytes() {
        [byte] => Some(*byte),
        b"DEL" => Some(0x7f),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_read() {
        assert_eq!(DetachKeys::parse("").unwrap().keys, DEFAULT);
        assert_eq!(DetachKeys::parse("ctrl-p,ctrl-q").unwrap().keys, DEFAULT);
        assert_eq!(DetachKeys::parse("a,ctrl-],DEL").unwrap().keys, [b'a', 0x1d, 0x7f]);
        assert_eq!(
            DetachKeys::parse("ctrl-1").unwrap_err().to_string(),
            "Invalid detach keys (ctrl-1) provided: Unknown character: 'ctrl-1'"
        );
        assert!(DetachKeys::parse("a,,b").is_err());
    }

    #[test]
    fn a_sequence_is_found_across_pieces_and_false_starts_pass() {
        let mut keys = DetachKeys::default();
        assert_eq!(keys.scan(b"ab\x10"), Scan::Pass(b"ab".into()));
        assert_eq!(keys.scan(b"\x11"), Scan::Detach);
        assert_eq!(keys.scan(b"\x10x"), Scan::Pass(b"\x10x".into()));
        assert_eq!(keys.scan(b"\x10\x10\x11"), Scan::Detach);
        let mut single = DetachKeys::parse("ctrl-c").unwrap();
        assert_eq!(single.scan(b"ab\x03"), Scan::Detach);
    }
}
