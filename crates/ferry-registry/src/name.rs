//! What stands in a request's path: names of repositories, tags, and references to manifests.
//!
//! Every name that exists has been checked against the specification's grammar, so no part of it can be
//! empty, `.` or `..`, and none holds a separator of database keys.

use std::fmt;

use ferry_oci::Digest;

/// Longest name of a repository, as other registries have it.
const NAME_MAX: usize = 255;
/// Longest tag.
const TAG_MAX: usize = 128;

/// The name of a repository: `library/busybox`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(Box<str>);

impl Name {
    /// Checks a name against `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/…)*`.
    pub fn parse(text: &str) -> Option<Name> {
        let fits = !text.is_empty() && text.len() <= NAME_MAX && text.split('/').all(is_component);
        fits.then(|| Name(text.into()))
    }

    /// The name's text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

fn is_component(text: &str) -> bool {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let bytes = text.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else { return false };
    if !alphanumeric(*first) || !alphanumeric(*last) {
        return false;
    }
    let separators = text.split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    separators
        .filter(|separator| !separator.is_empty())
        .all(|separator| matches!(separator, "." | "_" | "__") || separator.bytes().all(|byte| byte == b'-'))
}

/// Whether a text is a tag: `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`.
pub fn is_tag(text: &str) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.len() <= TAG_MAX
        && text.bytes().next().is_some_and(word)
        && text.bytes().all(|byte| word(byte) || byte == b'.' || byte == b'-')
}

/// How a manifest is named within its repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// By a tag, which may move.
    Tag(String),
    /// By its content.
    Digest(Digest),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        for (text, fits) in [
            ("a", true),
            ("library/busybox", true),
            ("a/b/c/d", true),
            ("a.b_c__d---e/f", true),
            ("", false),
            ("A", false),
            ("a//b", false),
            ("/a", false),
            ("a/", false),
            ("a..b", false),
            ("a___b", false),
            ("..", false),
            ("a/../b", false),
            ("a/.b", false),
            ("-a", false),
            ("a-", false),
            ("a\0b", false),
            ("a b", false),
            ("ä", false),
        ] {
            assert_eq!(Name::parse(text).is_some(), fits, "{text:?}");
        }
        assert!(Name::parse(&"a".repeat(255)).is_some());
        assert!(Name::parse(&"a".repeat(256)).is_none());
    }

    #[test]
    fn tags() {
        for (text, fits) in [
            ("latest", true),
            ("_x", true),
            ("1.0-rc", true),
            ("", false),
            (".a", false),
            ("-a", false),
            ("a:b", false),
        ] {
            assert_eq!(is_tag(text), fits, "{text:?}");
        }
        assert!(is_tag(&"a".repeat(128)));
        assert!(!is_tag(&"a".repeat(129)));
    }
}
