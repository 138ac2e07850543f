//! Making directories and files below a root, with owners and times under control.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use ferry_sys::tree::open_in_root;
use rustix::fs::{AtFlags, Gid, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT, Uid};
use rustix::io::Errno;

use super::FileError;

/// Permissions of directories that are made because something needs them.
const PARENT_MODE: u32 = 0o755;

/// Numbers of an owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Owner {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

/// Seconds and nanoseconds.
pub type Time = (i64, u32);

/// Directories whose modification times are set when all is written: those that were there get their
/// old ones back and new ones get what they are due, so that equal inputs make equal layers.
#[derive(Debug, Default)]
pub struct TouchedDirectories {
    times: BTreeMap<PathBuf, Time>,
}

impl TouchedDirectories {
    /// Notes a directory that is about to change; the first note counts.
    fn before_change(&mut self, path: &Path, directory: BorrowedFd<'_>) -> Result<Time, FileError> {
        if let Some(time) = self.times.get(path) {
            return Ok(*time);
        }
        let stat = rustix::fs::fstat(directory).map_err(|errno| FileError::errno("stat", path, errno))?;
        let time = (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0));
        self.times.insert(path.to_owned(), time);
        Ok(time)
    }

    /// Says which time a directory is to have.
    pub fn set(&mut self, path: &Path, time: Time) {
        self.times.insert(path.to_owned(), time);
    }

    /// Sets all times, the deepest first.
    pub fn restore(self, root: BorrowedFd<'_>) -> Result<(), FileError> {
        for (path, time) in self.times.into_iter().rev() {
            let directory = match open_in_root(root, &path, OFlags::RDONLY | OFlags::DIRECTORY) {
                Ok(directory) => directory,
                // Replaced by something else later on.
                Err(Errno::NOENT | Errno::NOTDIR) => continue,
                Err(errno) => return Err(FileError::errno("open", &path, errno)),
            };
            rustix::fs::futimens(&directory, &timestamps(time))
                .map_err(|errno| FileError::errno("set the time of", &path, errno))?;
        }
        Ok(())
    }
}

/// Times for the system call; the access time stays.
pub fn timestamps(modified: Time) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT as _ },
        last_modification: Timespec { tv_sec: modified.0, tv_nsec: modified.1.into() },
    }
}

/// An open directory of the destination with its path.
#[derive(Debug)]
pub struct Place {
    /// The directory.
    pub directory: OwnedFd,
    /// Its path below the root, as it was walked.
    pub path: PathBuf,
}

impl Place {
    /// Notes that an entry of the directory is about to change.
    pub fn touch(&self, touched: &mut TouchedDirectories) -> Result<Time, FileError> {
        touched.before_change(&self.path, self.directory.as_fd())
    }
}

/// Opens a directory, making it and its parents where they are missing. Links on the way are
/// followed inside the root. New directories get the time of the directory they are made in.
pub fn make_directory(
    root: BorrowedFd<'_>,
    path: &Path,
    mode: Option<u32>,
    owner: Owner,
    touched: &mut TouchedDirectories,
) -> Result<Place, FileError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY;
    let refuse = |errno| FileError::errno("make the directory", path, errno);
    match open_in_root(root, path, flags) {
        Ok(directory) => return Ok(Place { directory, path: path.to_owned() }),
        Err(Errno::NOENT) => {}
        Err(Errno::NOTDIR) => return Err(FileError::OverFile(path.to_owned())),
        Err(errno) => return Err(refuse(errno)),
    }
    let mut done = PathBuf::from("/");
    let mut directory = open_in_root(root, &done, flags).map_err(refuse)?;
    let names: Vec<&OsStr> = path.components().filter_map(normal).collect();
    for (index, name) in names.iter().enumerate() {
        let place = Place { directory, path: done.clone() };
        done.push(name);
        directory = match open_in_root(root, &done, flags) {
            Ok(existing) => existing,
            Err(Errno::NOENT) => {
                let time = place.touch(touched)?;
                let bits = if index + 1 == names.len() { mode.unwrap_or(PARENT_MODE) } else { PARENT_MODE };
                touched.set(&done, time);
                new_directory(&place, name, bits, owner)?
            }
            Err(Errno::NOTDIR) => return Err(FileError::OverFile(done)),
            Err(errno) => return Err(refuse(errno)),
        };
    }
    Ok(Place { directory, path: done })
}

fn normal(component: Component<'_>) -> Option<&OsStr> {
    match component {
        Component::Normal(name) => Some(name),
        _ => None,
    }
}

/// Makes one directory in a place.
pub fn new_directory(place: &Place, name: &OsStr, mode: u32, owner: Owner) -> Result<OwnedFd, FileError> {
    let path = place.path.join(name);
    let refuse = |errno| FileError::errno("make the directory", &path, errno);
    rustix::fs::mkdirat(&place.directory, name, Mode::from_raw_mode(0o700)).map_err(refuse)?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = rustix::fs::openat(&place.directory, name, flags, Mode::empty()).map_err(refuse)?;
    own(directory.as_fd(), owner, mode).map_err(refuse)?;
    Ok(directory)
}

/// Gives an open file its owner and, after it (a change of owner clears set-id bits), its permissions.
pub fn own(file: BorrowedFd<'_>, owner: Owner, mode: u32) -> Result<(), Errno> {
    rustix::fs::fchown(file, Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid)))?;
    rustix::fs::fchmod(file, Mode::from_raw_mode(mode))
}

/// Takes away what is in the way of a new file; a directory only when it may be replaced.
pub fn clear(place: &Place, name: &OsStr, replace_directory: bool) -> Result<(), FileError> {
    let path = place.path.join(name);
    match rustix::fs::unlinkat(&place.directory, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::ISDIR) if replace_directory => remove_directory(place.directory.as_fd(), name, &path),
        Err(Errno::ISDIR) => Err(FileError::OverDirectory { source_path: name.into(), target: path }),
        Err(errno) => Err(FileError::errno("remove", &path, errno)),
    }
}

fn remove_directory(parent: BorrowedFd<'_>, name: &OsStr, path: &Path) -> Result<(), FileError> {
    let refuse = |errno| FileError::errno("remove", path, errno);
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = rustix::fs::openat(parent, name, flags, Mode::empty()).map_err(refuse)?;
    for child in super::tree::list(directory.as_fd()).map_err(refuse)? {
        let child: &OsStr = std::os::unix::ffi::OsStrExt::from_bytes(child.as_slice());
        match rustix::fs::unlinkat(&directory, child, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(Errno::ISDIR) => remove_directory(directory.as_fd(), child, &path.join(child))?,
            Err(errno) => return Err(refuse(errno)),
        }
    }
    rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR).map_err(refuse)
}

/// Makes a file with contents at a path, with its parents.
pub fn make_file(
    root: BorrowedFd<'_>,
    path: &Path,
    data: &[u8],
    mode: u32,
    owner: Owner,
    touched: &mut TouchedDirectories,
) -> Result<(), FileError> {
    let name = path.file_name().ok_or_else(|| FileError::OverDirectory {
        source_path: PathBuf::from("a file"),
        target: path.to_owned(),
    })?;
    let place = make_directory(root, path.parent().unwrap_or(Path::new("/")), None, owner, touched)?;
    let time = place.touch(touched)?;
    clear(&place, name, false)?;
    let mut file = std::fs::File::from(new_file(&place, name)?);
    file.write_all(data).map_err(FileError::io("write", path))?;
    own(file.as_fd(), owner, mode).map_err(|errno| FileError::errno("own", path, errno))?;
    rustix::fs::futimens(&file, &timestamps(time))
        .map_err(|errno| FileError::errno("set the time of", path, errno))
}

/// A new empty file for writing.
pub fn new_file(place: &Place, name: &OsStr) -> Result<OwnedFd, FileError> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(&place.directory, name, flags, Mode::from_raw_mode(0o600))
        .map_err(|errno| FileError::errno("create", &place.path.join(name), errno))
}
