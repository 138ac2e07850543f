//! Image names as Docker reads them: `[domain/]path[:tag][@digest]`.
//!
//! Owns the grammar of the distribution project's `reference` package (normalised names included).
//! Every refusal starts with `invalid reference format` (clients look for these words) and then
//! names the part that is wrong and what is wrong with it.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::digest::{Digest, DigestError};

/// The domain of a name that names none.
pub const DEFAULT_DOMAIN: &str = "docker.io";
/// The name space of a one-word name on the default domain.
pub const OFFICIAL_NAMESPACE: &str = "library";
/// The tag of a name that has neither tag nor digest.
pub const DEFAULT_TAG: &str = "latest";

/// Longest path (everything between domain and tag), as in the distribution specification.
const PATH_MAX: usize = 255;
/// Longest tag, as in the distribution specification.
const TAG_MAX: usize = 128;
/// Nothing longer is looked at: domain, path, tag and digest at their longest stay below it.
const TEXT_MAX: usize = 1024;

/// A well-formed, fully qualified image name.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Which part of a reference is wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Registry host and port.
    Domain,
    /// Repository path.
    Repository,
    /// What follows the colon.
    Tag,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Part::Domain => "registry domain",
            Part::Repository => "repository name",
            Part::Tag => "tag",
        })
    }
}

/// Why a text is not an image name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReferenceError {
    /// Nothing was given (often a variable that is not set).
    #[error("invalid reference format: the image name is empty")]
    Empty,
    /// The text is longer than any name can be.
    #[error("invalid reference format: {length} bytes is too long (at most {TEXT_MAX})")]
    TooLong {
        /// Length of the text.
        length: usize,
    },
    /// 64 hex digits would be taken for an image id.
    #[error("invalid repository name ({0}), cannot specify 64-byte hexadecimal strings")]
    Identifier(String),
    /// Upper case in the repository name.
    #[error("invalid reference format: repository name ({0}) must be lowercase")]
    Uppercase(String),
    /// The repository name exceeds the limit.
    #[error("invalid reference format: repository name must not be more than {PATH_MAX} characters ({0})")]
    NameTooLong(usize),
    /// A part is there but empty.
    #[error("invalid reference format: the {part} in {text:?} is empty")]
    EmptyPart {
        /// Which part.
        part: Part,
        /// The whole text.
        text: String,
    },
    /// A character that the part must not have.
    #[error("invalid reference format: {part} {value:?} must not contain {character:?}")]
    Character {
        /// Which part.
        part: Part,
        /// The part as written.
        value: String,
        /// The first bad character.
        character: char,
    },
    /// The characters are fine but not their order.
    #[error("invalid reference format: {part} {value:?} {reason}")]
    Shape {
        /// Which part.
        part: Part,
        /// The part as written.
        value: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The tag exceeds the limit.
    #[error("invalid reference format: tag is {length} characters long (at most {TAG_MAX})")]
    TagTooLong {
        /// Length of the tag.
        length: usize,
    },
    /// What follows the `@` is not a digest.
    #[error("invalid reference format: {0}")]
    Digest(#[from] DigestError),
}

impl Reference {
    /// Parses a name as people write it and fills in domain, name space and, when there is neither
    /// tag nor digest, the tag `latest`: `busybox` is `docker.io/library/busybox:latest`.
    pub fn parse_normalized(text: &str) -> Result<Reference, ReferenceError> {
        let mut reference = Reference::parse_name(text)?;
        if reference.tag.is_none() && reference.digest.is_none() {
            reference.tag = Some(DEFAULT_TAG.to_owned());
        }
        Ok(reference)
    }

    /// Like [`Reference::parse_normalized`], but a missing tag stays missing.
    pub fn parse_name(text: &str) -> Result<Reference, ReferenceError> {
        if text.is_empty() {
            return Err(ReferenceError::Empty);
        }
        if text.len() > TEXT_MAX {
            return Err(ReferenceError::TooLong { length: text.len() });
        }
        if text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(ReferenceError::Identifier(text.to_owned()));
        }
        let (name_and_tag, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(Digest::parse(digest)?)),
            None => (text, None),
        };
        let (domain, remainder) = split_domain(name_and_tag);
        let (path, tag) = match remainder.split_once(':') {
            Some((path, tag)) => (path, Some(tag)),
            None => (remainder, None),
        };
        check_domain(domain, text)?;
        let path = if domain == DEFAULT_DOMAIN && !path.contains('/') && !path.is_empty() {
            check_path(path, text)?;
            format!("{OFFICIAL_NAMESPACE}/{path}")
        } else {
            check_path(path, text)?;
            path.to_owned()
        };
        if path.len() > PATH_MAX {
            return Err(ReferenceError::NameTooLong(path.len()));
        }
        if let Some(tag) = tag {
            check_tag(tag, text)?;
        }
        Ok(Reference { domain: domain.to_owned(), path, tag: tag.map(str::to_owned), digest })
    }

    /// Registry host with optional port: `docker.io`, `localhost:5000`.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// Repository path on the registry: `library/busybox`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The tag, if the name has one.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if the name has one.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// Domain and path: `docker.io/library/busybox`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// Domain and path as people write them: `busybox`, `user/app`, `localhost/hello`.
    pub fn familiar_name(&self) -> String {
        if self.domain != DEFAULT_DOMAIN {
            return self.name();
        }
        let reads_as_domain = split_domain(&self.path).1 != self.path;
        match self.path.strip_prefix("library/") {
            // `docker.io/example.com/app` without its domain would be read as another registry's.
            _ if reads_as_domain => self.name(),
            // `library/a/b` without its prefix would be read as the path `a/b`.
            Some(short) if !short.contains('/') => short.to_owned(),
            _ => self.path.clone(),
        }
    }

    /// The whole name as people write it: `busybox:latest`.
    pub fn familiar(&self) -> String {
        self.with_suffix(self.familiar_name())
    }

    /// The same repository with another tag and no digest.
    pub fn with_tag(&self, tag: &str) -> Result<Reference, ReferenceError> {
        check_tag(tag, tag)?;
        Ok(Reference { tag: Some(tag.to_owned()), digest: None, ..self.clone() })
    }

    /// The same repository by digest, without a tag.
    pub fn with_digest(&self, digest: Digest) -> Reference {
        Reference { tag: None, digest: Some(digest), ..self.clone() }
    }

    /// The repository alone, without tag and digest.
    pub fn repository(&self) -> Reference {
        Reference { tag: None, digest: None, ..self.clone() }
    }

    fn with_suffix(&self, mut name: String) -> String {
        if let Some(tag) = &self.tag {
            name.push(':');
            name.push_str(tag);
        }
        if let Some(digest) = &self.digest {
            name.push('@');
            name.push_str(&digest.to_string());
        }
        name
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.with_suffix(self.name()))
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;
    fn from_str(text: &str) -> Result<Reference, ReferenceError> {
        Reference::parse_normalized(text)
    }
}

impl TryFrom<String> for Reference {
    type Error = ReferenceError;
    fn try_from(text: String) -> Result<Reference, ReferenceError> {
        Reference::parse_name(&text)
    }
}

impl From<Reference> for String {
    fn from(reference: Reference) -> String {
        reference.to_string()
    }
}

/// Checks a tag alone, as `docker tag` and `import` take it beside the repository.
pub fn check_tag(tag: &str, text: &str) -> Result<(), ReferenceError> {
    if tag.is_empty() {
        return Err(ReferenceError::EmptyPart { part: Part::Tag, text: text.to_owned() });
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    refuse_character(Part::Tag, tag, allowed)?;
    if tag.len() > TAG_MAX {
        return Err(ReferenceError::TagTooLong { length: tag.len() });
    }
    if tag.starts_with(['.', '-']) {
        return Err(shape(Part::Tag, tag, "must not start with '.' or '-'"));
    }
    Ok(())
}

/// The first component is a domain when it looks like one: a dot, a port, `localhost`, or upper
/// case (which no path may have).
fn split_domain(name: &str) -> (&str, &str) {
    match name.split_once('/') {
        Some((first, rest))
            if first.contains(['.', ':'])
                || first == "localhost"
                || first.bytes().any(|b| b.is_ascii_uppercase()) =>
        {
            (if first == "index.docker.io" { DEFAULT_DOMAIN } else { first }, rest)
        }
        _ => (DEFAULT_DOMAIN, name),
    }
}

fn shape(part: Part, value: &str, reason: &'static str) -> ReferenceError {
    ReferenceError::Shape { part, value: value.to_owned(), reason }
}

fn refuse_character(part: Part, value: &str, allowed: impl Fn(char) -> bool) -> Result<(), ReferenceError> {
    match value.chars().find(|c| !allowed(*c)) {
        Some(character) => Err(ReferenceError::Character { part, value: value.to_owned(), character }),
        None => Ok(()),
    }
}

fn check_domain(domain: &str, text: &str) -> Result<(), ReferenceError> {
    let (host, port) = match domain.strip_prefix('[') {
        Some(rest) => {
            let Some((address, after)) = rest.split_once(']') else {
                return Err(shape(Part::Domain, domain, "has '[' without ']'"));
            };
            refuse_character(Part::Domain, address, |c| c.is_ascii_hexdigit() || c == ':')?;
            match after.strip_prefix(':') {
                Some(port) => (None, Some(port)),
                None if after.is_empty() => (None, None),
                None => return Err(shape(Part::Domain, domain, "has text after ']'")),
            }
        }
        None => match domain.split_once(':') {
            Some((host, port)) => (Some(host), Some(port)),
            None => (Some(domain), None),
        },
    };
    if let Some(host) = host {
        if host.is_empty() {
            return Err(ReferenceError::EmptyPart { part: Part::Domain, text: text.to_owned() });
        }
        refuse_character(Part::Domain, host, |c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-'))?;
        if host.split('.').any(|label| label.is_empty() || label.starts_with('-') || label.ends_with('-')) {
            return Err(shape(
                Part::Domain,
                domain,
                "has an empty label or one that starts or ends with '-'",
            ));
        }
    }
    match port {
        Some(port) if port.is_empty() || !port.bytes().all(|b| b.is_ascii_digit()) => {
            Err(shape(Part::Domain, domain, "has a port that is not a number"))
        }
        _ => Ok(()),
    }
}

fn check_path(path: &str, text: &str) -> Result<(), ReferenceError> {
    if path.is_empty() {
        return Err(ReferenceError::EmptyPart { part: Part::Repository, text: text.to_owned() });
    }
    if path.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err(ReferenceError::Uppercase(path.to_owned()));
    }
    let allowed = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '_' | '.' | '-' | '/');
    refuse_character(Part::Repository, path, allowed)?;
    for component in path.split('/') {
        check_component(component, path)?;
    }
    Ok(())
}

/// One path component: letters and digits, with `.`, `_`, `__` or any number of `-` between them.
fn check_component(component: &str, path: &str) -> Result<(), ReferenceError> {
    let is_separator = |c: char| matches!(c, '_' | '.' | '-');
    if component.is_empty() {
        return Err(shape(Part::Repository, path, "has an empty component (two '/' or one at an end)"));
    }
    if component.starts_with(is_separator) || component.ends_with(is_separator) {
        return Err(shape(
            Part::Repository,
            path,
            "has a component that starts or ends with '.', '_' or '-'",
        ));
    }
    let separators = component.split(|c: char| !is_separator(c)).filter(|run| !run.is_empty());
    for run in separators {
        let dashes = run.bytes().all(|b| b == b'-');
        if !dashes && !matches!(run, "." | "_" | "__") {
            return Err(shape(Part::Repository, path, "has separators that may not stand together"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    /// Columns: as written, normalised, familiar.
    #[test]
    fn docker_naming_table() {
        let digest = format!("sha256:{HEX}");
        let table: Vec<(String, String, String)> = vec![
            ("busybox".into(), "docker.io/library/busybox:latest".into(), "busybox:latest".into()),
            ("busybox:1.36".into(), "docker.io/library/busybox:1.36".into(), "busybox:1.36".into()),
            ("library/busybox".into(), "docker.io/library/busybox:latest".into(), "busybox:latest".into()),
            ("docker.io/busybox".into(), "docker.io/library/busybox:latest".into(), "busybox:latest".into()),
            (
                "index.docker.io/busybox".into(),
                "docker.io/library/busybox:latest".into(),
                "busybox:latest".into(),
            ),
            ("user/app".into(), "docker.io/user/app:latest".into(), "user/app:latest".into()),
            ("docker.io/user/app:v1".into(), "docker.io/user/app:v1".into(), "user/app:v1".into()),
            ("localhost/hello".into(), "localhost/hello:latest".into(), "localhost/hello:latest".into()),
            (
                "localhost:5000/a/b/c:t".into(),
                "localhost:5000/a/b/c:t".into(),
                "localhost:5000/a/b/c:t".into(),
            ),
            (
                "docker.io/example.com/app".into(),
                "docker.io/example.com/app:latest".into(),
                "docker.io/example.com/app:latest".into(),
            ),
            ("ghcr.io/x/y".into(), "ghcr.io/x/y:latest".into(), "ghcr.io/x/y:latest".into()),
            ("REGISTRY/x".into(), "REGISTRY/x:latest".into(), "REGISTRY/x:latest".into()),
            ("[::1]:5000/x".into(), "[::1]:5000/x:latest".into(), "[::1]:5000/x:latest".into()),
            ("a__b/c--d/e.f".into(), "docker.io/a__b/c--d/e.f:latest".into(), "a__b/c--d/e.f:latest".into()),
            ("library/a/b".into(), "docker.io/library/a/b:latest".into(), "library/a/b:latest".into()),
            (
                format!("busybox@{digest}"),
                format!("docker.io/library/busybox@{digest}"),
                format!("busybox@{digest}"),
            ),
            (format!("b:1@{digest}"), format!("docker.io/library/b:1@{digest}"), format!("b:1@{digest}")),
        ];
        for (text, full, familiar) in table {
            let reference = Reference::parse_normalized(&text).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(reference.to_string(), full, "{text}");
            assert_eq!(reference.familiar(), familiar, "{text}");
            assert_eq!(Reference::parse_normalized(&reference.familiar()).unwrap(), reference, "{text}");
        }
    }

    #[test]
    fn errors_name_the_bad_part() {
        let long_path = "a".repeat(256);
        let long_tag = format!("a:{}", "t".repeat(129));
        let table = [
            ("", "is empty"),
            (HEX, "cannot specify 64-byte hexadecimal strings"),
            ("Busybox", "repository name (Busybox) must be lowercase"),
            ("user/App:x", "repository name (user/App) must be lowercase"),
            ("busybox:", "the tag in \"busybox:\" is empty"),
            ("busybox:a b", "tag \"a b\" must not contain ' '"),
            ("busybox:-x", "tag \"-x\" must not start"),
            ("a:b:c", "tag \"b:c\" must not contain ':'"),
            ("a//b", "empty component"),
            ("/a", "empty component"),
            ("a/", "empty component"),
            ("a..b", "separators that may not stand together"),
            ("a___b", "separators that may not stand together"),
            ("-a", "starts or ends with"),
            ("bus ybox", "repository name \"bus ybox\" must not contain ' '"),
            ("–name", "must not contain '–'"),
            ("host.:5/x", "empty label"),
            ("host:x/y", "port that is not a number"),
            (":5000/y", "the registry domain in \":5000/y\" is empty"),
            ("[::1/y", "'[' without ']'"),
            ("a@b", "no algorithm"),
            ("a@sha256:12", "2 hex digits"),
            ("a@md5:12", "unsupported digest algorithm"),
            (&long_path, "must not be more than 255 characters"),
            (&long_tag, "at most 128"),
        ];
        for (text, expected) in table {
            let error = Reference::parse_normalized(text).expect_err(text).to_string();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }

    #[test]
    fn changes_of_tag_and_digest() {
        let reference = Reference::parse_normalized("a/b:1").unwrap();
        assert_eq!(reference.with_tag("2").unwrap().familiar(), "a/b:2");
        assert!(reference.with_tag("").is_err());
        let digest = Digest::sha256_of(b"");
        assert_eq!(reference.with_digest(digest.clone()).familiar(), format!("a/b@{digest}"));
        assert_eq!(reference.repository().to_string(), "docker.io/a/b");
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_typed_gives_a_name_or_an_error(text in "\\PC{0,80}") {
            if let Ok(reference) = Reference::parse_name(&text) {
                proptest::prop_assert_eq!(Reference::parse_name(&reference.to_string()), Ok(reference));
            }
        }

        #[test]
        fn what_the_grammar_makes_parses_and_prints_back(
            domain in "([a-z0-9]{1,5}\\.[a-z]{2}(:[0-9]{1,5})?/)?",
            // A dot in the first component would make it a domain.
            path in "[a-z0-9]{1,6}((_|__|-{1,3})[a-z0-9]{1,3}){0,2}(/[a-z0-9]{1,4}(\\.[a-z]{1,2})?){0,3}",
            tag in "(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,20})?",
        ) {
            let text = format!("{domain}{path}{tag}");
            let reference = Reference::parse_name(&text).map_err(|error| {
                proptest::test_runner::TestCaseError::fail(format!("{text}: {error}"))
            })?;
            proptest::prop_assert_eq!(Reference::parse_name(&reference.familiar()), Ok(reference.clone()));
            proptest::prop_assert_eq!(Reference::parse_name(&reference.to_string()), Ok(reference));
        }
    }
}
