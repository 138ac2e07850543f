//! The caller's terminal and streams while they are connected to a process in a container.

mod detach_keys;
mod input;
mod raw;
mod signals;
mod stream;

pub use detach_keys::DetachKeys;
pub use raw::RawMode;
pub use signals::{Target, forward, forward_resize};
pub use stream::{Ended, Streams, connect, copy_response};

use std::io::{self, IsTerminal as _};

/// Is stdin a terminal?
pub fn stdin_is_terminal() -> bool {
    io::stdin().is_terminal()
}

/// Rows and columns of our terminal; zeros where there is none.
pub fn size() -> [u32; 2] {
    let size =
        rustix::termios::tcgetwinsize(io::stdout()).or_else(|_| rustix::termios::tcgetwinsize(io::stdin()));
    size.map_or([0, 0], |size| [size.ws_row.into(), size.ws_col.into()])
}
