//! The built-in init: process 1 of a container that reaps orphans and forwards signals.
//!
//! Owns what `docker run --init` gets from tini. Runs with the container's own privileges and
//! nothing open but the standard streams.

use rustix::process::{Pid, WaitOptions, WaitStatus};

use ferry_sys::signal;

/// `SIGCHLD`.
const CHILD: i32 = 17;
/// `SIGTTIN` and `SIGTTOU`: sent to init itself for touching a terminal that is its child's.
const TERMINAL: [i32; 2] = [21, 22];
/// What shells add to a signal's number for a process it ended.
const SIGNALLED: i32 = 128;

/// Forwards every signal to `command` and reaps every child until `command` ends; returns the exit
/// code to end with. All signals must be blocked.
pub(crate) fn watch(command: i32) -> i32 {
    loop {
        match signal::wait_any() {
            Ok(CHILD) => {
                if let Some(code) = reap(command) {
                    return code;
                }
            }
            Ok(signal) if TERMINAL.contains(&signal) => {}
            // The command may just have ended; its SIGCHLD comes next.
            Ok(signal) => drop(signal::kill(command, signal)),
            Err(errno) => return errno.raw_os_error(),
        }
    }
}

/// Reaps what has ended; the exit code of `command` when it is among it.
fn reap(command: i32) -> Option<i32> {
    let mut code = None;
    while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
        if pid == Pid::from_raw(command)? {
            code = Some(exit_code(status));
        }
    }
    code
}

fn exit_code(status: WaitStatus) -> i32 {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => code,
        (None, Some(signal)) => SIGNALLED + signal,
        (None, None) => SIGNALLED,
    }
}
