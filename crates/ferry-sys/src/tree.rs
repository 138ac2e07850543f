//! openat2(2): walking a tree somebody else wrote, without ever leaving it.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

/// How often a walk is tried again when a rename elsewhere on the system disturbed it.
const DISTURBED_RETRIES: u32 = 128;
/// The kernel's own limit of links on one walk.
const LINKS_MAX: u32 = 40;

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

/// Opens the directory `path` inside `root`, making it and its parents where missing. A link that
/// points to nothing is followed to where it points inside `root`.
pub fn make_directories(root: BorrowedFd<'_>, path: &Path, mode: Mode) -> Result<OwnedFd, Errno> {
    make_directories_at_depth(root, path, mode, 0)
}

fn make_directories_at_depth(
    root: BorrowedFd<'_>,
    path: &Path,
    mode: Mode,
    depth: u32,
) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY;
    match open_in_root(root, path, flags) {
        Err(Errno::NOENT) => {}
        result => return result,
    }
    if depth > LINKS_MAX {
        return Err(Errno::LOOP);
    }
    let mut done = PathBuf::from("/");
    let mut directory = open_in_root(root, &done, flags)?;
    for component in path.components() {
        match component {
            Component::Normal(name) => {
                match rustix::fs::mkdirat(&directory, name, mode) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(errno) => return Err(errno),
                }
                let link = link_target(&directory, name, &done);
                done.push(name);
                directory = match open_in_root(root, &done, flags) {
                    Err(Errno::NOENT) => {
                        let target = link.ok_or(Errno::NOENT)?;
                        make_directories_at_depth(root, &target, mode, depth + 1)?
                    }
                    result => result?,
                };
            }
            Component::ParentDir => {
                done.pop();
                directory = open_in_root(root, &done, flags)?;
            }
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    // The kernel's own walk has the last word on where the path leads.
    open_in_root(root, path, flags)
}

/// Opens the file `path` inside `root` as a path only, making an empty one (and its parent
/// directories) where nothing is. A link that points to nothing is followed inside `root`.
pub fn make_file(root: BorrowedFd<'_>, path: &Path, mode: Mode) -> Result<OwnedFd, Errno> {
    let mut place = path.to_path_buf();
    for _ in 0..LINKS_MAX {
        match open_in_root(root, path, OFlags::PATH) {
            Err(Errno::NOENT) => {}
            result => return result,
        }
        let (Some(parent_path), Some(name)) = (place.parent(), place.file_name()) else {
            return Err(Errno::INVAL);
        };
        let parent = make_directories(root, parent_path, Mode::from_raw_mode(0o755))?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        match rustix::fs::openat(&parent, name, flags, mode) {
            Ok(_) => {}
            Err(Errno::EXIST) => place = link_target(&parent, name, parent_path).ok_or(Errno::NOENT)?,
            Err(errno) => return Err(errno),
        }
    }
    Err(Errno::LOOP)
}

/// Where the link `name` in `directory` (at `directory_path`) points, `None` when it is no link.
fn link_target(directory: &OwnedFd, name: &std::ffi::OsStr, directory_path: &Path) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStrExt;
    let target = rustix::fs::readlinkat(directory, name, Vec::new()).ok()?;
    Some(directory_path.join(std::ffi::OsStr::from_bytes(target.to_bytes())))
}
