//! Tables of the older packet filter, x_tables, which `iptables-legacy` keeps beside nftables.
//!
//! Owns the two questions and the two commands of its socket interface; what the entries mean is the caller's
//! business.

use std::os::fd::{AsRawFd, OwnedFd};

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, ipproto};

/// Hooks a table may be called at.
pub const HOOKS: usize = 5;
const NAME_BYTES: usize = 32;
/// Questions and commands are the same in IPv4 and IPv6.
const GET_INFO: libc::c_int = 64;
const GET_ENTRIES: libc::c_int = 65;
const SET_REPLACE: libc::c_int = 64;
const SET_ADD_COUNTERS: libc::c_int = 65;
/// Name, hook mask, two arrays over the hooks, number of entries, their bytes.
const INFO_BYTES: usize = NAME_BYTES + 4 + 4 * HOOKS + 4 * HOOKS + 4 + 4;
/// Name and size, before entries that are aligned to eight bytes.
const ENTRIES_HEADER: usize = NAME_BYTES + 8;
/// Larger tables are somebody's mistake, and not read.
const LARGEST_TABLE: usize = 64 << 20;

/// Packets and bytes that a rule has met.
pub type Counters = [u64; 2];

/// A table as the kernel has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// The hooks that call it, one bit each.
    pub valid_hooks: u32,
    /// How many entries there are.
    pub count: u32,
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
    let (socket, level) = open(ipv6)?;
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
        valid_hooks: word(0),
        count: word(1 + HOOKS + HOOKS),
        hook_entry: std::array::from_fn(|hook| word(1 + hook)),
        underflow: std::array::from_fn(|hook| word(1 + HOOKS + hook)),
        entries: answer.split_off(ENTRIES_HEADER),
    })
}

/// Puts a table in the place of the one that has `former` entries by now; what those have counted. Refused with
/// "try again" where somebody else was faster.
pub fn replace(ipv6: bool, name: &str, table: &Table, former: u32) -> Result<Vec<Counters>, Errno> {
    let (socket, level) = open(ipv6)?;
    let mut counters: Vec<Counters> = vec![[0; 2]; former as usize];
    let mut request = named(name, NAME_BYTES)?;
    let size = u32::try_from(table.entries.len()).map_err(|_| Errno::TOOBIG)?;
    let words = [table.valid_hooks, table.count, size].into_iter();
    for word in words.chain(table.hook_entry).chain(table.underflow).chain([former]) {
        request.extend(word.to_ne_bytes());
    }
    request.extend((counters.as_mut_ptr() as usize).to_ne_bytes());
    request.extend_from_slice(&table.entries);
    tell(socket.as_raw_fd(), level, SET_REPLACE, &request)?;
    Ok(counters)
}

/// Adds to what a table's entries have counted, in their order.
pub fn add_counters(ipv6: bool, name: &str, counters: &[Counters]) -> Result<(), Errno> {
    let (socket, level) = open(ipv6)?;
    let mut request = named(name, ENTRIES_HEADER)?;
    let count = u32::try_from(counters.len()).map_err(|_| Errno::TOOBIG)?;
    request[NAME_BYTES..NAME_BYTES + 4].copy_from_slice(&count.to_ne_bytes());
    request.extend(counters.iter().flatten().flat_map(|number| number.to_ne_bytes()));
    tell(socket.as_raw_fd(), level, SET_ADD_COUNTERS, &request)
}

/// The socket to ask by, and the level of its options.
fn open(ipv6: bool) -> Result<(OwnedFd, libc::c_int), Errno> {
    let (family, level) = match ipv6 {
        false => (AddressFamily::INET, libc::SOL_IP),
        true => (AddressFamily::INET6, libc::SOL_IPV6),
    };
    let socket = rustix::net::socket_with(family, SocketType::RAW, SocketFlags::CLOEXEC, Some(ipproto::RAW))?;
    Ok((socket, level))
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

/// A replacement names a live buffer for the former entries' counters, of their number; both callers see to it.
fn tell(socket: i32, level: libc::c_int, command: libc::c_int, request: &[u8]) -> Result<(), Errno> {
    let length = libc::socklen_t::try_from(request.len()).map_err(|_| Errno::TOOBIG)?;
    // SAFETY: the kernel reads `length` bytes of the live request. For SET_REPLACE it also writes as many counters
    // as the request names to the buffer it names, which `replace` keeps alive and sized so.
    let result = unsafe { libc::setsockopt(socket, level, command, request.as_ptr().cast(), length) };
    if result == -1 { Err(crate::clone::last_errno()) } else { Ok(()) }
}
