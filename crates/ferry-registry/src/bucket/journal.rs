//! The order of changes in a bucket, on which all instances agree.
//!
//! `head` names everything: the newest changes are in it, older ones in objects that it lists, and the sum of the
//! oldest in a snapshot. An instance changes something by replacing `head` where it is still the one that it has
//! read (`If-Match`), which the service does for one of them only. Whoever comes second reads what the first one
//! wrote, and decides anew. Reading is one request, answered with `304` where nothing has changed.

use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;

use super::Bucket;
use super::client::BucketError;
use super::head::{Head, Inline, Segment};
use crate::database::{Appended, Entry, Journal, News, Position};
use crate::files::random_name;
use crate::transaction::{Change, decode, encode, join};

const HEAD: &str = "head";
/// Most bytes of changes within the head itself.
const INLINE_MAX: usize = 64 << 10;
/// Changes of so many bytes become a snapshot, unless the last one is larger.
const SNAPSHOT_MIN: u64 = 4 << 20;
/// Most objects of changes that a head lists.
const SEGMENTS_MAX: usize = 1000;
/// How often a head is read again whose objects have just been replaced by a snapshot.
const ATTEMPTS: u32 = 10;
/// Objects that no head names are left by a kill, once they are so old.
const LEFT_SECONDS: u64 = 24 * 60 * 60;

/// The journal, for the thread of the database, which may wait.
#[derive(Debug)]
pub struct BucketJournal {
    bucket: Bucket,
    /// What drives its connections.
    runtime: tokio::runtime::Handle,
    /// In the names of the objects that this instance makes.
    instance: String,
    head: Option<(Head, String)>,
}

fn failed(error: BucketError) -> io::Error {
    io::Error::other(error.to_string())
}

fn corrupt(key: &str) -> BucketError {
    BucketError::Answer { what: format!("GET of {key}"), reason: "it is not whole".to_owned() }
}

impl BucketJournal {
    /// The journal of a bucket.
    pub fn new(bucket: Bucket, runtime: tokio::runtime::Handle, instance: String) -> BucketJournal {
        BucketJournal { bucket, runtime, instance, head: None }
    }

    /// Reads the head where it is another one than before; makes the first one. Whether it is another one.
    async fn look(&mut self) -> Result<bool, BucketError> {
        let key = self.bucket.key(HEAD);
        loop {
            let known = self.head.as_ref().map(|(_, etag)| etag.as_str());
            match self.bucket.client.get(&key, known).await {
                Ok(None) => return Ok(false),
                Ok(Some((bytes, etag))) => {
                    let wrong = |reason| BucketError::Answer { what: format!("GET of {key}"), reason };
                    let head = Head::parse(&bytes).map_err(wrong)?;
                    self.head = Some((head, etag));
                    return Ok(true);
                }
                Err(error) if error.is_not_found() && error_is_of_object(&error) => {
                    self.head = None;
                    match self.put(&Head::first(), ("if-none-match", "*".to_owned())).await {
                        Err(error) if error.is_conflict() => {}
                        Err(error) => return Err(error),
                        Ok(_) => {}
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn put(&self, head: &Head, condition: (&str, String)) -> Result<String, BucketError> {
        let bytes = Bytes::from(serde_json::to_vec(head).map_err(io::Error::other)?);
        self.bucket.client.put(&self.bucket.key(HEAD), &bytes, Some(condition)).await
    }

    /// Replaces the head that was read; false where it is no longer the one.
    async fn replace(&mut self, head: Head) -> Result<bool, BucketError> {
        let Some((_, etag)) = &self.head else { return Ok(false) };
        match self.put(&head, ("if-match", etag.clone())).await {
            Ok(etag) => {
                self.head = Some((head, etag));
                Ok(true)
            }
            Err(error) if error.is_conflict() || error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }

    async fn object(&self, key: &str) -> Result<Vec<u8>, BucketError> {
        let found = self.bucket.client.get(&self.bucket.key(key), None).await?;
        Ok(found.map(|(bytes, _)| bytes).unwrap_or_default())
    }

    async fn make_object(&self, kind: &str, last: u64, bytes: Vec<u8>) -> Result<Segment, BucketError> {
        let key = format!("{kind}/{last:016x}.{}.{}", self.instance, random_name());
        let segment = Segment { key, last, bytes: bytes.len() as u64 };
        self.bucket.client.put(&self.bucket.key(&segment.key), &Bytes::from(bytes), None).await?;
        Ok(segment)
    }

    /// What stands behind a position.
    async fn behind(&self, head: &Head, position: &Position) -> Result<News, BucketError> {
        let oldest = head.snapshot.as_ref().map_or(0, |snapshot| snapshot.last);
        let reset = position.store != head.store || position.number < oldest || position.number > head.number;
        let mut news = News {
            position: Position { store: head.store.clone(), number: head.number },
            reset: None,
            entries: Vec::new(),
        };
        let mut number = position.number;
        if reset {
            let snapshot = match &head.snapshot {
                Some(snapshot) => {
                    decode(&self.object(&snapshot.key).await?).ok_or_else(|| corrupt(&snapshot.key))?
                }
                None => Vec::new(),
            };
            news.reset = Some(snapshot);
            number = oldest;
        }
        for segment in head.segments.iter().filter(|segment| segment.last > number) {
            let entries = segment.entries_behind(&self.object(&segment.key).await?, number);
            news.entries.extend(entries.ok_or_else(|| corrupt(&segment.key))?);
        }
        news.entries.extend(head.tail_behind(number).ok_or_else(|| corrupt(HEAD))?);
        Ok(news)
    }

    async fn sync_with(&mut self, position: &Position) -> Result<Option<News>, BucketError> {
        for _ in 0..ATTEMPTS {
            let other = self.look().await?;
            let Some((head, _)) = &self.head else { continue };
            let known = position.store == head.store && position.number == head.number;
            if known && !other {
                return Ok(None);
            }
            match self.behind(head, position).await {
                Ok(news) => return Ok(Some(news)),
                // What it lists has been replaced by a snapshot meanwhile.
                Err(error) if error.is_not_found() => self.head = None,
                Err(error) => return Err(error),
            }
        }
        let reason = "the objects that it lists are gone".to_owned();
        Err(BucketError::Answer { what: format!("GET of {HEAD}"), reason })
    }

    async fn add(&mut self, entry: &Entry) -> Result<Appended, BucketError> {
        let Some((head, _)) = &self.head else { return Ok(Appended::Taken) };
        let mut head = head.clone();
        let changes = encode(&entry.changes);
        head.number += 1;
        if head.tail_bytes() + changes.len() > INLINE_MAX {
            let mut parts: Vec<Vec<u8>> = Vec::new();
            for Inline { id, changes } in head.tail.drain(..) {
                parts.push(id.into_bytes());
                parts.push(STANDARD.decode(changes).map_err(|_| corrupt(HEAD))?);
            }
            parts.extend([entry.id.clone().into_bytes(), changes]);
            let segment = self.make_object("journal", head.number, join(&parts)).await?;
            let key = segment.key.clone();
            head.segments.push(segment);
            let appended = self.replace(head).await;
            if let Ok(false) = appended {
                self.bucket.client.delete(&self.bucket.key(&key)).await?;
            }
            return appended.map(Appended::from);
        }
        head.tail.push(Inline { id: entry.id.clone(), changes: STANDARD.encode(changes) });
        self.replace(head).await.map(Appended::from)
    }

    async fn put_snapshot(&mut self, rows: &[Change]) -> Result<(), BucketError> {
        let Some((head, _)) = self.head.clone() else { return Ok(()) };
        let snapshot = self.make_object("snapshots", head.number, encode(rows)).await?;
        let key = snapshot.key.clone();
        let next = head.summed_up(snapshot);
        let gone: Vec<String> = match self.replace(next).await? {
            true => head.segments.into_iter().chain(head.snapshot).map(|segment| segment.key).collect(),
            false => vec![key],
        };
        for key in gone {
            self.bucket.client.delete(&self.bucket.key(&key)).await?;
        }
        Ok(())
    }

    /// Removes objects that a kill left: those of this instance, and very old ones.
    async fn remove_left(&mut self, now: u64) -> Result<usize, BucketError> {
        let mut found = self.bucket.list("journal/").await?;
        found.extend(self.bucket.list("snapshots/").await?);
        // Listed first: what the head names now was there then, or is not in the list.
        self.look().await?;
        let Some((head, _)) = &self.head else { return Ok(0) };
        let named = |key: &str| head.segments.iter().chain(&head.snapshot).any(|segment| segment.key == key);
        let own = format!(".{}.", self.instance);
        let left: Vec<_> = found
            .into_iter()
            .filter(|one| !named(&one.key))
            .filter(|one| one.key.contains(&own) || now.saturating_sub(one.made) > LEFT_SECONDS)
            .collect();
        for one in &left {
            self.bucket.client.delete(&self.bucket.key(&one.key)).await?;
        }
        Ok(left.len())
    }
}

/// Whether the object is missing, and not the bucket.
fn error_is_of_object(error: &BucketError) -> bool {
    !matches!(error, BucketError::Refused { text, .. } if text.contains("NoSuchBucket"))
}

impl Journal for BucketJournal {
    fn sync(&mut self, position: &Position) -> io::Result<Option<News>> {
        let runtime = self.runtime.clone();
        runtime.block_on(self.sync_with(position)).map_err(failed)
    }

    fn append(&mut self, entry: &Entry) -> io::Result<Appended> {
        let runtime = self.runtime.clone();
        runtime.block_on(self.add(entry)).map_err(failed)
    }

    fn is_long(&self) -> bool {
        self.head.as_ref().is_some_and(|(head, _)| {
            let last = head.snapshot.as_ref().map_or(0, |snapshot| snapshot.bytes);
            head.segment_bytes() > last.max(SNAPSHOT_MIN) || head.segments.len() > SEGMENTS_MAX
        })
    }

    fn sum_up(&mut self, rows: &[Change]) -> io::Result<()> {
        let runtime = self.runtime.clone();
        runtime.block_on(self.put_snapshot(rows)).map_err(failed)
    }

    fn tidy(&mut self, now: u64) -> io::Result<usize> {
        let runtime = self.runtime.clone();
        runtime.block_on(self.remove_left(now)).map_err(failed)
    }
}
