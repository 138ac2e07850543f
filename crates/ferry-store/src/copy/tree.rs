//! The walk of a copy: names, types, attributes.

use std::collections::HashMap;
use std::ffi::{CString, OsStr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::{
    AtFlags, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Stat, Timespec, Timestamps, UTIME_OMIT, Uid,
    XattrFlags,
};
use rustix::io::Errno;

use super::content::Contents;
use super::open_in;
use crate::error::IoError;
use crate::layer::{is_whiteout, overlay_opaque, remove_all, set_mode};

/// Nesting that no sane tree reaches; every level keeps two descriptors open.
const MAX_DEPTH: usize = 400;
/// Largest extended attribute of the kernel.
const XATTR_MAX: usize = 64 * 1024;

/// What is copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Source {
    /// A plain tree into an empty directory.
    Tree,
    /// An image's layer: whiteouts and opaque directories take away what the target has of lower layers.
    Layer,
    /// A layer into one that is made of several: besides, the target hides what they hid.
    Stacked,
}

/// One copy under way.
pub(super) struct Copier<'a> {
    target: BorrowedFd<'a>,
    label: &'a Path,
    /// Where the copy stands, below the target's root.
    path: PathBuf,
    source: Source,
    /// Files with several names that were copied, by device and inode.
    links: HashMap<(u64, u64), PathBuf>,
    contents: Contents,
    attribute: Vec<u8>,
}

impl<'a> Copier<'a> {
    pub fn new(target: BorrowedFd<'a>, label: &'a Path, source: Source) -> Copier<'a> {
        let (links, contents) = (HashMap::new(), Contents::default());
        Copier { target, label, path: PathBuf::new(), source, links, contents, attribute: Vec::new() }
    }

    fn layered(&self) -> bool {
        self.source != Source::Tree
    }

    fn failed(&self, action: &'static str) -> impl FnOnce(Errno) -> IoError + use<> {
        IoError::new(action, &self.label.join(&self.path))
    }

    /// Copies what is in one directory into another.
    pub fn directory(&mut self, source: BorrowedFd<'_>, target: BorrowedFd<'_>) -> Result<(), IoError> {
        if self.path.components().count() > MAX_DEPTH {
            return Err(self.failed("copy directories nested too deeply to")(Errno::NAMETOOLONG));
        }
        for name in names(source).map_err(self.failed("list what is copied to"))? {
            self.path.push(OsStr::from_bytes(name.to_bytes()));
            let stat = rustix::fs::statat(source, &name, AtFlags::SYMLINK_NOFOLLOW);
            match stat {
                Ok(stat) => self.entry(source, target, &name, &stat)?,
                // It went away while it was copied.
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(self.failed("look at what is copied to")(errno)),
            }
            self.path.pop();
        }
        Ok(())
    }

    fn entry(
        &mut self,
        source: BorrowedFd<'_>,
        target: BorrowedFd<'_>,
        name: &CString,
        stat: &Stat,
    ) -> Result<(), IoError> {
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Directory {
            return self.subdirectory(source, target, name);
        }
        if self.layered() {
            self.remove(target, name)?;
            if is_whiteout(stat) && self.source == Source::Layer {
                return Ok(());
            }
        }
        if stat.st_nlink > 1 && self.link(target, name, stat) {
            return Ok(());
        }
        match kind {
            FileType::RegularFile => return self.file(source, target, name, stat),
            FileType::Symlink => rustix::fs::readlinkat(source, name, Vec::new())
                .and_then(|link| rustix::fs::symlinkat(&link, target, name))
                .map_err(self.failed("create link"))?,
            kind => {
                let mode = Mode::from_raw_mode(stat.st_mode & 0o7777);
                rustix::fs::mknodat(target, name, kind, mode, stat.st_rdev)
                    .map_err(self.failed("create special file"))?;
            }
        }
        let failed = self.failed("set attributes of");
        special_attributes(target, name, stat).map_err(failed)
    }

    /// Gives a file that was copied under another name this one too. False where that name is gone again.
    fn link(&mut self, target: BorrowedFd<'_>, name: &CString, stat: &Stat) -> bool {
        let identity = (stat.st_dev, stat.st_ino);
        if let Some(first) = self.links.get(&identity)
            && self.link_inside(first, target, name).is_ok()
        {
            return true;
        }
        self.links.insert(identity, self.path.clone());
        false
    }

    /// The target may be somebody's volume meanwhile: no link on the way is followed, least of all out of it.
    fn link_inside(&self, first: &Path, target: BorrowedFd<'_>, name: &CString) -> Result<(), Errno> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let how = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
        let file = rustix::fs::openat2(self.target, first, flags, Mode::empty(), how)?;
        rustix::fs::linkat(&file, c"", target, name, AtFlags::EMPTY_PATH)
    }

    fn subdirectory(
        &mut self,
        source: BorrowedFd<'_>,
        target: BorrowedFd<'_>,
        name: &CString,
    ) -> Result<(), IoError> {
        let from = open_in(source, name).map_err(self.failed("open what is copied to"))?;
        let made = rustix::fs::mkdirat(target, name, Mode::from_raw_mode(0o700));
        // What the target has in the place of a directory hides what lies below, and so must the directory.
        let replaced = match made {
            Err(Errno::EXIST) if self.layered() => self.make_way(target, name)?,
            other => other.map(|()| false).map_err(self.failed("create directory"))?,
        };
        let to = open_in(target, name).map_err(self.failed("open"))?;
        let opaque = self.layered() && is_set(from.as_fd(), overlay_opaque());
        if opaque {
            self.clear(to.as_fd())?;
        }
        if self.source == Source::Stacked && (opaque || replaced) {
            rustix::fs::fsetxattr(&to, overlay_opaque(), b"y", XattrFlags::empty())
                .map_err(self.failed("mark"))?;
        }
        self.directory(from.as_fd(), to.as_fd())?;
        self.directory_attributes(from.as_fd(), to.as_fd())
    }

    /// A lower layer has this name: a directory stays, all else is replaced by one; true where it was.
    fn make_way(&self, target: BorrowedFd<'_>, name: &CString) -> Result<bool, IoError> {
        let stat =
            rustix::fs::statat(target, name, AtFlags::SYMLINK_NOFOLLOW).map_err(self.failed("stat"))?;
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            return Ok(false);
        }
        self.remove(target, name)?;
        rustix::fs::mkdirat(target, name, Mode::from_raw_mode(0o700))
            .map_err(self.failed("create directory"))?;
        Ok(true)
    }

    fn file(
        &mut self,
        source: BorrowedFd<'_>,
        target: BorrowedFd<'_>,
        name: &CString,
        stat: &Stat,
    ) -> Result<(), IoError> {
        let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC;
        // Not waiting: the name may have become a pipe since it was looked at.
        let read = flags | OFlags::RDONLY | OFlags::NONBLOCK;
        let from = rustix::fs::openat(source, name, read, Mode::empty())
            .map_err(self.failed("open what is copied to"))?;
        let create = flags | OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
        let to = rustix::fs::openat(target, name, create, Mode::from_raw_mode(0o600))
            .map_err(self.failed("create"))?;
        self.contents.copy(from.as_fd(), to.as_fd(), stat).map_err(self.failed("write"))?;
        self.attributes(from.as_fd(), to.as_fd(), stat)
    }

    /// Gives a directory the attributes of another; after its content, whose making changes its time.
    pub fn directory_attributes(&mut self, from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<(), IoError> {
        let stat = rustix::fs::fstat(from).map_err(self.failed("stat"))?;
        self.attributes(from, to, &stat)
    }

    fn attributes(&mut self, from: BorrowedFd<'_>, to: BorrowedFd<'_>, stat: &Stat) -> Result<(), IoError> {
        let failed = self.failed("set attributes of");
        self.try_attributes(from, to, stat).map_err(failed)
    }

    fn try_attributes(&mut self, from: BorrowedFd<'_>, to: BorrowedFd<'_>, stat: &Stat) -> Result<(), Errno> {
        let made = rustix::fs::fstat(to)?;
        if (made.st_uid, made.st_gid) != (stat.st_uid, stat.st_gid) {
            rustix::fs::fchown(to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
        }
        // After the owner: changing it takes set-user-id bits away.
        if made.st_mode & 0o7777 != stat.st_mode & 0o7777 || stat.st_mode & 0o7000 != 0 {
            rustix::fs::fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
        }
        self.xattrs(from, to)?;
        rustix::fs::futimens(to, &times(stat))
    }

    /// Everything but overlayfs's own marks.
    fn xattrs(&mut self, from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<(), Errno> {
        self.attribute.resize(XATTR_MAX, 0);
        let length = match rustix::fs::flistxattr(from, &mut self.attribute[..]) {
            Ok(0) | Err(Errno::OPNOTSUPP) => return Ok(()),
            other => other?,
        };
        let list = self.attribute[..length].to_vec();
        for name in list.split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
            if self.layered() && (name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay."))
            {
                continue;
            }
            let size = match rustix::fs::fgetxattr(from, name, &mut self.attribute[..]) {
                // Taken away meanwhile.
                Err(Errno::NODATA) => continue,
                other => other?,
            };
            match rustix::fs::fsetxattr(to, name, &self.attribute[..size], XattrFlags::empty()) {
                Ok(()) | Err(Errno::OPNOTSUPP) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(())
    }

    /// Removes whatever has this name; nothing is fine.
    fn remove(&self, directory: BorrowedFd<'_>, name: &CString) -> Result<(), IoError> {
        match remove_all(directory, name.to_bytes()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(self.failed("remove")(errno)),
        }
    }

    /// Removes everything in a directory.
    pub fn clear(&self, directory: BorrowedFd<'_>) -> Result<(), IoError> {
        for name in names(directory).map_err(self.failed("list"))? {
            self.remove(directory, &name)?;
        }
        Ok(())
    }
}

/// Whether an overlayfs mark is set on a directory.
pub(super) fn is_set(directory: BorrowedFd<'_>, mark: &str) -> bool {
    let mut value = [0u8; 4];
    let user = mark.replacen("trusted.", "user.", 1);
    let path = format!("/proc/self/fd/{}", directory.as_raw_fd());
    [mark, user.as_str()].into_iter().any(
        |name| matches!(rustix::fs::getxattr(path.as_str(), name, &mut value[..]), Ok(1) if value[0] == b'y'),
    )
}

fn names(directory: BorrowedFd<'_>) -> Result<Vec<CString>, Errno> {
    let mut names = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}

fn special_attributes(target: BorrowedFd<'_>, name: &CString, stat: &Stat) -> Result<(), Errno> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    rustix::fs::chownat(target, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::Symlink {
        // The process's umask had its say when it was made.
        set_mode(target, name.to_bytes(), Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    }
    rustix::fs::utimensat(target, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)
}

fn times(stat: &Stat) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as _ },
    }
}
