//! Walks a directory tree in a fixed order, without following links or leaving the tree.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, OFlags, Stat};
use rustix::io::Errno;

use crate::error::IoError;
use crate::layer::Tree;

/// Something in a tree.
pub struct Node {
    /// Path below the tree's root.
    pub path: Vec<u8>,
    /// What the kernel says of it.
    pub stat: Stat,
}

impl Node {
    /// Its type.
    pub fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }
}

/// The nodes of a tree: a directory before what it holds, names in byte order.
pub struct Walk {
    root: PathBuf,
    tree: Tree,
    pending: Vec<Node>,
}

impl Walk {
    /// Starts below a directory, which itself is not among the nodes.
    pub fn new(root: &Path) -> Result<Walk, IoError> {
        let file = File::open(root).map_err(IoError::new("open", root))?;
        let mut walk = Walk { root: root.to_owned(), tree: Tree::new(file.into()), pending: Vec::new() };
        walk.enter(b"")?;
        Ok(walk)
    }

    /// The next node.
    pub fn next(&mut self) -> Result<Option<Node>, IoError> {
        let Some(node) = self.pending.pop() else { return Ok(None) };
        if node.kind() == FileType::Directory {
            self.enter(&node.path)?;
        }
        Ok(Some(node))
    }

    /// Opens a node (not following it).
    pub fn open(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, IoError> {
        self.tree.open(path, flags).map_err(self.failed("open", path))
    }

    /// The target of a symbolic link.
    pub fn read_link(&self, path: &[u8]) -> Result<Vec<u8>, IoError> {
        let link = self.open(path, OFlags::PATH)?;
        let target =
            rustix::fs::readlinkat(&link, c"", Vec::new()).map_err(self.failed("read link", path))?;
        Ok(target.into_bytes())
    }

    /// For `map_err`: an error about a node.
    pub fn failed(&self, action: &'static str, path: &[u8]) -> impl FnOnce(Errno) -> IoError + use<> {
        IoError::new(action, &self.root.join(OsStr::from_bytes(path)))
    }

    fn enter(&mut self, path: &[u8]) -> Result<(), IoError> {
        let mut found = match self.list(path) {
            Ok(found) => found,
            // It went away while it was walked (a running container's directory).
            Err(Errno::NOENT) if !path.is_empty() => return Ok(()),
            Err(errno) => return Err(self.failed("list", path)(errno)),
        };
        found.sort_by(|a, b| b.path.cmp(&a.path));
        self.pending.append(&mut found);
        Ok(())
    }

    fn list(&self, path: &[u8]) -> Result<Vec<Node>, Errno> {
        let directory = self.tree.open(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mut found = Vec::new();
        for entry in Dir::read_from(&directory)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            let stat = match rustix::fs::statat(&directory, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(Errno::NOENT) => continue,
                Err(errno) => return Err(errno),
            };
            let path = if path.is_empty() { name.to_vec() } else { [path, b"/", name].concat() };
            found.push(Node { path, stat });
        }
        Ok(found)
    }
}
