//! clone3(2): a child in new namespaces and straight in its cgroup, with a pidfd.
//!
//! Owns the only fork of the runtime. Never returns into the caller's code in the child: the child
//! runs one closure and exits.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::panic::AssertUnwindSafe;

use rustix::io::Errno;

use crate::namespace::Namespaces;

/// Exit code of a child whose closure panicked; as Rust's own.
const EXIT_PANIC: i32 = 101;

/// Handlers become default actions in the child. clone3(2) only, so libc's 32-bit constant overflows.
const CLONE_CLEAR_SIGHAND: u64 = 1 << 32;
/// The child starts in the cgroup named by the arguments.
const CLONE_INTO_CGROUP: u64 = 1 << 33;

/// A cloned child.
#[derive(Debug)]
pub struct Child {
    /// Process id in the caller's pid namespace.
    pub pid: i32,
    /// The process, immune to pid reuse.
    pub pidfd: OwnedFd,
}

/// Whose child a clone is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kinship {
    /// The caller's.
    Child,
    /// The caller's parent's, who hears of its end as of the caller's.
    Sibling,
}

/// Clones the calling process into new `namespaces` and, on cgroup v2, straight into `cgroup` (a
/// directory descriptor). The child runs `body` and exits with what it returns.
///
/// Fails with EINVAL when the caller has threads: their locks would stay locked in the child.
pub fn clone3(
    namespaces: Namespaces,
    cgroup: Option<BorrowedFd<'_>>,
    body: impl FnOnce() -> i32,
) -> Result<Child, Errno> {
    clone3_as(Kinship::Child, namespaces, cgroup, body)
}

/// The same, as a child of the caller or of its parent.
pub fn clone3_as(
    kinship: Kinship,
    namespaces: Namespaces,
    cgroup: Option<BorrowedFd<'_>>,
    body: impl FnOnce() -> i32,
) -> Result<Child, Errno> {
    require_single_thread()?;
    let mut pidfd: i32 = -1;
    let mut flags = namespaces.bits() | libc::CLONE_PIDFD as u64 | CLONE_CLEAR_SIGHAND;
    // SAFETY: clone_args is plain integers; all-zero means "nothing asked for".
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.pidfd = &raw mut pidfd as u64;
    match kinship {
        Kinship::Child => args.exit_signal = libc::SIGCHLD as u64,
        // The signal is then the caller's own.
        Kinship::Sibling => flags |= libc::CLONE_PARENT as u64,
    }
    if let Some(cgroup) = cgroup {
        flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    args.flags = flags;
    // SAFETY: args lives across the call and points only at `pidfd`, which does too. Without
    // CLONE_VM the child has its own copy of memory, and the process was just seen to have one
    // thread, so no lock can be held by a thread missing in the child.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<libc::clone_args>()) };
    match pid {
        -1 => Err(last_errno()),
        0 => {
            let code = std::panic::catch_unwind(AssertUnwindSafe(body)).unwrap_or(EXIT_PANIC);
            exit_now(code)
        }
        pid => {
            // SAFETY: the kernel has just stored a new descriptor there, which nobody else owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Child { pid: pid as i32, pidfd })
        }
    }
}

/// Ends the process without running exit handlers or flushing the parent's buffers.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: _exit takes any integer and does not return.
    unsafe { libc::_exit(code) }
}

/// EINVAL when the calling process has more than one thread.
pub fn require_single_thread() -> Result<(), Errno> {
    // SAFETY: unshare(CLONE_THREAD) changes nothing; the kernel only checks that the thread group
    // has one member.
    match unsafe { libc::unshare(libc::CLONE_THREAD) } {
        0 => Ok(()),
        _ => Err(last_errno()),
    }
}

pub(crate) fn last_errno() -> Errno {
    // errno is always set after a failed libc call, so the fallback is never seen.
    Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)
}
