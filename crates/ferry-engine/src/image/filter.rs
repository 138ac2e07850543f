//! The filters of image lists and prunes.

use std::sync::Arc;

use ferry_api::Filters;
use ferry_oci::Reference;
use ferry_store::{Image, Store};
use jiff::Timestamp;

use crate::clock;
use crate::error::HttpError;

/// Keys that a list takes.
pub const LIST_KEYS: &[&str] = &["before", "dangling", "label", "reference", "since", "until"];
/// Keys that a prune takes.
pub const PRUNE_KEYS: &[&str] = &["dangling", "label", "label!", "until"];

/// Filters with their values looked up.
pub struct ImageFilter<'a> {
    filters: &'a Filters,
    dangling: Option<bool>,
    before: Option<i64>,
    since: Option<i64>,
    until: Option<Timestamp>,
}

impl<'a> ImageFilter<'a> {
    /// Reads the values; the images that `before` and `since` name must be there.
    pub fn new(filters: &'a Filters, store: &Store) -> Result<Self, HttpError> {
        let created = |key: &str| match filters.get(key).next() {
            None => Ok(None),
            Some(name) => {
                let image = store.images().resolve(name).map_err(HttpError::from)?;
                Ok::<_, HttpError>(Some(image.created_seconds()))
            }
        };
        let dangling = match filters.contains("dangling") {
            true => Some(filters.bool_value("dangling", false)?),
            false => None,
        };
        let until = match filters.get("until").next() {
            None => None,
            Some(text) => until(text)?,
        };
        Ok(Self { filters, dangling, before: created("before")?, since: created("since")?, until })
    }

    /// Whether the image is wanted.
    pub fn matches(&self, image: &Image) -> bool {
        let created = image.created_seconds();
        let labels = image.config.config.labels.clone().unwrap_or_default();
        self.dangling.is_none_or(|dangling| dangling == image.repo_tags.is_empty())
            && self.before.is_none_or(|before| created < before)
            && self.since.is_none_or(|since| created > since)
            && self.until.is_none_or(|until| created < until.as_second())
            && self.filters.match_labels("label", &labels)
            && self.filters.get("label!").all(|label| {
                let mut one = Filters::default();
                one.add("label", label);
                !one.match_labels("label", &labels)
            })
            && (!self.filters.contains("reference") || !self.shown_names(image).is_empty())
    }

    /// The image as the list shows it: only the names that a `reference` filter asks for.
    pub fn narrow(&self, image: Arc<Image>) -> Arc<Image> {
        if !self.filters.contains("reference") {
            return image;
        }
        let shown = self.shown_names(&image);
        let mut narrowed = Image::clone(&image);
        narrowed.repo_tags.retain(|tag| shown.contains(tag));
        narrowed.repo_digests.retain(|digest| shown.contains(digest));
        Arc::new(narrowed)
    }

    fn shown_names(&self, image: &Image) -> Vec<String> {
        let wanted = |reference: &&Reference| {
            self.filters.get("reference").any(|pattern| matches_reference(pattern, reference))
        };
        image.references.iter().filter(wanted).map(Reference::familiar).collect()
    }
}

/// `until` is a time or how long ago (`24h`).
fn until(text: &str) -> Result<Option<Timestamp>, HttpError> {
    if let Some(ago) = crate::image::filter::go_duration(text) {
        return Ok(Timestamp::now().checked_sub(ago).ok());
    }
    clock::parse_bound(text).map_err(HttpError::bad_request)
}

/// Go's durations: `1h30m`.
pub fn go_duration(text: &str) -> Option<jiff::SignedDuration> {
    let mut total = 0f64;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let units = [("ns", 1e-9), ("us", 1e-6), ("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0)];
        let (unit, factor) = units.into_iter().find(|(unit, _)| rest[digits..].starts_with(unit))?;
        total += number * factor;
        rest = &rest[digits + unit.len()..];
    }
    let valid = !text.is_empty() && total.is_finite() && total < i64::MAX as f64;
    valid.then(|| jiff::SignedDuration::from_secs_f64(total))
}

/// Docker's rule: the pattern is matched, with `*`, `?` and `[...]` that stop at slashes, against
/// the familiar name, with and without the tag, and against the full name.
fn matches_reference(pattern: &str, reference: &Reference) -> bool {
    let names = [
        reference.familiar(),
        reference.familiar_name(),
        reference.to_string(),
        reference.name(),
        reference.path().to_owned(),
    ];
    names.iter().any(|name| glob(pattern.as_bytes(), name.as_bytes()))
}

/// Go's `path.Match`, by backtracking over stars; linear for patterns that people write.
fn glob(pattern: &[u8], text: &[u8]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some((b'*', rest)) => {
            let segment = text.iter().position(|byte| *byte == b'/').unwrap_or(text.len());
            (0..=segment).any(|skip| glob(rest, &text[skip..]))
        }
        Some((b'?', rest)) => text.first().is_some_and(|byte| *byte != b'/') && glob(rest, &text[1..]),
        Some((b'[', rest)) => match (class(rest), text.split_first()) {
            (Some((set, after)), Some((byte, text))) => in_class(set, *byte) && glob(after, text),
            _ => false,
        },
        Some((b'\\', [literal, rest @ ..])) => text.first() == Some(literal) && glob(rest, &text[1..]),
        Some((literal, rest)) => text.first() == Some(literal) && glob(rest, &text[1..]),
    }
}

fn class(pattern: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = pattern.iter().skip(1).position(|byte| *byte == b']')? + 1;
    Some((&pattern[..end], &pattern[end + 1..]))
}

fn in_class(set: &[u8], byte: u8) -> bool {
    let (negated, set) = match set.strip_prefix(b"^") {
        Some(rest) => (true, rest),
        None => (false, set),
    };
    let mut found = false;
    let mut index = 0;
    while index < set.len() {
        if index + 2 < set.len() && set[index + 1] == b'-' {
            found |= (set[index]..=set[index + 2]).contains(&byte);
            index += 3;
        } else {
            found |= set[index] == byte;
            index += 1;
        }
    }
    found != negated
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reference_patterns_are_dockers() {
        let table = [
            ("busybox", "busybox:1", true),
            ("busybox:1", "busybox:1", true),
            ("busybox:2", "busybox:1", false),
            ("busy*", "busybox:1", true),
            ("busy*:*", "busybox:1", true),
            ("*", "busybox:1", true),
            ("*", "user/app:1", false),
            ("*/*", "user/app:1", true),
            ("user/a??", "user/app:1", true),
            ("user/[a-c]pp", "user/app:1", true),
            ("user/[^a]pp", "user/app:1", false),
            ("docker.io/library/busybox", "busybox:1", true),
            ("localhost:5000/*", "localhost:5000/x:1", true),
        ];
        for (pattern, name, expected) in table {
            let reference = Reference::parse_normalized(name).unwrap();
            assert_eq!(matches_reference(pattern, &reference), expected, "{pattern} on {name}");
        }
    }

    #[test]
    fn durations_are_gos() {
        assert_eq!(go_duration("1h30m"), Some(jiff::SignedDuration::from_secs(5400)));
        assert_eq!(go_duration("1.5s"), Some(jiff::SignedDuration::from_millis(1500)));
        assert_eq!(go_duration("2024-01-01"), None);
        assert_eq!(go_duration(""), None);
    }
}
