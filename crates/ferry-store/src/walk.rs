//! Walks a directory tree in a fixed order, without following links or leaving the tree. Other
//! trees and files may be mounted into it by path, as volumes are into a container.

use std::ffi::OsStr;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, Stat};
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

/// A tree to be walked.
pub struct Root {
    /// The open directory.
    pub directory: OwnedFd,
    /// What errors call it.
    pub label: PathBuf,
    /// Directories and files that cover what the tree has at these paths (below the root, without
    /// a leading slash).
    pub mounts: Vec<(Vec<u8>, OwnedFd)>,
}

impl Root {
    /// A directory of the host.
    pub fn open(path: &Path) -> Result<Root, IoError> {
        let directory = File::open(path).map_err(IoError::new("open", path))?.into();
        Ok(Root { directory, label: path.to_owned(), mounts: Vec::new() })
    }
}

struct Mounted {
    path: Vec<u8>,
    content: Content,
}

enum Content {
    Directory(Tree),
    File(OwnedFd),
}

/// The nodes of a tree: a directory before what it holds, names in byte order.
pub struct Walk {
    label: PathBuf,
    tree: Tree,
    mounts: Vec<Mounted>,
    pending: Vec<Node>,
}

impl Walk {
    /// Starts below a root, which itself is not among the nodes.
    pub fn new(root: Root) -> Result<Walk, IoError> {
        let failed = IoError::new("stat a mount of", &root.label);
        let mut mounts: Vec<Mounted> =
            root.mounts.into_iter().map(Mounted::new).collect::<Result<_, _>>().map_err(failed)?;
        // The deepest mount of a path is the one that counts.
        mounts.sort_by_key(|mounted| std::cmp::Reverse(mounted.path.len()));
        let mut walk =
            Walk { label: root.label, tree: Tree::new(root.directory), mounts, pending: Vec::new() };
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
        self.open_node(path, flags).map_err(self.failed("open", path))
    }

    fn open_node(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let Some((mounted, rest)) =
            self.mounts.iter().find_map(|mounted| Some((mounted, mounted.rest(path)?)))
        else {
            return self.tree.open(path, flags);
        };
        match &mounted.content {
            Content::Directory(tree) => tree.open(rest, flags),
            // The link leads to the very file that is open, whatever has its name by now.
            Content::File(file) if rest.is_empty() => {
                let link = format!("/proc/self/fd/{}", file.as_raw_fd());
                rustix::fs::open(link, flags | OFlags::CLOEXEC, Mode::empty())
            }
            Content::File(_) => Err(Errno::NOTDIR),
        }
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
        IoError::new(action, &self.label.join(OsStr::from_bytes(path)))
    }

    fn enter(&mut self, path: &[u8]) -> Result<(), IoError> {
        let mut found = match self.list(path) {
            Ok(found) => found,
            // It went away while it was walked (a running container's directory), or another file
            // system of the host is mounted on it, which is not part of the tree.
            Err(Errno::NOENT | Errno::XDEV) if !path.is_empty() => return Ok(()),
            Err(errno) => return Err(self.failed("list", path)(errno)),
        };
        found.sort_by(|a, b| b.path.cmp(&a.path));
        self.pending.append(&mut found);
        Ok(())
    }

    fn list(&self, path: &[u8]) -> Result<Vec<Node>, Errno> {
        let directory = self.open_node(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mut found = Vec::new();
        for entry in Dir::read_from(&directory)? {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if matches!(name, b"." | b"..") {
                continue;
            }
            let path = if path.is_empty() { name.to_vec() } else { [path, b"/", name].concat() };
            let stat = match self.mounts.iter().find(|mounted| mounted.path == path) {
                Some(mounted) => mounted.stat()?,
                None => match rustix::fs::statat(&directory, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) => stat,
                    Err(Errno::NOENT) => continue,
                    Err(errno) => return Err(errno),
                },
            };
            found.push(Node { path, stat });
        }
        Ok(found)
    }
}

impl Mounted {
    fn new((path, descriptor): (Vec<u8>, OwnedFd)) -> Result<Mounted, Errno> {
        let kind = FileType::from_raw_mode(rustix::fs::fstat(&descriptor)?.st_mode);
        let content = match kind {
            FileType::Directory => Content::Directory(Tree::new(descriptor)),
            _ => Content::File(descriptor),
        };
        Ok(Mounted { path, content })
    }

    /// What of a path lies below this mount.
    fn rest<'a>(&self, path: &'a [u8]) -> Option<&'a [u8]> {
        let rest = path.strip_prefix(self.path.as_slice())?;
        match rest {
            [] => Some(rest),
            [b'/', rest @ ..] => Some(rest),
            _ => None,
        }
    }

    fn stat(&self) -> Result<Stat, Errno> {
        match &self.content {
            Content::Directory(tree) => rustix::fs::fstat(tree.root()),
            Content::File(file) => rustix::fs::fstat(file),
        }
    }
}
