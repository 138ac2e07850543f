//! Errors shared by several operations: a file that failed, a database that failed, a store that
//! cannot be opened. Each operation's own errors live beside the operation.

use std::io;
use std::path::{Path, PathBuf};

/// A file operation that failed, with what was tried on which path.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}", path.display())]
pub struct IoError {
    /// What was tried: `create`, `rename`, `read`.
    pub action: &'static str,
    /// On which path.
    pub path: PathBuf,
    /// What the kernel said.
    #[source]
    pub source: io::Error,
}

impl IoError {
    /// For `map_err`: an error about `action` on `path`.
    pub fn new<E: Into<io::Error>>(action: &'static str, path: &Path) -> impl FnOnce(E) -> IoError + use<E> {
        let path = path.to_path_buf();
        move |source| IoError { action, path, source: source.into() }
    }

    /// Whether the file system is full (or the quota reached).
    pub fn is_no_space(&self) -> bool {
        matches!(self.source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
    }

    /// Whether the path does not exist.
    pub fn is_not_found(&self) -> bool {
        self.source.kind() == io::ErrorKind::NotFound
    }
}

/// The metadata database failed.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// Reading or writing the database file failed. The text is redb's.
    #[error("metadata database failed: {0}")]
    Engine(String),
    /// A record cannot be read as what it should be.
    #[error("record {key:?} of table {table:?} is corrupt")]
    Corrupt {
        /// The table.
        table: String,
        /// The record's key.
        key: String,
        /// What does not fit.
        #[source]
        source: serde_json::Error,
    },
    /// A value cannot be written as JSON.
    #[error("record {key:?} of table {table:?} cannot be encoded")]
    Encode {
        /// The table.
        table: String,
        /// The record's key.
        key: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The writer thread has ended, after an earlier failure or at shutdown.
    #[error("metadata database is closed")]
    Closed,
}

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process owns it.
    #[error("data root {} is in use by another engine (lock {} is held)", data_root.display(), lock.display())]
    Locked {
        /// The data root.
        data_root: PathBuf,
        /// The lock file.
        lock: PathBuf,
    },
    /// Written by a ferry with another disk format.
    #[error("data root {} has disk format version {found:?}; this ferry reads version {expected}", data_root.display())]
    Version {
        /// The data root.
        data_root: PathBuf,
        /// What its VERSION file says.
        found: String,
        /// What this program reads.
        expected: u32,
    },
    /// The directory holds something that is no ferry data root.
    #[error("data root {} has no VERSION file but is not empty (found {found:?}); refusing to use it", data_root.display())]
    Foreign {
        /// The data root.
        data_root: PathBuf,
        /// One entry found in it.
        found: String,
    },
    /// A file operation failed.
    #[error(transparent)]
    Io(#[from] IoError),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}
