//! Hearing of the kernel's out-of-memory kills while the container runs.
//!
//! Owns the watch only; how many were killed is read from the cgroup.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use ferry_runtime::cgroup::{Cgroup, Layout, detect};
use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};

/// A descriptor that becomes readable when memory ran out.
#[derive(Debug)]
pub struct OomWatch {
    fd: OwnedFd,
    /// Version 1's notification lives as long as this file.
    _control: Option<std::fs::File>,
}

impl OomWatch {
    /// Watches a container's memory cgroup. Where that is not possible the kills are still found at exit.
    pub fn new(cgroup: &Cgroup) -> io::Result<OomWatch> {
        let relative = cgroup.path().trim_start_matches('/');
        match detect().map_err(io::Error::other)? {
            Layout::V2 => watch_events(&Path::new("/sys/fs/cgroup").join(relative)),
            Layout::V1 | Layout::Hybrid => {
                let directory: PathBuf = Path::new("/sys/fs/cgroup/memory").join(relative);
                register_eventfd(&directory)
            }
        }
    }

    /// Takes the notifications; true when there were any.
    pub fn drain(&self) -> bool {
        let mut any = false;
        let mut buffer = [0u8; 1024];
        while matches!(rustix::io::read(&self.fd, &mut buffer), Ok(count) if count > 0) {
            any = true;
        }
        any
    }
}

impl AsFd for OomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Version 2: `memory.events` is modified whenever one of its counters grows.
fn watch_events(directory: &Path) -> io::Result<OomWatch> {
    let fd = init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
    add_watch(&fd, directory.join("memory.events"), WatchFlags::MODIFY)?;
    Ok(OomWatch { fd, _control: None })
}

/// Version 1: `<eventfd> <memory.oom_control>` written to `cgroup.event_control`.
fn register_eventfd(directory: &Path) -> io::Result<OomWatch> {
    let fd = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    let control = std::fs::File::open(directory.join("memory.oom_control"))?;
    let line = format!("{} {}", fd.as_raw_fd(), control.as_raw_fd());
    std::fs::write(directory.join("cgroup.event_control"), line)?;
    Ok(OomWatch { fd, _control: Some(control) })
}
