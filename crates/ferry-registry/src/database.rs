//! The transactional database of the metadata: one writer thread with group commit, readers at any time.
//!
//! A write is a closure over the open transaction: it looks, decides and writes, and nobody else writes in
//! between. All closures that wait run in one transaction, which is synced once; only then is anybody
//! answered. So what was acknowledged survives a power cut, and a hundred pushes at once cost a few syncs.

use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread;

use redb::{ReadTransaction, ReadableDatabase, TableDefinition, WriteTransaction};
use tokio::sync::oneshot;

/// Text keys, bytes as values.
pub type Definition = TableDefinition<'static, &'static str, &'static [u8]>;

/// redb's own default is 1 GiB.
const CACHE_SIZE: usize = 16 << 20;
/// Most writes in one transaction.
const GROUP_MAX: usize = 512;

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
}

type Answer = Box<dyn FnOnce(Result<(), DatabaseError>) + Send>;
/// Applies itself to the transaction; gives what answers the caller after the commit.
type Write = Box<dyn FnOnce(&WriteTransaction) -> Result<Answer, (DatabaseError, Answer)> + Send>;

/// The open database.
#[derive(Debug)]
pub struct Database {
    readers: Arc<redb::Database>,
    writer: Option<mpsc::Sender<Write>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Database {
    /// Opens or makes the database with these tables.
    pub fn open(path: &Path, tables: &[Definition]) -> Result<Database, DatabaseError> {
        let database = redb::Database::builder().set_cache_size(CACHE_SIZE).create(path)?;
        let transaction = database.begin_write()?;
        for table in tables {
            transaction.open_table(*table)?;
        }
        transaction.commit()?;
        let readers = Arc::new(database);
        let (writer, requests) = mpsc::channel();
        let own = Arc::clone(&readers);
        let thread = thread::Builder::new()
            .name("metadata".to_owned())
            .spawn(move || serve(&own, &requests))
            .map_err(|error| DatabaseError(error.to_string()))?;
        Ok(Database { readers, writer: Some(writer), thread: Some(thread) })
    }

    /// A consistent view of everything committed.
    pub fn read(&self) -> Result<ReadTransaction, DatabaseError> {
        Ok(self.readers.begin_read()?)
    }

    /// Runs a write; its result comes once it is durable. An error of the closure ends only its own write, so a
    /// closure must look before it writes.
    pub async fn write<T, F>(&self, act: F) -> Result<T, DatabaseError>
    where
        T: Send + 'static,
        F: FnOnce(&WriteTransaction) -> Result<T, DatabaseError> + Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        let write: Write = Box::new(move |transaction| {
            let outcome = act(transaction);
            let failed = outcome.as_ref().err().map(|error| DatabaseError(error.0.clone()));
            let answer: Answer = Box::new(move |committed| {
                // A caller that went away needs no answer.
                let _ = sender.send(committed.and(outcome));
            });
            match failed {
                Some(error) => Err((error, answer)),
                None => Ok(answer),
            }
        });
        self.writer
            .as_ref()
            .ok_or_else(DatabaseError::closed)?
            .send(write)
            .map_err(|_| DatabaseError::closed())?;
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

fn serve(database: &redb::Database, requests: &mpsc::Receiver<Write>) {
    while let Ok(first) = requests.recv() {
        let mut group = vec![first];
        while group.len() < GROUP_MAX {
            match requests.try_recv() {
                Ok(request) => group.push(request),
                Err(_) => break,
            }
        }
        let (answers, committed) = run_group(database, group);
        for answer in answers {
            answer(committed.as_ref().copied().map_err(|error| DatabaseError(error.0.clone())));
        }
    }
}

/// One transaction for the group. A write that fails takes the others of its group down with it, since redb
/// cannot undo a part: nothing of them is durable and all are told so.
fn run_group(database: &redb::Database, group: Vec<Write>) -> (Vec<Answer>, Result<(), DatabaseError>) {
    let mut answers = Vec::with_capacity(group.len());
    let transaction = match database.begin_write() {
        Ok(transaction) => transaction,
        // Dropped writes tell their callers that the writer has ended.
        Err(error) => return (answers, Err(error.into())),
    };
    let mut failure = None;
    for write in group {
        match write(&transaction) {
            Ok(answer) => answers.push(answer),
            Err((error, answer)) => {
                answers.push(answer);
                failure = Some(error);
            }
        }
    }
    let committed = match failure {
        Some(error) => transaction.abort().map_err(DatabaseError::from).and(Err(error)),
        None => transaction.commit().map_err(DatabaseError::from),
    };
    (answers, committed)
}
