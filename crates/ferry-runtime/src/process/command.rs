//! Finding the container's command and explaining why it cannot be run.
//!
//! Owns the rules of Docker (Go's `LookPath`) for which file a name means.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

use super::plan::ProcessPlan;
use crate::error::{CommandError, shorten};

/// As much of a file as the kernel reads to find its interpreter.
const HEAD_SIZE: usize = 256;
const ELF_MAGIC: &[u8] = b"\x7fELF";
/// ELF program header type that names the dynamic linker.
const PT_INTERP: u32 = 3;
/// The longest interpreter path worth showing.
const INTERPRETER_MAX: usize = 4096;

/// The file to run, as seen from inside the container and as its user.
pub(crate) fn find(plan: &ProcessPlan) -> Result<PathBuf, CommandError> {
    let name = Path::new(std::ffi::OsStr::from_bytes(plan.arguments[0].as_bytes()));
    let text = shorten(name.to_string_lossy().into_owned());
    if plan.arguments[0].as_bytes().contains(&b'/') {
        return match executable(name) {
            Ok(()) => Ok(name.to_path_buf()),
            Err(Errno::NOENT | Errno::NOTDIR) => Err(CommandError::NotFound { path: text }),
            Err(Errno::ISDIR) => Err(CommandError::IsDirectory { path: text }),
            Err(Errno::ACCESS) => Err(CommandError::NotExecutable { path: text }),
            Err(errno) => Err(CommandError::Exec { path: text, errno: errno.raw_os_error() }),
        };
    }
    let found = plan
        .search_path
        .split(':')
        .map(|directory| if directory.is_empty() { Path::new(".") } else { Path::new(directory) })
        .map(|directory| directory.join(name))
        .find(|candidate| !text.is_empty() && executable(candidate).is_ok());
    found.ok_or(CommandError::NotInPath { name: text })
}

fn executable(path: &Path) -> Result<(), Errno> {
    let found = rustix::fs::stat(path)?;
    if FileType::from_raw_mode(found.st_mode) == FileType::Directory {
        return Err(Errno::ISDIR);
    }
    rustix::fs::accessat(CWD, path, Access::EXEC_OK, AtFlags::EACCESS)?;
    // With all capabilities access(2) grants what execve refuses: a file nobody may execute.
    if found.st_mode & 0o111 == 0 { Err(Errno::ACCESS) } else { Ok(()) }
}

/// Runs the command; returns only why it could not.
pub(crate) fn execute(path: &Path, plan: &ProcessPlan) -> CommandError {
    let text = shorten(path.to_string_lossy().into_owned());
    let Ok(program) = CString::new(path.as_os_str().as_bytes()) else {
        return CommandError::Exec { path: text, errno: Errno::INVAL.raw_os_error() };
    };
    let errno = ferry_sys::execute::execve(&program, &plan.arguments, &plan.environment);
    explain(path, errno)
}

/// What a refused execve means.
fn explain(path: &Path, errno: Errno) -> CommandError {
    let text = shorten(path.to_string_lossy().into_owned());
    let head = read_head(path, 0).unwrap_or_default();
    match errno {
        Errno::NOENT if !head.is_empty() => match interpreter(path, &head) {
            Some((interpreter, carriage_return)) => {
                CommandError::InterpreterMissing { path: text, interpreter, carriage_return }
            }
            None => CommandError::Exec { path: text, errno: errno.raw_os_error() },
        },
        Errno::NOEXEC => CommandError::Format { path: text, reason: format_reason(&head) },
        Errno::ACCESS => CommandError::NotExecutable { path: text },
        _ => CommandError::Exec { path: text, errno: errno.raw_os_error() },
    }
}

fn read_head(path: &Path, offset: u64) -> Result<Vec<u8>, Errno> {
    let file = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK, Mode::empty())?;
    let mut head = vec![0; HEAD_SIZE];
    let length = rustix::io::pread(&file, &mut head[..], offset)?;
    head.truncate(length);
    Ok(head)
}

/// The interpreter a file asks for, and whether its first line ends in CR.
fn interpreter(path: &Path, head: &[u8]) -> Option<(String, bool)> {
    if let Some(line) = head.strip_prefix(b"#!") {
        let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let carriage_return = line.ends_with(b"\r");
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let line = String::from_utf8_lossy(line);
        let interpreter = line.split_ascii_whitespace().next().unwrap_or_default().to_owned();
        return Some((shorten(interpreter), carriage_return));
    }
    let (offset, length) = elf_interpreter(head)?;
    let mut bytes = read_head(path, offset).ok()?;
    bytes.truncate(length.min(INTERPRETER_MAX));
    while bytes.last() == Some(&0) {
        bytes.pop();
    }
    Some((shorten(String::from_utf8_lossy(&bytes).into_owned()), false))
}

/// Where a 64-bit little-endian ELF file keeps the path of its dynamic linker, as far as the first
/// bytes of the file tell.
fn elf_interpreter(head: &[u8]) -> Option<(u64, usize)> {
    let integer = |offset: usize, size: usize| -> Option<u64> {
        let bytes = head.get(offset..offset.checked_add(size)?)?;
        Some(bytes.iter().rev().fold(0, |value, byte| value << 8 | u64::from(*byte)))
    };
    // Class 2 is 64-bit, data 1 is little-endian.
    if !head.starts_with(ELF_MAGIC) || head.get(4..6)? != [2, 1] {
        return None;
    }
    let table = usize::try_from(integer(32, 8)?).ok()?;
    let entry_size = integer(54, 2)? as usize;
    let entries = integer(56, 2)? as usize;
    (0..entries.min(HEAD_SIZE)).find_map(|index| {
        let entry = table.checked_add(index.checked_mul(entry_size)?)?;
        if integer(entry, 4)? != u64::from(PT_INTERP) {
            return None;
        }
        // Inside the first bytes, as the type just read was: no overflow.
        Some((integer(entry + 8, 8)?, usize::try_from(integer(entry + 32, 8)?).ok()?))
    })
}

fn format_reason(head: &[u8]) -> String {
    if head.is_empty() {
        "the file is empty".to_owned()
    } else if head.starts_with(ELF_MAGIC) {
        format!("the program is built for another processor than {}", std::env::consts::ARCH)
    } else if head.starts_with(b"\xef\xbb\xbf#!") {
        "the script begins with a byte order mark before its \"#!\" line".to_owned()
    } else if head.iter().take(HEAD_SIZE).all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace()) {
        "the script has no \"#!\" line".to_owned()
    } else {
        "neither a program for this machine nor a script".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interpreters_are_read_from_first_lines() {
        let cases: [(&[u8], &str, bool); 4] = [
            (b"#!/bin/sh\necho\n", "/bin/sh", false),
            (b"#! /usr/bin/env bash\n", "/usr/bin/env", false),
            (b"#!/bin/sh\r\necho\r\n", "/bin/sh", true),
            (b"#!/bin/bash -e\r\n", "/bin/bash", true),
        ];
        for (head, expected, carriage_return) in cases {
            let found = interpreter(Path::new("/x"), head);
            assert_eq!(found, Some((expected.to_owned(), carriage_return)));
        }
    }

    #[test]
    fn reasons_name_the_mistake() {
        let cases: [(&[u8], &str); 4] = [
            (b"", "the file is empty"),
            (b"echo hello\n", "the script has no \"#!\" line"),
            (b"\xef\xbb\xbf#!/bin/sh\n", "the script begins with a byte order mark before its \"#!\" line"),
            (b"\x00\x01\x02", "neither a program for this machine nor a script"),
        ];
        for (head, expected) in cases {
            assert_eq!(format_reason(head), expected);
        }
    }

    #[test]
    fn lying_headers_are_survived() {
        let mut head = vec![0xff; HEAD_SIZE];
        head[..6].copy_from_slice(b"\x7fELF\x02\x01");
        assert_eq!(elf_interpreter(&head), None);
        for length in 0..64 {
            assert_eq!(elf_interpreter(&head[..length]), None);
        }
    }

    #[test]
    fn own_binary_has_no_interpreter_or_a_real_one() {
        let path = std::env::current_exe().expect("procfs is mounted");
        let head = read_head(&path, 0).expect("readable");
        if let Some((interpreter, _)) = interpreter(&path, &head) {
            assert!(interpreter.starts_with('/'), "{interpreter}");
        }
    }
}
