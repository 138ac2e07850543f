//! The root file system as one detached mount.
//!
//! Owns overlayfs's options. The mount is made inside the container's own mount namespace, so the
//! host's mount table stays as it is.

use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

use ferry_sys::mount::{FSCONFIG_STRING_MAX, FileSystem};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use crate::create::Step;
use crate::error::StepError;
use crate::request::Rootfs;

/// Makes the root file system's mount, attached nowhere yet.
pub(crate) fn mount(rootfs: &Rootfs) -> Result<OwnedFd, StepError> {
    match rootfs {
        Rootfs::Directory(path) => ferry_sys::mount::clone_path(path, true)
            .map_err(|errno| StepError::new(Step::MountRoot, path.display(), errno)),
        Rootfs::Overlay { lowers, upper, work, volatile } => {
            let overlay = Overlay::open()?;
            for lower in lowers {
                overlay.layer("lowerdir+", lower)?;
            }
            overlay.layer("upperdir", upper)?;
            overlay.layer("workdir", work)?;
            overlay.create(*volatile)
        }
    }
}

/// A directory that stays below the container's root and may be covered: where the root's mount is
/// attached before it becomes the root.
pub(crate) fn attachment_point(rootfs: &Rootfs) -> &Path {
    match rootfs {
        Rootfs::Overlay { upper, .. } => upper,
        Rootfs::Directory(path) => path,
    }
}

struct Overlay {
    file_system: FileSystem,
}

impl Overlay {
    fn open() -> Result<Overlay, StepError> {
        let file_system =
            FileSystem::open("overlay").map_err(|errno| StepError::new(Step::MountRoot, "overlay", errno))?;
        Ok(Overlay { file_system })
    }

    /// Adds one directory. Where its path is longer than fsconfig takes, a descriptor's path in
    /// procfs, which is always short, stands for it.
    fn layer(&self, key: &str, path: &Path) -> Result<(), StepError> {
        use std::os::unix::ffi::OsStrExt;
        let bytes = path.as_os_str().as_bytes();
        let result = if bytes.len() <= FSCONFIG_STRING_MAX {
            self.file_system.set(key, bytes)
        } else {
            rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                .and_then(|directory| {
                    let short = format!("/proc/self/fd/{}", directory.as_fd().as_raw_fd());
                    self.file_system.set(key, short.as_bytes())
                })
        };
        result.map_err(|errno| self.error(&format!("{key} {}", path.display()), errno))
    }

    fn create(&self, volatile: bool) -> Result<OwnedFd, StepError> {
        if volatile {
            self.file_system.set_flag("volatile").map_err(|errno| self.error("volatile", errno))?;
        }
        // Hard-link indexes bind an upper directory to its lowers for good; images come and go.
        match self.file_system.set("index", b"off") {
            Ok(()) | Err(Errno::INVAL) => {}
            Err(errno) => return Err(self.error("index=off", errno)),
        }
        self.file_system.mount(0).map_err(|errno| self.error("overlay", errno))
    }

    fn error(&self, value: &str, errno: Errno) -> StepError {
        let messages = self.file_system.messages();
        let value = if messages.is_empty() { value.to_owned() } else { format!("{value} ({messages})") };
        StepError::new(Step::MountRoot, value, errno)
    }
}
