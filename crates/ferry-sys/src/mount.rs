//! The file-descriptor mount API: make a mount detached, give it its attributes, attach it.
//!
//! Owns fsopen(2), open_tree(2), mount_setattr(2), move_mount(2) and pivot_root(2). Works on
//! descriptors, so that no path is looked up twice.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::CWD;
use rustix::io::Errno;
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags, fsconfig_create,
    fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree, unmount,
};

use crate::clone::last_errno;

/// The longest value fsconfig(2) takes as a string, without the terminating zero.
pub const FSCONFIG_STRING_MAX: usize = 255;

/// Bytes of a file system's own messages worth reading after a failure.
const MESSAGES_MAX: usize = 1024;

/// Attributes of a mount: the kernel's `MOUNT_ATTR_*`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Attributes {
    /// Bits to set.
    pub set: u64,
    /// Bits to clear; cleared before `set` is applied.
    pub clear: u64,
    /// New propagation type (`MS_PRIVATE`, `MS_SLAVE`, `MS_SHARED`, `MS_UNBINDABLE`), 0 to keep it.
    pub propagation: u64,
}

impl Attributes {
    /// No writes.
    pub const READ_ONLY: u64 = libc::MOUNT_ATTR_RDONLY;
    /// Set-id bits are ignored.
    pub const NO_SUID: u64 = libc::MOUNT_ATTR_NOSUID;
    /// Device nodes do not work.
    pub const NO_DEVICES: u64 = libc::MOUNT_ATTR_NODEV;
    /// No execution.
    pub const NO_EXEC: u64 = libc::MOUNT_ATTR_NOEXEC;
    /// Symbolic links are not followed.
    pub const NO_SYMLINKS: u64 = libc::MOUNT_ATTR_NOSYMFOLLOW;
    /// The access-time field; clear it when setting one of its values.
    pub const ATIME_MASK: u64 = libc::MOUNT_ATTR__ATIME;
    /// Access time is written rarely.
    pub const RELATIME: u64 = libc::MOUNT_ATTR_RELATIME;
    /// Access time is never written.
    pub const NO_ATIME: u64 = libc::MOUNT_ATTR_NOATIME;
    /// Access time is always written.
    pub const STRICT_ATIME: u64 = libc::MOUNT_ATTR_STRICTATIME;
    /// Access time of directories is not written.
    pub const NO_DIRATIME: u64 = libc::MOUNT_ATTR_NODIRATIME;

    /// Attributes that only change propagation.
    pub const fn propagation(propagation: u64) -> Attributes {
        Attributes { set: 0, clear: 0, propagation }
    }

    /// Whether there is nothing to do.
    pub const fn is_empty(self) -> bool {
        self.set == 0 && self.clear == 0 && self.propagation == 0
    }
}

/// A file system being configured.
#[derive(Debug)]
pub struct FileSystem {
    context: OwnedFd,
}

impl FileSystem {
    /// Begins a new instance of a file system type.
    pub fn open(kind: &str) -> Result<FileSystem, Errno> {
        Ok(FileSystem { context: fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)? })
    }

    /// Sets an option that has a value.
    pub fn set(&self, key: &str, value: &[u8]) -> Result<(), Errno> {
        fsconfig_set_string(&self.context, key, value)
    }

    /// Sets an option that has none.
    pub fn set_flag(&self, key: &str) -> Result<(), Errno> {
        fsconfig_set_flag(&self.context, key)
    }

    /// Creates the instance and a detached mount of it with `attributes` (`MOUNT_ATTR_*` bits).
    pub fn mount(&self, attributes: u64) -> Result<OwnedFd, Errno> {
        fsconfig_create(&self.context)?;
        let bits = u32::try_from(attributes).map_err(|_| Errno::INVAL)?;
        fsmount(&self.context, FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::from_bits_retain(bits))
    }

    /// What the file system says about a failure, for the error text; empty when it says nothing.
    pub fn messages(&self) -> String {
        let mut buffer = [0u8; MESSAGES_MAX];
        let mut text = String::new();
        while let Ok(length) = rustix::io::read(&self.context, &mut buffer) {
            if length == 0 || text.len() >= MESSAGES_MAX {
                break;
            }
            let line = String::from_utf8_lossy(&buffer[..length]);
            // Each message begins with its severity: "e overlay: ...".
            let line = line.trim_end();
            let line = line.split_once(' ').map_or(line, |(_, rest)| rest);
            if !text.is_empty() {
                text.push_str("; ");
            }
            text.push_str(line);
        }
        text
    }
}

/// A detached copy of the mount at `path` (and of all below it when `recursive`).
pub fn clone_path(path: &Path, recursive: bool) -> Result<OwnedFd, Errno> {
    open_tree(CWD, path, clone_flags(recursive))
}

/// A detached copy of the mount of an open file or directory, with that as its root.
pub fn clone_descriptor(descriptor: BorrowedFd<'_>, recursive: bool) -> Result<OwnedFd, Errno> {
    open_tree(descriptor, "", clone_flags(recursive) | OpenTreeFlags::AT_EMPTY_PATH)
}

fn clone_flags(recursive: bool) -> OpenTreeFlags {
    let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
    if recursive { flags | OpenTreeFlags::AT_RECURSIVE } else { flags }
}

/// Attaches a detached mount (or moves an attached one) onto the open `target`.
pub fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<(), Errno> {
    move_mount(
        mount,
        "",
        target,
        "",
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH,
    )
}

/// Changes attributes of the mount an open descriptor is the root of.
pub fn set_attributes(mount: BorrowedFd<'_>, attributes: Attributes, recursive: bool) -> Result<(), Errno> {
    mount_setattr(mount, attributes, None, recursive)
}

/// Shows a detached mount's files with the ids of a user namespace.
pub fn set_id_map(
    mount: BorrowedFd<'_>,
    user_namespace: BorrowedFd<'_>,
    recursive: bool,
) -> Result<(), Errno> {
    mount_setattr(mount, Attributes::default(), Some(user_namespace), recursive)
}

fn mount_setattr(
    mount: BorrowedFd<'_>,
    attributes: Attributes,
    user_namespace: Option<BorrowedFd<'_>>,
    recursive: bool,
) -> Result<(), Errno> {
    let mut value = libc::mount_attr {
        attr_set: attributes.set,
        attr_clr: attributes.clear,
        propagation: attributes.propagation,
        userns_fd: 0,
    };
    if let Some(namespace) = user_namespace {
        value.attr_set |= libc::MOUNT_ATTR_IDMAP;
        value.userns_fd = namespace.as_raw_fd() as u64;
    }
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    // SAFETY: the path is a NUL-terminated literal, `value` is read for exactly the size given, and
    // both descriptors are open for the call.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            c"".as_ptr(),
            flags,
            &raw const value,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 { Ok(()) } else { Err(last_errno()) }
}

/// Makes every mount of the calling process's namespace deaf to the host's and the reverse.
pub fn make_all_private() -> Result<(), Errno> {
    let root = rustix::fs::open("/", path_flags(), rustix::fs::Mode::empty())?;
    set_attributes(root.as_fd(), Attributes::propagation(libc::MS_PRIVATE), true)
}

/// Makes the attached mount `new_root` the root of the calling process and of its mount namespace,
/// and lets go of the old one. The working directory is the new root afterwards.
pub fn pivot_root(new_root: BorrowedFd<'_>) -> Result<(), Errno> {
    let old_root = rustix::fs::open("/", path_flags(), rustix::fs::Mode::empty())?;
    rustix::process::fchdir(new_root)?;
    // "." twice stacks the old root on the new one, so no directory for it is needed inside.
    rustix::process::pivot_root(".", ".")?;
    rustix::process::fchdir(&old_root)?;
    unmount(".", UnmountFlags::DETACH)?;
    rustix::process::chdir("/")
}

/// Moves the attached mount `new_root` over the root of the calling process's mount namespace and enters it. What was
/// the root lies below and cannot be let go of: only for hosts whose root is a ramdisk, which cannot be pivoted.
pub fn move_root(new_root: BorrowedFd<'_>) -> Result<(), Errno> {
    let old_root = rustix::fs::open("/", path_flags(), rustix::fs::Mode::empty())?;
    rustix::process::fchdir(new_root)?;
    attach(new_root, old_root.as_fd())?;
    rustix::process::chroot(".")?;
    rustix::process::chdir("/")
}

fn path_flags() -> rustix::fs::OFlags {
    rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC
}
