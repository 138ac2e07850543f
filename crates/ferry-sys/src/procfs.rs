//! Writing to procfs, and only to procfs.
//!
//! A container's image or volume may put something else where `/proc` should be
//! (CVE-2019-19921, CVE-2025-52881), so writes go through an instance made here that no path leads
//! to, and each opened file is checked to lie on procfs.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::OFlags;
use rustix::io::Errno;

use crate::mount::{Attributes, FileSystem};
use crate::tree;

/// `f_type` of procfs.
const PROC_SUPER_MAGIC: u64 = 0x9fa0;

/// A procfs instance of the calling process's pid namespace.
#[derive(Debug)]
pub struct Procfs {
    root: OwnedFd,
}

impl Procfs {
    /// Mounts a new instance, attached nowhere.
    pub fn new() -> Result<Procfs, Errno> {
        let attributes = Attributes::NO_SUID | Attributes::NO_EXEC | Attributes::NO_DEVICES;
        Ok(Procfs { root: FileSystem::open("proc")?.mount(attributes)? })
    }

    /// Uses an open directory, after checking that it is the root of a procfs.
    pub fn from_root(root: OwnedFd) -> Result<Procfs, Errno> {
        require_procfs(root.as_fd())?;
        // The root of every procfs has inode 1; any other directory of it could be a bind mount.
        if rustix::fs::fstat(&root)?.st_ino != 1 {
            return Err(Errno::XDEV);
        }
        Ok(Procfs { root })
    }

    /// Uses a procfs mount that was just made, attached or not.
    pub fn from_mount(mount: BorrowedFd<'_>) -> Result<Procfs, Errno> {
        Procfs::from_root(rustix::io::fcntl_dupfd_cloexec(mount, 0)?)
    }

    /// The host's instance at `/proc`.
    pub fn host() -> Result<Procfs, Errno> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Procfs::from_root(rustix::fs::open("/proc", flags, rustix::fs::Mode::empty())?)
    }

    /// Writes `value` in one write to a file below the root; `self` in the path stands for the
    /// calling process.
    pub fn write(&self, path: &str, value: &[u8]) -> Result<(), Errno> {
        let file = self.open(path, OFlags::WRONLY)?;
        match rustix::io::write(&file, value)? {
            length if length == value.len() => Ok(()),
            _ => Err(Errno::IO),
        }
    }

    /// Opens a file below the root.
    pub fn open(&self, path: &str, flags: OFlags) -> Result<OwnedFd, Errno> {
        let own;
        let path = match path.strip_prefix("self/") {
            // `self` is a symbolic link, which the walk refuses; it is the only one needed.
            Some(rest) => {
                let link = rustix::fs::readlinkat(&self.root, "self", Vec::new())?;
                own = format!("{}/{rest}", link.to_str().map_err(|_| Errno::INVAL)?);
                own.as_str()
            }
            None => path,
        };
        let file = tree::open_plain(self.root.as_fd(), Path::new(path), flags)?;
        require_procfs(file.as_fd())?;
        Ok(file)
    }
}

/// EXDEV unless the descriptor lies on procfs.
pub fn require_procfs(descriptor: BorrowedFd<'_>) -> Result<(), Errno> {
    match rustix::fs::fstatfs(descriptor)?.f_type as u64 {
        PROC_SUPER_MAGIC => Ok(()),
        _ => Err(Errno::XDEV),
    }
}
