//! A process's standard input: a bounded queue in front of a pipe or terminal.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;

/// Bytes taken from clients before the process reads them.
const QUEUE_LIMIT: usize = 64 * 1024;

/// The shim's end of stdin.
#[derive(Debug, Default)]
pub struct Stdin {
    sink: Option<OwnedFd>,
    queue: Vec<u8>,
    close_when_empty: bool,
}

impl Stdin {
    /// Writes go to this non-blocking descriptor.
    pub fn new(sink: OwnedFd) -> Stdin {
        Stdin { sink: Some(sink), queue: Vec::new(), close_when_empty: false }
    }

    /// Whether bytes may still be written.
    pub fn is_open(&self) -> bool {
        self.sink.is_some() && !self.close_when_empty
    }

    /// Whether clients' bytes are welcome now. Where stdin is closed they are read and dropped, so that a
    /// client that goes on writing is not stuck.
    pub fn has_room(&self) -> bool {
        !self.is_open() || self.queue.len() < QUEUE_LIMIT
    }

    /// The descriptor to poll, and whether bytes wait for it.
    pub fn poll_fd(&self) -> Option<(BorrowedFd<'_>, bool)> {
        self.sink.as_ref().map(|sink| (sink.as_fd(), !self.queue.is_empty()))
    }

    /// Lets `fill` append bytes to the queue, then writes what fits.
    pub fn feed<T>(&mut self, fill: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let result = fill(&mut self.queue);
        self.flush();
        result
    }

    /// Ends stdin after what is queued.
    pub fn close(&mut self) {
        self.close_when_empty = true;
        self.flush();
    }

    /// Closes at once: nobody reads any more.
    pub fn abandon(&mut self) {
        self.sink = None;
        self.queue = Vec::new();
    }

    /// Writes what the process takes now.
    pub fn flush(&mut self) {
        let Some(sink) = &self.sink else {
            self.queue = Vec::new();
            return;
        };
        let mut written = 0;
        while written < self.queue.len() {
            match rustix::io::write(sink, &self.queue[written..]) {
                Ok(count) => written += count,
                Err(Errno::AGAIN) => break,
                Err(Errno::INTR) => {}
                Err(_) => return self.abandon(),
            }
        }
        self.queue.drain(..written);
        if self.queue.is_empty() {
            self.queue = Vec::new();
            if self.close_when_empty {
                self.sink = None;
            }
        }
    }
}
