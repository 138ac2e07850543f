//! A directory tree to read from: a build context (with its `.dockerignore`) or a stage's files.

use std::ffi::OsStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ferry_sys::rights::{Assumed, Rights};
use ferry_sys::tree::{open_in_root, open_no_links};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, Stat, readlinkat, statat};
use rustix::io::Errno;

use super::FileError;
use crate::ignore::{Ignore, Verdict};

/// What a file was when it was looked at; equal stamps mean an unchanged file (but see
/// [`super::FileHashes`] for the youngest ones).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Stamp {
    /// Device and inode.
    pub inode: (u64, u64),
    /// Time of the last change of contents or attributes, nanoseconds since 1970.
    pub changed: i128,
    /// Bytes.
    pub size: u64,
}

/// The kinds of entries that can be copied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link with its target.
    Link(Vec<u8>),
    /// A device or pipe: type bits and device number.
    Special {
        /// `S_IFMT` bits.
        file_type: u32,
        /// Device number.
        device: u64,
    },
}

/// One entry of a tree.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Path below the tree's root, without a leading slash; empty for the root.
    pub path: PathBuf,
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time, seconds and nanoseconds.
    pub modified: (i64, u32),
    /// Identity and freshness.
    pub stamp: Stamp,
    /// Number of names.
    pub links: u64,
}

/// A tree and how it is looked at.
#[derive(Debug)]
pub struct Tree {
    root: OwnedFd,
    ignore: Ignore,
    /// Files of a build context belong to root, whoever owns them outside.
    root_owned: bool,
    /// Everything is opened with these rights, where they are less than the engine's own.
    rights: Option<Arc<Rights>>,
}

/// Permissions of a build context's own folder, whatever it has outside: what Docker makes a folder with.
const CONTEXT_MODE: u32 = 0o755;

/// Bytes read from a directory at once: some 1000 names.
const DIRECTORY_BUFFER: usize = 32 << 10;

/// A directory with fewer names is walked by one thread: starting another takes as long.
const WIDE: usize = 64;
/// Threads of one walk.
const THREADS_MAX: usize = 4;
/// Parts of the names for each thread, so that one with large folders does not keep the others waiting.
const PARTS_EACH: usize = 8;
/// Stack of a walking thread, for the deepest path that the kernel takes.
const STACK: usize = 8 << 20;

impl Tree {
    /// A build context.
    pub fn context(root: OwnedFd, ignore: Ignore) -> Self {
        Self { root, ignore, root_owned: true, rights: None }
    }

    /// The files of a stage or an image.
    pub fn stage(root: OwnedFd) -> Self {
        Self { root, ignore: Ignore::default(), root_owned: false, rights: None }
    }

    /// The same tree with patterns that hide files.
    pub fn with_ignore(self, ignore: Ignore) -> Self {
        Self { ignore, ..self }
    }

    /// The same tree as somebody sees it who has these rights.
    pub fn with_rights(self, rights: Option<Arc<Rights>>) -> Self {
        Self { rights, ..self }
    }

    /// Whether somebody's rights are in the place of the engine's.
    pub fn has_rights(&self) -> bool {
        self.rights.is_some()
    }

    /// Takes on the rights with which this tree is read.
    fn assume(&self) -> Result<Option<Assumed>, Errno> {
        self.rights.as_ref().map(|rights| rights.assume()).transpose()
    }

    /// The root directory.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Whether this is a build context.
    pub fn is_context(&self) -> bool {
        self.root_owned
    }

    /// The patterns that hide files.
    pub fn ignore(&self) -> &Ignore {
        &self.ignore
    }

    /// Follows links and `..` inside of the tree; the true path of what is there.
    pub fn resolve(&self, path: &Path) -> Result<PathBuf, Errno> {
        /// As many links as the kernel follows.
        const MAX_LINKS: usize = 40;
        let _assumed = self.assume()?;
        let mut done = PathBuf::new();
        let mut rest: Vec<Vec<u8>> = parts(path.as_os_str().as_bytes());
        let mut followed = 0;
        while let Some(part) = rest.pop() {
            match part.as_slice() {
                b"" | b"." => continue,
                b".." => {
                    done.pop();
                    continue;
                }
                _ => {}
            }
            let candidate = done.join(OsStr::from_bytes(&part));
            match self.read_link(&candidate) {
                Err(Errno::INVAL) => done = candidate,
                Err(errno) => return Err(errno),
                Ok(target) => {
                    followed += 1;
                    if followed > MAX_LINKS {
                        return Err(Errno::LOOP);
                    }
                    if target.first() == Some(&b'/') {
                        done = PathBuf::new();
                    }
                    rest.extend(parts(&target));
                }
            }
        }
        Ok(done)
    }

    /// The target of a link; `INVAL` for anything else.
    fn read_link(&self, path: &Path) -> Result<Vec<u8>, Errno> {
        let parent = self.open_directory(path.parent().unwrap_or(Path::new("")))?;
        let name = path.file_name().ok_or(Errno::INVAL)?;
        readlinkat(&parent, name, Vec::new()).map(link_target)
    }

    /// Opens a directory of the tree without following links.
    pub fn open_directory(&self, path: &Path) -> Result<OwnedFd, Errno> {
        let _assumed = self.assume()?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        match path.as_os_str().is_empty() {
            true => rustix::fs::openat(&self.root, ".", flags, Mode::empty()),
            false => open_no_links(self.root.as_fd(), path, flags),
        }
    }

    /// Opens a file of the tree for reading without following links.
    pub fn open_file(&self, path: &Path) -> Result<OwnedFd, Errno> {
        let _assumed = self.assume()?;
        open_no_links(self.root.as_fd(), path, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK)
    }

    /// Looks at one entry.
    pub fn entry(&self, path: &Path) -> Result<Entry, FileError> {
        let refuse = |errno| FileError::errno("stat", path, errno);
        let _assumed = self.assume().map_err(refuse)?;
        if path.as_os_str().is_empty() {
            let stat = rustix::fs::fstat(&self.root).map_err(refuse)?;
            let mut root = self.describe(None, path.to_owned(), &stat)?;
            if self.root_owned {
                // Whose folder it is and where a client's archive was unpacked says nothing of the build.
                root.mode = CONTEXT_MODE;
            }
            return Ok(root);
        }
        let parent = self.open_directory(path.parent().unwrap_or(Path::new(""))).map_err(refuse)?;
        let name = path.file_name().ok_or(Errno::INVAL).map_err(refuse)?;
        let stat = statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW).map_err(refuse)?;
        self.describe(Some((parent.as_fd(), name)), path.to_owned(), &stat)
    }

    fn describe(
        &self,
        place: Option<(BorrowedFd<'_>, &OsStr)>,
        path: PathBuf,
        stat: &Stat,
    ) -> Result<Entry, FileError> {
        let kind = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => EntryKind::File,
            FileType::Directory => EntryKind::Directory,
            FileType::Symlink => {
                let (parent, name) = place.ok_or_else(|| FileError::Special(path.clone()))?;
                let target = readlinkat(parent, name, Vec::new())
                    .map_err(|errno| FileError::errno("read the link", &path, errno))?;
                EntryKind::Link(link_target(target))
            }
            _ => EntryKind::Special { file_type: stat.st_mode & 0o170_000, device: stat.st_rdev },
        };
        // A context that comes as an archive has whole seconds; the same one read here must be no other.
        let nanoseconds = if self.root_owned { 0 } else { u32::try_from(stat.st_mtime_nsec).unwrap_or(0) };
        let (uid, gid) = if self.root_owned { (0, 0) } else { (stat.st_uid, stat.st_gid) };
        Ok(Entry {
            kind,
            mode: stat.st_mode & 0o7777,
            uid,
            gid,
            modified: (stat.st_mtime, nanoseconds),
            stamp: stamp(stat),
            links: stat.st_nlink,
            path,
        })
    }

    /// All entries below a directory that are not ignored, parents before children, sorted by name.
    pub fn walk(&self, directory: &Path, limit: usize) -> Result<Vec<Entry>, FileError> {
        let verdict = self.verdict(directory);
        let refuse = |errno| FileError::errno("open", directory, errno);
        let descriptor = self.open_directory(directory).map_err(refuse)?;
        let mut names = {
            let _assumed = self.assume().map_err(refuse)?;
            list(descriptor.as_fd()).map_err(|errno| FileError::errno("read", directory, errno))?
        };
        names.sort_unstable();
        let walk = |names: &[Vec<u8>]| {
            let mut found = Vec::new();
            let _assumed = self.assume().map_err(refuse)?;
            self.walk_names(descriptor.as_fd(), directory, names, &verdict, limit, &mut found)?;
            Ok(found)
        };
        let found = match names.len() < WIDE {
            true => walk(&names)?,
            false => side_by_side(&names, walk)?,
        };
        match found.len() > limit {
            true => Err(FileError::TooMany { what: "the build context", limit }),
            false => Ok(found),
        }
    }

    fn walk_into(
        &self,
        directory: BorrowedFd<'_>,
        path: &Path,
        verdict: &Verdict,
        limit: usize,
        found: &mut Vec<Entry>,
    ) -> Result<(), FileError> {
        let mut names = list(directory).map_err(|errno| FileError::errno("read", path, errno))?;
        names.sort_unstable();
        self.walk_names(directory, path, &names, verdict, limit, found)
    }

    fn walk_names(
        &self,
        directory: BorrowedFd<'_>,
        path: &Path,
        names: &[Vec<u8>],
        verdict: &Verdict,
        limit: usize,
        found: &mut Vec<Entry>,
    ) -> Result<(), FileError> {
        for name in names {
            let name = OsStr::from_bytes(name);
            let child = path.join(name);
            let child_verdict = match self.ignore.is_empty() {
                true => verdict.clone(),
                false => self.ignore.judge(verdict, child.as_os_str().as_bytes()),
            };
            if child_verdict.ignored && self.ignore.can_skip(child.as_os_str().as_bytes(), &child_verdict) {
                continue;
            }
            let stat = match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                // It went away between the listing and now, as if it had never been there.
                Err(Errno::NOENT) => continue,
                Err(errno) => return Err(FileError::errno("stat", &child, errno)),
            };
            let is_directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            if child_verdict.ignored && !is_directory {
                continue;
            }
            if found.len() >= limit {
                return Err(FileError::TooMany { what: "the build context", limit });
            }
            let at = found.len();
            found.push(self.describe(Some((directory, name)), child.clone(), &stat)?);
            if is_directory {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
                let below = rustix::fs::openat(directory, name, flags, Mode::empty())
                    .map_err(|errno| FileError::errno("open", &child, errno))?;
                self.walk_into(below.as_fd(), &child, &child_verdict, limit, found)?;
                // An ignored folder is only there for the sake of what an exception kept inside.
                if child_verdict.ignored && found.len() == at + 1 {
                    found.pop();
                }
            }
        }
        Ok(())
    }

    /// The verdict on a path with all its parents.
    pub fn verdict(&self, path: &Path) -> Verdict {
        let mut verdict = self.ignore.root();
        let bytes = path.as_os_str().as_bytes();
        if bytes.is_empty() || self.ignore.is_empty() {
            return verdict;
        }
        for end in memchr::memchr_iter(b'/', bytes).chain([bytes.len()]) {
            verdict = self.ignore.judge(&verdict, &bytes[..end]);
        }
        verdict
    }

    /// Opens what a path leads to, links followed inside of the tree; only a place, not for reading.
    pub fn open_place(&self, path: &Path) -> Result<OwnedFd, Errno> {
        let _assumed = self.assume()?;
        open_in_root(self.root.as_fd(), path, OFlags::PATH)
    }
}

/// Walks parts of a long list of names on several threads, and puts what they find in order again: most of a walk is
/// the kernel's, and it does that on all processors at once.
fn side_by_side(
    names: &[Vec<u8>],
    walk: impl Fn(&[Vec<u8>]) -> Result<Vec<Entry>, FileError> + Sync,
) -> Result<Vec<Entry>, FileError> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
    let parts: Vec<&[Vec<u8>]> = names.chunks(names.len().div_ceil(threads * PARTS_EACH)).collect();
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(parts.len()));
    let work = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(part) = parts.get(at) else { return };
            let found = (at, walk(part));
            done.lock().unwrap_or_else(PoisonError::into_inner).push(found);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            // Without another thread this one does it all.
            let _ =
                std::thread::Builder::new().name("walk".into()).stack_size(STACK).spawn_scoped(scope, work);
        }
        work();
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_unstable_by_key(|(at, _)| *at);
    let mut all = Vec::new();
    for (_, found) in done {
        all.append(&mut found?);
    }
    Ok(all)
}

fn link_target(text: std::ffi::CString) -> Vec<u8> {
    text.into_bytes()
}

/// Path components, last one first, so that they can be popped.
fn parts(path: &[u8]) -> Vec<Vec<u8>> {
    path.split(|byte| *byte == b'/').rev().map(<[u8]>::to_vec).collect()
}

/// The stamp of a file.
pub fn stamp(stat: &Stat) -> Stamp {
    Stamp {
        inode: (stat.st_dev, stat.st_ino),
        changed: i128::from(stat.st_ctime) * 1_000_000_000 + i128::from(stat.st_ctime_nsec),
        size: u64::try_from(stat.st_size).unwrap_or(0),
    }
}

/// The names in a directory.
pub fn list(directory: BorrowedFd<'_>) -> Result<Vec<Vec<u8>>, Errno> {
    let mut buffer = Vec::with_capacity(DIRECTORY_BUFFER);
    let mut entries = RawDir::new(directory, buffer.spare_capacity_mut());
    let mut names = Vec::new();
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if !matches!(name, b"." | b"..") {
            names.push(name.to_vec());
        }
    }
    Ok(names)
}
