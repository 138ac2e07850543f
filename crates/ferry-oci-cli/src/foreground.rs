//! Following a process to its end: signals on to it, its terminal to ours, its exit code out.

use std::os::fd::{AsFd as _, BorrowedFd, OwnedFd};

use ferry_sys::monitor::{SignalFd, pidfd_send_signal};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::process::{WaitId, WaitIdOptions, WaitOptions, waitid};
use rustix::termios::{OptionalActions, Termios, isatty, tcgetattr, tcgetwinsize, tcsetattr, tcsetwinsize};

use crate::error::CliError;

/// Signals that are about us and not for the container: CHLD, the two that cannot be caught, and those of our own terminal's
/// job control and urgent data.
const NOT_FORWARDED: [i32; 5] = [17, 9, 19, 23, 28];
const SIGCHLD: i32 = 17;
const SIGWINCH: i32 = 28;
const SIGNAL_MAX: i32 = 31;
/// Added to a signal's number in an exit code.
const SIGNAL_BASE: i32 = 128;
const CHUNK: usize = 32 << 10;

/// A process to be followed.
#[derive(Debug)]
pub(crate) struct Watched<'a> {
    pub pid: i32,
    pub pidfd: BorrowedFd<'a>,
    pub console: Option<OwnedFd>,
}

/// Holds back every signal for [`follow`], from before the process is there.
pub(crate) fn signals() -> Result<SignalFd, CliError> {
    let wanted: Vec<i32> = (1..=SIGNAL_MAX).filter(|signal| ![9, 19, 23].contains(signal)).collect();
    SignalFd::new(&wanted).map_err(|error| CliError::other(format!("cannot watch signals: {error}")))
}

/// Follows the process; returns its exit code.
pub(crate) fn follow(watched: Watched<'_>, signals: &SignalFd) -> Result<i32, CliError> {
    let failed = |errno: Errno| CliError::other(format!("cannot follow process {}: {errno}", watched.pid));
    let raw = watched.console.as_ref().and_then(|_| RawTerminal::enter());
    let mut input_open = watched.console.is_some();
    if let Some(console) = &watched.console {
        resize(console.as_fd());
    }
    loop {
        let stdin = rustix::stdio::stdin();
        let ready = {
            let mut polled = vec![
                PollFd::from_borrowed_fd(watched.pidfd, PollFlags::IN),
                PollFd::from_borrowed_fd(signals.as_fd(), PollFlags::IN),
            ];
            if let Some(console) = &watched.console {
                polled.push(PollFd::new(console, PollFlags::IN));
                if input_open {
                    polled.push(PollFd::from_borrowed_fd(stdin, PollFlags::IN));
                }
            }
            rustix::io::retry_on_intr(|| poll(&mut polled, None)).map_err(failed)?;
            polled.iter().map(|one| !one.revents().is_empty()).collect::<Vec<bool>>()
        };
        if ready.get(2) == Some(&true)
            && let Some(console) = &watched.console
        {
            copy(console.as_fd(), rustix::stdio::stdout());
        }
        if ready.get(3) == Some(&true)
            && let Some(console) = &watched.console
        {
            input_open = copy(stdin, console.as_fd());
        }
        if ready[1] {
            forward(&watched, signals);
        }
        if ready[0] {
            if let Some(console) = &watched.console {
                drain(console.as_fd());
            }
            drop(raw);
            return exit_code(watched.pidfd).map_err(failed);
        }
    }
}

fn forward(watched: &Watched<'_>, signals: &SignalFd) {
    while let Ok(Some(signal)) = signals.next_signal() {
        match (signal, &watched.console) {
            (SIGWINCH, Some(console)) => resize(console.as_fd()),
            (SIGCHLD, _) => {}
            (signal, _) if NOT_FORWARDED.contains(&signal) => {}
            // It may have ended just now, which is seen next.
            (signal, _) => drop(pidfd_send_signal(watched.pidfd, signal)),
        }
    }
}

/// Copies what is there now; false at the end of it.
fn copy(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> bool {
    let mut chunk = [0u8; CHUNK];
    match rustix::io::retry_on_intr(|| rustix::io::read(from, &mut chunk[..])) {
        Ok(0) | Err(_) => false,
        Ok(length) => {
            let mut rest = &chunk[..length];
            while !rest.is_empty() {
                match rustix::io::retry_on_intr(|| rustix::io::write(to, rest)) {
                    Ok(written) => rest = &rest[written..],
                    Err(_) => return false,
                }
            }
            true
        }
    }
}

/// What the process wrote before it ended.
fn drain(console: BorrowedFd<'_>) {
    let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
    loop {
        let mut polled = [PollFd::from_borrowed_fd(console, PollFlags::IN)];
        let ready = rustix::io::retry_on_intr(|| poll(&mut polled, Some(&now)));
        if !matches!(ready, Ok(1)) || !polled[0].revents().contains(PollFlags::IN) {
            return;
        }
        if !copy(console, rustix::stdio::stdout()) {
            return;
        }
    }
}

fn exit_code(pidfd: BorrowedFd<'_>) -> Result<i32, Errno> {
    let status = rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(pidfd), WaitIdOptions::EXITED))?;
    let status = status.ok_or(Errno::CHILD)?;
    Ok(match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => SIGNAL_BASE + signal,
        (None, None) => SIGNAL_BASE,
    })
}

/// Waits for a child that was killed; a process of somebody else's is not waited for.
pub(crate) fn reap(pid: i32) {
    if let Some(pid) = rustix::process::Pid::from_raw(pid) {
        let _ = rustix::io::retry_on_intr(|| rustix::process::waitpid(Some(pid), WaitOptions::empty()));
    }
}

/// Rows and columns of our own terminal; zeros where there is none.
pub(crate) fn window_size() -> (u64, u64) {
    tcgetwinsize(rustix::stdio::stdin()).map_or((0, 0), |size| (size.ws_row.into(), size.ws_col.into()))
}

fn resize(console: BorrowedFd<'_>) {
    if let Ok(size) = tcgetwinsize(rustix::stdio::stdin())
        && (size.ws_row != 0 || size.ws_col != 0)
    {
        // The terminal's user may have gone; then nobody minds.
        let _ = tcsetwinsize(console, size);
    }
}

/// Our terminal without its own echo and signals, until dropped.
struct RawTerminal(Termios);

impl RawTerminal {
    fn enter() -> Option<RawTerminal> {
        let stdin = rustix::stdio::stdin();
        if !isatty(stdin) {
            return None;
        }
        let before = tcgetattr(stdin).ok()?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(stdin, OptionalActions::Now, &raw).ok()?;
        Some(RawTerminal(before))
    }
}

impl Drop for RawTerminal {
    fn drop(&mut self) {
        let _ = tcsetattr(rustix::stdio::stdin(), OptionalActions::Now, &self.0);
    }
}
