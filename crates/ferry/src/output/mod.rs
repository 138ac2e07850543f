//! Everything that is printed: tables, formats, times, sizes, progress.

pub mod format;
pub mod progress;
pub mod table;
pub mod time;
pub mod units;

use std::io::{self, IsTerminal as _, Write as _};

/// Writes to stdout and flushes, so that a reader that went away is noticed here.
pub fn write(bytes: &[u8]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()
}

/// Writes one line to stdout.
pub fn line(text: &str) -> io::Result<()> {
    write(format!("{text}\n").as_bytes())
}

/// Writes one line to stderr; nothing is left to say when that fails.
pub fn note(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

/// Is stdout a terminal?
pub fn stdout_is_terminal() -> bool {
    io::stdout().is_terminal()
}

/// Columns of the terminal on stdout.
pub fn terminal_width() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    (size.ws_col > 0).then_some(size.ws_col.into())
}
