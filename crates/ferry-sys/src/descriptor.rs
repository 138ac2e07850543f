//! Descriptors as a whole: what a new program may inherit.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Errno;

use crate::clone::last_errno;

/// Closes every descriptor from `first` on.
///
/// For a process about to execute a program: any owner still holding one of them must not use or
/// drop it afterwards, so call it from code that ends in `execve` or `_exit`.
pub fn close_from(first: u32) -> Result<(), Errno> {
    // SAFETY: close_range touches no memory; the caller's process uses none of these descriptors
    // again, as the documentation demands.
    match unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) } {
        -1 => Err(last_errno()),
        _ => Ok(()),
    }
}

/// Puts a copy of `source` at exactly `number`, closing what was there. The copy is inherited by
/// executed programs unless `close_on_exec`.
pub fn place(source: BorrowedFd<'_>, number: i32, close_on_exec: bool) -> Result<(), Errno> {
    let flags = if close_on_exec { libc::O_CLOEXEC } else { 0 };
    if source.as_raw_fd() == number {
        // dup3 refuses equal numbers; only the flag is to be set.
        let flags = if close_on_exec { libc::FD_CLOEXEC } else { 0 };
        // SAFETY: F_SETFD takes an integer and touches no memory.
        return match unsafe { libc::fcntl(number, libc::F_SETFD, flags) } {
            -1 => Err(last_errno()),
            _ => Ok(()),
        };
    }
    // SAFETY: dup3 touches no memory.
    match unsafe { libc::dup3(source.as_raw_fd(), number, flags) } {
        -1 => Err(last_errno()),
        _ => Ok(()),
    }
}

/// Bytes written to a unix socket that the other end has not read yet, as the kernel accounts for them.
pub fn unread(socket: BorrowedFd<'_>) -> Result<usize, Errno> {
    let mut count: libc::c_int = 0;
    // SAFETY: TIOCOUTQ (SIOCOUTQ) writes one int where it is told to.
    match unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut count) } {
        -1 => Err(last_errno()),
        _ => Ok(usize::try_from(count).unwrap_or(0)),
    }
}

/// Has the kernel begin to write a part of a file to the disk, and does not wait for it. Makes nothing durable: that
/// is what a sync is for, which then finds less to do.
pub fn start_writing(file: BorrowedFd<'_>, offset: u64, length: u64) -> Result<(), Errno> {
    let number = |value: u64| i64::try_from(value).map_err(|_| Errno::INVAL);
    let (offset, length) = (number(offset)?, number(length)?);
    // SAFETY: sync_file_range takes integers and touches no memory.
    match unsafe { libc::sync_file_range(file.as_raw_fd(), offset, length, libc::SYNC_FILE_RANGE_WRITE) } {
        -1 => Err(last_errno()),
        _ => Ok(()),
    }
}

/// A copy of `source` numbered at least `least`, closed on exec.
pub fn duplicate_above(source: BorrowedFd<'_>, least: i32) -> Result<OwnedFd, Errno> {
    // SAFETY: F_DUPFD_CLOEXEC takes an integer and touches no memory.
    match unsafe { libc::fcntl(source.as_raw_fd(), libc::F_DUPFD_CLOEXEC, least) } {
        -1 => Err(last_errno()),
        // SAFETY: the kernel has just made this descriptor; nobody else owns it.
        number => Ok(unsafe { OwnedFd::from_raw_fd(number) }),
    }
}

/// Takes over a descriptor that the parent process left open under this number, and closes it on
/// exec from now on. It is a duplicate that is owned; the number itself is closed.
pub fn inherited(number: i32) -> Result<OwnedFd, Errno> {
    // SAFETY: F_DUPFD_CLOEXEC takes an integer and touches no memory.
    let copy = match unsafe { libc::fcntl(number, libc::F_DUPFD_CLOEXEC, 3) } {
        -1 => return Err(last_errno()),
        // SAFETY: the kernel has just made this descriptor; nobody else owns it.
        copy => unsafe { OwnedFd::from_raw_fd(copy) },
    };
    // SAFETY: the number came over exec, so no Rust object owns it; closing touches no memory.
    unsafe { libc::close(number) };
    Ok(copy)
}

/// Puts a copy of `source` at exactly `number`, closed on exec, and owns it there. What had that
/// number is closed, so its owner must not use it again.
pub fn move_to(source: BorrowedFd<'_>, number: i32) -> Result<OwnedFd, Errno> {
    place(source, number, true)?;
    // SAFETY: `place` has just made this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Closes every descriptor from 3 on but this one, and gives it back owned.
///
/// For a process that has just been forked and never returns into its parent's code: owners of the
/// closed descriptors in the parent's frames must not be used or dropped in it.
pub fn keep_only(kept: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let number = kept.as_raw_fd();
    let close = |first: i32, last: u32| {
        // SAFETY: close_range touches no memory; the process uses none of these again, see above.
        match unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) } {
            -1 => Err(last_errno()),
            _ => Ok(()),
        }
    };
    if number > FIRST_OWN {
        close(FIRST_OWN, number as u32 - 1)?;
    }
    close(number + 1, u32::MAX)?;
    // SAFETY: the borrowed owner is never used or dropped in this process, see above, so this becomes the
    // only one.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// The first descriptor after the three standard ones.
const FIRST_OWN: i32 = 3;
