//! Namespaces: which there are, and entering them.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::OnceLock;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

use rustix::io::Errno;

use crate::clone::last_errno;

/// A set of namespace kinds, as the kernel's `CLONE_NEW*` bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Namespaces(u64);

impl Namespaces {
    /// No namespace.
    pub const NONE: Namespaces = Namespaces(0);
    /// Mounts.
    pub const MOUNT: Namespaces = Namespaces(libc::CLONE_NEWNS as u64);
    /// Process ids.
    pub const PID: Namespaces = Namespaces(libc::CLONE_NEWPID as u64);
    /// Network.
    pub const NETWORK: Namespaces = Namespaces(libc::CLONE_NEWNET as u64);
    /// System V IPC and POSIX message queues.
    pub const IPC: Namespaces = Namespaces(libc::CLONE_NEWIPC as u64);
    /// Host and domain name.
    pub const UTS: Namespaces = Namespaces(libc::CLONE_NEWUTS as u64);
    /// Users, groups and capabilities.
    pub const USER: Namespaces = Namespaces(libc::CLONE_NEWUSER as u64);
    /// View of the cgroup hierarchies.
    pub const CGROUP: Namespaces = Namespaces(libc::CLONE_NEWCGROUP as u64);
    /// Monotonic and boot time.
    pub const TIME: Namespaces = Namespaces(0x80);

    /// The kernel's bits.
    pub const fn bits(self) -> u64 {
        self.0
    }

    /// Both sets together.
    #[must_use]
    pub const fn with(self, other: Namespaces) -> Namespaces {
        Namespaces(self.0 | other.0)
    }

    /// This set less the other.
    #[must_use]
    pub const fn without(self, other: Namespaces) -> Namespaces {
        Namespaces(self.0 & !other.0)
    }

    /// Whether all of `other` is in this set.
    pub const fn contains(self, other: Namespaces) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether the set is empty.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// Joins namespaces: those in the set of the process behind a pidfd, or the single one behind a
/// namespace descriptor. For pid namespaces only children are affected.
pub fn setns(descriptor: BorrowedFd<'_>, namespaces: Namespaces) -> Result<(), Errno> {
    let bits = i32::try_from(namespaces.0).map_err(|_| Errno::INVAL)?;
    // SAFETY: setns only reads its two integer arguments; the descriptor is open for the call.
    match unsafe { libc::setns(descriptor.as_raw_fd(), bits) } {
        0 => Ok(()),
        _ => Err(last_errno()),
    }
}

/// Moves the calling process into new namespaces.
pub fn unshare(namespaces: Namespaces) -> Result<(), Errno> {
    let bits = i32::try_from(namespaces.0).map_err(|_| Errno::INVAL)?;
    // SAFETY: unshare takes an integer; no memory or descriptor table is unshared by these bits.
    match unsafe { libc::unshare(bits) } {
        0 => Ok(()),
        _ => Err(last_errno()),
    }
}

/// Switches the loopback interface of the calling process's network namespace on; a new namespace
/// has it off.
pub fn loopback_up() -> Result<(), Errno> {
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    // SAFETY: ifreq is plain data for which all-zero is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (target, byte) in request.ifr_name.iter_mut().zip(b"lo") {
        *target = *byte as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    // SAFETY: SIOCSIFFLAGS reads an ifreq, which lives across the call.
    match unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &raw const request) } {
        -1 => Err(last_errno()),
        _ => Ok(()),
    }
}

/// Whether the calling process is in a user namespace of somebody's own making, and not the machine's: what
/// capabilities it has count only there. Asked once per process.
pub fn in_user_namespace() -> bool {
    static FOUND: OnceLock<bool> = OnceLock::new();
    *FOUND.get_or_init(|| std::fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| !is_of_machine(&map)))
}

/// Whether a group of this number exists in the calling process's user namespace.
pub fn has_group(gid: u32) -> bool {
    std::fs::read_to_string("/proc/self/gid_map").is_ok_and(|map| maps(&map, gid))
}

/// Lines of the first id inside, the first outside, and how many.
fn maps(map: &str, id: u32) -> bool {
    map.lines().any(|line| {
        let mut numbers = line.split_ascii_whitespace().filter_map(|number| number.parse::<u32>().ok());
        let (first, count) = (numbers.next(), numbers.nth(1));
        first.zip(count).is_some_and(|(first, count)| id >= first && id - first < count)
    })
}

/// The machine's own namespace maps every id to itself.
fn is_of_machine(map: &str) -> bool {
    map.split_ascii_whitespace().eq(["0", "0", "4294967295"])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_tell_whose_namespace_it_is() {
        assert!(is_of_machine("         0          0 4294967295\n"));
        assert!(!is_of_machine("         0       1000          1\n         1     100000      65536\n"));
        assert!(!is_of_machine(""));
        let map = "         0       1000          1\n         1     100000      65536\n";
        assert!(maps(map, 0) && maps(map, 5) && maps(map, 65536) && !maps(map, 65537));
        assert!(!maps("0 1000 1\n", 5));
    }
}
