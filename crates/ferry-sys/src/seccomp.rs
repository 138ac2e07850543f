//! seccomp(2): loading a compiled filter.

use std::os::fd::{FromRawFd, OwnedFd};

use rustix::io::Errno;

use crate::clone::last_errno;

/// Bytes of one BPF instruction.
pub const INSTRUCTION_SIZE: usize = size_of::<libc::sock_filter>();

/// Log every action but "allow".
pub const FLAG_LOG: u32 = libc::SECCOMP_FILTER_FLAG_LOG as u32;
/// Do not switch on the speculative store bypass mitigation.
pub const FLAG_SPEC_ALLOW: u32 = libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW as u32;
/// Hand out a listener for "notify" actions.
pub const FLAG_NEW_LISTENER: u32 = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER as u32;

/// A process that waits for its listener's answer is interrupted by deadly signals alone.
pub const FLAG_WAIT_KILLABLE_RECV: u32 = 1 << 5;

/// Loads a filter into the calling thread, for good. Returns the listener when asked for one.
///
/// Needs CAP_SYS_ADMIN or no_new_privs. EINVAL when `program` is not whole instructions.
pub fn load(program: &[u8], flags: u32) -> Result<Option<OwnedFd>, Errno> {
    let (chunks, rest) = program.as_chunks::<INSTRUCTION_SIZE>();
    if !rest.is_empty() {
        return Err(Errno::INVAL);
    }
    let mut instructions: Vec<libc::sock_filter> = chunks
        .iter()
        .map(|bytes| libc::sock_filter {
            code: u16::from_ne_bytes([bytes[0], bytes[1]]),
            jt: bytes[2],
            jf: bytes[3],
            k: u32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]),
        })
        .collect();
    let program = libc::sock_fprog {
        len: u16::try_from(instructions.len()).map_err(|_| Errno::INVAL)?,
        filter: instructions.as_mut_ptr(),
    };
    // SAFETY: `program` points at `len` instructions that outlive the call; the kernel copies and
    // verifies them.
    let result =
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
    match result {
        -1 => Err(last_errno()),
        listener if flags & FLAG_NEW_LISTENER != 0 => {
            // SAFETY: with this flag the kernel returns a new descriptor nobody else owns.
            Ok(Some(unsafe { OwnedFd::from_raw_fd(listener as i32) }))
        }
        _ => Ok(None),
    }
}
