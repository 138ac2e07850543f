//! Objects in a bucket that are no blobs: not yet, or no longer.
//!
//! An object is noted here before it is sent, and taken out by the transaction that makes it a blob. A blob that
//! the sweep takes goes here again. So a kill at any moment leaves a note, never an object that nobody knows; and
//! one that was given up as left behind can never become a blob afterwards.

use ferry_oci::Digest;
use redb::ReadableTable;

use super::put::link;
use super::record::{number_and_text, text_of, time_of};
use super::{BLOBS, Catalog, LOOSE, key2};
use crate::database::DatabaseError;
use crate::name::Name;
use crate::transaction::Transaction;

/// An object that may be there and is no blob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LooseObject {
    /// Whose bytes it has.
    pub digest: Digest,
    /// Which object it is.
    pub place: String,
}

/// Notes an object that is a blob no longer; nothing where it lies on the disk.
pub(super) fn loosen(transaction: &Transaction, digest: &str, place: &str) -> Result<(), DatabaseError> {
    if !place.is_empty() {
        transaction.open_table(LOOSE)?.insert(&key2(digest, place), &number_and_text(0, ""))?;
    }
    Ok(())
}

/// Takes an object's note out; false where it was given up, and must not be used.
fn take(transaction: &Transaction, digest: &str, place: &str) -> Result<bool, DatabaseError> {
    let key = key2(digest, place);
    let mut loose = transaction.open_table(LOOSE)?;
    let valid = loose.get(key.as_str())?.is_some_and(|value| time_of(value.value()) > 0);
    if valid {
        loose.remove(&key)?;
    }
    Ok(valid)
}

impl Catalog {
    /// Where a blob's object is; None where there is no such blob.
    pub fn place_of(&self, digest: &Digest) -> Result<Option<String>, DatabaseError> {
        let transaction = self.database.read()?;
        let blobs = transaction.open_table(BLOBS)?;
        Ok(blobs.get(digest.to_string().as_str())?.map(|value| text_of(value.value())))
    }

    /// A repository has a blob that is there already; false where it is not.
    pub async fn link_blob(&self, name: &Name, digest: &Digest, now: u64) -> Result<bool, DatabaseError> {
        let (name, digest) = (name.to_string(), digest.to_string());
        let write = move |transaction: &Transaction| {
            let there = transaction.open_table(BLOBS)?.get(digest.as_str())?.is_some();
            if there {
                link(transaction, &name, &digest, now)?;
            }
            Ok(there)
        };
        self.database.write(write).await
    }

    /// Notes an object before it is sent.
    pub async fn announce(
        &self,
        object: &LooseObject,
        instance: &str,
        now: u64,
    ) -> Result<(), DatabaseError> {
        let key = key2(&object.digest.to_string(), &object.place);
        let value = number_and_text(now.max(1), instance);
        let write = move |transaction: &Transaction| {
            transaction.open_table(LOOSE)?.insert(&key, &value)?;
            Ok(())
        };
        self.database.write(write).await
    }

    /// An object that was sent is a blob now, unless another one already is; that one goes on being it. For a
    /// repository, where one is named. False where the object has been given up meanwhile.
    pub async fn settle(
        &self,
        name: Option<&Name>,
        object: &LooseObject,
        size: u64,
        replace: bool,
        now: u64,
    ) -> Result<bool, DatabaseError> {
        let (name, digest) = (name.map(ToString::to_string), object.digest.to_string());
        let place = object.place.clone();
        let write = move |transaction: &Transaction| {
            let before =
                transaction.open_table(BLOBS)?.get(digest.as_str())?.map(|value| text_of(value.value()));
            match &before {
                Some(_) if !replace => loosen(transaction, &digest, &place)?,
                _ if !take(transaction, &digest, &place)? => return Ok(false),
                before => {
                    transaction.open_table(BLOBS)?.insert(&digest, &number_and_text(size, &place))?;
                    loosen(transaction, &digest, before.as_deref().unwrap_or_default())?;
                }
            }
            if let Some(name) = &name {
                link(transaction, name, &digest, now)?;
            }
            Ok(true)
        };
        self.database.write(write).await
    }

    /// Gives up objects noted before a time, those of an instance whenever they were noted, and gives all that
    /// are given up.
    pub async fn give_up(&self, before: u64, instance: &str) -> Result<Vec<LooseObject>, DatabaseError> {
        let due =
            |value: &[u8]| time_of(value) <= before || (!instance.is_empty() && text_of(value) == instance);
        let mut keys = Vec::new();
        {
            let transaction = self.database.read()?;
            for row in transaction.open_table(LOOSE)?.iter()? {
                let (key, value) = row?;
                if due(value.value()) {
                    keys.push((key.value().to_owned(), time_of(value.value())));
                }
            }
        }
        let found: Vec<LooseObject> = keys.iter().filter_map(|(key, _)| object_of(key)).collect();
        let fresh: Vec<String> =
            keys.into_iter().filter(|(_, since)| *since > 0).map(|(key, _)| key).collect();
        if !fresh.is_empty() {
            let write = move |transaction: &Transaction| {
                let mut loose = transaction.open_table(LOOSE)?;
                for key in &fresh {
                    if loose.get(key.as_str())?.is_some() {
                        loose.insert(key, &number_and_text(0, ""))?;
                    }
                }
                Ok(())
            };
            self.database.write(write).await?;
        }
        let transaction = self.database.read()?;
        let (loose, mut given_up) = (transaction.open_table(LOOSE)?, Vec::new());
        for object in found {
            let key = key2(&object.digest.to_string(), &object.place);
            // One that has become a blob in this moment is not ours.
            if loose.get(key.as_str())?.is_some_and(|value| time_of(value.value()) == 0) {
                given_up.push(object);
            }
        }
        Ok(given_up)
    }

    /// Objects are gone.
    pub async fn forget_loose(&self, objects: &[LooseObject]) -> Result<(), DatabaseError> {
        let keys: Vec<String> =
            objects.iter().map(|object| key2(&object.digest.to_string(), &object.place)).collect();
        let write = move |transaction: &Transaction| {
            let mut loose = transaction.open_table(LOOSE)?;
            for key in &keys {
                if loose.get(key.as_str())?.is_some() {
                    loose.remove(key)?;
                }
            }
            Ok(())
        };
        self.database.write(write).await
    }
}

fn object_of(key: &str) -> Option<LooseObject> {
    let (digest, place) = key.split_once('\0')?;
    Some(LooseObject { digest: Digest::parse(digest).ok()?, place: place.to_owned() })
}
