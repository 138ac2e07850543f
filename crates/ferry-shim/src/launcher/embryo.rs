//! A shim made ahead: forked while nobody waits, it needs only its launch to begin.
//!
//! Forking, and the first touch of each page afterwards, is a tenth of a start. One embryo waits at a time;
//! the launcher makes the next one when it has given one away. It ends with the launcher.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ferry_sys::channel::Channel;
use ferry_sys::clone::clone3;
use ferry_sys::descriptor::keep_only;
use ferry_sys::monitor::set_title;
use ferry_sys::namespace::Namespaces;

use crate::shim;

/// Larger launches go to a shim forked for them: this much a socket takes at once, so that an embryo that
/// does not read cannot hold up the launcher.
const LARGEST_LAUNCH: usize = 64 * 1024;

/// A waiting process.
pub(super) struct Embryo {
    pid: i32,
    channel: Channel,
}

impl Embryo {
    /// Forks one. The process must be single-threaded.
    pub(super) fn new() -> io::Result<Embryo> {
        let (ours, theirs) = Channel::pair()?;
        let child = clone3(Namespaces::NONE, None, || wait_for_launch(theirs.as_fd()))?;
        Ok(Embryo { pid: child.pid, channel: ours })
    }

    /// Makes it the shim of this launch, and gives its process id; `None` where it is gone or the launch is
    /// not for it.
    pub(super) fn launch(mut self, frame: &[u8], control: BorrowedFd<'_>) -> Option<i32> {
        if frame.len() > LARGEST_LAUNCH {
            return None;
        }
        self.channel.send(frame, &[control]).ok()?;
        Some(self.pid)
    }
}

/// The embryo's whole life before it is a shim.
fn wait_for_launch(end: BorrowedFd<'_>) -> i32 {
    let Ok(end) = keep_only(end) else { return 1 };
    // For those who look at the process list; without it the process is as good.
    let _ = set_title("ferry-embryo");
    let mut channel = Channel::from(end);
    let Ok((frame, mut fds)) = channel.recv() else {
        // The launcher has ended.
        return 0;
    };
    drop(channel);
    match fds.pop() {
        Some(control) if fds.is_empty() => shim::run(&frame, control),
        _ => 1,
    }
}

/// Forks a shim for one launch.
pub(super) fn fork_shim(frame: &[u8], control: &OwnedFd) -> io::Result<i32> {
    let child = clone3(Namespaces::NONE, None, || match keep_only(control.as_fd()) {
        Ok(control) => shim::run(frame, control),
        Err(_) => 1,
    })?;
    Ok(child.pid)
}
