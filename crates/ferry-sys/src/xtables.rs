//! Reading a table of the older packet filter, x_tables, which `iptables-legacy` keeps beside nftables.
//!
//! Owns the two questions of its socket interface; what the entries mean is the caller's business.

use std::os::fd::AsRawFd;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto};

/// Hooks a table may be called at.
pub const HOOKS: usize = 5;
const NAME_BYTES: usize = 32;
/// Both questions are the same in IPv4 and IPv6.
const GET_INFO: libc::c_int = 64;
const GET_ENTRIES: libc::c_int = 65;
/// Name, hook mask, two arrays over the hooks, number of entries, their bytes.
const INFO_BYTES: usize = NAME_BYTES + 4 + 4 * HOOKS + 4 * HOOKS + 4 + 4;
/// Name and size, before entries that are aligned to eight bytes.
const ENTRIES_HEADER: usize = NAME_BYTES + 8;
/// Larger tables are somebody's mistake, and not read.
const LARGEST_TABLE: usize = 64 << 20;

/// A table as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Where each hook's chain begins, in bytes.
    pub hook_entry: [u32; HOOKS],
    /// Where each hook's policy stands.
    pub underflow: [u32; HOOKS],
    /// The rules, one after another.
    pub entries: Vec<u8>,
}

/// Reads a table in the calling thread's network namespace. Asking for one that is not there makes it, with
/// its hooks, so the caller makes sure that it is.
pub fn read(ipv6: bool, name: &str) -> Result<Table, Errno> {
    let (family, level) = match ipv6 {
        false => (AddressFamily::INET, libc::SOL_IP),
        true => (AddressFamily::INET6, libc::SOL_IPV6),
    };
    let socket = rustix::net::socket_with(family, SocketType::RAW, SocketFlags::CLOEXEC, Some(ipproto::RAW))?;
    let mut info = named(name, INFO_BYTES)?;
    ask(socket.as_raw_fd(), level, GET_INFO, &mut info)?;
    let word = |index: usize| {
        let at = NAME_BYTES + 4 * index;
        u32::from_ne_bytes([info[at], info[at + 1], info[at + 2], info[at + 3]])
    };
    let size = word(1 + HOOKS + HOOKS + 1) as usize;
    if size > LARGEST_TABLE {
        return Err(Errno::TOOBIG);
    }
    let mut answer = named(name, ENTRIES_HEADER + size)?;
    answer[NAME_BYTES..NAME_BYTES + 4].copy_from_slice(&(size as u32).to_ne_bytes());
    ask(socket.as_raw_fd(), level, GET_ENTRIES, &mut answer)?;
    Ok(Table {
        hook_entry: std::array::from_fn(|hook| word(1 + hook)),
        underflow: std::array::from_fn(|hook| word(1 + HOOKS + hook)),
        entries: answer.split_off(ENTRIES_HEADER),
    })
}

/// A zeroed buffer that begins with a table's name.
fn named(name: &str, bytes: usize) -> Result<Vec<u8>, Errno> {
    if name.len() >= NAME_BYTES {
        return Err(Errno::NAMETOOLONG);
    }
    let mut buffer = vec![0; bytes];
    buffer[..name.len()].copy_from_slice(name.as_bytes());
    Ok(buffer)
}

fn ask(socket: i32, level: libc::c_int, question: libc::c_int, buffer: &mut [u8]) -> Result<(), Errno> {
    let mut length = buffer.len() as libc::socklen_t;
    // SAFETY: the kernel reads and writes at most `length` bytes of the live buffer, whose length that is.
    let result =
        unsafe { libc::getsockopt(socket, level, question, buffer.as_mut_ptr().cast(), &raw mut length) };
    if result == -1 { Err(crate::clone::last_errno()) } else { Ok(()) }
}
