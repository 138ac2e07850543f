//! Pid files, and the lock that lets only one keeper live per run root.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, Mode, OFlags, flock};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// The lock on a run root, held as long as this lives. Children do not inherit it over exec.
#[derive(Debug)]
pub struct RunLock(#[allow(dead_code, reason = "held, not used")] OwnedFd);

/// Takes the lock, or `None` when another keeper has it.
pub fn lock(run_root: &Path) -> io::Result<Option<RunLock>> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC;
    let file = rustix::fs::open(run_root.join("keeper.lock"), flags, Mode::from_raw_mode(0o600))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(RunLock(file))),
        Err(Errno::WOULDBLOCK) => Ok(None),
        Err(errno) => Err(errno.into()),
    }
}

/// `run_root/role.pid`.
pub fn path(run_root: &Path, role: &str) -> PathBuf {
    run_root.join(format!("{role}.pid"))
}

/// Writes a pid file so that readers see a whole number or the old one.
pub fn write(run_root: &Path, role: &str, pid: i32) -> io::Result<()> {
    let path = path(run_root, role);
    // Keeper and engine may write the same one at the same moment.
    let temporary = path.with_extension(format!("pid.{}", std::process::id()));
    std::fs::write(&temporary, format!("{pid}\n"))?;
    std::fs::rename(temporary, path)
}

/// Removes a pid file; it may be gone already.
pub fn remove(run_root: &Path, role: &str) {
    let _ = std::fs::remove_file(path(run_root, role));
}

/// The process id in a pid file.
pub fn read(run_root: &Path, role: &str) -> Option<i32> {
    std::fs::read_to_string(path(run_root, role)).ok()?.trim().parse().ok()
}

/// The living process of a pid file, if it really is what the file says: its arguments must begin with the
/// role's command word and name the run root. Ids are reused, files of a former boot stay.
pub fn find(run_root: &Path, role: &str, command: &str) -> Option<(i32, OwnedFd)> {
    let pid = read(run_root, role)?;
    let pidfd = open(pid)?;
    // Looked at after the descriptor was opened: if it fits now, the descriptor is of this process.
    let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
    let mut words = arguments.split(|byte| *byte == 0);
    let fits = words.nth(1) == Some(command.as_bytes())
        && words.any(|word| word == run_root.as_os_str().as_encoded_bytes());
    fits.then_some((pid, pidfd))
}

/// Whether a process is more than a zombie, or a first thread that ended before the others: those have no
/// arguments any more.
pub fn lives(pid: i32) -> bool {
    std::fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|arguments| !arguments.is_empty())
}

/// A descriptor of a living process.
pub fn open(pid: i32) -> Option<OwnedFd> {
    pidfd_open(Pid::from_raw(pid)?, PidfdFlags::empty()).ok()
}

/// A log file for daemons, put aside when it has grown large.
pub fn open_log(run_root: &Path) -> io::Result<File> {
    /// Messages of months; the file lies in memory where `/run` does.
    const LARGE: u64 = 4 << 20;
    let path = run_root.join("engine.log");
    if std::fs::metadata(&path).is_ok_and(|metadata| metadata.len() > LARGE) {
        std::fs::rename(&path, path.with_extension("log.1"))?;
    }
    File::options().append(true).create(true).open(path)
}
