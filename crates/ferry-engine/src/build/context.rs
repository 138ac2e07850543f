//! Build contexts: an archive from a client, a folder of this machine, or a URL.

use std::collections::HashMap;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use bytes::Bytes;
use ferry_build::dockerfile::SourceFile;
use ferry_build::fileop::{
    Compression, FileError, Owner, TouchedDirectories, Tree, UnpackLimits, unpack_tar,
};
use ferry_build::ignore::{Ignore, IgnoreError};
use ferry_build::solve::{BuildInputs, Folder};
use ferry_store::{IoError, Scratch, Store};
use ferry_sys::rights::Rights;
use http::StatusCode;
use tokio::sync::mpsc;

use crate::error::HttpStatus;

/// Largest Dockerfile or ignore file read.
const MAX_TEXT: u64 = 8 << 20;

/// Bytes looked at to tell what an archive is.
const HEAD: usize = 512;

/// Why there is no context.
#[derive(Debug, thiserror::Error)]
pub enum ContextError {
    /// The Dockerfile is not in it.
    #[error("Cannot locate specified Dockerfile: {0}")]
    NoDockerfile(String),
    /// The Dockerfile has nothing in it.
    #[error("the Dockerfile ({0}) cannot be empty")]
    EmptyDockerfile(String),
    /// A file cannot be read.
    #[error("cannot read {name} of the build context")]
    Read {
        /// The file.
        name: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The ignore file is wrong.
    #[error("error checking context: {name}")]
    Ignore {
        /// The file.
        name: String,
        /// What is wrong.
        #[source]
        source: IgnoreError,
    },
    /// The archive is wrong.
    #[error("cannot read the build context")]
    Archive(#[source] FileError),
    /// The folder cannot be opened.
    #[error("cannot open the build context {path}")]
    Open {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The disk.
    #[error(transparent)]
    Io(#[from] IoError),
    /// A kind of context that is not supported.
    #[error("{0:?} is neither a URL of an archive or a Dockerfile nor the address of a git repository")]
    Address(String),
    /// A repository cannot be had.
    #[error("cannot clone {url}: {reason}")]
    Clone {
        /// The repository.
        url: String,
        /// Why.
        reason: String,
    },
    /// A URL cannot be fetched.
    #[error("cannot fetch the build context {url}: {reason}")]
    Download {
        /// The URL.
        url: String,
        /// Why.
        reason: String,
    },
    /// A thread failed.
    #[error("a worker thread failed: {0}")]
    Worker(String),
}

impl HttpStatus for ContextError {
    fn status(&self) -> StatusCode {
        match self {
            Self::Io(_) | Self::Worker(_) => StatusCode::INTERNAL_SERVER_ERROR,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

/// A context with its Dockerfile.
pub struct Context {
    /// The Dockerfile.
    pub file: Arc<SourceFile>,
    /// Folders, secrets, agents.
    pub inputs: BuildInputs,
    /// The time of the context as a whole, seconds since 1970: that of its commit.
    pub time: Option<i64>,
    /// What was unpacked or fetched.
    scratches: Vec<Scratch>,
}

impl Context {
    /// Unpacks an archive that comes in pieces.
    pub fn from_archive(
        store: &Arc<Store>,
        pieces: mpsc::Receiver<io::Result<Bytes>>,
        dockerfile: &str,
    ) -> Result<Self, ContextError> {
        let scratch = store.scratch()?;
        unpack(Pieces { pieces, current: Bytes::new() }, scratch.path(), dockerfile)?;
        let root = open(scratch.path())?;
        Self::new(root, dockerfile, None, Some(scratch))
    }

    /// Takes a downloaded file: an archive, or a lone Dockerfile.
    pub fn from_file(store: &Arc<Store>, file: &Path, dockerfile: &str) -> Result<Self, ContextError> {
        let source = std::fs::File::open(file).map_err(|source| read_error("download", source))?;
        let scratch = store.scratch()?;
        unpack(source, scratch.path(), dockerfile)?;
        let root = open(scratch.path())?;
        Self::new(root, dockerfile, None, Some(scratch))
    }

    /// Takes the tree of a repository, or a folder of it.
    pub fn from_repository(
        scratch: Scratch,
        subdirectory: &str,
        dockerfile: &str,
        time: i64,
    ) -> Result<Self, ContextError> {
        let root = open_below(&scratch, subdirectory)?;
        Ok(Self { time: Some(time), ..Self::new(root, dockerfile, None, Some(scratch))? })
    }

    /// Takes a folder that the caller opened, to be read with the caller's rights. `text` is a Dockerfile
    /// from elsewhere, `ignored` the ignore file beside that.
    pub fn from_folder(
        folder: OwnedFd,
        rights: Option<Arc<Rights>>,
        dockerfile: &str,
        text: Option<Vec<u8>>,
        ignored: Option<&str>,
    ) -> Result<Self, ContextError> {
        let plain = Tree::context(is_directory(folder)?, Ignore::default()).with_rights(rights);
        let ignore = match ignored {
            None => ignore(&plain, dockerfile)?,
            Some(text) => Ignore::parse(text).map_err(|source| ContextError::Ignore {
                name: format!("{dockerfile}.dockerignore"),
                source,
            })?,
        };
        Self::read(plain, ignore, dockerfile, text, None)
    }

    fn new(
        root: OwnedFd,
        dockerfile: &str,
        text: Option<Vec<u8>>,
        scratch: Option<Scratch>,
    ) -> Result<Self, ContextError> {
        let plain = Tree::context(root, Ignore::default());
        let ignore = ignore(&plain, dockerfile)?;
        Self::read(plain, ignore, dockerfile, text, scratch)
    }

    fn read(
        plain: Tree,
        ignore: Ignore,
        dockerfile: &str,
        text: Option<Vec<u8>>,
        scratch: Option<Scratch>,
    ) -> Result<Self, ContextError> {
        // One from elsewhere has a name of its own making in the archive, which says nothing to anybody.
        let shown = if text.is_some() { "Dockerfile" } else { dockerfile };
        let bytes = match text {
            Some(bytes) => bytes,
            None => {
                read(&plain, dockerfile)?.ok_or_else(|| ContextError::NoDockerfile(dockerfile.to_owned()))?
            }
        };
        if bytes.iter().all(u8::is_ascii_whitespace) {
            return Err(ContextError::EmptyDockerfile(dockerfile.to_owned()));
        }
        let tree = plain.with_ignore(ignore);
        let folders = HashMap::from([("context".to_owned(), Arc::new(Folder { tree }))]);
        Ok(Self {
            file: Arc::new(SourceFile::new(shown, &bytes)),
            inputs: BuildInputs { folders, ..BuildInputs::default() },
            time: None,
            scratches: scratch.into_iter().collect(),
        })
    }

    /// Adds what was fetched, or a folder of it, as one that the Dockerfile can name.
    pub fn add_fetched(
        &mut self,
        name: &str,
        scratch: Scratch,
        subdirectory: &str,
    ) -> Result<(), ContextError> {
        self.add_folder(name, open_below(&scratch, subdirectory)?, None)?;
        self.scratches.push(scratch);
        Ok(())
    }

    /// Unpacks a downloaded archive that is to be added.
    pub fn unpack_fetched(store: &Arc<Store>, file: &Path) -> Result<Scratch, ContextError> {
        let source = std::fs::File::open(file).map_err(|source| read_error("download", source))?;
        let scratch = store.scratch()?;
        unpack(source, scratch.path(), "context")?;
        Ok(scratch)
    }

    /// Adds a folder that the Dockerfile can name.
    pub fn add_folder(
        &mut self,
        name: &str,
        folder: OwnedFd,
        rights: Option<Arc<Rights>>,
    ) -> Result<(), ContextError> {
        let plain = Tree::context(is_directory(folder)?, Ignore::default()).with_rights(rights);
        let ignore = ignore(&plain, "Dockerfile")?;
        self.inputs.folders.insert(name.to_owned(), Arc::new(Folder { tree: plain.with_ignore(ignore) }));
        Ok(())
    }
}

/// The tree of a repository, or a folder of it.
fn open_below(scratch: &Scratch, subdirectory: &str) -> Result<OwnedFd, ContextError> {
    use rustix::fs::OFlags;
    let root = open(scratch.path())?;
    if subdirectory.is_empty() {
        return Ok(root);
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    ferry_sys::tree::open_in_root(root.as_fd(), Path::new(subdirectory), flags)
        .map_err(|errno| ContextError::Open { path: subdirectory.into(), source: errno.into() })
}

/// Only a folder can be a context.
fn is_directory(descriptor: OwnedFd) -> Result<OwnedFd, ContextError> {
    let refuse = |errno: rustix::io::Errno| read_error("folder", errno.into());
    let stat = rustix::fs::fstat(&descriptor).map_err(refuse)?;
    match rustix::fs::FileType::from_raw_mode(stat.st_mode) {
        rustix::fs::FileType::Directory => Ok(descriptor),
        _ => Err(refuse(rustix::io::Errno::NOTDIR)),
    }
}

fn open(path: &Path) -> Result<OwnedFd, ContextError> {
    use rustix::fs::{Mode, OFlags};
    rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| ContextError::Open { path: path.to_owned(), source: errno.into() })
}

fn read_error(name: &str, source: io::Error) -> ContextError {
    ContextError::Read { name: name.to_owned(), source }
}

/// A small file of the context, links followed inside of it.
fn read(tree: &Tree, name: &str) -> Result<Option<Vec<u8>>, ContextError> {
    let resolved = match tree.resolve(Path::new(name)) {
        Ok(resolved) => resolved,
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(None),
        Err(errno) => return Err(read_error(name, errno.into())),
    };
    let file = tree.open_file(&resolved).map_err(|errno| read_error(name, errno.into()))?;
    let mut bytes = Vec::new();
    std::fs::File::from(file)
        .take(MAX_TEXT)
        .read_to_end(&mut bytes)
        .map_err(|source| read_error(name, source))?;
    Ok(Some(bytes))
}

/// The Dockerfile's own ignore file, or the context's.
fn ignore(tree: &Tree, dockerfile: &str) -> Result<Ignore, ContextError> {
    for name in [format!("{dockerfile}.dockerignore"), ".dockerignore".to_owned()] {
        if let Some(bytes) = read(tree, &name)? {
            return Ignore::parse(&String::from_utf8_lossy(&bytes))
                .map_err(|source| ContextError::Ignore { name, source });
        }
    }
    Ok(Ignore::default())
}

fn unpack(mut source: impl Read, target: &Path, dockerfile: &str) -> Result<(), ContextError> {
    let mut head = Vec::with_capacity(HEAD);
    (&mut source).take(HEAD as u64).read_to_end(&mut head).map_err(|source| read_error("archive", source))?;
    let compression = Compression::detect(&head);
    let whole = io::Cursor::new(head).chain(source);
    let Some(compression) = compression else { return lone_dockerfile(whole, target, dockerfile) };
    let reader = compression.reader(whole).map_err(|source| read_error("archive", source))?;
    let root = open(target)?;
    let owner = Owner { uid: rustix::process::geteuid().as_raw(), gid: rustix::process::getegid().as_raw() };
    let limits = UnpackLimits { owner: Some(owner), devices: false, ..UnpackLimits::default() };
    let mut touched = TouchedDirectories::default();
    let canceled = AtomicBool::new(false);
    unpack_tar(reader, root.as_fd(), Path::new("/"), &limits, &mut touched, &canceled)
        .and_then(|()| touched.restore(root.as_fd()))
        .map_err(ContextError::Archive)
}

/// What is no archive is a Dockerfile, or an empty context.
fn lone_dockerfile(source: impl Read, target: &Path, dockerfile: &str) -> Result<(), ContextError> {
    let mut bytes = Vec::new();
    source.take(MAX_TEXT).read_to_end(&mut bytes).map_err(|source| read_error("Dockerfile", source))?;
    if bytes.iter().all(|byte| *byte == 0) {
        return Ok(());
    }
    let name = Path::new(dockerfile).file_name().unwrap_or("Dockerfile".as_ref());
    std::fs::write(target.join(name), bytes).map_err(|source| read_error(dockerfile, source))
}

/// A request's body as a blocking reader.
struct Pieces {
    pieces: mpsc::Receiver<io::Result<Bytes>>,
    current: Bytes,
}

impl Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.pieces.blocking_recv() {
                None => return Ok(0),
                Some(piece) => self.current = piece?,
            }
        }
        let length = buffer.len().min(self.current.len());
        buffer[..length].copy_from_slice(&self.current.split_to(length));
        Ok(length)
    }
}
