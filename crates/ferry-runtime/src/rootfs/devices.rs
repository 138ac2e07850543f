//! Device nodes and the links every `/dev` has.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use ferry_sys::tree;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use super::plan::DevicePlan;
use crate::create::Step;
use crate::error::StepError;

/// Links in `/dev`, and where they point.
const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// Makes one device node below `root`.
pub(crate) fn make_device(root: BorrowedFd<'_>, device: &DevicePlan) -> Result<(), StepError> {
    make(root, device).map_err(|errno| StepError::new(Step::Devices, device.path.display(), errno))
}

fn make(root: BorrowedFd<'_>, device: &DevicePlan) -> Result<(), Errno> {
    let (Some(parent), Some(name)) = (device.path.parent(), device.path.file_name()) else {
        return Err(Errno::INVAL);
    };
    let parent = tree::make_directories(root, parent, Mode::from_raw_mode(0o755))?;
    let number = rustix::fs::makedev(device.major, device.minor);
    let number = if device.kind == FileType::Fifo { 0 } else { number };
    // The umask is 0 here, so the mode is exact.
    match rustix::fs::mknodat(&parent, name, device.kind, Mode::from_raw_mode(device.mode), number) {
        Ok(()) if (device.uid, device.gid) == (0, 0) => Ok(()),
        Ok(()) => rustix::fs::chownat(
            &parent,
            name,
            Some(Uid::from_raw(device.uid)),
            Some(Gid::from_raw(device.gid)),
            AtFlags::SYMLINK_NOFOLLOW,
        ),
        Err(Errno::EXIST) => require_same(&parent, name.as_ref(), device, number),
        Err(errno) => Err(errno),
    }
}

/// The host's own node for a device, to be bound where a user namespace may not make nodes: the one of the same name,
/// or where the container knows it by another, the one that the kernel names for the number.
pub(crate) fn open_host_device(device: &DevicePlan) -> Result<OwnedFd, StepError> {
    let fail = |errno| StepError::new(Step::MountSource, device.path.display(), errno);
    let same_name = open_node(&device.path, device);
    let by_number = || host_name(device).ok_or(Errno::NODEV).and_then(|path| open_node(&path, device));
    same_name.or_else(|_| by_number()).map_err(fail)
}

/// A detached copy of the mount of one node, where that is the device.
fn open_node(path: &Path, device: &DevicePlan) -> Result<OwnedFd, Errno> {
    let mount = ferry_sys::mount::clone_path(path, false)?;
    let found = rustix::fs::fstat(&mount)?;
    let number = rustix::fs::makedev(device.major, device.minor);
    let same = FileType::from_raw_mode(found.st_mode) == device.kind && found.st_rdev == number;
    if same { Ok(mount) } else { Err(Errno::NODEV) }
}

/// Where the host has the device with this number, as sysfs tells it.
fn host_name(device: &DevicePlan) -> Option<PathBuf> {
    let kind = if device.kind == FileType::BlockDevice { "block" } else { "char" };
    let event = format!("/sys/dev/{kind}/{}:{}/uevent", device.major, device.minor);
    let told = std::fs::read_to_string(event).ok()?;
    let name = told.lines().find_map(|line| line.strip_prefix("DEVNAME="))?;
    Some(Path::new("/dev").join(name))
}

/// Binds a node of the host below `root`.
pub(crate) fn bind_device(
    root: BorrowedFd<'_>,
    device: &DevicePlan,
    host: BorrowedFd<'_>,
) -> Result<(), StepError> {
    tree::make_file(root, &device.path, Mode::from_raw_mode(0o644))
        .and_then(|place| ferry_sys::mount::attach(host, place.as_fd()))
        .map_err(|errno| StepError::new(Step::Devices, device.path.display(), errno))
}

/// A volume at `/dev/...` may hold the node already; anything else there is an error.
fn require_same(parent: &OwnedFd, name: &Path, device: &DevicePlan, number: u64) -> Result<(), Errno> {
    let found = rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(found.st_mode) == device.kind && found.st_rdev == number {
        Ok(())
    } else {
        Err(Errno::EXIST)
    }
}

/// Makes the usual links in `/dev`, leaving alone what is there.
pub(crate) fn make_links(root: BorrowedFd<'_>) -> Result<(), StepError> {
    let fail = |name: &str| {
        let name = format!("/dev/{name}");
        move |errno| StepError::new(Step::Devices, name, errno)
    };
    let dev =
        tree::open_in_root(root, Path::new("/dev"), OFlags::PATH | OFlags::DIRECTORY).map_err(fail(""))?;
    for (name, target) in LINKS {
        match rustix::fs::symlinkat(target, &dev, name) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(errno) => return Err(fail(name)(errno)),
        }
    }
    Ok(())
}

/// Opens `/dev/null` of the container and makes sure that it is that device.
pub(crate) fn open_null(root: BorrowedFd<'_>, flags: OFlags) -> Result<OwnedFd, Errno> {
    let null = tree::open_in_root(root, Path::new("/dev/null"), flags | OFlags::NOFOLLOW)?;
    require_device(null.as_fd(), 1, 3)?;
    Ok(null)
}

/// ENODEV unless the descriptor is the character device with these numbers.
pub(crate) fn require_device(descriptor: BorrowedFd<'_>, major: u32, minor: u32) -> Result<(), Errno> {
    let found = rustix::fs::fstat(descriptor)?;
    let character = FileType::from_raw_mode(found.st_mode) == FileType::CharacterDevice;
    if character && found.st_rdev == rustix::fs::makedev(major, minor) { Ok(()) } else { Err(Errno::NODEV) }
}
