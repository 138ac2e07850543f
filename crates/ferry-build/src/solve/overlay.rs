//! Trees of layers as one directory: detached mounts that only this process sees, and attached ones
//! for the bind mounts of a command.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use ferry_store::Snapshot;
use ferry_sys::mount::{Attributes, FSCONFIG_STRING_MAX, FileSystem, attach};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::UnmountFlags;

use super::error::SolveError;

/// A read-only view of layers, topmost first.
pub fn view(lowers: &[PathBuf]) -> Result<OwnedFd, SolveError> {
    match lowers {
        // A single layer needs no stacking; whiteouts have nothing to hide in it.
        [only] => open_directory(only, OFlags::RDONLY),
        _ => stack(lowers, None, Attributes::READ_ONLY),
    }
}

/// A writable view of a snapshot. What is written is in `upper` once the view is closed.
pub fn writable(snapshot: &Snapshot) -> Result<OwnedFd, SolveError> {
    stack(&snapshot.lowers, Some((&snapshot.upper, &snapshot.work)), 0)
}

fn open_directory(path: &Path, flags: OFlags) -> Result<OwnedFd, SolveError> {
    rustix::fs::open(path, flags | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| refuse(path.display().to_string(), errno, ""))
}

fn refuse(what: String, errno: Errno, messages: &str) -> SolveError {
    let reason = if messages.is_empty() { errno.to_string() } else { format!("{errno} ({messages})") };
    SolveError::Mount { what, reason }
}

fn stack(lowers: &[PathBuf], upper: Option<(&Path, &Path)>, attributes: u64) -> Result<OwnedFd, SolveError> {
    let overlay = FileSystem::open("overlay").map_err(|errno| refuse("overlay".to_owned(), errno, ""))?;
    let failed = |what: &str, errno| refuse(what.to_owned(), errno, &overlay.messages());
    for lower in lowers {
        set_path(&overlay, "lowerdir+", lower).map_err(|errno| failed("a layer", errno))?;
    }
    if let Some((upper, work)) = upper {
        set_path(&overlay, "upperdir", upper).map_err(|errno| failed("the writable layer", errno))?;
        set_path(&overlay, "workdir", work).map_err(|errno| failed("the work directory", errno))?;
        // Without it closing the view waits for the disk; the layer is made durable later on.
        overlay.set_flag("volatile").map_err(|errno| failed("volatile", errno))?;
    }
    match overlay.set("index", b"off") {
        Ok(()) | Err(Errno::INVAL) => {}
        Err(errno) => return Err(failed("index=off", errno)),
    }
    overlay.mount(attributes).map_err(|errno| failed("overlay", errno))
}

/// A path too long for the call is given as a descriptor's path, which is always short.
fn set_path(overlay: &FileSystem, key: &str, path: &Path) -> Result<(), Errno> {
    if path.as_os_str().len() <= FSCONFIG_STRING_MAX {
        return overlay.set(key, path.as_os_str().as_bytes());
    }
    let directory =
        rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    overlay.set(key, format!("/proc/self/fd/{}", directory.as_fd().as_raw_fd()).as_bytes())
}

/// A mount attached to a directory; detached when dropped.
#[derive(Debug)]
pub struct Attached {
    path: PathBuf,
}

impl Attached {
    /// Attaches a detached mount to an existing directory.
    pub fn new(mount: OwnedFd, path: PathBuf) -> Result<Self, SolveError> {
        let target = open_directory(&path, OFlags::PATH)?;
        attach(mount.as_fd(), target.as_fd())
            .map_err(|errno| refuse(path.display().to_string(), errno, ""))?;
        Ok(Self { path })
    }

    /// Where it is attached.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Attached {
    fn drop(&mut self) {
        if let Err(errno) = rustix::mount::unmount(&self.path, UnmountFlags::DETACH) {
            tracing::warn!(path = %self.path.display(), %errno, "a mount of the builder stays");
        }
    }
}
