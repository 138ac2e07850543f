//! The transactional database of the metadata: one writer thread with group commit, readers at any time.
//!
//! A write is a closure over the open transaction: it looks, decides and writes, and nobody else writes in
//! between. All closures that wait run in one transaction, which is synced once; only then is anybody
//! answered. So what was acknowledged survives a power cut, and a hundred pushes at once cost a few syncs.
//!
//! With a [`Journal`] the database is a cache of what several instances agree on: a group's changes are first
//! appended there. Where another instance was quicker, its changes are taken over and the closures run anew.

use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread;

use redb::{
    ReadTransaction, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition, TableHandle,
};
use tokio::sync::oneshot;

use crate::files::random_name;
use crate::transaction::{Change, Transaction};

/// Text keys, bytes as values.
pub type Definition = TableDefinition<'static, &'static str, &'static [u8]>;

/// Where the database stands in its journal.
const POSITION: Definition = TableDefinition::new("position");
/// redb's own default is 1 GiB.
const CACHE_SIZE: usize = 16 << 20;
/// Most writes in one transaction.
const GROUP_MAX: usize = 512;
/// How often a group is tried before which other instances always come.
const ATTEMPTS: u32 = 100;

/// Why the database did not do it.
#[derive(Debug, thiserror::Error)]
#[error("metadata database: {0}")]
pub struct DatabaseError(String);

impl<E: Into<redb::Error>> From<E> for DatabaseError {
    fn from(error: E) -> Self {
        DatabaseError(error.into().to_string())
    }
}

impl DatabaseError {
    /// A record that is not what this version writes.
    pub fn corrupt(key: &str, error: impl std::fmt::Display) -> Self {
        DatabaseError(format!("record {:?} is corrupt: {error}", key.replace('\0', " ")))
    }

    fn closed() -> Self {
        DatabaseError("its writer has ended".to_owned())
    }

    fn journal(error: &std::io::Error) -> Self {
        DatabaseError(error.to_string())
    }

    fn again(&self) -> Self {
        DatabaseError(self.0.clone())
    }
}

/// A place in a journal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Which journal; empty for none yet.
    pub store: String,
    /// The last entry that is known.
    pub number: u64,
}

/// The changes of one transaction.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Tells it from any other one.
    pub id: String,
    /// The changes.
    pub changes: Vec<Change>,
}

/// What a journal has behind a position.
#[derive(Debug)]
pub struct News {
    /// Where one stands with it.
    pub position: Position,
    /// All that is known goes, and this is in its place.
    pub reset: Option<Vec<Change>>,
    /// What follows.
    pub entries: Vec<Entry>,
}

/// How an append went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It is the next entry.
    Done,
    /// Another instance was quicker.
    Taken,
}

impl From<bool> for Appended {
    fn from(done: bool) -> Appended {
        if done { Appended::Done } else { Appended::Taken }
    }
}

/// What several instances agree on.
pub trait Journal: Send + std::fmt::Debug {
    /// What is new behind a position; None where nothing is.
    fn sync(&mut self, position: &Position) -> std::io::Result<Option<News>>;
    /// Adds an entry behind the last one that this instance has seen.
    fn append(&mut self, entry: &Entry) -> std::io::Result<Appended>;
    /// Whether it should be summed up.
    fn is_long(&self) -> bool;
    /// Puts all rows in the place of the entries so far, unless there are new ones.
    fn sum_up(&mut self, rows: &[Change]) -> std::io::Result<()>;
    /// Removes what a kill left behind; gives how much.
    fn tidy(&mut self, now: u64) -> std::io::Result<usize>;
}

/// A write that waits for its transaction.
trait Work: Send {
    /// Does it; more than once where another instance was quicker.
    fn run(&mut self, transaction: &Transaction) -> Result<(), DatabaseError>;
    /// Answers the caller.
    fn answer(self: Box<Self>, committed: Result<(), DatabaseError>);
}

struct Job<T, F> {
    act: F,
    outcome: Option<T>,
    sender: oneshot::Sender<Result<T, DatabaseError>>,
}

impl<T, F> Work for Job<T, F>
where
    T: Send,
    F: Fn(&Transaction) -> Result<T, DatabaseError> + Send,
{
    fn run(&mut self, transaction: &Transaction) -> Result<(), DatabaseError> {
        self.outcome = Some((self.act)(transaction)?);
        Ok(())
    }

    fn answer(self: Box<Self>, committed: Result<(), DatabaseError>) {
        let Job { outcome, sender, .. } = *self;
        // A caller that went away needs no answer.
        let _ = sender.send(committed.and_then(|()| outcome.ok_or_else(DatabaseError::closed)));
    }
}

type Told = Box<dyn FnOnce(Result<(), DatabaseError>) + Send>;

enum Request {
    Write(Box<dyn Work>),
    /// To know all that was acknowledged anywhere before now.
    Refresh(Told),
    /// To remove what a kill left in the journal.
    Tidy(u64, oneshot::Sender<Result<usize, DatabaseError>>),
}

/// The open database.
#[derive(Debug)]
pub struct Database {
    readers: Arc<redb::Database>,
    writer: Option<mpsc::Sender<Request>>,
    thread: Option<thread::JoinHandle<()>>,
    shared: bool,
}

impl Database {
    /// Opens or makes the database with these tables; as a cache of a journal where there is one.
    pub fn open(
        path: &Path,
        tables: &'static [Definition],
        journal: Option<Box<dyn Journal>>,
    ) -> Result<Database, DatabaseError> {
        let database = redb::Database::builder().set_cache_size(CACHE_SIZE).create(path)?;
        let transaction = database.begin_write()?;
        for table in tables {
            transaction.open_table(*table)?;
        }
        transaction.open_table(POSITION)?;
        transaction.commit()?;
        let readers = Arc::new(database);
        let position = position(&readers)?;
        check_kind(&readers, tables, &position, journal.is_some())?;
        let (writer, requests) = mpsc::channel();
        let shared = journal.is_some();
        let mut own = Writer { database: Arc::clone(&readers), tables, journal, position, stale: true };
        let thread = thread::Builder::new()
            .name("metadata".to_owned())
            .spawn(move || own.serve(&requests))
            .map_err(|error| DatabaseError(error.to_string()))?;
        let opened = Database { readers, writer: Some(writer), thread: Some(thread), shared };
        // A journal that cannot be read is told now.
        let (sender, receiver) = mpsc::channel();
        let told = move |result| {
            let _ = sender.send(result);
        };
        opened.send(Request::Refresh(Box::new(told)))?;
        receiver.recv().map_err(|_| DatabaseError::closed())??;
        Ok(opened)
    }

    fn send(&self, request: Request) -> Result<(), DatabaseError> {
        let writer = self.writer.as_ref().ok_or_else(DatabaseError::closed)?;
        writer.send(request).map_err(|_| DatabaseError::closed())
    }

    /// A consistent view of everything committed.
    pub fn read(&self) -> Result<ReadTransaction, DatabaseError> {
        Ok(self.readers.begin_read()?)
    }

    /// Makes sure that all is known that other instances acknowledged before now. Those who ask at one time share
    /// one look at the journal.
    pub async fn refresh(&self) -> Result<(), DatabaseError> {
        if !self.shared {
            return Ok(());
        }
        let (sender, receiver) = oneshot::channel();
        let told = move |result| {
            let _ = sender.send(result);
        };
        self.send(Request::Refresh(Box::new(told)))?;
        receiver.await.map_err(|_| DatabaseError::closed())?
    }

    /// Removes what a kill left in the journal.
    pub async fn tidy(&self, now: u64) -> Result<usize, DatabaseError> {
        let (sender, receiver) = oneshot::channel();
        self.send(Request::Tidy(now, sender))?;
        receiver.await.map_err(|_| DatabaseError::closed())?
    }

    /// Runs a write; its result comes once it is durable. An error of the closure ends only its own write, so a
    /// closure must look before it writes.
    pub async fn write<T, F>(&self, act: F) -> Result<T, DatabaseError>
    where
        T: Send + 'static,
        F: Fn(&Transaction) -> Result<T, DatabaseError> + Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        self.send(Request::Write(Box::new(Job { act, outcome: None, sender })))?;
        receiver.await.map_err(|_| DatabaseError::closed())?
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        drop(self.writer.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the writer was told to its callers as closed.
            let _ = thread.join();
        }
    }
}

fn position(database: &redb::Database) -> Result<Position, DatabaseError> {
    let transaction = database.begin_read()?;
    let table = transaction.open_table(POSITION)?;
    let number = table.get("number")?.map(|value| value.value().to_vec());
    let store = table.get("store")?.map(|value| String::from_utf8_lossy(value.value()).into_owned());
    let number = number.and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes);
    Ok(Position { store: store.unwrap_or_default(), number })
}

/// A registry on the disk must not become the cache of a bucket, which would wipe it, nor the other way round.
fn check_kind(
    database: &redb::Database,
    tables: &[Definition],
    position: &Position,
    shared: bool,
) -> Result<(), DatabaseError> {
    let cache = !position.store.is_empty();
    if shared && !cache {
        let transaction = database.begin_read()?;
        for table in tables {
            if !transaction.open_table(*table)?.is_empty()? {
                return Err(DatabaseError(
                    "this folder holds a registry of its own, not a bucket's cache".to_owned(),
                ));
            }
        }
    }
    match !shared && cache {
        true => Err(DatabaseError("this folder is the cache of a bucket, which is not named".to_owned())),
        false => Ok(()),
    }
}

/// The thread that writes.
struct Writer {
    database: Arc<redb::Database>,
    tables: &'static [Definition],
    journal: Option<Box<dyn Journal>>,
    position: Position,
    /// Other instances may have written, or it is not known what became of an entry.
    stale: bool,
}

impl Writer {
    fn serve(&mut self, requests: &mpsc::Receiver<Request>) {
        while let Ok(first) = requests.recv() {
            let (mut group, mut asked) = (Vec::new(), Vec::new());
            let mut next = Some(first);
            while let Some(request) = next.take() {
                match request {
                    Request::Write(work) => group.push(work),
                    Request::Refresh(told) => asked.push(told),
                    Request::Tidy(now, sender) => {
                        let tidied = self.journal.as_mut().map_or(Ok(0), |journal| journal.tidy(now));
                        let _ = sender.send(tidied.map_err(|error| DatabaseError::journal(&error)));
                        self.stale = true;
                    }
                }
                if group.len() < GROUP_MAX {
                    next = requests.try_recv().ok();
                }
            }
            if !asked.is_empty() {
                let refreshed = self.sync("").map(|_| ());
                for told in asked {
                    told(refreshed.as_ref().copied().map_err(DatabaseError::again));
                }
            }
            if !group.is_empty() {
                let committed = self.commit(&mut group);
                for work in group {
                    work.answer(committed.as_ref().copied().map_err(DatabaseError::again));
                }
            }
        }
    }

    /// One transaction for the group. A write that fails takes the others of its group down with it, since redb
    /// cannot undo a part: nothing of them is durable and all are told so.
    fn commit(&mut self, group: &mut [Box<dyn Work>]) -> Result<(), DatabaseError> {
        for _ in 0..ATTEMPTS {
            if self.stale {
                self.sync("")?;
            }
            let transaction = Transaction::new(self.database.begin_write()?, self.journal.is_some());
            for work in &mut *group {
                if let Err(error) = work.run(&transaction) {
                    transaction.into_inner().abort()?;
                    return Err(error);
                }
            }
            let changes = transaction.changes();
            let Some(journal) = &mut self.journal else { return Ok(transaction.into_inner().commit()?) };
            if changes.is_empty() {
                return Ok(transaction.into_inner().abort()?);
            }
            let entry = Entry { id: random_name(), changes };
            let appended = journal.append(&entry);
            if let Ok(Appended::Done) = appended {
                return self.keep(transaction);
            }
            transaction.into_inner().abort()?;
            self.stale = true;
            // It may have been appended all the same, with the answer lost on its way.
            match (self.sync(&entry.id)?, appended) {
                (true, _) => return Ok(()),
                (false, Err(error)) => return Err(DatabaseError::journal(&error)),
                (false, Ok(_)) => {}
            }
        }
        Err(DatabaseError(format!("other instances were quicker {ATTEMPTS} times")))
    }

    /// Commits what the journal has taken.
    fn keep(&mut self, transaction: Transaction) -> Result<(), DatabaseError> {
        self.stale = true;
        let position = Position { store: self.position.store.clone(), number: self.position.number + 1 };
        note(&transaction, &position)?;
        transaction.into_inner().commit()?;
        self.position = position;
        self.stale = false;
        if self.journal.as_ref().is_some_and(|journal| journal.is_long()) {
            let rows = self.rows()?;
            if let Some(Err(error)) = self.journal.as_mut().map(|journal| journal.sum_up(&rows)) {
                crate::log::fault(&format!("summing up the bucket's changes: {error}"));
                self.stale = true;
            }
        }
        Ok(())
    }

    /// Takes over what other instances wrote; whether an entry of this id is among it.
    fn sync(&mut self, id: &str) -> Result<bool, DatabaseError> {
        let Some(journal) = &mut self.journal else {
            self.stale = false;
            return Ok(false);
        };
        let news = journal.sync(&self.position).map_err(|error| DatabaseError::journal(&error))?;
        let Some(news) = news else {
            self.stale = false;
            return Ok(false);
        };
        let transaction = Transaction::new(self.database.begin_write()?, false);
        if let Some(rows) = &news.reset {
            self.wipe(&transaction)?;
            self.apply(&transaction, rows)?;
        }
        for entry in &news.entries {
            self.apply(&transaction, &entry.changes)?;
        }
        note(&transaction, &news.position)?;
        transaction.into_inner().commit()?;
        self.position = news.position;
        self.stale = false;
        Ok(news.entries.iter().any(|entry| entry.id == id))
    }

    fn wipe(&self, transaction: &Transaction) -> Result<(), DatabaseError> {
        for table in self.tables {
            transaction.open_table(*table)?.clear()?;
        }
        Ok(())
    }

    fn apply(&self, transaction: &Transaction, changes: &[Change]) -> Result<(), DatabaseError> {
        for change in changes {
            let known = self.tables.iter().find(|table| table.name() == change.table);
            let unknown =
                || DatabaseError(format!("a newer version has written the table {:?}", change.table));
            let mut table = transaction.open_table(*known.ok_or_else(unknown)?)?;
            match &change.value {
                Some(value) => table.insert(&change.key, value)?,
                None => {
                    table.remove(&change.key)?;
                }
            }
        }
        Ok(())
    }

    /// Everything that is known.
    fn rows(&self) -> Result<Vec<Change>, DatabaseError> {
        let transaction = self.database.begin_read()?;
        let mut rows = Vec::new();
        for definition in self.tables {
            for row in transaction.open_table(*definition)?.iter()? {
                let (key, value) = row?;
                let (table, key) = (definition.name().to_owned(), key.value().to_owned());
                rows.push(Change { table, key, value: Some(value.value().to_vec()) });
            }
        }
        Ok(rows)
    }
}

/// Notes where the database stands in its journal; no part of the changes.
fn note(transaction: &Transaction, position: &Position) -> Result<(), DatabaseError> {
    let mut table = transaction.inner().open_table(POSITION)?;
    table.insert("number", position.number.to_le_bytes().as_slice())?;
    table.insert("store", position.store.as_bytes())?;
    Ok(())
}
