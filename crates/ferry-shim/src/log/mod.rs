//! A container's log: Docker's json-file format, written fast and read back fast.
//!
//! ```text
//! <id>-json.log        active: lines are only appended
//! <id>-json.log.1      rotated, newest     (.1.gz when `compress`)
//! <id>-json.log.2 ...  rotated, older
//! ```
//! Writing is the shim's ([`writer`]), reading is anybody's ([`reader`]): a reader needs no shim.
//! Neither side ever sees a torn record: the writer appends whole records, the reader consumes only
//! what ends in a newline.

mod backlog;
mod chain;
mod decode;
pub mod encode;
pub mod reader;
pub mod rotate;
pub mod writer;

/// Which of a process's two output streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Standard output; also a terminal's only stream.
    Stdout,
    /// Standard error.
    Stderr,
}

impl Stream {
    /// The name in a log record.
    pub fn name(self) -> &'static str {
        match self {
            Stream::Stdout => "stdout",
            Stream::Stderr => "stderr",
        }
    }

    /// The number in a multiplexed frame's header.
    pub fn number(self) -> u8 {
        match self {
            Stream::Stdout => 1,
            Stream::Stderr => 2,
        }
    }
}
