//! Unpacking a tar below a directory. Names cannot lead out: every parent is walked by openat2(2)
//! below the root, and files are only ever created anew.

use std::cell::Cell;
use std::ffi::OsStr;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use ferry_sys::tree::open_in_root;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use tar::{Archive, EntryType};

use super::FileError;
use super::write::{
    Owner, Place, Time, TouchedDirectories, clear, make_directory, new_directory, new_file, own, timestamps,
};

/// What an archive may hold and how it is unpacked.
#[derive(Debug, Clone)]
pub struct UnpackLimits {
    /// Most entries.
    pub entries: usize,
    /// Most bytes of files.
    pub bytes: u64,
    /// Owner of everything; the archive's own owners when absent.
    pub owner: Option<Owner>,
    /// Devices are made; otherwise they are refused.
    pub devices: bool,
}

impl Default for UnpackLimits {
    fn default() -> Self {
        // Above any archive that builds use, below what would fill a host unnoticed.
        Self { entries: 4_000_000, bytes: 256 << 30, owner: None, devices: true }
    }
}

/// Unpacks a tar into a directory below `root`.
pub fn unpack_tar(
    reader: impl Read,
    root: BorrowedFd<'_>,
    destination: &Path,
    limits: &UnpackLimits,
    touched: &mut TouchedDirectories,
    canceled: &AtomicBool,
) -> Result<(), FileError> {
    let end = Cell::new(None);
    let mut archive = Archive::new(Padded { reader, read: 0, end: &end });
    let mut unpacker = Unpacker { root, destination, limits, touched, bytes: 0 };
    let broken = |error: std::io::Error| FileError::Archive(error.to_string());
    for (index, entry) in archive.entries().map_err(broken)?.enumerate() {
        if canceled.load(Ordering::Relaxed) {
            return Err(FileError::Canceled);
        }
        if index >= limits.entries {
            return Err(FileError::TooMany { what: "the archive", limit: limits.entries });
        }
        let mut entry = entry.map_err(broken)?;
        unpacker.entry(&mut entry)?;
        let sparse = entry.header().entry_type() == EntryType::GNUSparse;
        let begin = entry.raw_file_position();
        if !sparse && end.get().is_some_and(|end: u64| begin.saturating_add(entry.size()) > end) {
            return Err(FileError::Archive("it ends in the middle of a file".to_owned()));
        }
    }
    Ok(())
}

/// Completes the last block of an archive, which Docker's client leaves out (`docker build -f - .`). What was added
/// for that is never taken for a file's contents: `end` tells where the archive really ended.
struct Padded<'a, R> {
    reader: R,
    read: u64,
    end: &'a Cell<Option<u64>>,
}

/// Blocks of an archive.
const BLOCK: u64 = 512;

impl<R: Read> Read for Padded<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = match self.end.get() {
            None => self.reader.read(buffer)?,
            Some(_) => 0,
        };
        if count > 0 || buffer.is_empty() {
            self.read += count as u64;
            return Ok(count);
        }
        if self.end.get().is_none() {
            self.end.set(Some(self.read));
        }
        let missing = self.read.next_multiple_of(BLOCK) - self.read;
        let count = buffer.len().min(usize::try_from(missing).unwrap_or(0));
        buffer[..count].fill(0);
        self.read += count as u64;
        Ok(count)
    }
}

struct Unpacker<'a> {
    root: BorrowedFd<'a>,
    destination: &'a Path,
    limits: &'a UnpackLimits,
    touched: &'a mut TouchedDirectories,
    bytes: u64,
}

/// What a header says.
struct Head {
    mode: u32,
    owner: Owner,
    modified: Time,
}

impl Unpacker<'_> {
    fn entry<R: Read>(&mut self, entry: &mut tar::Entry<'_, R>) -> Result<(), FileError> {
        let relative = inner_path(&entry.path_bytes())?;
        let head = self.head(entry)?;
        let path = self.destination.join(&relative);
        let Some(name) = relative.file_name() else { return Ok(()) };
        let owner = self.limits.owner.unwrap_or_default();
        let parent = path.parent().unwrap_or(Path::new("/"));
        let place = make_directory(self.root, parent, None, owner, self.touched)?;
        place.touch(self.touched)?;
        match entry.header().entry_type() {
            EntryType::Directory => self.directory(&place, name, &head),
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => {
                self.file(&place, name, &head, entry)
            }
            EntryType::Symlink => {
                let target = link_target(entry)?;
                clear(&place, name, true)?;
                rustix::fs::symlinkat(target.as_slice(), &place.directory, name)
                    .map_err(|errno| FileError::errno("make the link", &path, errno))?;
                own_by_name(&place, name, &head)
            }
            EntryType::Link => self.hard_link(&place, name, &link_target(entry)?),
            EntryType::Char | EntryType::Block | EntryType::Fifo => {
                self.device(&place, name, &head, entry.header())
            }
            // Global headers and kinds unknown here carry no file.
            _ => Ok(()),
        }
    }

    fn head<R: Read>(&self, entry: &tar::Entry<'_, R>) -> Result<Head, FileError> {
        let broken = |error: std::io::Error| FileError::Archive(error.to_string());
        let header = entry.header();
        let number =
            |value: u64| u32::try_from(value).map_err(|_| FileError::Archive(format!("owner {value}")));
        let owner = match self.limits.owner {
            Some(owner) => owner,
            None => Owner {
                uid: number(header.uid().map_err(broken)?)?,
                gid: number(header.gid().map_err(broken)?)?,
            },
        };
        let modified = i64::try_from(header.mtime().unwrap_or(0)).unwrap_or(0);
        Ok(Head { mode: header.mode().map_err(broken)? & 0o7777, owner, modified: (modified, 0) })
    }

    fn directory(&mut self, place: &Place, name: &OsStr, head: &Head) -> Result<(), FileError> {
        let path = place.path.join(name);
        let refuse = |errno| FileError::errno("make the directory", &path, errno);
        let directory = match open_in_root(self.root, &path, OFlags::RDONLY | OFlags::DIRECTORY) {
            Ok(existing) => {
                own(existing.as_fd(), head.owner, head.mode).map_err(refuse)?;
                existing
            }
            Err(Errno::NOTDIR) => {
                clear(place, name, false)?;
                new_directory(place, name, head.mode, head.owner)?
            }
            Err(_) => new_directory(place, name, head.mode, head.owner)?,
        };
        drop(directory);
        self.touched.set(&path, head.modified);
        Ok(())
    }

    fn file<R: Read>(
        &mut self,
        place: &Place,
        name: &OsStr,
        head: &Head,
        entry: &mut tar::Entry<'_, R>,
    ) -> Result<(), FileError> {
        let path = place.path.join(name);
        self.bytes = self.bytes.saturating_add(entry.size());
        if self.bytes > self.limits.bytes {
            return Err(FileError::ArchiveTooLarge { limit: self.limits.bytes });
        }
        clear(place, name, true)?;
        let mut file = std::fs::File::from(new_file(place, name)?);
        std::io::copy(entry, &mut file).map_err(FileError::io("write", &path))?;
        let refuse = |errno| FileError::errno("own", &path, errno);
        own(file.as_fd(), head.owner, head.mode).map_err(refuse)?;
        for (key, value) in attributes(entry)? {
            rustix::fs::fsetxattr(&file, key.as_str(), &value, rustix::fs::XattrFlags::empty())
                .map_err(refuse)?;
        }
        rustix::fs::futimens(&file, &timestamps(head.modified)).map_err(refuse)
    }

    /// The target is named from the archive's root.
    fn hard_link(&mut self, place: &Place, name: &OsStr, target: &[u8]) -> Result<(), FileError> {
        let path = self.destination.join(inner_path(target)?);
        let refuse = |errno| FileError::errno("link to", &path, errno);
        let parent = path.parent().unwrap_or(Path::new("/"));
        let directory =
            open_in_root(self.root, parent, OFlags::RDONLY | OFlags::DIRECTORY).map_err(refuse)?;
        let first = path.file_name().ok_or(Errno::ISDIR).map_err(refuse)?;
        clear(place, name, true)?;
        rustix::fs::linkat(&directory, first, &place.directory, name, AtFlags::empty()).map_err(refuse)
    }

    fn device(
        &mut self,
        place: &Place,
        name: &OsStr,
        head: &Head,
        header: &tar::Header,
    ) -> Result<(), FileError> {
        let path = place.path.join(name);
        let kind = match header.entry_type() {
            EntryType::Char => FileType::CharacterDevice,
            EntryType::Block => FileType::BlockDevice,
            _ => FileType::Fifo,
        };
        if !self.limits.devices {
            return Err(FileError::Special(path));
        }
        let number = |part: std::io::Result<Option<u32>>| part.ok().flatten().unwrap_or(0);
        let device = rustix::fs::makedev(number(header.device_major()), number(header.device_minor()));
        clear(place, name, true)?;
        rustix::fs::mknodat(&place.directory, name, kind, Mode::from_raw_mode(head.mode), device)
            .map_err(|errno| FileError::errno("make the device", &path, errno))?;
        own_by_name(place, name, head)
    }
}

fn own_by_name(place: &Place, name: &OsStr, head: &Head) -> Result<(), FileError> {
    let refuse = |errno| FileError::errno("own", &place.path.join(name), errno);
    let (uid, gid) = (Some(Uid::from_raw(head.owner.uid)), Some(Gid::from_raw(head.owner.gid)));
    rustix::fs::chownat(&place.directory, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW).map_err(refuse)?;
    let times = timestamps(head.modified);
    rustix::fs::utimensat(&place.directory, name, &times, AtFlags::SYMLINK_NOFOLLOW).map_err(refuse)
}

fn link_target<R: Read>(entry: &tar::Entry<'_, R>) -> Result<Vec<u8>, FileError> {
    let name = entry.link_name_bytes().map(|name| name.into_owned()).unwrap_or_default();
    match name.is_empty() {
        true => Err(FileError::Archive("a link without a target".to_owned())),
        false => Ok(name),
    }
}

/// The extended attributes in an entry's PAX header.
fn attributes<R: Read>(entry: &mut tar::Entry<'_, R>) -> Result<Vec<(String, Vec<u8>)>, FileError> {
    const PREFIX: &str = "SCHILY.xattr.";
    let Ok(Some(extensions)) = entry.pax_extensions() else { return Ok(Vec::new()) };
    let mut found = Vec::new();
    for extension in extensions.flatten() {
        let Some(name) = extension.key().ok().and_then(|key| key.strip_prefix(PREFIX)) else { continue };
        if name == "security.capability" || name.starts_with("user.") {
            found.push((name.to_owned(), extension.value_bytes().to_vec()));
        }
    }
    Ok(found)
}

/// A name inside an archive as a path without root or `..`.
fn inner_path(name: &[u8]) -> Result<PathBuf, FileError> {
    let mut path = PathBuf::new();
    for component in Path::new(OsStr::from_bytes(name)).components() {
        match component {
            Component::Normal(part) => path.push(part),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
            Component::ParentDir => {
                return Err(FileError::Escapes(String::from_utf8_lossy(name).into_owned()));
            }
        }
    }
    Ok(path)
}
