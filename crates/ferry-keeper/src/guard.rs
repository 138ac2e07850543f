//! The engine's part of the bargain: a dead keeper is replaced.
//!
//! Owns one thread that waits for the keeper's death and starts another, handing over the listening
//! sockets, so that not a single waiting client is refused.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::process::{Command, Stdio};
use std::time::Duration;

use ferry_sys::channel::Channel;
use rustix::event::{PollFd, PollFlags, poll};

use crate::options::KeeperOptions;
use crate::pidfile;

/// Pause after an attempt that failed, or while another keeper is just starting.
const PAUSE: Duration = Duration::from_millis(200);
/// A keeper that just started has its pid file after so long at the latest.
const SETTLE: Duration = Duration::from_millis(50);
/// Waiting on a pidfd and starting a process needs little.
const STACK: usize = 128 * 1024;

/// Watches the keeper from an engine. `listeners` are the engine's API sockets, `options` those it was
/// started with. The thread ends with the process.
pub fn guard_keeper(options: KeeperOptions, listeners: Vec<OwnedFd>) -> io::Result<()> {
    let options = KeeperOptions { foreground: false, adopt: true, ..options };
    // The keeper writes it too, unless it dies in that very moment; its successor must find this engine.
    pidfile::write(&options.run_root, "engine", rustix::process::getpid().as_raw_nonzero().get())?;
    let body = move || {
        loop {
            wait_for_death(&options);
            // An engine that is told to stop right now is stopped by a keeper that is alive.
            if let Err(error) = replace(&options, &listeners) {
                eprintln!("ferry engine: cannot start a new keeper: {error}");
                std::thread::sleep(PAUSE);
            }
        }
    };
    std::thread::Builder::new().name("keeper-guard".into()).stack_size(STACK).spawn(body)?;
    Ok(())
}

/// Returns once no keeper of this run root lives.
fn wait_for_death(options: &KeeperOptions) {
    std::thread::sleep(SETTLE);
    let keeper = pidfile::read(&options.run_root, "keeper").and_then(pidfile::open);
    if let Some(pidfd) = keeper {
        let mut fds = [PollFd::from_borrowed_fd(pidfd.as_fd(), PollFlags::IN)];
        while matches!(poll(&mut fds, None), Err(rustix::io::Errno::INTR)) {}
    }
}

fn replace(options: &KeeperOptions, listeners: &[OwnedFd]) -> io::Result<()> {
    let (mut ours, theirs) = Channel::pair()?;
    let mut command = Command::new(crate::child::program_on_disk()?);
    command.arg("keeper").args(options.arguments()).stdin(Stdio::from(theirs.into_fd()));
    ferry_sys::signal::reset_in_child(&mut command);
    let mut child = command.spawn()?;
    let sockets: Vec<BorrowedFd<'_>> = listeners.iter().map(AsFd::as_fd).collect();
    let sent = ours.send(b"listeners", &sockets).map_err(io::Error::other);
    let status = child.wait()?;
    if status.success() {
        return Ok(());
    }
    if pidfile::lock(&options.run_root)?.is_none() {
        // Another start was faster, and took over or bound its own sockets.
        std::thread::sleep(PAUSE);
        return Ok(());
    }
    sent?;
    Err(io::Error::other(format!("ferry keeper ended with {status}")))
}
