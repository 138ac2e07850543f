//! Raw mode of the terminal, and back.

use std::io;

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};

/// The terminal on stdin in raw mode; dropping it restores what was.
pub struct RawMode {
    before: Option<Termios>,
}

impl RawMode {
    /// Switches stdin's terminal to raw mode; does nothing where stdin is none.
    pub fn enter() -> io::Result<RawMode> {
        if !super::stdin_is_terminal() {
            return Ok(RawMode { before: None });
        }
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Now, &raw)?;
        Ok(RawMode { before: Some(before) })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        if let Some(before) = self.before.take() {
            // The terminal may be gone, and then there is nothing to restore.
            let _ = tcsetattr(io::stdin(), OptionalActions::Now, &before);
        }
    }
}
