//! The object `head` of a bucket, and what is in the objects that it names: bytes to be read with care, since
//! whoever may write to the bucket made them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::database::Entry;
use crate::files::random_name;
use crate::transaction::{decode, split};

const FORMAT: u32 = 1;

/// What names everything.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    format: u32,
    /// Tells this registry from any other one that was in the bucket before.
    pub store: String,
    /// The number of the last entry.
    pub number: u64,
    /// The sum of the oldest entries.
    pub snapshot: Option<Segment>,
    /// Objects with the entries behind it, oldest first.
    pub segments: Vec<Segment>,
    /// The entries behind the segments.
    pub tail: Vec<Inline>,
}

/// An object with entries, or with a snapshot of all entries up to `last`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// Its key, without the bucket's prefix.
    pub key: String,
    /// The number of its last entry.
    pub last: u64,
    /// How large it is.
    pub bytes: u64,
}

/// An entry within the head.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inline {
    /// Tells it from any other one.
    pub id: String,
    /// Its changes, in base64.
    pub changes: String,
}

impl Head {
    /// The first head of a bucket.
    pub fn first() -> Head {
        Head {
            format: FORMAT,
            store: random_name(),
            number: 0,
            snapshot: None,
            segments: Vec::new(),
            tail: Vec::new(),
        }
    }

    /// Reads a head; else what is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Head, String> {
        let head: Head = serde_json::from_slice(bytes).map_err(|_| "it is not whole".to_owned())?;
        if head.format != FORMAT {
            return Err(format!("format {} is not known to this version", head.format));
        }
        let mut named = head.segments.iter().chain(&head.snapshot);
        let fits = head.number < u64::MAX && head.tail.len() as u64 <= head.number;
        match fits && named.all(|segment| segment.last <= head.number) {
            true => Ok(head),
            false => Err("its numbers do not fit together".to_owned()),
        }
    }

    /// The same with a snapshot of all its entries in their place.
    pub fn summed_up(&self, snapshot: Segment) -> Head {
        Head { snapshot: Some(snapshot), segments: Vec::new(), tail: Vec::new(), ..self.clone() }
    }

    /// The entries within it that are behind a number; None where they are not whole.
    pub fn tail_behind(&self, number: u64) -> Option<Vec<Entry>> {
        let first = self.number + 1 - self.tail.len() as u64;
        let news = (first..).zip(&self.tail).filter(|(at, _)| *at > number);
        news.map(|(_, inline)| {
            let changes = decode(&STANDARD.decode(&inline.changes).ok()?)?;
            Some(Entry { id: inline.id.clone(), changes })
        })
        .collect()
    }

    /// Bytes of changes within it.
    pub fn tail_bytes(&self) -> usize {
        self.tail.iter().map(|inline| inline.changes.len()).sum()
    }

    /// Bytes of the objects behind the snapshot.
    pub fn segment_bytes(&self) -> u64 {
        self.segments.iter().fold(0, |sum, segment| sum.saturating_add(segment.bytes))
    }
}

impl Segment {
    /// Of the entries in its object's bytes those that are behind a number; None where they are not whole.
    pub fn entries_behind(&self, bytes: &[u8], number: u64) -> Option<Vec<Entry>> {
        // Two parts for each entry; the last one has the number `last`.
        let parts = split(bytes)?;
        let count = parts.len() as u64 / 2;
        let first = (self.last.checked_add(1)?).checked_sub(count)?;
        if !parts.len().is_multiple_of(2) {
            return None;
        }
        let news = (first..).zip(parts.chunks_exact(2)).filter(|(at, _)| *at > number);
        news.map(|(_, pair)| {
            let id = String::from_utf8_lossy(&pair[0]).into_owned();
            Some(Entry { id, changes: decode(&pair[1])? })
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_whose_numbers_lie() {
        let head = |number: &str, segments: &str, tail: &str| {
            let text = format!(
                r#"{{"format":1,"store":"s","number":{number},"snapshot":null,"segments":[{segments}],"tail":[{tail}]}}"#
            );
            Head::parse(text.as_bytes())
        };
        let segment = r#"{"key":"journal/1","last":3,"bytes":5}"#;
        let inline = r#"{"id":"a","changes":""}"#;
        assert!(head("3", segment, "").is_ok());
        assert!(head("1", "", inline).is_ok());
        for (number, segments, tail) in [
            ("2", segment, ""),
            ("0", "", inline),
            ("18446744073709551615", "", ""),
            ("18446744073709551616", "", ""),
            ("-1", "", ""),
        ] {
            assert!(head(number, segments, tail).is_err(), "{number} {segments} {tail}");
        }
        assert_eq!(Head::parse(b"{}").unwrap_err(), "it is not whole");
    }

    #[test]
    fn segments_that_are_not_whole() {
        let segment = Segment { key: "k".to_owned(), last: 1, bytes: 0 };
        let part = |text: &[u8]| [&(text.len() as u32).to_le_bytes()[..], text].concat();
        let pair = [part(b"id"), part(b"")].concat();
        assert_eq!(segment.entries_behind(&pair, 0).map(|entries| entries.len()), Some(1));
        assert_eq!(segment.entries_behind(&pair, 1).map(|entries| entries.len()), Some(0));
        // More entries than there are numbers, half an entry, and one cut short.
        assert!(segment.entries_behind(&[&pair[..], &pair, &pair].concat(), 0).is_none());
        assert!(segment.entries_behind(&part(b"id"), 0).is_none());
        assert!(segment.entries_behind(&pair[..pair.len() - 1], 0).is_none());
    }
}
