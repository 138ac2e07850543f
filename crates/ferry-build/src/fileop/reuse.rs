//! A copy that was done before with other contents: files that did not change are links to those of the
//! layer it made then, so that one changed file among many costs little more than itself.
//!
//! Layers never change, so that two of them can share a file. A file is shared where its bytes, attributes,
//! permissions, owner and time are those that a copy would have; all of that is known of both sides without
//! reading either. Links are made after the copy, in the new layer's own directory, because a link cannot be
//! made from one mount into another.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ferry_sys::tree::open_no_links;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, statat};
use rustix::io::Errno;

use super::FileError;
use super::digest::FileHashes;
use super::tree::{Entry, Stamp, stamp};
use super::write::{Owner, Place, Time, timestamps};

/// Names that a file of layers may have; file systems allow some tens of thousands.
const MAX_NAMES: u64 = 10_000;

/// What a copied file is to be.
#[derive(Debug, Clone, Copy)]
pub struct Wanted {
    /// Owner.
    pub owner: Owner,
    /// Permissions.
    pub mode: u32,
    /// Modification time.
    pub time: Time,
}

/// A file of the new layer, by its folder and name.
#[derive(Debug)]
struct Target {
    folder: PathBuf,
    name: OsString,
    digest: [u8; 32],
    /// The file of the old layer that it is to be a name of.
    shared: Option<Stamp>,
}

/// The layer that a copy made before, while the copy is done again.
#[derive(Debug)]
pub struct Reuse {
    /// None the first time: then it is only noted what is in the new layer.
    layer: Option<OwnedFd>,
    hashes: Arc<FileHashes>,
    targets: Vec<Target>,
    /// The folder looked at last, and the same folder in the old layer.
    folder: Option<(PathBuf, Option<OwnedFd>)>,
}

impl Reuse {
    /// Over the directory of the old layer, where there is one.
    pub fn open(layer: Option<&Path>, hashes: Arc<FileHashes>) -> Result<Self, FileError> {
        Ok(Self { layer: layer.map(open_directory).transpose()?, hashes, targets: Vec::new(), folder: None })
    }

    /// Whether a file will be shared; then it need not be copied.
    pub fn claim(
        &mut self,
        root: BorrowedFd<'_>,
        place: &Place,
        name: &OsStr,
        entry: &Entry,
        wanted: Wanted,
    ) -> bool {
        let Some(digest) = self.hashes.known(&entry.stamp) else { return false };
        let Some(old) = self.same_folder(root, &place.path) else { return false };
        let Ok(stat) = statat(old, name, AtFlags::SYMLINK_NOFOLLOW) else { return false };
        let found = stamp(&stat);
        if !is_as_wanted(&stat, wanted) || self.hashes.known(&found) != Some(digest) {
            return false;
        }
        let folder = relative(&place.path);
        self.targets.push(Target { folder, name: name.to_owned(), digest, shared: Some(found) });
        true
    }

    /// Notes a file that was copied, so that the next copy can share it.
    pub fn copied(&mut self, place: &Place, name: &OsStr, entry: &Entry) {
        if let Some(digest) = self.hashes.known(&entry.stamp) {
            let folder = relative(&place.path);
            self.targets.push(Target { folder, name: name.to_owned(), digest, shared: None });
        }
    }

    fn old_folder(&self, path: &Path) -> Option<OwnedFd> {
        open_folder(self.layer.as_ref()?.as_fd(), path).ok()
    }

    /// The old layer's folder, where the path leads to it in the new tree without any link.
    fn same_folder(&mut self, root: BorrowedFd<'_>, path: &Path) -> Option<BorrowedFd<'_>> {
        if self.folder.as_ref().is_none_or(|(known, _)| known != path) {
            let is_plain = open_folder(root, &relative(path)).is_ok();
            let old = self.old_folder(&relative(path)).filter(|_| is_plain);
            self.folder = Some((path.to_owned(), old));
        }
        self.folder.as_ref().and_then(|(_, old)| old.as_ref()).map(AsFd::as_fd)
    }

    /// Makes the links in the new layer's directory, which is no longer mounted, and remembers what is in all
    /// of its files. Folders keep their times.
    pub fn finish(self, upper: &Path) -> Result<(), FileError> {
        let upper = open_directory(upper)?;
        let mut times: BTreeMap<PathBuf, Time> = BTreeMap::new();
        let mut folders: Option<(PathBuf, OwnedFd, Option<OwnedFd>)> = None;
        for target in &self.targets {
            let refuse = |errno| FileError::errno("link", &target.folder.join(&target.name), errno);
            if folders.as_ref().is_none_or(|(known, ..)| *known != target.folder) {
                let new = match open_folder(upper.as_fd(), &target.folder) {
                    Ok(new) => new,
                    // The path leads through a link of a layer below: what was copied is somewhere else.
                    Err(_) if target.shared.is_none() => continue,
                    Err(errno) => return Err(refuse(errno)),
                };
                let old = self.old_folder(&target.folder);
                folders = Some((target.folder.clone(), new, old));
            }
            let Some((_, new, old)) = &folders else { continue };
            if let (Some(shared), Some(old)) = (target.shared, old) {
                let stat = rustix::fs::fstat(new).map_err(refuse)?;
                let time = (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(0));
                times.entry(target.folder.clone()).or_insert(time);
                link(old.as_fd(), new.as_fd(), &target.name, &shared).map_err(refuse)?;
            }
            let stat = match statat(new, &target.name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => stat,
                Err(_) if target.shared.is_none() => continue,
                Err(errno) => return Err(refuse(errno)),
            };
            self.hashes.remember(stamp(&stat), target.digest);
        }
        for (folder, time) in times {
            let refuse = |errno| FileError::errno("set the time of", &folder, errno);
            let directory = open_folder(upper.as_fd(), &folder).map_err(refuse)?;
            rustix::fs::futimens(&directory, &timestamps(time)).map_err(refuse)?;
        }
        Ok(())
    }
}

fn is_as_wanted(stat: &Stat, wanted: Wanted) -> bool {
    let is_file = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    let time = (stat.st_mtime, u32::try_from(stat.st_mtime_nsec).unwrap_or(u32::MAX));
    is_file
        && stat.st_mode & 0o7777 == wanted.mode
        && (stat.st_uid, stat.st_gid) == (wanted.owner.uid, wanted.owner.gid)
        && time == wanted.time
        && stat.st_nlink < MAX_NAMES
}

/// Gives a file of the old layer a name in the new one; what stands there can only be a mark that it is gone.
fn link(old: BorrowedFd<'_>, new: BorrowedFd<'_>, name: &OsStr, shared: &Stamp) -> Result<(), Errno> {
    let stat = statat(old, name, AtFlags::SYMLINK_NOFOLLOW)?;
    if stamp(&stat) != *shared {
        return Err(Errno::STALE);
    }
    match rustix::fs::unlinkat(new, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(errno) => return Err(errno),
    }
    rustix::fs::linkat(old, name, new, name, AtFlags::empty())
}

fn relative(path: &Path) -> PathBuf {
    path.strip_prefix("/").unwrap_or(path).to_owned()
}

fn open_folder(root: BorrowedFd<'_>, path: &Path) -> Result<OwnedFd, Errno> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    open_no_links(root, path, OFlags::RDONLY | OFlags::DIRECTORY)
}

fn open_directory(path: &Path) -> Result<OwnedFd, FileError> {
    rustix::fs::open(path, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|errno| FileError::errno("open", path, errno))
}
