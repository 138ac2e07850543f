//! Signal dispositions and masks: back to what a fresh process has.

use rustix::io::Errno;

use crate::clone::last_errno;

/// The highest signal number on Linux.
const LAST_SIGNAL: i32 = 64;

/// Unblocks every signal and gives each its default action.
///
/// Rust ignores SIGPIPE at start-up, and a caller may block what it reads through a signalfd; an
/// executed program would inherit both.
pub fn reset() -> Result<(), Errno> {
    for signal in 1..=LAST_SIGNAL {
        if signal == libc::SIGKILL || signal == libc::SIGSTOP || (32..=33).contains(&signal) {
            continue; // cannot be changed, or are glibc's own
        }
        // SAFETY: SIG_DFL installs no handler code.
        if unsafe { libc::signal(signal, libc::SIG_DFL) } == libc::SIG_ERR {
            return Err(last_errno());
        }
    }
    set_mask(MaskChange::Set, &[])
}

/// Lets a command's process start with default signals: a new process inherits what its parent has blocked
/// and ignored.
pub fn reset_in_child(command: &mut std::process::Command) {
    use std::os::unix::process::CommandExt;
    // SAFETY: `reset` calls only signal(2) and sigprocmask(2), which may be called between fork and exec,
    // and neither allocates nor takes locks.
    unsafe { command.pre_exec(|| reset().map_err(std::io::Error::from)) };
}

/// How [`set_mask`] changes the mask of blocked signals.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MaskChange {
    /// Block these too.
    Block,
    /// Block exactly these.
    Set,
}

/// Changes which signals are blocked.
pub fn set_mask(change: MaskChange, signals: &[i32]) -> Result<(), Errno> {
    let set = signal_set(signals);
    let how = match change {
        MaskChange::Block => libc::SIG_BLOCK,
        MaskChange::Set => libc::SIG_SETMASK,
    };
    // SAFETY: `set` is initialised; a null old set is allowed.
    match unsafe { libc::sigprocmask(how, &raw const set, std::ptr::null_mut()) } {
        0 => Ok(()),
        _ => Err(last_errno()),
    }
}

/// Blocks every signal that can be blocked.
pub fn block_all() -> Result<(), Errno> {
    let all: Vec<i32> = (1..=LAST_SIGNAL).filter(|signal| !(32..=33).contains(signal)).collect();
    set_mask(MaskChange::Set, &all)
}

/// Waits for the next blocked signal, whichever it is.
pub fn wait_any() -> Result<i32, Errno> {
    let all: Vec<i32> = (1..=LAST_SIGNAL).filter(|signal| !(32..=33).contains(signal)).collect();
    let set = signal_set(&all);
    loop {
        // SAFETY: `set` is initialised; a null siginfo pointer is allowed.
        let signal = unsafe { libc::sigwaitinfo(&raw const set, std::ptr::null_mut()) };
        if signal > 0 {
            return Ok(signal);
        }
        let errno = last_errno();
        if errno != Errno::INTR {
            return Err(errno);
        }
    }
}

/// Sends a signal by number; 0 only checks that the process exists.
pub fn kill(pid: i32, signal: i32) -> Result<(), Errno> {
    // SAFETY: kill takes two integers.
    match unsafe { libc::kill(pid, signal) } {
        0 => Ok(()),
        _ => Err(last_errno()),
    }
}

pub(crate) fn signal_set(signals: &[i32]) -> libc::sigset_t {
    let mut set = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initialises the whole set; sigaddset only sets bits of an initialised one
    // and refuses numbers out of range.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for signal in signals {
            libc::sigaddset(set.as_mut_ptr(), *signal);
        }
        set.assume_init()
    }
}
