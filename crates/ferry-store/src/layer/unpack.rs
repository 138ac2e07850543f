//! Unpacks an archive below a directory: a layer in overlayfs's own form, or files as they are
//! (into a container). Where names lead is the [`Target`]'s knowledge; here is what is made of them.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Gid, Mode, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use super::error::LayerError;
use super::limits::Limits;
use super::place::{beside_name, create_file};
use super::tree::{components, make_directory, overlay_opaque, set_mode};
use crate::tar::{Entry, EntryKind, Segment, TarReader, error_text};

/// Prefix of names that delete what a lower layer has.
const WHITEOUT: &[u8] = b".wh.";
/// Name that hides everything lower layers have in its directory.
const OPAQUE: &[u8] = b".wh..wh..opq";
/// Prefix of aufs's own bookkeeping, which is not part of the image.
const WHITEOUT_META: &[u8] = b".wh..wh.";
/// Longest file name in a Linux file system.
const COMPONENT_MAX: usize = 255;

/// What an unpacking found.
#[derive(Debug, Default)]
pub struct Unpacked {
    /// Entries in the archive.
    pub entries: u64,
    /// Sum of the file sizes, each hard-linked file once.
    pub size: u64,
    /// Directories that the archive implied but did not describe; the root is the empty path.
    pub implicit_directories: Vec<Vec<u8>>,
}

/// Where an archive is unpacked. Every call resolves below the target's root: a link, whoever made
/// it, never leads outside.
pub trait Target {
    /// Makes a directory available, with all that it needs, and gives it; links are followed.
    fn parent(&mut self, directory: &[u8]) -> Result<BorrowedFd<'_>, Errno>;
    /// Gives a directory that must be there; links are followed.
    fn existing_directory(&self, directory: &[u8]) -> Result<OwnedFd, Errno>;
    /// Opens a directory for changing its attributes; a link at the end is not followed.
    fn directory(&self, path: &[u8]) -> Result<OwnedFd, Errno>;
    /// Removes whatever has this name, directories with all they hold.
    fn remove(&mut self, directory: &[u8], name: &[u8]) -> Result<(), Errno>;
    /// Directories that [`Target::parent`] had to make.
    fn implicit(&self) -> Vec<Vec<u8>>;
}

/// How an archive is unpacked.
#[derive(Debug, Clone, Copy, Default)]
pub struct UnpackOptions {
    /// It is a layer: `.wh.` names delete, the root's entry counts.
    pub layer: bool,
    /// Everything belongs to this user and group, whatever the archive says.
    pub owner: Option<(u32, u32)>,
    /// A directory must not replace another kind of file, nor the other way round.
    pub keep_kinds: bool,
}

/// Unpacks the whole archive below the target's root.
pub fn unpack<R: Read>(
    archive: &mut TarReader<R>,
    target: impl Target,
    options: UnpackOptions,
    limits: Limits,
) -> Result<Unpacked, LayerError> {
    let buffer = vec![0; crate::blob::COPY_BUFFER];
    let mut unpacker = Unpacker { target, options, directories: BTreeMap::new(), limits, size: 0, buffer };
    while let Some(mut entry) = archive.next_entry()? {
        unpacker.limits.entry(&entry.path)?;
        unpacker.limits.inflated(&entry.path, archive.offset())?;
        if let Some((uid, gid)) = options.owner {
            (entry.uid, entry.gid) = (uid, gid);
        }
        unpacker.entry(&entry, archive)?;
    }
    unpacker.finish()
}

/// A name split into its parent directory and last component, cleaned of `.`, `..` and slashes.
pub(super) struct Name {
    pub directory: Vec<u8>,
    pub last: Vec<u8>,
}

impl Name {
    fn parse(path: &[u8]) -> Result<Name, LayerError> {
        let refuse = |reason| LayerError::Refused { entry: error_text(path), reason };
        let mut parts: Vec<Vec<u8>> = Vec::new();
        for part in components(path) {
            if part == b".." {
                parts.pop().ok_or_else(|| refuse("its path leads out of the archive's root"))?;
            } else if part.len() > COMPONENT_MAX {
                return Err(refuse("a name in its path is longer than 255 bytes"));
            } else {
                parts.push(part);
            }
        }
        let last = parts.pop().unwrap_or_default();
        Ok(Name { directory: parts.join(&b'/'), last })
    }

    pub fn path(&self) -> Vec<u8> {
        match self.directory.as_slice() {
            [] => self.last.clone(),
            directory => [directory, b"/", &self.last].concat(),
        }
    }
}

/// What a directory gets when everything in it is written.
struct DirectoryAttributes {
    mode: u32,
    uid: u32,
    gid: u32,
    mtime: (i64, u32),
    xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// An unpacking under way.
pub(super) struct Unpacker<T> {
    pub target: T,
    options: UnpackOptions,
    directories: BTreeMap<Vec<u8>, DirectoryAttributes>,
    limits: Limits,
    size: u64,
    buffer: Vec<u8>,
}

/// Turns an errno about an entry into the error that names it.
pub(super) fn failed(action: &'static str, path: &[u8]) -> impl FnOnce(Errno) -> LayerError {
    let entry = error_text(path);
    move |errno| LayerError::Entry { action, entry, source: errno.into() }
}

impl<T: Target> Unpacker<T> {
    fn entry<R: Read>(&mut self, entry: &Entry, archive: &mut TarReader<R>) -> Result<(), LayerError> {
        let name = Name::parse(&entry.path)?;
        if name.last.is_empty() {
            // The root itself: only its attributes matter.
            if entry.kind == EntryKind::Directory && self.options.layer {
                self.remember_directory(Vec::new(), entry);
            }
            return Ok(());
        }
        if self.options.layer && name.last.starts_with(WHITEOUT) {
            return self.whiteout(&name, &entry.path);
        }
        match entry.kind {
            EntryKind::Directory => self.directory(&name, entry),
            EntryKind::Regular => self.regular(&name, entry, archive),
            EntryKind::HardLink => self.hard_link(&name, entry),
            EntryKind::Symlink => {
                self.create(&name, "create symbolic link", &entry.path, |parent, last| {
                    rustix::fs::symlinkat(entry.link.as_slice(), parent, last)
                })?;
                self.attributes_by_name(&name, entry)
            }
            EntryKind::CharDevice => self.node(&name, entry, FileType::CharacterDevice),
            EntryKind::BlockDevice => self.node(&name, entry, FileType::BlockDevice),
            EntryKind::Fifo => self.node(&name, entry, FileType::Fifo),
            EntryKind::Other(flag) => {
                tracing::debug!(entry = %error_text(&entry.path), flag, "skipped an entry of unknown kind");
                Ok(())
            }
        }
    }

    /// The directory that an entry is put into.
    pub(super) fn parent(&mut self, name: &Name, path: &[u8]) -> Result<BorrowedFd<'_>, LayerError> {
        self.target.parent(&name.directory).map_err(failed("open the parent directory of", path))
    }

    /// Runs `make` in the parent directory; whatever had the name before is removed first.
    fn create<V>(
        &mut self,
        name: &Name,
        action: &'static str,
        path: &[u8],
        make: impl Fn(BorrowedFd<'_>, &[u8]) -> Result<V, Errno>,
    ) -> Result<V, LayerError> {
        let parent = self.parent(name, path)?;
        match make(parent, &name.last) {
            Err(Errno::EXIST) => {}
            other => return other.map_err(failed(action, path)),
        }
        self.may_replace(name, path, false)?;
        self.replace(name, action, path, make)
    }

    /// Puts what `make` makes in the place of what has the name.
    fn replace<V>(
        &mut self,
        name: &Name,
        action: &'static str,
        path: &[u8],
        make: impl Fn(BorrowedFd<'_>, &[u8]) -> Result<V, Errno>,
    ) -> Result<V, LayerError> {
        if !self.options.layer {
            let beside = beside_name();
            let parent = self.parent(name, path)?;
            let made = make(parent, &beside).map_err(failed(action, path))?;
            self.take_place(name, &beside, path)?;
            return Ok(made);
        }
        self.target.remove(&name.directory, &name.last).map_err(failed("replace", path))?;
        self.forget_below(&name.path());
        let parent = self.parent(name, path)?;
        make(parent, &name.last).map_err(failed(action, path))
    }

    /// Refuses to replace a directory by something else or the other way round, where that is asked.
    pub(super) fn may_replace(
        &mut self,
        name: &Name,
        path: &[u8],
        by_directory: bool,
    ) -> Result<(), LayerError> {
        if !self.options.keep_kinds {
            return Ok(());
        }
        let parent = self.parent(name, path)?;
        let is_directory = match rustix::fs::statat(parent, name.last.as_slice(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => FileType::from_raw_mode(stat.st_mode) == FileType::Directory,
            Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(failed("look at", path)(errno)),
        };
        let reason = match (is_directory, by_directory) {
            (true, false) => "cannot overwrite directory with non-directory",
            (false, true) => "cannot overwrite non-directory with directory",
            _ => return Ok(()),
        };
        Err(LayerError::Refused { entry: error_text(path), reason })
    }

    /// Directories that were replaced get no attributes at the end.
    pub(super) fn forget_below(&mut self, path: &[u8]) {
        let below = [path, b"/"].concat();
        self.directories.retain(|known, _| known != path && !known.starts_with(&below));
    }

    fn remember_directory(&mut self, path: Vec<u8>, entry: &Entry) {
        let attributes = DirectoryAttributes {
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            mtime: entry.mtime,
            xattrs: entry.xattrs.clone(),
        };
        self.directories.insert(path, attributes);
    }

    fn directory(&mut self, name: &Name, entry: &Entry) -> Result<(), LayerError> {
        let path = &entry.path;
        let parent = self.parent(name, path)?;
        match make_directory(parent, &name.last) {
            Ok(()) => {}
            Err(Errno::EXIST) => {
                let stat = rustix::fs::statat(parent, name.last.as_slice(), AtFlags::SYMLINK_NOFOLLOW)
                    .map_err(failed("look at", path))?;
                if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
                    let whiteout = self.options.layer && is_whiteout(&stat);
                    self.may_replace(name, path, true)?;
                    self.replace(name, "create directory", path, make_directory)?;
                    if whiteout {
                        // The archive deleted the lower one first: nothing of it may show through.
                        self.set_opaque(&name.path(), path)?;
                    }
                }
            }
            Err(errno) => return Err(failed("create directory", path)(errno)),
        }
        self.remember_directory(name.path(), entry);
        Ok(())
    }

    fn whiteout(&mut self, name: &Name, path: &[u8]) -> Result<(), LayerError> {
        if name.last == OPAQUE {
            self.target.parent(&name.directory).map_err(failed("open the parent directory of", path))?;
            return self.set_opaque(&name.directory, path);
        }
        if name.last.starts_with(WHITEOUT_META) {
            return Ok(());
        }
        let target = Name { directory: name.directory.clone(), last: name.last[WHITEOUT.len()..].to_vec() };
        if matches!(target.last.as_slice(), b"" | b"." | b"..") {
            let reason = "it deletes no name inside its directory";
            return Err(LayerError::Refused { entry: error_text(path), reason });
        }
        self.create(&target, "create whiteout", path, |parent, last| {
            let device = rustix::fs::makedev(0, 0);
            rustix::fs::mknodat(parent, last, FileType::CharacterDevice, Mode::empty(), device)
        })
    }

    fn set_opaque(&mut self, directory: &[u8], path: &[u8]) -> Result<(), LayerError> {
        let opened = self.target.directory(directory).map_err(failed("open the directory of", path))?;
        rustix::fs::fsetxattr(&opened, overlay_opaque(), b"y", XattrFlags::empty())
            .map_err(failed("mark as opaque the directory of", path))
    }

    fn regular<R: Read>(
        &mut self,
        name: &Name,
        entry: &Entry,
        archive: &mut TarReader<R>,
    ) -> Result<(), LayerError> {
        if !self.options.layer {
            return self.whole_file(name, entry, archive);
        }
        let file = self.create(name, "create", &entry.path, create_file)?;
        self.fill(&file, entry, archive)
    }

    /// Gives a new file its data and attributes.
    pub(super) fn fill<R: Read>(
        &mut self,
        file: &OwnedFd,
        entry: &Entry,
        archive: &mut TarReader<R>,
    ) -> Result<(), LayerError> {
        let path = &entry.path;
        match &entry.sparse {
            None => {
                let ends_in_hole = self.copy(file, 0, entry.size, path, archive)?;
                if ends_in_hole {
                    rustix::fs::ftruncate(file, entry.size).map_err(failed("set the size of", path))?;
                }
            }
            Some(segments) => self.copy_sparse(file, segments, entry, archive)?,
        }
        self.size = self.size.saturating_add(entry.size);
        if (entry.uid, entry.gid) != (0, 0) {
            rustix::fs::fchown(file, Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)))
                .map_err(failed("set the owner of", path))?;
        }
        // After the owner, whose change takes setuid and file capabilities away.
        rustix::fs::fchmod(file, Mode::from_raw_mode(entry.mode)).map_err(failed("set the mode of", path))?;
        set_xattrs(file, &entry.xattrs, path)?;
        rustix::fs::futimens(file, &times(entry.mtime)).map_err(failed("set the times of", path))
    }

    fn copy_sparse<R: Read>(
        &mut self,
        file: &OwnedFd,
        segments: &[Segment],
        entry: &Entry,
        archive: &mut TarReader<R>,
    ) -> Result<(), LayerError> {
        for segment in segments {
            self.copy(file, segment.offset, segment.length, &entry.path, archive)?;
        }
        rustix::fs::ftruncate(file, entry.size).map_err(failed("set the size of", &entry.path))
    }

    /// Copies `length` bytes of the entry's data to `offset` of the file, but for zeros, which become
    /// holes; true where the end was left out.
    fn copy<R: Read>(
        &mut self,
        file: &OwnedFd,
        mut offset: u64,
        length: u64,
        path: &[u8],
        archive: &mut TarReader<R>,
    ) -> Result<bool, LayerError> {
        let end = offset + length;
        let mut hole = false;
        while offset < end {
            let wanted = (end - offset).min(self.buffer.len() as u64) as usize;
            let count = archive.read_data(&mut self.buffer[..wanted])?;
            if count == 0 {
                let source = std::io::ErrorKind::UnexpectedEof.into();
                return Err(LayerError::Entry { action: "read", entry: error_text(path), source });
            }
            hole = is_zero(&self.buffer[..count]);
            if !hole {
                write_all(file, &self.buffer[..count], offset).map_err(failed("write", path))?;
            }
            offset += count as u64;
            self.limits.inflated(path, archive.offset())?;
        }
        Ok(hole)
    }

    fn hard_link(&mut self, name: &Name, entry: &Entry) -> Result<(), LayerError> {
        let target = Name::parse(&entry.link)?;
        if target.last.is_empty() {
            let reason = "it is a hard link to a directory";
            return Err(LayerError::Refused { entry: error_text(&entry.path), reason });
        }
        if target.path() == name.path() {
            return Ok(());
        }
        let directory = self
            .target
            .existing_directory(&target.directory)
            .map_err(failed("find the target of hard link", &entry.path))?;
        self.create(name, "create hard link", &entry.path, |parent, last| {
            rustix::fs::linkat(&directory, target.last.as_slice(), parent, last, AtFlags::empty())
        })
    }

    /// A pipe or device. Devices stay out in a user namespace: the kernel lets nobody make one there and would open
    /// none, and a container has its own in its `/dev`. Rootless Docker leaves them out too.
    fn node(&mut self, name: &Name, entry: &Entry, kind: FileType) -> Result<(), LayerError> {
        if kind != FileType::Fifo && ferry_sys::namespace::in_user_namespace() {
            return Ok(());
        }
        let (major, minor) = entry.device;
        self.create(name, "create device or pipe", &entry.path, |parent, last| {
            let mode = Mode::from_raw_mode(entry.mode);
            rustix::fs::mknodat(parent, last, kind, mode, rustix::fs::makedev(major, minor))
        })?;
        self.attributes_by_name(name, entry)
    }

    /// Owner, mode, attributes and times of what must not be opened.
    fn attributes_by_name(&mut self, name: &Name, entry: &Entry) -> Result<(), LayerError> {
        let path = &entry.path;
        let parent = self.parent(name, path)?;
        let last = name.last.as_slice();
        let (uid, gid) = (Uid::from_raw(entry.uid), Gid::from_raw(entry.gid));
        if (entry.uid, entry.gid) != (0, 0) {
            rustix::fs::chownat(parent, last, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)
                .map_err(failed("set the owner of", path))?;
        }
        if entry.kind != EntryKind::Symlink {
            set_mode(parent, last, Mode::from_raw_mode(entry.mode))
                .map_err(failed("set the mode of", path))?;
        }
        set_xattrs_by_name(parent, last, &entry.xattrs, path)?;
        rustix::fs::utimensat(parent, last, &times(entry.mtime), AtFlags::SYMLINK_NOFOLLOW)
            .map_err(failed("set the times of", path))
    }

    /// Gives directories their attributes, now that nothing will be written into them.
    fn finish(self) -> Result<Unpacked, LayerError> {
        for (path, attributes) in &self.directories {
            let opened = match self.target.directory(path) {
                Ok(opened) => opened,
                // A later entry put something else in its place.
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => continue,
                Err(errno) => return Err(failed("open directory", path)(errno)),
            };
            let (uid, gid) = (Uid::from_raw(attributes.uid), Gid::from_raw(attributes.gid));
            rustix::fs::fchown(&opened, Some(uid), Some(gid)).map_err(failed("set the owner of", path))?;
            rustix::fs::fchmod(&opened, Mode::from_raw_mode(attributes.mode))
                .map_err(failed("set the mode of", path))?;
            set_xattrs(&opened, &attributes.xattrs, path)?;
            rustix::fs::futimens(&opened, &times(attributes.mtime))
                .map_err(failed("set the times of", path))?;
        }
        let entries = self.limits.entries();
        let described = self.directories;
        let mut implicit_directories = self.target.implicit();
        if !described.contains_key(&Vec::new()) {
            implicit_directories.push(Vec::new());
        }
        implicit_directories.retain(|path| path.is_empty() || !described.contains_key(path));
        implicit_directories.sort();
        implicit_directories.dedup();
        Ok(Unpacked { entries, size: self.size, implicit_directories })
    }
}

/// Whether this is how overlayfs marks a deleted name.
pub fn is_whiteout(stat: &rustix::fs::Stat) -> bool {
    FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
}

/// Whether this can be a hole: files keep theirs on their way, though tars seldom tell of them.
fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

fn write_all(file: &OwnedFd, mut bytes: &[u8], mut offset: u64) -> Result<(), Errno> {
    while !bytes.is_empty() {
        match rustix::io::pwrite(file, bytes, offset) {
            Ok(count) => {
                bytes = &bytes[count..];
                offset += count as u64;
            }
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn times((seconds, nanoseconds): (i64, u32)) -> Timestamps {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds.into() };
    Timestamps { last_access: time, last_modification: time }
}

/// An archive must not speak to overlayfs (redirects, metacopy): those names are ours alone.
fn is_overlays_own(name: &[u8]) -> bool {
    name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.")
}

/// Attributes that the file system does not have (SELinux labels, mostly) are left out, as Docker does.
fn tolerate(result: Result<(), Errno>) -> Result<(), Errno> {
    match result {
        Err(Errno::NOTSUP) => Ok(()),
        other => other,
    }
}

fn set_xattrs(file: impl AsFd, xattrs: &[(Vec<u8>, Vec<u8>)], path: &[u8]) -> Result<(), LayerError> {
    for (name, value) in xattrs.iter().filter(|(name, _)| !is_overlays_own(name)) {
        tolerate(rustix::fs::fsetxattr(file.as_fd(), name.as_slice(), value, XattrFlags::empty()))
            .map_err(failed("set an extended attribute of", path))?;
    }
    Ok(())
}

fn set_xattrs_by_name(
    parent: BorrowedFd<'_>,
    last: &[u8],
    xattrs: &[(Vec<u8>, Vec<u8>)],
    path: &[u8],
) -> Result<(), LayerError> {
    use std::os::fd::AsRawFd;
    for (name, value) in xattrs.iter().filter(|(name, _)| !is_overlays_own(name)) {
        // There is no call that takes a directory and a name; /proc's link to the open directory
        // anchors the path all the same.
        let target = [format!("/proc/self/fd/{}/", parent.as_raw_fd()).as_bytes(), last].concat();
        tolerate(rustix::fs::lsetxattr(target, name.as_slice(), value, XattrFlags::empty()))
            .map_err(failed("set an extended attribute of", path))?;
    }
    Ok(())
}
