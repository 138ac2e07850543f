//! The process that keeps a user's namespaces while neither keeper nor container does.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use ferry_sys::clone::clone3;
use ferry_sys::descriptor::{close_from, place};
use ferry_sys::monitor::{pidfd_send_signal, set_title};
use ferry_sys::namespace::Namespaces;
use rustix::process::Signal;

use crate::pidfile;

/// Its command word and role.
const ROLE: &str = "anchor";

/// Starts it; its process id.
pub(super) fn start(run_root: &Path) -> io::Result<i32> {
    let child = clone3(Namespaces::NONE, None, || {
        // Open descriptors would keep sockets and locks of the starter's alive.
        if detach(&format!("ferry {ROLE}")).and_then(|()| Ok(close_from(3)?)).is_err() {
            return 1;
        }
        loop {
            // Any signal that it does not ignore ends it.
            rustix::event::pause();
        }
    })?;
    pidfile::write(run_root, ROLE, child.pid)?;
    Ok(child.pid)
}

/// Lets go of the starter's session, streams, working directory and name.
pub(super) fn detach(title: &str) -> io::Result<()> {
    rustix::process::setsid()?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    for stream in 0..3 {
        place(null.as_fd(), stream, false)?;
    }
    rustix::process::chdir("/")?;
    set_title(title)
}

/// The living anchor of a run root.
pub(super) fn find(run_root: &Path) -> Option<OwnedFd> {
    let pid = pidfile::read(run_root, ROLE)?;
    let pidfd = pidfile::open(pid)?;
    // Ids are reused: looked at after the descriptor was opened.
    let title = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    title.starts_with(format!("ferry {ROLE}").as_bytes()).then_some(pidfd)
}

/// Ends it, and with it the helper outside.
pub(super) fn end(run_root: &Path) {
    if let Some(pidfd) = find(run_root) {
        // One that has just ended needs no signal.
        let _ = pidfd_send_signal(pidfd.as_fd(), Signal::KILL.as_raw());
    }
    pidfile::remove(run_root, ROLE);
}
