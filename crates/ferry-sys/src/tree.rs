//! openat2(2): walking a tree somebody else wrote, without ever leaving it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// How often a walk is tried again when a rename elsewhere on the system disturbed it.
const DISTURBED_RETRIES: u32 = 128;

/// Opens `path` with `root` as the root directory: links and `..` stay inside it.
pub fn open_in_root(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    open(root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS)
}

/// Opens `path` below `root` where no component may be a symbolic link or another mount.
pub fn open_plain(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    open(
        root,
        path,
        flags,
        Mode::empty(),
        ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV,
    )
}

/// Opens `path` below `root` where no component may be a symbolic link.
pub fn open_no_links(root: BorrowedFd<'_>, path: &Path, flags: OFlags) -> Result<OwnedFd, Errno> {
    open(root, path, flags, Mode::empty(), ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS)
}

fn open(
    root: BorrowedFd<'_>,
    path: &Path,
    flags: OFlags,
    mode: Mode,
    resolve: ResolveFlags,
) -> Result<OwnedFd, Errno> {
    for _ in 0..DISTURBED_RETRIES {
        match rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, mode, resolve) {
            // The kernel cannot prove the walk stayed inside when something was renamed meanwhile.
            Err(Errno::AGAIN) => {}
            result => return result,
        }
    }
    Err(Errno::AGAIN)
}

/// Opens the directory `path` inside `root`, making it and its parents where missing.
pub fn make_directories(root: BorrowedFd<'_>, path: &Path, mode: Mode) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    match open_in_root(root, path, flags) {
        Err(Errno::NOENT) => {}
        result => return result,
    }
    let mut done = std::path::PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => {
                let parent = open_in_root(root, &done, flags)?;
                done.push(name);
                match rustix::fs::mkdirat(&parent, name, mode) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(errno) => return Err(errno),
                }
            }
            // Popping the name is not the same through a link; refuse what no caller needs.
            Component::ParentDir => return Err(Errno::INVAL),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    open_in_root(root, path, flags)
}

/// Opens the file `path` inside `root` as a path only, making an empty one (and its parent
/// directories) where nothing is.
pub fn make_file(root: BorrowedFd<'_>, path: &Path, mode: Mode) -> Result<OwnedFd, Errno> {
    match open_in_root(root, path, OFlags::PATH) {
        Err(Errno::NOENT) => {}
        result => return result,
    }
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(Errno::INVAL);
    };
    let parent = make_directories(root, parent, Mode::from_raw_mode(0o755))?;
    match rustix::fs::openat(
        &parent,
        name,
        OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC,
        mode,
    ) {
        Ok(_) | Err(Errno::EXIST) => {}
        Err(errno) => return Err(errno),
    }
    open_in_root(parent.as_fd(), Path::new(name), OFlags::PATH | OFlags::NOFOLLOW)
}
