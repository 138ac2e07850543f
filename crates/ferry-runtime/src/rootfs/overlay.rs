//! The root file system as one detached mount.
//!
//! Owns overlayfs's options. The mount is made inside the container's own mount namespace, so the
//! host's mount table stays as it is.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use ferry_sys::mount::{
    Attributes, FSCONFIG_STRING_MAX, FileSystem, attach, clone_descriptor, clone_path, set_attributes,
};
use ferry_sys::namespace::in_user_namespace;
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags, unmount};

use crate::create::Step;
use crate::error::StepError;
use crate::kernel;
use crate::request::Rootfs;

/// `MS_PRIVATE`.
const PRIVATE: u64 = 1 << 18;
/// The first kernel that takes lower layers one by one.
const SINGLE_LAYERS_SINCE: (u32, u32) = (6, 5);
/// What mount(2) takes as options: one page with its terminating zero.
const MOUNT_DATA_MAX: usize = 4095;

/// Mounts the root file system and returns its mount. It covers a directory that the container
/// cannot see, from where it becomes the root.
pub(crate) fn mount(rootfs: &Rootfs, user_namespace: bool) -> Result<OwnedFd, StepError> {
    let unwanted = unwanted(user_namespace);
    match rootfs {
        Rootfs::Directory(path) => {
            let fail = |errno| StepError::new(Step::MountRoot, path.display(), errno);
            let mount = clone_path(path, true).map_err(fail)?;
            // The copy may still be shared with the host.
            set_attributes(mount.as_fd(), Attributes::propagation(PRIVATE), true).map_err(fail)?;
            attach_to(mount, path)
        }
        Rootfs::Overlay { lowers, upper, work, volatile } => {
            if kernel::version() < SINGLE_LAYERS_SINCE {
                return mount_by_options(lowers, upper, work, *volatile, unwanted);
            }
            // Overlay keeps its own hold of the upper directory, so covering it harms nobody.
            attach_to(detached_overlay(lowers, upper, work, *volatile, unwanted)?, upper)
        }
    }
}

/// The root file system as a mount that is attached nowhere and goes when it is closed, for whoever
/// looks at the files of a container that does not run. It must not be started meanwhile: the same
/// upper directory may not be mounted twice.
pub fn detached_root(rootfs: &Rootfs) -> Result<OwnedFd, StepError> {
    match rootfs {
        Rootfs::Directory(path) => {
            clone_path(path, true).map_err(|errno| StepError::new(Step::MountRoot, path.display(), errno))
        }
        Rootfs::Overlay { lowers, upper, work, volatile } => {
            if kernel::version() >= SINGLE_LAYERS_SINCE {
                return detached_overlay(lowers, upper, work, *volatile, unwanted(false));
            }
            let attached = mount_by_options(lowers, upper, work, *volatile, unwanted(false))?;
            let copied = clone_descriptor(attached.as_fd(), false);
            unmount(upper, UnmountFlags::DETACH)
                .and(copied)
                .map_err(|errno| StepError::new(Step::MountRoot, upper.display(), errno))
        }
    }
}

/// A volatile mount leaves a mark by which the kernel refuses the next one, as files may have been lost. Ours
/// are of containers that do not outlive a crash of the machine, so the mark says nothing: such a container may
/// be written to before its start, and be restarted.
fn forget_volatile(work: &Path) -> Result<(), StepError> {
    let mark = work.join("work/incompat/volatile");
    // The folder is what counts; newer kernels put a file into it.
    for (path, flags) in [(mark.join("dirty"), AtFlags::empty()), (mark, AtFlags::REMOVEDIR)] {
        match rustix::fs::unlinkat(CWD, &path, flags) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(errno) => return Err(StepError::new(Step::MountRoot, path.display(), errno)),
        }
    }
    Ok(())
}

fn detached_overlay(
    lowers: &[PathBuf],
    upper: &Path,
    work: &Path,
    volatile: bool,
    unwanted: &'static [&'static str],
) -> Result<OwnedFd, StepError> {
    let overlay = Overlay::open(unwanted)?;
    if volatile {
        forget_volatile(work)?;
    }
    for lower in lowers {
        overlay.layer("lowerdir+", lower)?;
    }
    overlay.layer("upperdir", upper)?;
    overlay.layer("workdir", work)?;
    overlay.create(volatile)
}

/// Several directories stacked, topmost first, without a writable one.
pub(crate) fn read_only(lowers: &[PathBuf]) -> Result<OwnedFd, StepError> {
    let overlay = Overlay::open(unwanted(false))?;
    if kernel::version() >= SINGLE_LAYERS_SINCE {
        for lower in lowers {
            overlay.layer("lowerdir+", lower)?;
        }
        return overlay.create(false);
    }
    let open = |path: &PathBuf| {
        open_directory(path).map_err(|errno| StepError::new(Step::MountRoot, path.display(), errno))
    };
    let directories = lowers.iter().map(open).collect::<Result<Vec<_>, _>>()?;
    let short = |directory: &OwnedFd| format!("/proc/self/fd/{}", directory.as_raw_fd());
    let value = directories.iter().map(short).collect::<Vec<_>>().join(":");
    if value.len() > FSCONFIG_STRING_MAX {
        let what = format!("{} layers, which are too many before Linux 6.5", lowers.len());
        return Err(StepError::new(Step::MountRoot, what, Errno::NAMETOOLONG));
    }
    let set = overlay.file_system.set("lowerdir", value.as_bytes());
    set.map_err(|errno| overlay.error("lowerdir", errno))?;
    overlay.create(false)
}

fn attach_to(mount: OwnedFd, place: &Path) -> Result<OwnedFd, StepError> {
    open_directory(place)
        .and_then(|target| attach(mount.as_fd(), target.as_fd()))
        .map_err(|errno| StepError::new(Step::MountRoot, place.display(), errno))?;
    Ok(mount)
}

fn open_directory(path: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// The old way: all options in one page, where descriptors' paths in procfs keep them short.
fn mount_by_options(
    lowers: &[PathBuf],
    upper: &Path,
    work: &Path,
    volatile: bool,
    unwanted: &'static [&'static str],
) -> Result<OwnedFd, StepError> {
    if volatile {
        forget_volatile(work)?;
    }
    let fail = |path: &Path, errno| StepError::new(Step::MountRoot, path.display(), errno);
    let open = |path: &Path| open_directory(path).map_err(|errno| fail(path, errno));
    let short = |directory: &OwnedFd| format!("/proc/self/fd/{}", directory.as_raw_fd());
    let directories = lowers.iter().map(|lower| open(lower)).collect::<Result<Vec<_>, _>>()?;
    let (upper_directory, work_directory) = (open(upper)?, open(work)?);
    let lowers: Vec<String> = directories.iter().map(short).collect();
    let mut options = format!(
        "lowerdir={},upperdir={},workdir={}",
        lowers.join(":"),
        short(&upper_directory),
        short(&work_directory)
    );
    for feature in unwanted {
        options.push_str(&format!(",{feature}=off"));
    }
    if volatile {
        options.push_str(",volatile");
    }
    if in_user_namespace() {
        options.push_str(",userxattr");
    }
    if options.len() > MOUNT_DATA_MAX {
        let what = format!("{} layers, which are too many before Linux 6.5", lowers.len());
        return Err(StepError::new(Step::MountRoot, what, Errno::NAMETOOLONG));
    }
    let options = CString::new(options).map_err(|_| fail(upper, Errno::INVAL))?;
    rustix::mount::mount("overlay", upper, "overlay", MountFlags::empty(), Some(options.as_c_str()))
        .map_err(|errno| StepError::new(Step::MountRoot, format!("overlay at {}", upper.display()), errno))?;
    open(upper)
}

/// Features to be off whatever the kernel's defaults are. Hard-link indexes bind an upper directory to
/// its lowers for good, but images come and go; with redirects or metacopy the upper directory would
/// hold references instead of files, and no layer could be made of it.
const UNWANTED: &[&str] = &["index", "metacopy", "redirect_dir"];
/// In a user namespace the latter are off, and even saying so is refused.
const UNWANTED_UNPRIVILEGED: &[&str] = &["index"];

/// Which features to switch off; `user_namespace` says whether the caller is in one of its own.
fn unwanted(user_namespace: bool) -> &'static [&'static str] {
    if user_namespace || in_user_namespace() { UNWANTED_UNPRIVILEGED } else { UNWANTED }
}

struct Overlay {
    file_system: FileSystem,
    unwanted: &'static [&'static str],
}

impl Overlay {
    fn open(unwanted: &'static [&'static str]) -> Result<Overlay, StepError> {
        let file_system =
            FileSystem::open("overlay").map_err(|errno| StepError::new(Step::MountRoot, "overlay", errno))?;
        Ok(Overlay { file_system, unwanted })
    }

    /// Adds one directory. Where its path is longer than fsconfig takes, a descriptor's path in
    /// procfs, which is always short, stands for it.
    fn layer(&self, key: &str, path: &Path) -> Result<(), StepError> {
        use std::os::unix::ffi::OsStrExt;
        let bytes = path.as_os_str().as_bytes();
        let result = if bytes.len() <= FSCONFIG_STRING_MAX {
            self.file_system.set(key, bytes)
        } else {
            open_directory(path).and_then(|directory| {
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
        if in_user_namespace() {
            // Marks lie in attributes that ordinary users may set.
            self.file_system.set_flag("userxattr").map_err(|errno| self.error("userxattr", errno))?;
        }
        for feature in self.unwanted {
            // A kernel without a feature does not know its option either.
            match self.file_system.set(feature, b"off") {
                Ok(()) | Err(Errno::INVAL) => {}
                Err(errno) => return Err(self.error(&format!("{feature}=off"), errno)),
            }
        }
        self.file_system.mount(0).map_err(|errno| self.error("overlay", errno))
    }

    fn error(&self, value: &str, errno: Errno) -> StepError {
        let messages = self.file_system.messages();
        let value = if messages.is_empty() { value.to_owned() } else { format!("{value} ({messages})") };
        StepError::new(Step::MountRoot, value, errno)
    }
}
