//! keyctl(2): the session keyring.

use std::ffi::CStr;

use rustix::io::Errno;

use crate::clone::last_errno;

/// Gives the calling process a session keyring of its own.
///
/// ENOSYS where the kernel has no keyrings; EDQUOT where the user's quota is used up.
pub fn join_session(name: &CStr) -> Result<(), Errno> {
    // SAFETY: the kernel reads the NUL-terminated name and nothing else.
    match unsafe { libc::syscall(libc::SYS_keyctl, libc::KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr()) } {
        -1 => Err(last_errno()),
        _ => Ok(()),
    }
}
