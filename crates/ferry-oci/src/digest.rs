//! Content digests: `sha256:<64 hex>` and `sha512:<128 hex>`.
//!
//! Owns parsing, printing and computing. A [`Digest`] that exists is well formed, so its hex part
//! is safe as a file name.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::Digest as _;

/// Hash function of a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Algorithm {
    /// SHA-256, what every registry uses.
    Sha256,
    /// SHA-512, allowed by the OCI image specification.
    Sha512,
}

impl Algorithm {
    /// The name in front of the colon.
    pub fn as_str(self) -> &'static str {
        match self {
            Algorithm::Sha256 => "sha256",
            Algorithm::Sha512 => "sha512",
        }
    }

    /// Number of hex digits behind the colon.
    pub fn hex_len(self) -> usize {
        match self {
            Algorithm::Sha256 => 64,
            Algorithm::Sha512 => 128,
        }
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A well-formed content digest.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest {
    algorithm: Algorithm,
    hex: Box<str>,
}

/// Why a text is not a digest.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DigestError {
    /// There is no `algorithm:` in front.
    #[error("invalid digest {0:?}: no algorithm in front (expected sha256:<64 hex digits>)")]
    NoAlgorithm(String),
    /// The algorithm is none that ferry computes.
    #[error("unsupported digest algorithm {algorithm:?} in {digest:?} (supported: sha256, sha512)")]
    UnsupportedAlgorithm {
        /// The whole text.
        digest: String,
        /// The part in front of the colon.
        algorithm: String,
    },
    /// The hex part is too short or too long.
    #[error("invalid digest {digest:?}: {found} hex digits, {algorithm} has {expected}")]
    Length {
        /// The whole text.
        digest: String,
        /// The algorithm named.
        algorithm: Algorithm,
        /// Digits found.
        found: usize,
        /// Digits wanted.
        expected: usize,
    },
    /// A character that is not a lower-case hex digit.
    #[error("invalid digest {digest:?}: {character:?} at position {position} is not a lower-case hex digit")]
    Character {
        /// The whole text.
        digest: String,
        /// The bad character.
        character: char,
        /// Its byte offset in the whole text.
        position: usize,
    },
}

/// Outside texts are cut to this many characters in errors.
const ERROR_TEXT_MAX: usize = 200;

fn shorten(text: &str) -> String {
    match text.char_indices().nth(ERROR_TEXT_MAX) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text.to_owned(),
    }
}

impl Digest {
    /// Parses `algorithm:hex`.
    pub fn parse(text: &str) -> Result<Digest, DigestError> {
        let Some((name, hex)) = text.split_once(':') else {
            return Err(DigestError::NoAlgorithm(shorten(text)));
        };
        let algorithm = match name {
            "sha256" => Algorithm::Sha256,
            "sha512" => Algorithm::Sha512,
            _ => {
                return Err(DigestError::UnsupportedAlgorithm {
                    digest: shorten(text),
                    algorithm: shorten(name),
                });
            }
        };
        if let Some((offset, character)) =
            hex.char_indices().find(|(_, c)| !matches!(c, '0'..='9' | 'a'..='f'))
        {
            let position = name.len() + 1 + offset;
            return Err(DigestError::Character { digest: shorten(text), character, position });
        }
        if hex.len() != algorithm.hex_len() {
            return Err(DigestError::Length {
                digest: shorten(text),
                algorithm,
                found: hex.len(),
                expected: algorithm.hex_len(),
            });
        }
        Ok(Digest { algorithm, hex: hex.into() })
    }

    /// The SHA-256 of `bytes`.
    pub fn sha256_of(bytes: &[u8]) -> Digest {
        let mut hasher = Hasher::new(Algorithm::Sha256);
        hasher.update(bytes);
        hasher.finish()
    }

    /// The hash function.
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// The lower-case hex digits, without the algorithm.
    pub fn hex(&self) -> &str {
        &self.hex
    }

    /// The first twelve hex digits, as shown to people.
    pub fn short(&self) -> &str {
        &self.hex[..12]
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.algorithm, self.hex)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Digest {
    type Err = DigestError;
    fn from_str(text: &str) -> Result<Digest, DigestError> {
        Digest::parse(text)
    }
}

impl TryFrom<String> for Digest {
    type Error = DigestError;
    fn try_from(text: String) -> Result<Digest, DigestError> {
        Digest::parse(&text)
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> String {
        digest.to_string()
    }
}

/// Computes a [`Digest`] over bytes that come in pieces.
#[derive(Clone)]
pub struct Hasher(State);

#[derive(Clone)]
enum State {
    Sha256(sha2::Sha256),
    Sha512(Box<sha2::Sha512>),
}

impl Hasher {
    /// A hasher that has seen nothing.
    pub fn new(algorithm: Algorithm) -> Hasher {
        Hasher(match algorithm {
            Algorithm::Sha256 => State::Sha256(sha2::Sha256::new()),
            Algorithm::Sha512 => State::Sha512(Box::default()),
        })
    }

    /// Takes the next bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        match &mut self.0 {
            State::Sha256(hasher) => hasher.update(bytes),
            State::Sha512(hasher) => hasher.update(bytes),
        }
    }

    /// The digest of all bytes taken.
    pub fn finish(self) -> Digest {
        let (algorithm, hex) = match self.0 {
            State::Sha256(hasher) => (Algorithm::Sha256, hex::encode(hasher.finalize())),
            State::Sha512(hasher) => (Algorithm::Sha512, hex::encode(hasher.finalize())),
        };
        Digest { algorithm, hex: hex.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EMPTY: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn computes_and_parses_back() {
        assert_eq!(Digest::sha256_of(b"").to_string(), EMPTY);
        assert_eq!(Digest::parse(EMPTY).unwrap(), Digest::sha256_of(b""));
        let mut hasher = Hasher::new(Algorithm::Sha512);
        hasher.update(b"");
        let digest = hasher.finish();
        assert_eq!(Digest::parse(&digest.to_string()).unwrap(), digest);
        assert_eq!(digest.algorithm(), Algorithm::Sha512);
    }

    #[test]
    fn errors_name_the_bad_part() {
        let table = [
            ("", "no algorithm"),
            ("e3b0c4", "no algorithm"),
            ("md5:abc", "unsupported digest algorithm \"md5\""),
            ("sha256:abc", "3 hex digits, sha256 has 64"),
            (&EMPTY.to_uppercase().replace("SHA256", "sha256"), "'E' at position 7"),
            (&format!("{EMPTY}0"), "65 hex digits"),
            ("sha256:../../etc/passwd", "'.' at position 7"),
        ];
        for (text, expected) in table {
            let error = Digest::parse(text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }

    #[test]
    fn serde_is_the_text() {
        let digest: Digest = serde_json::from_str(&format!("{EMPTY:?}")).unwrap();
        assert_eq!(serde_json::to_string(&digest).unwrap(), format!("{EMPTY:?}"));
        assert!(serde_json::from_str::<Digest>("\"sha256:x\"").is_err());
    }
}
