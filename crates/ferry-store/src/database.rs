//! The metadata database: JSON records in tables, one writer thread, group commit.
//!
//! Owns `db.redb`. A write is a [`Batch`]: the writer takes all batches that wait, applies them in
//! one transaction (no other I/O happens inside it), commits with fsync and then tells each caller.
//! So a thousand callers at once cost a handful of fsyncs, and no caller is told before its data is
//! safe.

use std::marker::PhantomData;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread;

use redb::{ReadableDatabase, ReadableTable, TableDefinition, TableError};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::DatabaseError;

/// redb's own default is 1 GiB; the working set here is small, and the kernel caches the file.
const CACHE_SIZE: usize = 4 << 20;
/// Most batches in one transaction, so that its memory and time stay bounded.
const GROUP_MAX: usize = 1024;

fn definition(table: &str) -> TableDefinition<'_, &'static str, &'static [u8]> {
    TableDefinition::new(table)
}

fn engine(error: impl Into<redb::Error>) -> DatabaseError {
    DatabaseError::Engine(error.into().to_string())
}

/// Writes that become durable together or not at all.
#[derive(Debug, Default)]
pub struct Batch {
    operations: Vec<Operation>,
}

#[derive(Debug)]
struct Operation {
    table: Arc<str>,
    key: String,
    /// None removes.
    value: Option<Vec<u8>>,
}

impl Batch {
    /// An empty batch.
    pub fn new() -> Batch {
        Batch::default()
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.operations.is_empty()
    }
}

/// A database appears under its name when it is whole: one whose making was broken off could not be opened again.
fn open_or_make(path: &Path) -> Result<redb::Database, DatabaseError> {
    let open =
        |path: &Path| redb::Database::builder().set_cache_size(CACHE_SIZE).create(path).map_err(engine);
    if !path.exists() {
        let fresh = path.with_extension("new");
        let failed = |error: std::io::Error| DatabaseError::Engine(format!("{}: {error}", fresh.display()));
        match std::fs::remove_file(&fresh) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
            _ => {}
        }
        drop(open(&fresh)?);
        std::fs::rename(&fresh, path).map_err(failed)?;
    }
    open(path)
}

struct Request {
    batch: Batch,
    done: mpsc::SyncSender<Result<(), DatabaseError>>,
}

/// The open database.
pub struct Database {
    readers: Arc<redb::Database>,
    writer: Option<mpsc::Sender<Request>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Database {
    /// Opens or makes the database file and starts its writer.
    pub fn open(path: &Path) -> Result<Database, DatabaseError> {
        let database = open_or_make(path)?;
        let readers = Arc::new(database);
        let (writer, requests) = mpsc::channel();
        let writes = Arc::clone(&readers);
        let thread = thread::Builder::new()
            .name("ferry-database".into())
            .spawn(move || write_groups(&writes, &requests))
            .map_err(|error| DatabaseError::Engine(format!("no thread for the writer: {error}")))?;
        Ok(Database { readers, writer: Some(writer), thread: Some(thread) })
    }

    /// Makes a batch durable; returns when it is.
    pub fn commit(&self, batch: Batch) -> Result<(), DatabaseError> {
        if batch.is_empty() {
            return Ok(());
        }
        let (done, answer) = mpsc::sync_channel(1);
        let writer = self.writer.as_ref().ok_or(DatabaseError::Closed)?;
        writer.send(Request { batch, done }).map_err(|_| DatabaseError::Closed)?;
        answer.recv().map_err(|_| DatabaseError::Closed)?
    }

    fn read(&self, table: &str, key: &str) -> Result<Option<Vec<u8>>, DatabaseError> {
        let transaction = self.readers.begin_read().map_err(engine)?;
        match transaction.open_table(definition(table)) {
            Ok(open) => {
                let guard = open.get(key).map_err(engine)?;
                Ok(guard.map(|guard| guard.value().to_vec()))
            }
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(engine(error)),
        }
    }

    /// All records of a table by key, as bytes.
    pub fn scan(&self, table: &str) -> Result<Vec<(String, Vec<u8>)>, DatabaseError> {
        let transaction = self.readers.begin_read().map_err(engine)?;
        let open = match transaction.open_table(definition(table)) {
            Ok(open) => open,
            Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            Err(error) => return Err(engine(error)),
        };
        let mut records = Vec::new();
        for record in open.iter().map_err(engine)? {
            let (key, value) = record.map_err(engine)?;
            records.push((key.value().to_owned(), value.value().to_vec()));
        }
        Ok(records)
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        drop(self.writer.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the writer was told to its callers as `Closed`.
            let _ = thread.join();
        }
    }
}

fn write_groups(database: &redb::Database, requests: &mpsc::Receiver<Request>) {
    while let Ok(first) = requests.recv() {
        let mut group = vec![first];
        while group.len() < GROUP_MAX {
            match requests.try_recv() {
                Ok(request) => group.push(request),
                Err(_) => break,
            }
        }
        let result = write_group(database, &group).map_err(|error| error.to_string());
        for request in group {
            let answer = result.clone().map_err(DatabaseError::Engine);
            // A caller that went away needs no answer.
            let _ = request.done.send(answer);
        }
    }
}

fn write_group(database: &redb::Database, group: &[Request]) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    for operation in group.iter().flat_map(|request| &request.batch.operations) {
        let mut table = transaction.open_table(definition(&operation.table))?;
        match &operation.value {
            Some(value) => {
                table.insert(operation.key.as_str(), value.as_slice())?;
            }
            None => {
                table.remove(operation.key.as_str())?;
            }
        }
    }
    transaction.commit()?;
    Ok(())
}

/// A record's key, and its value or why it cannot be read.
pub type Record<T> = (String, Result<T, DatabaseError>);

/// A typed table of JSON records.
pub struct Table<T> {
    database: Arc<Database>,
    name: Arc<str>,
    value: PhantomData<fn() -> T>,
}

impl<T> Clone for Table<T> {
    fn clone(&self) -> Table<T> {
        Table { database: Arc::clone(&self.database), name: Arc::clone(&self.name), value: PhantomData }
    }
}

impl<T> Table<T> {
    /// The table of this name; the name is part of the disk format.
    pub(crate) fn new(database: &Arc<Database>, name: &str) -> Table<T> {
        Table { database: Arc::clone(database), name: name.into(), value: PhantomData }
    }

    /// Adds a removal to a batch.
    pub fn remove_in(&self, batch: &mut Batch, key: &str) {
        batch.operations.push(Operation { table: Arc::clone(&self.name), key: key.to_owned(), value: None });
    }

    /// Removes a record durably. Idempotent.
    pub fn remove(&self, key: &str) -> Result<(), DatabaseError> {
        let mut batch = Batch::new();
        self.remove_in(&mut batch, key);
        self.database.commit(batch)
    }
}

impl<T: Serialize> Table<T> {
    /// Adds a write to a batch.
    pub fn put_in(&self, batch: &mut Batch, key: &str, value: &T) -> Result<(), DatabaseError> {
        let value = serde_json::to_vec(value).map_err(|source| DatabaseError::Encode {
            table: self.name.to_string(),
            key: key.to_owned(),
            source,
        })?;
        let operation = Operation { table: Arc::clone(&self.name), key: key.to_owned(), value: Some(value) };
        batch.operations.push(operation);
        Ok(())
    }

    /// Writes a record durably.
    pub fn put(&self, key: &str, value: &T) -> Result<(), DatabaseError> {
        let mut batch = Batch::new();
        self.put_in(&mut batch, key, value)?;
        self.database.commit(batch)
    }
}

impl<T: DeserializeOwned> Table<T> {
    /// The record of this key.
    pub fn get(&self, key: &str) -> Result<Option<T>, DatabaseError> {
        match self.database.read(&self.name, key)? {
            Some(bytes) => self.decode(key, &bytes).map(Some),
            None => Ok(None),
        }
    }

    /// All records by key; the first corrupt one is the error.
    pub fn list(&self) -> Result<Vec<(String, T)>, DatabaseError> {
        self.list_each()?.into_iter().map(|(key, value)| Ok((key, value?))).collect()
    }

    /// All records by key, a corrupt one as its own error.
    pub fn list_each(&self) -> Result<Vec<Record<T>>, DatabaseError> {
        let records = self.database.scan(&self.name)?;
        Ok(records
            .into_iter()
            .map(|(key, bytes)| {
                let value = self.decode(&key, &bytes);
                (key, value)
            })
            .collect())
    }

    fn decode(&self, key: &str, bytes: &[u8]) -> Result<T, DatabaseError> {
        serde_json::from_slice(bytes).map_err(|source| DatabaseError::Corrupt {
            table: self.name.to_string(),
            key: key.to_owned(),
            source,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open() -> (tempfile::TempDir, Arc<Database>) {
        let directory = tempfile::tempdir().unwrap();
        let database = Database::open(&directory.path().join("db.redb")).unwrap();
        (directory, Arc::new(database))
    }

    #[test]
    fn records_survive_reopening() {
        let (directory, database) = open();
        Table::<u32>::new(&database, "numbers").put("one", &1).unwrap();
        drop(database);
        let database = Arc::new(Database::open(&directory.path().join("db.redb")).unwrap());
        let table = Table::<u32>::new(&database, "numbers");
        assert_eq!(table.get("one").unwrap(), Some(1));
        assert_eq!(table.get("two").unwrap(), None);
        table.remove("one").unwrap();
        assert_eq!(table.list().unwrap(), vec![]);
    }

    #[test]
    fn many_writers_at_once_all_get_their_answer() {
        let (_directory, database) = open();
        thread::scope(|scope| {
            for number in 0..16 {
                let table = Table::<u32>::new(&database, "numbers");
                scope.spawn(move || {
                    for round in 0..8 {
                        table.put(&format!("{number}-{round}"), &round).unwrap();
                    }
                });
            }
        });
        assert_eq!(Table::<u32>::new(&database, "numbers").list().unwrap().len(), 128);
    }

    #[test]
    fn a_corrupt_record_is_named() {
        let (_directory, database) = open();
        Table::<String>::new(&database, "t").put("bad", &"text".to_owned()).unwrap();
        let error = Table::<u32>::new(&database, "t").list().unwrap_err().to_string();
        assert_eq!(error, "record \"bad\" of table \"t\" is corrupt");
        let each = Table::<u32>::new(&database, "t").list_each().unwrap();
        assert!(each[0].1.is_err());
    }
}
