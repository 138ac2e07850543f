//! The keys that leave a container running and give the terminal back: `ctrl-p,ctrl-q`.

/// A sequence of keys and how much of it has been typed.
#[derive(Debug, Clone)]
pub struct DetachKeys {
    keys: Vec<u8>,
    typed: usize,
}

impl DetachKeys {
    /// Reads `ctrl-p,ctrl-q`, `a`, `ctrl-@`; the empty text means the default.
    pub fn parse(text: &str) -> Result<DetachKeys, String> {
        let text = if text.is_empty() { "ctrl-p,ctrl-q" } else { text };
        let keys = text.split(',').map(|key| {
            code(key).ok_or_else(|| format!("invalid detach keys ({text}): Unknown character: '{key}'"))
        });
        Ok(DetachKeys { keys: keys.collect::<Result<_, _>>()?, typed: 0 })
    }

    /// Takes typed bytes; gives those to pass on, and whether the sequence is complete. The beginning of a
    /// sequence is held back until it is clear that it is none.
    pub fn filter(&mut self, bytes: &[u8]) -> (Vec<u8>, bool) {
        let mut out = Vec::with_capacity(bytes.len());
        for byte in bytes {
            if self.keys[self.typed] == *byte {
                self.typed += 1;
                if self.typed == self.keys.len() {
                    return (out, true);
                }
                continue;
            }
            out.extend_from_slice(&self.keys[..self.typed]);
            self.typed = usize::from(self.keys[0] == *byte);
            if self.typed == 0 {
                out.push(*byte);
            } else if self.keys.len() == 1 {
                return (out, true);
            }
        }
        (out, false)
    }
}

fn code(key: &str) -> Option<u8> {
    let single = |text: &str| match text.as_bytes() {
        [byte] => Some(*byte),
        _ => None,
    };
    match key.strip_prefix("ctrl-") {
        Some(letter) => match single(letter)? {
            letter @ b'a'..=b'z' => Some(letter - b'a' + 1),
            b'@' => Some(0),
            b'[' => Some(27),
            b'\\' => Some(28),
            b']' => Some(29),
            b'^' => Some(30),
            b'_' => Some(31),
            _ => None,
        },
        None => single(key),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sequences() {
        let run = |keys: &str, pieces: &[&[u8]]| {
            let mut keys = DetachKeys::parse(keys).unwrap();
            let mut out = Vec::new();
            for piece in pieces {
                let (bytes, done) = keys.filter(piece);
                out.extend(bytes);
                if done {
                    return (out, true);
                }
            }
            (out, false)
        };
        assert_eq!(run("", &[b"ls\n"]), (b"ls\n".to_vec(), false));
        assert_eq!(run("", &[b"a\x10\x11b"]), (b"a".to_vec(), true));
        assert_eq!(run("", &[b"\x10", b"\x11"]), (b"".to_vec(), true));
        assert_eq!(run("", &[b"\x10x"]), (b"\x10x".to_vec(), false));
        assert_eq!(run("", &[b"\x10\x10\x11"]), (b"\x10".to_vec(), true));
        assert_eq!(run("x", &[b"ax"]), (b"a".to_vec(), true));
        assert_eq!(run("ctrl-@", &[b"\0"]), (b"".to_vec(), true));
        assert!(DetachKeys::parse("ctrl-1").is_err() && DetachKeys::parse("ab").is_err());
    }
}
