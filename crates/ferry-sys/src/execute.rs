//! execve(2) and the settings that belong to the program it starts.

use std::ffi::{CStr, CString};
use std::ptr;

use rustix::io::Errno;

use crate::clone::last_errno;

/// Replaces the calling program. Returns only the reason why it could not.
pub fn execve(path: &CStr, arguments: &[CString], environment: &[CString]) -> Errno {
    let argv = pointers(arguments);
    let envp = pointers(environment);
    // SAFETY: `path` is NUL-terminated; both arrays end in a null pointer and their strings outlive
    // the call.
    unsafe { libc::execve(path.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    last_errno()
}

fn pointers(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([ptr::null()]).collect()
}

/// Sets the resource limit with the kernel's number `resource`.
pub fn set_resource_limit(resource: u32, soft: u64, hard: u64) -> Result<(), Errno> {
    let limit = libc::rlimit64 { rlim_cur: soft, rlim_max: hard };
    // SAFETY: the kernel reads `limit`; a null old limit is allowed.
    let result = unsafe {
        libc::syscall(libc::SYS_prlimit64, 0, resource, &raw const limit, ptr::null_mut::<libc::rlimit64>())
    };
    if result == 0 { Ok(()) } else { Err(last_errno()) }
}

/// Sets the execution domain (`personality(2)`).
pub fn set_personality(persona: u64) -> Result<(), Errno> {
    // SAFETY: personality takes an integer.
    match unsafe { libc::personality(persona as libc::c_ulong) } {
        -1 => Err(last_errno()),
        _ => Ok(()),
    }
}

/// Sets the I/O priority of the calling thread; `priority` is the kernel's class and level.
pub fn set_io_priority(priority: u32) -> Result<(), Errno> {
    /// `IOPRIO_WHO_PROCESS`
    const WHO_PROCESS: i32 = 1;
    // SAFETY: ioprio_set takes integers.
    match unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, 0, priority) } {
        -1 => Err(last_errno()),
        _ => Ok(()),
    }
}

/// Sets the memory policy of the calling thread: the kernel's mode with its flags, and the nodes as a mask of bits.
pub fn set_memory_policy(mode: i32, nodes: &[u64]) -> Result<(), Errno> {
    let (mask, bits) = match nodes {
        [] => (ptr::null(), 0),
        // The kernel takes one bit less than it is told.
        nodes => (nodes.as_ptr(), nodes.len() * u64::BITS as usize + 1),
    };
    // SAFETY: the kernel reads `bits` bits at most from `mask`, which is as long; null goes with zero.
    match unsafe { libc::syscall(libc::SYS_set_mempolicy, mode, mask, bits) } {
        -1 => Err(last_errno()),
        _ => Ok(()),
    }
}

/// What [`set_scheduler`] sets: the kernel's `sched_attr`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[repr(C)]
pub struct SchedulerAttributes {
    size: u32,
    /// `SCHED_*`.
    pub policy: u32,
    /// `SCHED_FLAG_*`.
    pub flags: u64,
    /// Nice value of the ordinary policies.
    pub nice: i32,
    /// Priority of the real-time policies.
    pub priority: u32,
    /// Deadline policy: time per period, in nanoseconds.
    pub runtime: u64,
    /// Deadline policy: when it must be done.
    pub deadline: u64,
    /// Deadline policy: the period.
    pub period: u64,
}

/// Sets the scheduling policy of the calling thread.
pub fn set_scheduler(mut attributes: SchedulerAttributes) -> Result<(), Errno> {
    attributes.size = size_of::<SchedulerAttributes>() as u32;
    // SAFETY: the kernel reads `size` bytes of the structure, which has the kernel's layout.
    match unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &raw const attributes, 0) } {
        -1 => Err(last_errno()),
        _ => Ok(()),
    }
}

/// Keeps other processes of the same user from tracing the calling one or reading its memory and
/// descriptors through procfs, until it executes a program.
pub fn set_undumpable() -> Result<(), Errno> {
    // SAFETY: PR_SET_DUMPABLE takes an integer.
    match unsafe {
        libc::prctl(
            libc::PR_SET_DUMPABLE,
            0 as libc::c_ulong,
            0 as libc::c_ulong,
            0 as libc::c_ulong,
            0 as libc::c_ulong,
        )
    } {
        -1 => Err(last_errno()),
        _ => Ok(()),
    }
}

/// The hard limit of the calling process for the kernel's resource number.
pub fn hard_resource_limit(resource: u32) -> Result<u64, Errno> {
    let mut limit = libc::rlimit64 { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a null new limit is allowed; the kernel writes one rlimit64 to `limit`.
    let result = unsafe {
        libc::syscall(libc::SYS_prlimit64, 0, resource, ptr::null::<libc::rlimit64>(), &raw mut limit)
    };
    if result == 0 { Ok(limit.rlim_max) } else { Err(last_errno()) }
}
