//! bpf(2), as far as cgroup v2's device control needs it: load a program, attach it to a cgroup,
//! find and detach the ones there.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use rustix::io::Errno;

use crate::clone::last_errno;

const BPF_PROG_LOAD: i32 = 5;
const BPF_PROG_ATTACH: i32 = 8;
const BPF_PROG_DETACH: i32 = 9;
const BPF_PROG_GET_FD_BY_ID: i32 = 13;
const BPF_PROG_QUERY: i32 = 16;
const BPF_PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const BPF_CGROUP_DEVICE: u32 = 6;
const BPF_F_ALLOW_MULTI: u32 = 1 << 1;
const BPF_F_REPLACE: u32 = 1 << 2;

/// The kernel's own limit of programs attached to one cgroup and hook.
const ATTACHED_MAX: usize = 64;

/// The parts of the kernel's `union bpf_attr` used here begin at offset 0 and are no longer than
/// this; the kernel takes a shorter union than its own, the rest counting as zero.
#[repr(C, align(8))]
struct Attributes([u8; 128]);

impl Attributes {
    fn new() -> Attributes {
        Attributes([0; 128])
    }

    fn u32(&mut self, offset: usize, value: u32) {
        self.0[offset..offset + 4].copy_from_slice(&value.to_ne_bytes());
    }

    fn u64(&mut self, offset: usize, value: u64) {
        self.0[offset..offset + 8].copy_from_slice(&value.to_ne_bytes());
    }

    fn read_u32(&self, offset: usize) -> u32 {
        let bytes: [u8; 4] = self.0[offset..offset + 4].try_into().expect("four bytes");
        u32::from_ne_bytes(bytes)
    }
}

/// Calls bpf(2).
///
/// # Safety
/// Every address stored in `attributes` must be valid for what `command` does with it.
unsafe fn bpf(command: i32, attributes: &mut Attributes) -> Result<i32, Errno> {
    // SAFETY: the union is 128 readable and writable bytes; the caller answers for addresses in it.
    match unsafe { libc::syscall(libc::SYS_bpf, command, attributes.0.as_mut_ptr(), attributes.0.len()) } {
        -1 => Err(last_errno()),
        value => Ok(value as i32),
    }
}

/// Loads a device program of 8-byte eBPF instructions; the kernel verifies it.
pub fn load_device_program(instructions: &[u64]) -> Result<OwnedFd, Errno> {
    let mut attributes = Attributes::new();
    attributes.u32(0, BPF_PROG_TYPE_CGROUP_DEVICE);
    attributes.u32(4, u32::try_from(instructions.len()).map_err(|_| Errno::INVAL)?);
    attributes.u64(8, instructions.as_ptr() as u64);
    // Only GPL-compatible programs may call some helpers; this one calls none.
    attributes.u64(16, c"Apache-2.0".as_ptr() as u64);
    // SAFETY: the instruction array and the licence literal outlive the call and are only read.
    let descriptor = unsafe { bpf(BPF_PROG_LOAD, &mut attributes)? };
    // SAFETY: BPF_PROG_LOAD returns a new descriptor nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

/// Attaches a device program to a cgroup; with `replaces`, in that program's place in one step.
pub fn attach_device_program(
    cgroup: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
    replaces: Option<BorrowedFd<'_>>,
) -> Result<(), Errno> {
    let mut attributes = Attributes::new();
    attributes.u32(0, cgroup.as_raw_fd() as u32);
    attributes.u32(4, program.as_raw_fd() as u32);
    attributes.u32(8, BPF_CGROUP_DEVICE);
    match replaces {
        Some(old) => {
            attributes.u32(12, BPF_F_ALLOW_MULTI | BPF_F_REPLACE);
            attributes.u32(16, old.as_raw_fd() as u32);
        }
        None => attributes.u32(12, BPF_F_ALLOW_MULTI),
    }
    // SAFETY: the attributes hold descriptors and flags, no addresses.
    unsafe { bpf(BPF_PROG_ATTACH, &mut attributes) }.map(|_| ())
}

/// Detaches a device program from a cgroup.
pub fn detach_device_program(cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Result<(), Errno> {
    let mut attributes = Attributes::new();
    attributes.u32(0, cgroup.as_raw_fd() as u32);
    attributes.u32(4, program.as_raw_fd() as u32);
    attributes.u32(8, BPF_CGROUP_DEVICE);
    // SAFETY: the attributes hold descriptors, no addresses.
    unsafe { bpf(BPF_PROG_DETACH, &mut attributes) }.map(|_| ())
}

/// The device programs attached to a cgroup itself.
pub fn device_programs(cgroup: BorrowedFd<'_>) -> Result<Vec<OwnedFd>, Errno> {
    let mut identifiers = [0u32; ATTACHED_MAX];
    let mut attributes = Attributes::new();
    attributes.u32(0, cgroup.as_raw_fd() as u32);
    attributes.u32(4, BPF_CGROUP_DEVICE);
    attributes.u64(16, identifiers.as_mut_ptr() as u64);
    attributes.u32(24, ATTACHED_MAX as u32);
    // SAFETY: the kernel writes at most ATTACHED_MAX identifiers to the array, which outlives the call.
    unsafe { bpf(BPF_PROG_QUERY, &mut attributes)? };
    let count = (attributes.read_u32(24) as usize).min(ATTACHED_MAX);
    identifiers[..count].iter().map(|identifier| program_by_identifier(*identifier)).collect()
}

fn program_by_identifier(identifier: u32) -> Result<OwnedFd, Errno> {
    let mut attributes = Attributes::new();
    attributes.u32(0, identifier);
    // SAFETY: the attributes hold an identifier, no addresses.
    let descriptor = unsafe { bpf(BPF_PROG_GET_FD_BY_ID, &mut attributes)? };
    // SAFETY: the kernel returns a new descriptor nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}
