//! Reading and writing the kernel's cgroup files, with errors that name file and value.

use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

use super::error::CgroupError;

/// The kernel's files of one cgroup stay far below this.
const FILE_MAX: usize = 4 << 20;
/// How much of an unexpected file an error shows.
const SHOWN_MAX: usize = 80;

/// Writes a value in one write, as the kernel's files want it.
pub(super) fn write(path: &Path, value: &str) -> Result<(), CgroupError> {
    try_write(path, value).map_err(|errno| CgroupError::File {
        action: "write",
        path: path.to_path_buf(),
        value: Some(value.to_owned()),
        errno: errno.raw_os_error(),
    })
}

/// As [`write()`], with the bare errno.
pub(super) fn try_write(path: &Path, value: &str) -> Result<(), Errno> {
    let file = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    loop {
        match rustix::io::write(&file, value.as_bytes()) {
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
            Ok(length) if length == value.len() => return Ok(()),
            Ok(_) => return Err(Errno::IO),
        }
    }
}

/// Reads a whole file.
pub(super) fn read(path: &Path) -> Result<String, CgroupError> {
    try_read(path).map_err(|errno| CgroupError::File {
        action: "read",
        path: path.to_path_buf(),
        value: None,
        errno: errno.raw_os_error(),
    })
}

/// As [`read`], with the bare errno.
pub(super) fn try_read(path: &Path) -> Result<String, Errno> {
    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let mut bytes = Vec::new();
    let mut chunk = [0u8; 4096];
    loop {
        match rustix::io::read(&file, &mut chunk) {
            Ok(0) => break,
            Ok(length) => bytes.extend_from_slice(&chunk[..length]),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
        if bytes.len() > FILE_MAX {
            return Err(Errno::FBIG);
        }
    }
    String::from_utf8(bytes).map_err(|_| Errno::ILSEQ)
}

/// Reads a file that need not be there.
pub(super) fn read_optional(path: &Path) -> Result<Option<String>, CgroupError> {
    match try_read(path) {
        Ok(text) => Ok(Some(text)),
        Err(Errno::NOENT | Errno::OPNOTSUPP) => Ok(None),
        Err(_) => read(path).map(Some),
    }
}

/// Reads a file that is one number; `max` is `None`.
pub(super) fn read_number(path: &Path) -> Result<Option<u64>, CgroupError> {
    let text = read(path)?;
    match text.trim() {
        "max" | "-1" => Ok(None),
        number => number.parse().map(Some).map_err(|_| unexpected(path, &text)),
    }
}

/// The value of `key` in a file of "key value" lines; absent counts as 0.
pub(super) fn keyed(text: &str, key: &str) -> u64 {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok()).unwrap_or(0)
}

pub(super) fn unexpected(path: &Path, content: &str) -> CgroupError {
    let content = content.chars().take(SHOWN_MAX).collect();
    CgroupError::Content { path: path.to_path_buf(), content }
}

/// Makes a directory; true when it was not there before.
pub(super) fn make_directory(path: &Path) -> Result<bool, Errno> {
    match rustix::fs::mkdirat(CWD, path, Mode::from_raw_mode(0o755)) {
        Ok(()) => Ok(true),
        Err(Errno::EXIST) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// An error of a directory operation.
pub(super) fn failed(action: &'static str, path: &Path, errno: Errno) -> CgroupError {
    CgroupError::File { action, path: path.to_path_buf(), value: None, errno: errno.raw_os_error() }
}
