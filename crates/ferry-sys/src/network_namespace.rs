//! Network namespaces of threads: make one, hold it as a file descriptor, do
//! something inside one and come back.
//!
//! Everything here moves the calling thread only, so it is meant for threads
//! that own their whole life (a worker of the network service), never for a
//! thread of a shared pool that other code may run on half-way.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::thread::{LinkNameSpaceType, UnshareFlags};

/// A held network namespace: it lives at least as long as this value.
#[derive(Debug)]
pub struct NetworkNamespace {
    fd: OwnedFd,
    inode: u64,
}

impl NetworkNamespace {
    /// The namespace the calling thread is in.
    pub fn current() -> Result<Self, Errno> {
        Self::open("/proc/thread-self/ns/net")
    }

    /// Opens a namespace by path (`/proc/PID/ns/net` or a bound file).
    pub fn open(path: &str) -> Result<Self, Errno> {
        let fd = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        let inode = rustix::fs::fstat(&fd)?.st_ino;
        Ok(Self { fd, inode })
    }

    /// Makes a new namespace and leaves the calling thread in `home`.
    pub fn create(home: &NetworkNamespace) -> Result<Self, Errno> {
        // SAFETY: the call is unsafe for `UnshareFlags::FILES` only, which is not passed.
        unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET)? };
        let made = Self::current();
        home.enter()?;
        made
    }

    /// Moves the calling thread into this namespace.
    pub fn enter(&self) -> Result<(), Errno> {
        rustix::thread::move_into_link_name_space(self.fd.as_fd(), Some(LinkNameSpaceType::Network))
    }

    /// Runs `action` inside this namespace and returns to `home`.
    ///
    /// # Panics
    /// When the thread cannot return: it would go on in a wrong network, which
    /// is worse than ending.
    pub fn run_inside<T>(&self, home: &NetworkNamespace, action: impl FnOnce() -> T) -> Result<T, Errno> {
        self.enter()?;
        let result = action();
        home.enter().expect("a held network namespace can be entered again");
        Ok(result)
    }

    /// The namespace's identity: equal inodes are the same namespace.
    pub fn inode(&self) -> u64 {
        self.inode
    }

    /// A second handle on the same namespace.
    pub fn try_clone(&self) -> Result<Self, Errno> {
        Ok(Self { fd: rustix::io::fcntl_dupfd_cloexec(&self.fd, 0)?, inode: self.inode })
    }
}

impl AsFd for NetworkNamespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<NetworkNamespace> for File {
    fn from(namespace: NetworkNamespace) -> File {
        namespace.fd.into()
    }
}
