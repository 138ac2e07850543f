//! One round of waiting: which descriptors matter now, and which of them are ready.
//!
//! Owns the poll set. It is built anew for each round: a shim watches a handful of descriptors, and a
//! set that is computed from the state cannot disagree with it.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// Descriptors with the token that names each in the result.
#[derive(Debug)]
pub struct PollSet<'fd, T> {
    tokens: Vec<T>,
    fds: Vec<PollFd<'fd>>,
}

impl<T: Copy> Default for PollSet<'_, T> {
    fn default() -> Self {
        PollSet { tokens: Vec::new(), fds: Vec::new() }
    }
}

impl<'fd, T: Copy> PollSet<'fd, T> {
    /// An empty set.
    pub fn new() -> Self {
        PollSet::default()
    }

    /// Watches a descriptor. With empty flags only hang-ups and errors are reported.
    pub fn add(&mut self, token: T, fd: BorrowedFd<'fd>, flags: PollFlags) {
        self.tokens.push(token);
        self.fds.push(PollFd::from_borrowed_fd(fd, flags));
    }

    /// Waits until something is ready or the time is over; what is ready, in the order of adding.
    pub fn wait(mut self, timeout: Option<Duration>) -> io::Result<Vec<(T, PollFlags)>> {
        let timeout =
            timeout.map(|time| Timespec { tv_sec: time.as_secs() as i64, tv_nsec: time.subsec_nanos() as _ });
        match poll(&mut self.fds, timeout.as_ref()) {
            Ok(0) | Err(Errno::INTR) => return Ok(Vec::new()),
            Ok(_) => {}
            Err(errno) => return Err(errno.into()),
        }
        let pairs = self.tokens.into_iter().zip(&self.fds);
        Ok(pairs.map(|(token, fd)| (token, fd.revents())).filter(|(_, flags)| !flags.is_empty()).collect())
    }
}
