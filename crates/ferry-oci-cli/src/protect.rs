//! Keeping containers away from our own binary (CVE-2019-5736).
//!
//! A container can have its runtime execute `/proc/self/exe`, or a script whose first line names it, and then write to
//! the file behind `/proc/<pid>/exe`. So whoever enters a container runs from a mount of the binary that is read-only
//! and attached nowhere; where such a mount cannot be made, from a sealed copy in memory.

use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;

use ferry_sys::monitor::{execute_descriptor, sealed_self};
use ferry_sys::mount::{Attributes, clone_path, set_attributes};
use rustix::fs::{Mode, OFlags, SealFlags, StatVfsMountFlags};
use rustix::io::Errno;

use crate::error::CliError;

const OWN_BINARY: &str = "/proc/self/exe";
/// Set for the second run: one that is still not protected must not try for ever.
const MARK: &str = "FERRY_RUNTIME_PROTECTED";

/// Goes on in a process that runs from a protected binary; returns in that process only.
pub(crate) fn ensure(called: &str, words: &[OsString]) -> Result<(), CliError> {
    let failed =
        |errno: Errno| CliError::other(format!("cannot protect {OWN_BINARY} from containers: {errno}"));
    if is_protected().map_err(failed)? {
        return Ok(());
    }
    if std::env::var_os(MARK).is_some() {
        return Err(failed(Errno::PERM));
    }
    let program = read_only_mount()
        .or_else(|_| sealed_self().map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO)));
    let program = program.map_err(failed)?;
    // As the binary's dispatch wants it: by name, or by the first word.
    let start: &[&str] = if called == "runc" { &["runc"] } else { &["ferry", "runtime"] };
    let arguments: Vec<&OsStr> =
        start.iter().map(OsStr::new).chain(words.iter().map(OsString::as_os_str)).collect();
    let mut variables: Vec<OsString> = std::env::vars_os()
        .map(|(mut entry, value)| {
            entry.push("=");
            entry.push(value);
            entry
        })
        .collect();
    variables.push(format!("{MARK}=1").into());
    let variables: Vec<&OsStr> = variables.iter().map(OsString::as_os_str).collect();
    Err(failed(execute_descriptor(program.as_fd(), &arguments, &variables)))
}

fn is_protected() -> Result<bool, Errno> {
    let own = rustix::fs::open(OWN_BINARY, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    if rustix::fs::fstatvfs(&own)?.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return Ok(true);
    }
    // Files that are not in memory have no seals.
    Ok(rustix::fs::fcntl_get_seals(&own).is_ok_and(|seals| seals.contains(SealFlags::WRITE)))
}

fn read_only_mount() -> Result<OwnedFd, Errno> {
    let mount = clone_path(Path::new(OWN_BINARY), false)?;
    let read_only = Attributes { set: Attributes::READ_ONLY, ..Attributes::default() };
    set_attributes(mount.as_fd(), read_only, false)?;
    Ok(mount)
}
