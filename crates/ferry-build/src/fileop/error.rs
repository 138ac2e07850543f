//! What can go wrong with files, always with the path.

use std::path::{Path, PathBuf};

use rustix::io::Errno;

/// Why a file operation failed.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the message of each variant says what it is")]
pub enum FileError {
    #[error("cannot {action} {}: {source}", .path.display())]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("{0:?} not found in the build context{1}")]
    NotFound(String, String),
    #[error("no source files were specified: {0} matches nothing")]
    NothingMatches(String),
    #[error("{0}")]
    Pattern(#[from] crate::dockerfile::pattern::BadPattern),
    #[error("{0}")]
    Ignore(#[from] crate::ignore::IgnoreError),
    #[error("{} is neither file, directory nor link", .0.display())]
    Special(PathBuf),
    #[error("cannot copy {} over the directory {}", .source_path.display(), .target.display())]
    OverDirectory { source_path: PathBuf, target: PathBuf },
    #[error("cannot copy a directory over {}, which is none", .0.display())]
    OverFile(PathBuf),
    #[error("{} changed while it was copied", .0.display())]
    Changed(PathBuf),
    #[error("unable to find {kind} {name:?}: no matching entries in {file}")]
    NoAccount { kind: &'static str, name: String, file: &'static str },
    #[error("more than {limit} entries in {what}")]
    TooMany { what: &'static str, limit: usize },
    #[error("archive is larger than {limit} bytes")]
    ArchiveTooLarge { limit: u64 },
    #[error("archive entry {0:?} points out of the target")]
    Escapes(String),
    #[error("cannot read archive: {0}")]
    Archive(String),
    #[error("invalid permissions {0:?}")]
    Mode(String),
    #[error("canceled")]
    Canceled,
}

impl FileError {
    /// Builds the error of one operation on one path.
    pub fn io<E: Into<std::io::Error>>(action: &'static str, path: &Path) -> impl FnOnce(E) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { action, path, source: source.into() }
    }

    /// The error of a system call.
    pub fn errno(action: &'static str, path: &Path, errno: Errno) -> Self {
        Self::Io { action, path: path.to_owned(), source: errno.into() }
    }
}
