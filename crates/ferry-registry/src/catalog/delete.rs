//! What takes away: deletes, the trash, and the sweep of blobs that nothing refers to.

use ferry_oci::Digest;
use redb::ReadableTable;

use super::loose::loosen;
use super::record::{TrashRecord, decode, encode, text_of, time_of};
use super::{
    BLOBS, CANDIDATES, CONTENTS, COPIES, Catalog, HOLDERS, LINKS, MANIFESTS, ManifestRecord, REFERRERS,
    REPOSITORIES, TAGS, TRASH, TagRecord, USES, any_below, below, key2, key3, names_below,
};
use crate::database::DatabaseError;
use crate::name::Name;
use crate::transaction::Transaction;

/// Most entries that one sweep's transaction takes, so that pushes do not wait for it.
const SWEEP_MAX: usize = 1000;

/// What a sweep took out of the metadata.
#[derive(Debug, Default)]
pub struct Swept {
    /// Blobs whose files can go.
    pub files: Vec<(Digest, u64)>,
    /// More is to be swept.
    pub more: bool,
}

impl Catalog {
    /// Removes a tag; false where there is none.
    pub async fn delete_tag(&self, name: &Name, tag: &str) -> Result<bool, DatabaseError> {
        let key = key2(name.as_str(), tag);
        let write = move |transaction: &Transaction| {
            Ok(transaction.open_table(TAGS)?.remove(key.as_str())?.is_some())
        };
        self.database.write(write).await
    }

    /// Removes a tag where it is still the one that was looked at.
    pub async fn delete_tag_if(
        &self,
        name: &Name,
        tag: &str,
        digest: &Digest,
        set: u64,
    ) -> Result<bool, DatabaseError> {
        let (key, digest) = (key2(name.as_str(), tag), digest.clone());
        let write = move |transaction: &Transaction| {
            let mut tags = transaction.open_table(TAGS)?;
            let same = match tags.get(key.as_str())? {
                Some(value) => {
                    let record: TagRecord = decode(&key, value.value())?;
                    record.digest == digest && record.set == set
                }
                None => false,
            };
            if same {
                tags.remove(key.as_str())?;
            }
            Ok(same)
        };
        self.database.write(write).await
    }

    /// Removes a manifest where it still has no tag.
    pub async fn delete_untagged(
        &self,
        name: &Name,
        digest: &Digest,
        keep: bool,
        now: u64,
    ) -> Result<bool, DatabaseError> {
        let (name, digest) = (name.to_string(), digest.to_string());
        let write = move |transaction: &Transaction| {
            let tagged = !tags_of(transaction, &name, &digest)?.is_empty();
            if tagged { Ok(false) } else { delete_manifest(transaction, &name, &digest, keep, now) }
        };
        self.database.write(write).await
    }

    /// A blob's bytes are lost: nobody has it until it is pushed again. What refers to it stays.
    pub async fn lose_blob(&self, digest: &Digest) -> Result<(), DatabaseError> {
        let digest = digest.to_string();
        let write = move |transaction: &Transaction| {
            let place = {
                let mut blobs = transaction.open_table(BLOBS)?;
                let removed = blobs.remove(digest.as_str())?;
                removed.map(|value| text_of(value.value())).unwrap_or_default()
            };
            loosen(transaction, &digest, &place)
        };
        self.database.write(write).await
    }

    /// Removes a manifest and its tags, into the trash where `keep`; false where it is not there.
    pub async fn delete_manifest(
        &self,
        name: &Name,
        digest: &Digest,
        keep: bool,
        now: u64,
    ) -> Result<bool, DatabaseError> {
        let (name, digest) = (name.to_string(), digest.to_string());
        self.database.write(move |transaction| delete_manifest(transaction, &name, &digest, keep, now)).await
    }

    /// Takes a blob from a repository; false where it does not have it. The file goes with the next sweep.
    pub async fn delete_blob(&self, name: &Name, digest: &Digest) -> Result<bool, DatabaseError> {
        let (name, digest) = (name.to_string(), digest.to_string());
        let write = move |transaction: &Transaction| {
            let key = key2(&name, &digest);
            let had = transaction.open_table(LINKS)?.remove(key.as_str())?.is_some();
            if had {
                transaction.open_table(HOLDERS)?.remove(key2(&digest, &name).as_str())?;
                // Without a link and with no time left, the sweep sees only whether its file can go.
                transaction.open_table(CANDIDATES)?.insert(key.as_str(), 0u64.to_le_bytes().as_slice())?;
            }
            Ok(had)
        };
        self.database.write(write).await
    }

    /// Removes what was deleted before `deleted_before` for good.
    pub async fn purge(&self, deleted_before: u64, now: u64) -> Result<(), DatabaseError> {
        let expired = self.trash_before(deleted_before)?;
        if expired.is_empty() {
            return Ok(());
        }
        let write = move |transaction: &Transaction| {
            for (name, digest) in &expired {
                let key = key2(name, digest);
                let entry = {
                    let mut trash = transaction.open_table(TRASH)?;
                    let entry = trash.remove(key.as_str())?;
                    entry.map(|entry| decode::<TrashRecord>(&key, entry.value())).transpose()?
                };
                if let Some(entry) = entry {
                    forget(transaction, name, digest, &entry.record, now)?;
                }
            }
            Ok(())
        };
        self.database.write(write).await
    }

    /// Takes blobs that nothing has referred to since `unused_before` out of their repositories. The caller
    /// must keep files from being placed until those named are gone.
    pub async fn sweep(&self, unused_before: u64) -> Result<Swept, DatabaseError> {
        self.database.write(move |transaction| sweep(transaction, unused_before)).await
    }
}

fn delete_manifest(
    transaction: &Transaction,
    name: &str,
    digest: &str,
    keep: bool,
    now: u64,
) -> Result<bool, DatabaseError> {
    let key = key2(name, digest);
    let record: ManifestRecord = {
        let manifests = transaction.open_table(MANIFESTS)?;
        let Some(record) = manifests.get(key.as_str())? else { return Ok(false) };
        decode(&key, record.value())?
    };
    transaction.open_table(MANIFESTS)?.remove(key.as_str())?;
    let tags = remove_tags(transaction, name, digest)?;
    let mut descriptor = None;
    if let Some(subject) = &record.subject {
        let key = key3(name, &subject.to_string(), digest);
        let mut referrers = transaction.open_table(REFERRERS)?;
        let removed = referrers.remove(key.as_str())?;
        descriptor = removed.map(|value| decode(&key, value.value())).transpose()?;
    }
    if keep {
        let value = encode(&key, &TrashRecord { record, tags, deleted: now, descriptor })?;
        transaction.open_table(TRASH)?.insert(key.as_str(), value.as_slice())?;
    } else {
        forget(transaction, name, digest, &record, now)?;
    }
    Ok(true)
}

fn tags_of(transaction: &Transaction, name: &str, digest: &str) -> Result<Vec<String>, DatabaseError> {
    let (low, high) = below(name);
    let tags = transaction.open_table(TAGS)?;
    let mut found = Vec::new();
    for entry in tags.range(low.as_str()..high.as_str())? {
        let (key, value) = entry?;
        let record: TagRecord = decode(key.value(), value.value())?;
        if record.digest.to_string() == digest {
            found.push(key.value()[low.len()..].to_owned());
        }
    }
    Ok(found)
}

fn remove_tags(transaction: &Transaction, name: &str, digest: &str) -> Result<Vec<String>, DatabaseError> {
    let removed = tags_of(transaction, name, digest)?;
    let mut tags = transaction.open_table(TAGS)?;
    for tag in &removed {
        tags.remove(key2(name, tag).as_str())?;
    }
    Ok(removed)
}

/// A manifest's bytes and references go; blobs that were its alone become candidates.
fn forget(
    transaction: &Transaction,
    name: &str,
    digest: &str,
    record: &ManifestRecord,
    now: u64,
) -> Result<(), DatabaseError> {
    let mut copies = transaction.open_table(COPIES)?;
    copies.remove(key2(digest, name).as_str())?;
    if !any_below(&*copies, digest)? {
        transaction.open_table(CONTENTS)?.remove(digest)?;
    }
    let mut uses = transaction.open_table(USES)?;
    let mut candidates = transaction.open_table(CANDIDATES)?;
    for blob in &record.blobs {
        let key = key2(name, &blob.to_string());
        uses.remove(key3(name, &blob.to_string(), digest).as_str())?;
        if !any_below(&*uses, &key)? {
            candidates.insert(key.as_str(), now.to_le_bytes().as_slice())?;
        }
    }
    drop((copies, uses, candidates));
    drop_if_empty(transaction, name)
}

/// A repository with nothing in it is no repository.
fn drop_if_empty(transaction: &Transaction, name: &str) -> Result<(), DatabaseError> {
    let empty = !any_below(&*transaction.open_table(LINKS)?, name)?
        && !any_below(&*transaction.open_table(MANIFESTS)?, name)?
        && !any_below(&*transaction.open_table(TRASH)?, name)?;
    if empty {
        transaction.open_table(REPOSITORIES)?.remove(name)?;
    }
    Ok(())
}

fn sweep(transaction: &Transaction, unused_before: u64) -> Result<Swept, DatabaseError> {
    let mut swept = Swept::default();
    let mut names = Vec::new();
    {
        let mut candidates = transaction.open_table(CANDIDATES)?;
        let mut due = Vec::new();
        for entry in candidates.iter()? {
            let (key, since) = entry?;
            if time_of(since.value()) <= unused_before {
                due.push(key.value().to_owned());
            }
            if due.len() >= SWEEP_MAX {
                swept.more = true;
                break;
            }
        }
        let mut links = transaction.open_table(LINKS)?;
        let mut holders = transaction.open_table(HOLDERS)?;
        let mut blobs = transaction.open_table(BLOBS)?;
        let uses = transaction.open_table(USES)?;
        for key in due {
            candidates.remove(key.as_str())?;
            let Some((name, digest)) = key.split_once('\0') else { continue };
            if any_below(&*uses, &key)? && links.get(key.as_str())?.is_some() {
                continue;
            }
            links.remove(key.as_str())?;
            holders.remove(key2(digest, name).as_str())?;
            names.push(name.to_owned());
            if any_below(&*holders, digest)? {
                continue;
            }
            let removed = blobs.remove(digest)?.map(|value| value.value().to_vec());
            if let (Some(value), Ok(parsed)) = (removed, Digest::parse(digest)) {
                swept.files.push((parsed, time_of(&value)));
                loosen(transaction, digest, &text_of(&value))?;
            }
        }
    }
    names.dedup();
    for name in names {
        drop_if_empty(transaction, &name)?;
    }
    Ok(swept)
}

impl Catalog {
    fn trash_before(&self, deleted_before: u64) -> Result<Vec<(String, String)>, DatabaseError> {
        let transaction = self.database.read()?;
        let mut expired = Vec::new();
        for entry in transaction.open_table(TRASH)?.iter()? {
            let (key, value) = entry?;
            let record: TrashRecord = decode(key.value(), value.value())?;
            if record.deleted <= deleted_before
                && let Some((name, digest)) = key.value().split_once('\0')
            {
                expired.push((name.to_owned(), digest.to_owned()));
            }
        }
        Ok(expired)
    }

    /// All manifests of a repository by digest, for retention.
    pub fn manifests_of(&self, name: &str) -> Result<Vec<String>, DatabaseError> {
        let transaction = self.database.read()?;
        names_below(&transaction.open_table(MANIFESTS)?, name)
    }
}
