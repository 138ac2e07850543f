//! What a process that watches others needs beyond rustix: signalfd, signals by number through pidfds,
//! a title in the process list, memory given back, a sealed copy of the own program.
//!
//! Never decides what to do about a signal or a child.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use rustix::fs::{MemfdFlags, Mode, OFlags, SealFlags};
use rustix::io::Errno;

use crate::clone::last_errno;

/// A descriptor that becomes readable when one of these (blocked) signals is pending.
#[derive(Debug)]
pub struct SignalFd(OwnedFd);

impl SignalFd {
    /// Blocks the signals and opens a non-blocking, close-on-exec descriptor for them.
    pub fn new(signals: &[i32]) -> io::Result<SignalFd> {
        crate::signal::set_mask(crate::signal::MaskChange::Block, signals)?;
        let set = crate::signal::signal_set(signals);
        // SAFETY: the set is initialised and only read.
        let fd = unsafe { libc::signalfd(-1, &raw const set, libc::SFD_CLOEXEC | libc::SFD_NONBLOCK) };
        match fd {
            -1 => Err(last_errno().into()),
            // SAFETY: the kernel has just made this descriptor; nobody else owns it.
            fd => Ok(SignalFd(unsafe { OwnedFd::from_raw_fd(fd) })),
        }
    }

    /// The next pending signal's number, or `None`.
    pub fn next_signal(&self) -> io::Result<Option<i32>> {
        let mut info = [0u8; size_of::<libc::signalfd_siginfo>()];
        match rustix::io::retry_on_intr(|| rustix::io::read(&self.0, &mut info[..])) {
            Ok(_) => Ok(Some(i32::from_ne_bytes([info[0], info[1], info[2], info[3]]))),
            Err(Errno::AGAIN) => Ok(None),
            Err(errno) => Err(errno.into()),
        }
    }
}

impl AsFd for SignalFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Sends a signal by number, real-time ones included, to the process of a pidfd.
pub fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: i32) -> Result<(), Errno> {
    // SAFETY: a null siginfo is allowed and nothing else is a pointer.
    let result = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            0,
        )
    };
    if result == -1 { Err(last_errno()) } else { Ok(()) }
}

/// Gives free heap pages back to the kernel.
pub fn trim_heap() {
    // SAFETY: malloc_trim only releases pages the allocator does not use.
    unsafe { libc::malloc_trim(0) };
}

/// Makes the allocator return large blocks to the kernel as soon as they are freed, for ever: without
/// this glibc learns from a burst to keep them.
pub fn return_freed_memory() {
    const LARGE: i32 = 64 * 1024;
    // SAFETY: mallopt changes two numbers of the allocator; the process has one thread or the allocator's
    // lock covers it.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
        libc::mallopt(libc::M_TRIM_THRESHOLD, LARGE);
    }
}

/// As [`return_freed_memory`] for a process of many threads that moves much data: buffers of a transfer go back to
/// the kernel with it, and few threads have free memory of their own. By itself the C library learns from each large
/// buffer that is freed to keep the next one.
pub fn return_large_buffers() {
    const LARGE: i32 = 256 * 1024;
    const KEPT: i32 = 1 << 20;
    const ARENAS: i32 = 4;
    // SAFETY: mallopt changes numbers of the allocator, whose lock covers it.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT);
        libc::mallopt(libc::M_ARENA_MAX, ARENAS);
    }
}

/// Gives back free heap pages and unmaps the program's own code; what is still needed of it comes back by
/// itself, a few pages at a time. For a process that is going to sleep for long: the kernel maps sixteen
/// pages around every one that is touched, so most of what is mapped was never wanted.
pub fn shrink() -> io::Result<()> {
    trim_heap();
    let program = std::fs::metadata("/proc/self/exe")?;
    let inode = std::os::unix::fs::MetadataExt::ino(&program);
    for (start, length) in code_mappings(&std::fs::read_to_string("/proc/self/maps")?, inode) {
        // SAFETY: the range is one whole mapping of the program's file that is executable and was never
        // writable, so no page of it differs from the file, and reading it again gives the same bytes.
        unsafe {
            let address = std::ptr::with_exposed_provenance_mut::<libc::c_void>(start);
            libc::madvise(address, length, libc::MADV_DONTNEED);
        }
    }
    Ok(())
}

/// Start and length of the mappings of a file that are executable and not writable.
fn code_mappings(maps: &str, inode: u64) -> Vec<(usize, usize)> {
    let parse = |line: &str| -> Option<(usize, usize)> {
        let mut fields = line.split_ascii_whitespace();
        let (range, permissions) = (fields.next()?, fields.next()?);
        let own = fields.nth(2)?.parse() == Ok(inode);
        let (start, end) = range.split_once('-')?;
        let (start, end) = (usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?);
        (own && permissions == "r-xp").then_some((start, end.checked_sub(start)?))
    };
    maps.lines().filter_map(parse).collect()
}

/// Replaces what `ps` shows of the process, as far as the original arguments leave room.
///
/// For single-threaded processes that do not look at their arguments again.
pub fn set_title(title: &str) -> io::Result<()> {
    let name: String = title.chars().take(15).collect();
    if let Ok(name) = CString::new(name) {
        rustix::thread::set_name(&name)?;
    }
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    // The command name may hold spaces and parentheses; fields are counted after its last one.
    let fields: Vec<&str> = stat.rsplit_once(')').map_or(vec![], |(_, rest)| rest.split(' ').collect());
    let field = |number: usize| fields.get(number - 2).and_then(|text| text.parse::<usize>().ok());
    let (Some(start), Some(end)) = (field(48), field(49)) else {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "no argument area in /proc/self/stat"));
    };
    let Some(room) = end.checked_sub(start).filter(|room| start != 0 && *room > 1) else {
        return Ok(());
    };
    let bytes = &title.as_bytes()[..title.len().min(room - 1)];
    // SAFETY: the kernel says that the process's arguments lie in start..end, which is part of its
    // writable stack. Rust's `std::env::args` reads it only when called, which the documentation rules
    // out; every string in it stays terminated because the rest is zeroed.
    unsafe {
        let area = std::ptr::with_exposed_provenance_mut::<u8>(start);
        std::ptr::copy_nonoverlapping(bytes.as_ptr(), area, bytes.len());
        std::ptr::write_bytes(area.add(bytes.len()), 0, room - bytes.len());
    }
    Ok(())
}

/// A sealed in-memory copy of the running program, to execute from: whatever runs from it, the file on
/// disk cannot be reached and overwritten through `/proc/<pid>/exe` (CVE-2019-5736).
pub fn sealed_self() -> io::Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let copy = match rustix::fs::memfd_create(c"ferry", flags | MemfdFlags::EXEC) {
        // Before Linux 6.3 there was no such flag and every memfd was executable.
        Err(Errno::INVAL) => rustix::fs::memfd_create(c"ferry", flags)?,
        other => other?,
    };
    let program = rustix::fs::open("/proc/self/exe", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let size = rustix::fs::fstat(&program)?.st_size as u64;
    let mut left = size;
    while left > 0 {
        let piece = usize::try_from(left).unwrap_or(usize::MAX).min(1 << 30);
        match rustix::fs::sendfile(&copy, &program, None, piece)? {
            0 => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the program shrank while copied")),
            count => left -= count as u64,
        }
    }
    let seals = SealFlags::SEAL | SealFlags::SHRINK | SealFlags::GROW | SealFlags::WRITE;
    rustix::fs::fcntl_add_seals(&copy, seals)?;
    Ok(copy)
}

/// Replaces the process by the program behind a descriptor. Returns only the reason why not.
pub fn execute_descriptor(program: BorrowedFd<'_>, arguments: &[&OsStr], environment: &[&OsStr]) -> Errno {
    let (Ok(arguments), Ok(environment)) = (c_strings(arguments), c_strings(environment)) else {
        return Errno::INVAL;
    };
    let pointers = |strings: &[CString]| -> Vec<*const libc::c_char> {
        strings.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (argv, envp) = (pointers(&arguments), pointers(&environment));
    // SAFETY: both arrays end in null and point at strings that live across the call; the path is empty
    // and the descriptor is open. On success the process image is replaced.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program.as_raw_fd(),
            c"".as_ptr(),
            argv.as_ptr(),
            envp.as_ptr(),
            libc::AT_EMPTY_PATH,
        );
    }
    last_errno()
}

fn c_strings(texts: &[&OsStr]) -> Result<Vec<CString>, std::ffi::NulError> {
    texts.iter().map(|text| CString::new(text.as_bytes())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sealed_copy_is_whole_and_cannot_be_written() {
        let copy = sealed_self().unwrap();
        let size = rustix::fs::fstat(&copy).unwrap().st_size as u64;
        assert_eq!(size, std::fs::metadata("/proc/self/exe").unwrap().len());
        assert_eq!(rustix::io::pwrite(&copy, b"x", 0), Err(Errno::PERM));
        assert!(rustix::fs::ftruncate(&copy, 0).is_err());
    }

    #[test]
    fn only_the_programs_code_is_unmapped() {
        let maps = "\
55e0-55f0 r--p 00000000 08:01 77  /usr/bin/ferry
55f0-5600 r-xp 00010000 08:01 77  /usr/bin/ferry
5600-5610 rw-p 00020000 08:01 77  /usr/bin/ferry
7f00-7f10 r-xp 00000000 08:01 78  /lib/other.so
7fff-8000 r-xp 00000000 00:00 0   [vdso]
";
        assert_eq!(code_mappings(maps, 77), [(0x55f0, 0x10)]);
        // This very code goes, and comes back.
        shrink().unwrap();
    }

    #[test]
    fn signals_arrive_through_the_descriptor() {
        let signals = SignalFd::new(&[libc::SIGUSR1]).unwrap();
        assert_eq!(signals.next_signal().unwrap(), None);
        // SAFETY: the signal is blocked in this thread and thus only becomes pending.
        unsafe { libc::pthread_kill(libc::pthread_self(), libc::SIGUSR1) };
        assert_eq!(signals.next_signal().unwrap(), Some(libc::SIGUSR1));
        assert_eq!(signals.next_signal().unwrap(), None);
    }
}
