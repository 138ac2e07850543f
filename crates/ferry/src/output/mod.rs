//! Everything that is printed: tables, formats, times, sizes, progress.

pub mod format;
pub mod progress;
pub mod table;
pub mod time;
pub mod units;

use std::io::{self, IsTerminal as _, Write as _};

/// Writes to stdout at once, so that a reader that went away is noticed here. Everything goes through
/// here: the standard library's own buffer would look for line ends in each gigabyte of a log.
pub fn write(mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        match rustix::io::write(io::stdout(), bytes) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(count) => bytes = &bytes[count..],
            Err(rustix::io::Errno::INTR) => {}
            // Somebody shares this terminal or pipe with us and made it non-blocking.
            Err(rustix::io::Errno::AGAIN) => wait_until_writable()?,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn wait_until_writable() -> io::Result<()> {
    use rustix::event::{PollFd, PollFlags, poll};
    let stdout = io::stdout();
    match poll(&mut [PollFd::new(&stdout, PollFlags::OUT)], None) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Writes one line to stdout.
pub fn line(text: &str) -> io::Result<()> {
    write(format!("{text}\n").as_bytes())
}

/// JSON with this indentation, as Go prints it.
pub fn indented(value: &serde_json::Value, indent: &str) -> io::Result<String> {
    let mut text = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(indent.as_bytes());
    let mut serializer = serde_json::Serializer::with_formatter(&mut text, formatter);
    serde::Serialize::serialize(value, &mut serializer)?;
    String::from_utf8(text).map_err(io::Error::other)
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
