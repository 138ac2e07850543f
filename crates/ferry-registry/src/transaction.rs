//! A transaction over the metadata that remembers what it changed, so that others can be made to change the same.

use std::cell::RefCell;
use std::ops::Deref;

use redb::{AccessGuard, Table, TableHandle as _, WriteTransaction};

use crate::database::{DatabaseError, Definition};

/// One change: a table's name, a key, and its new value; None where it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The table.
    pub table: String,
    /// The key.
    pub key: String,
    /// The value.
    pub value: Option<Vec<u8>>,
}

/// An open transaction.
pub struct Transaction {
    inner: WriteTransaction,
    changes: Option<RefCell<Vec<Change>>>,
}

/// An open table. Reads go to the table itself.
pub struct Recorded<'t> {
    table: Table<'t, &'static str, &'static [u8]>,
    changes: Option<&'t RefCell<Vec<Change>>>,
}

impl Transaction {
    /// Wraps an open transaction; remembers changes where `recording`.
    pub fn new(inner: WriteTransaction, recording: bool) -> Transaction {
        Transaction { inner, changes: recording.then(RefCell::default) }
    }

    /// Opens a table.
    pub fn open_table(&self, definition: Definition) -> Result<Recorded<'_>, DatabaseError> {
        Ok(Recorded { table: self.inner.open_table(definition)?, changes: self.changes.as_ref() })
    }

    /// The changes so far.
    pub fn changes(&self) -> Vec<Change> {
        self.changes.as_ref().map(|changes| changes.borrow().clone()).unwrap_or_default()
    }

    /// The transaction itself, for what is no change.
    pub fn inner(&self) -> &WriteTransaction {
        &self.inner
    }

    /// The transaction, to be ended.
    pub fn into_inner(self) -> WriteTransaction {
        self.inner
    }
}

impl<'t> Deref for Recorded<'t> {
    type Target = Table<'t, &'static str, &'static [u8]>;

    fn deref(&self) -> &Self::Target {
        &self.table
    }
}

impl Recorded<'_> {
    fn note(&self, key: &str, value: Option<&[u8]>) {
        if let Some(changes) = self.changes {
            let table = self.table.name().to_owned();
            let value = value.map(<[u8]>::to_vec);
            changes.borrow_mut().push(Change { table, key: key.to_owned(), value });
        }
    }

    /// Sets a value.
    pub fn insert(&mut self, key: &str, value: &[u8]) -> Result<(), DatabaseError> {
        self.note(key, Some(value));
        self.table.insert(key, value)?;
        Ok(())
    }

    /// Removes everything; for a table that is filled anew, and not remembered.
    pub fn clear(&mut self) -> Result<(), DatabaseError> {
        self.table.retain(|_, _| false)?;
        Ok(())
    }

    /// Removes a value, and gives it.
    pub fn remove(&mut self, key: &str) -> Result<Option<AccessGuard<'_, &'static [u8]>>, DatabaseError> {
        self.note(key, None);
        Ok(self.table.remove(key)?)
    }
}

/// Parts as bytes: counted, one after the other.
pub fn join<P: AsRef<[u8]>>(parts: &[P]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for part in parts {
        let part = part.as_ref();
        bytes.extend((part.len() as u32).to_le_bytes());
        bytes.extend(part);
    }
    bytes
}

/// The parts of bytes; None where they are not whole.
pub fn split(mut bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut parts = Vec::new();
    while !bytes.is_empty() {
        let (length, rest) = bytes.split_first_chunk::<4>()?;
        let length = u32::from_le_bytes(*length) as usize;
        parts.push(rest.get(..length)?.to_vec());
        bytes = &rest[length..];
    }
    Some(parts)
}

/// Changes as bytes: three parts for each, and one more for the value where there is one.
pub fn encode(changes: &[Change]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for change in changes {
        let there: &[u8] = if change.value.is_some() { &[1] } else { &[0] };
        parts.extend([change.table.as_bytes(), change.key.as_bytes(), there]);
        parts.extend(change.value.as_deref());
    }
    join(&parts)
}

/// Reads changes; None where the bytes are none.
pub fn decode(bytes: &[u8]) -> Option<Vec<Change>> {
    let mut parts = split(bytes)?.into_iter();
    let mut changes = Vec::new();
    while let Some(table) = parts.next() {
        let table = String::from_utf8(table).ok()?;
        let key = String::from_utf8(parts.next()?).ok()?;
        let value = match parts.next()?.as_slice() {
            [0] => None,
            [1] => Some(parts.next()?),
            _ => return None,
        };
        changes.push(Change { table, key, value });
    }
    Some(changes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_and_back() {
        let change = |value: Option<&[u8]>| Change {
            table: "tags".to_owned(),
            key: "a\0b".to_owned(),
            value: value.map(<[u8]>::to_vec),
        };
        let changes = vec![change(Some(b"x")), change(None), change(Some(b""))];
        let bytes = encode(&changes);
        assert_eq!(decode(&bytes), Some(changes));
        for cut in 1..bytes.len() {
            let short = decode(&bytes[..cut]);
            assert!(short.is_none_or(|short| short.len() < 3), "{cut}");
        }
    }
}
