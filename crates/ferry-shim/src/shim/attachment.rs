//! One attached client: a stream socket that receives output and may feed stdin.
//!
//! Owns Docker's frame header and the bounded buffer for a client that reads slowly. Whether a full
//! buffer stops the container or drops the client is decided by the streams it belongs to.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, Shutdown};

use crate::log::Stream;

/// Output kept for a slow client: enough for a terminal's worth of scrolling, little enough for many.
pub const BUFFER_LIMIT: usize = 1 << 20;
/// One read of a client's stdin.
const STDIN_PIECE: usize = 64 * 1024;

/// What a client wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wants {
    /// It feeds stdin.
    pub stdin: bool,
    /// It receives standard output.
    pub stdout: bool,
    /// It receives standard error.
    pub stderr: bool,
}

/// One attached client.
#[derive(Debug)]
pub struct Attachment {
    /// Names it in the poll set.
    pub id: u64,
    socket: OwnedFd,
    wants: Wants,
    multiplexed: bool,
    pending: Vec<u8>,
    sent: usize,
    stdin_open: bool,
}

/// The client is gone.
#[derive(Debug, PartialEq, Eq)]
pub struct Vanished;

/// What a read of the client's stdin gave.
#[derive(Debug, PartialEq, Eq)]
pub enum StdinRead {
    /// Bytes were appended.
    Data,
    /// The client ended its side.
    End,
    /// Nothing now.
    Nothing,
}

impl Attachment {
    /// A client on the other end of `socket`.
    pub fn new(id: u64, socket: OwnedFd, wants: Wants, multiplexed: bool) -> Attachment {
        let stdin_open = wants.stdin;
        Attachment { id, socket, wants, multiplexed, pending: Vec::new(), sent: 0, stdin_open }
    }

    /// The socket, for polling.
    pub fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Whether stdin bytes may still come.
    pub fn feeds_stdin(&self) -> bool {
        self.stdin_open
    }

    /// Whether it receives any output.
    pub fn wants_output(&self) -> bool {
        self.wants.stdout || self.wants.stderr
    }

    /// Whether output waits to be sent.
    pub fn has_pending(&self) -> bool {
        self.sent < self.pending.len()
    }

    /// Whether more output than the limit waits.
    pub fn is_full(&self) -> bool {
        self.pending.len() - self.sent >= BUFFER_LIMIT
    }

    /// Sends output or keeps it for later.
    pub fn push(&mut self, stream: Stream, bytes: &[u8]) -> Result<(), Vanished> {
        let wanted = match stream {
            Stream::Stdout => self.wants.stdout,
            Stream::Stderr => self.wants.stderr,
        };
        if !wanted || bytes.is_empty() {
            return Ok(());
        }
        if self.multiplexed {
            self.pending.extend_from_slice(&[stream.number(), 0, 0, 0]);
            self.pending.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
        }
        self.pending.extend_from_slice(bytes);
        self.flush()
    }

    /// Sends what the socket takes now.
    pub fn flush(&mut self) -> Result<(), Vanished> {
        while self.has_pending() {
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            match rustix::net::send(&self.socket, &self.pending[self.sent..], flags) {
                Ok(count) => self.sent += count,
                Err(Errno::AGAIN) => {
                    self.compact();
                    return Ok(());
                }
                Err(Errno::INTR) => {}
                Err(_) => return Err(Vanished),
            }
        }
        // Given back at once: an idle client shall cost nothing.
        (self.pending, self.sent) = (Vec::new(), 0);
        Ok(())
    }

    /// Reads stdin bytes and appends them.
    pub fn read_stdin(&mut self, buffer: &mut Vec<u8>) -> StdinRead {
        let begin = buffer.len();
        buffer.resize(begin + STDIN_PIECE, 0);
        let result = rustix::net::recv(&self.socket, &mut buffer[begin..], RecvFlags::DONTWAIT);
        let (count, outcome) = match result {
            Ok((0, _)) => (0, StdinRead::End),
            Ok((count, _)) => (count, StdinRead::Data),
            Err(Errno::AGAIN | Errno::INTR) => (0, StdinRead::Nothing),
            Err(_) => (0, StdinRead::End),
        };
        buffer.truncate(begin + count);
        self.stdin_open &= outcome != StdinRead::End;
        outcome
    }

    /// The client reads no more; its stdin bytes may still be on their way.
    pub fn stop_output(&mut self) {
        (self.wants.stdout, self.wants.stderr) = (false, false);
        (self.pending, self.sent) = (Vec::new(), 0);
    }

    /// Tells the client that no output follows.
    pub fn end_output(&self) -> io::Result<()> {
        Ok(rustix::net::shutdown(&self.socket, Shutdown::Write)?)
    }

    /// Moves unsent bytes to the front once the sent part is the larger one.
    fn compact(&mut self) {
        if self.sent > self.pending.len() / 2 {
            self.pending.drain(..self.sent);
            self.sent = 0;
        }
    }
}
