//! Copying a selection into a destination tree.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use ferry_sys::tree::open_in_root;
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;

use super::FileError;
use super::archive::detect_compression;
use super::mode::ModeChange;
use super::reuse::{Reuse, Wanted};
use super::select::{SelectedRoot, Selection};
use super::tree::{Entry, EntryKind, Tree, stamp};
use super::unpack::{UnpackLimits, unpack_tar};
use super::write::{
    Owner, Place, Time, TouchedDirectories, clear, make_directory, new_directory, new_file, own, timestamps,
};

/// Permissions of a directory made for the contents of a build context's root, whose own permissions
/// are an accident of where the context lies.
const CONTEXT_ROOT_MODE: u32 = 0o755;

/// How a selection is copied.
pub struct CopySettings<'a> {
    /// `--chown`
    pub owner: Option<Owner>,
    /// `--chmod`
    pub mode: Option<ModeChange>,
    /// What is in the way is replaced (`--link`).
    pub replace: bool,
    /// Archives give their contents (`ADD`).
    pub unpack: bool,
    /// No time is later than this.
    pub epoch: Option<i64>,
    /// Nobody waits for the result any more.
    pub canceled: &'a AtomicBool,
    /// What the same copy made before.
    pub reuse: Option<&'a RefCell<Reuse>>,
}

impl CopySettings<'_> {
    fn owner_of(&self, entry: &Entry) -> Owner {
        self.owner.unwrap_or(Owner { uid: entry.uid, gid: entry.gid })
    }

    fn mode_of(&self, entry: &Entry) -> u32 {
        let is_directory = entry.kind == EntryKind::Directory;
        self.mode.as_ref().map_or(entry.mode, |change| change.apply(entry.mode, is_directory))
    }

    fn time_of(&self, entry: &Entry) -> Time {
        match self.epoch {
            Some(epoch) if entry.modified.0 >= epoch => (epoch, 0),
            _ => entry.modified,
        }
    }
}

/// Copies a selection to `destination`, a path below `root`; a trailing slash means a directory.
pub fn copy_selection(
    tree: &Tree,
    selection: &Selection,
    root: BorrowedFd<'_>,
    destination: &str,
    settings: &CopySettings<'_>,
    touched: &mut TouchedDirectories,
) -> Result<(), FileError> {
    let mut copier = Copier { tree, root, settings, touched, linked: HashMap::new() };
    for selected in &selection.roots {
        let into_directory = destination.ends_with('/') || selection.roots.len() > 1;
        match selected.entry.kind {
            EntryKind::Directory => copier.directory(selected, Path::new(destination))?,
            _ => copier.single(selected, Path::new(destination), into_directory)?,
        }
    }
    Ok(())
}

struct Copier<'a> {
    tree: &'a Tree,
    root: BorrowedFd<'a>,
    settings: &'a CopySettings<'a>,
    touched: &'a mut TouchedDirectories,
    /// Where the first name of a file with several names was put.
    linked: HashMap<(u64, u64), (PathBuf, OsString)>,
}

impl Copier<'_> {
    fn parent_owner(&self) -> Owner {
        self.settings.owner.unwrap_or_default()
    }

    /// The contents of a directory into a directory.
    fn directory(&mut self, selected: &SelectedRoot, destination: &Path) -> Result<(), FileError> {
        let is_context_root = self.tree.is_context() && selected.entry.path.as_os_str().is_empty();
        let entry = Entry {
            mode: if is_context_root { CONTEXT_ROOT_MODE } else { selected.entry.mode },
            ..selected.entry.clone()
        };
        let base = self.open_target(destination, &entry, is_context_root)?;
        let mut stack = vec![(PathBuf::new(), base)];
        for entry in &selected.below {
            if self.settings.canceled.load(Ordering::Relaxed) {
                return Err(FileError::Canceled);
            }
            let relative = selected.relative(entry);
            let parent = relative.parent().unwrap_or(Path::new(""));
            while stack.len() > 1 && stack.last().is_some_and(|(path, _)| path != parent) {
                stack.pop();
            }
            if stack.last().is_none_or(|(path, _)| path != parent) {
                // The parent itself was left out by a pattern, but not this.
                let path = stack[0].1.path.join(parent);
                let place = make_directory(self.root, &path, None, self.parent_owner(), self.touched)?;
                stack.push((parent.to_owned(), place));
            }
            let place = &stack[stack.len() - 1].1;
            let name = relative.file_name().expect("what is below a directory has a name");
            match entry.kind {
                EntryKind::Directory => {
                    let below = copy_directory(self.settings, self.touched, self.root, place, name, entry)?;
                    stack.push((relative.to_owned(), below));
                }
                _ => copy_entry(
                    self.tree,
                    self.settings,
                    self.touched,
                    &mut self.linked,
                    self.root,
                    place,
                    name,
                    entry,
                )?,
            }
        }
        Ok(())
    }

    /// Opens the directory that takes a directory's contents; a new one is made in its image.
    fn open_target(&mut self, path: &Path, entry: &Entry, is_context_root: bool) -> Result<Place, FileError> {
        if let Ok(directory) = open_in_root(self.root, path, OFlags::RDONLY | OFlags::DIRECTORY) {
            return Ok(Place { directory, path: path.to_owned() });
        }
        if self.settings.replace
            && let Some(name) = path.file_name()
        {
            let parent = path.parent().unwrap_or(Path::new("/"));
            let place = make_directory(self.root, parent, None, self.parent_owner(), self.touched)?;
            place.touch(self.touched)?;
            clear(&place, name, false)?;
        }
        let mode = self.settings.mode_of(entry);
        let place = make_directory(self.root, path, Some(mode), self.settings.owner_of(entry), self.touched)?;
        if !is_context_root {
            self.touched.set(&place.path, self.settings.time_of(entry));
        }
        Ok(place)
    }

    /// A single file, link or archive.
    fn single(
        &mut self,
        selected: &SelectedRoot,
        destination: &Path,
        into_directory: bool,
    ) -> Result<(), FileError> {
        if self.settings.unpack && self.unpack(selected, destination)? {
            return Ok(());
        }
        let is_directory =
            into_directory || open_in_root(self.root, destination, OFlags::PATH | OFlags::DIRECTORY).is_ok();
        let (parent, name) = match (is_directory, destination.file_name()) {
            (false, Some(name)) => (destination.parent().unwrap_or(Path::new("/")), name),
            _ => (destination, OsStr::from_bytes(&selected.name)),
        };
        let place = make_directory(self.root, parent, None, self.parent_owner(), self.touched)?;
        copy_entry(
            self.tree,
            self.settings,
            self.touched,
            &mut self.linked,
            self.root,
            &place,
            name,
            &selected.entry,
        )
    }

    /// Unpacks an archive; false when the file is none.
    fn unpack(&mut self, selected: &SelectedRoot, destination: &Path) -> Result<bool, FileError> {
        if selected.entry.kind != EntryKind::File {
            return Ok(false);
        }
        let path = &selected.entry.path;
        let descriptor = self.tree.open_file(path).map_err(|errno| FileError::errno("open", path, errno))?;
        let mut file = std::fs::File::from(descriptor);
        let Some(compression) = detect_compression(&mut file).map_err(FileError::io("read", path))? else {
            return Ok(false);
        };
        make_directory(self.root, destination, None, self.parent_owner(), self.touched)?;
        let reader = compression.reader(file).map_err(FileError::io("read", path))?;
        let limits = UnpackLimits { owner: self.settings.owner, ..UnpackLimits::default() };
        unpack_tar(reader, self.root, destination, &limits, self.touched, self.settings.canceled)?;
        Ok(true)
    }
}

/// A directory below the copied one; one that is there already keeps what it is.
fn copy_directory(
    settings: &CopySettings<'_>,
    touched: &mut TouchedDirectories,
    root: BorrowedFd<'_>,
    place: &Place,
    name: &OsStr,
    entry: &Entry,
) -> Result<Place, FileError> {
    let path = place.path.join(name);
    match open_in_root(root, &path, OFlags::RDONLY | OFlags::DIRECTORY) {
        Ok(directory) => return Ok(Place { directory, path }),
        Err(Errno::NOENT) => {}
        Err(Errno::NOTDIR) if settings.replace => {
            place.touch(touched)?;
            clear(place, name, false)?;
        }
        Err(Errno::NOTDIR) => return Err(FileError::OverFile(path)),
        Err(errno) => return Err(FileError::errno("open", &path, errno)),
    }
    place.touch(touched)?;
    let directory = new_directory(place, name, settings.mode_of(entry), settings.owner_of(entry))?;
    touched.set(&path, settings.time_of(entry));
    Ok(Place { directory, path })
}

#[expect(clippy::too_many_arguments, reason = "the parts of a copier, taken apart for the borrow checker")]
fn copy_entry(
    tree: &Tree,
    settings: &CopySettings<'_>,
    touched: &mut TouchedDirectories,
    linked: &mut HashMap<(u64, u64), (PathBuf, OsString)>,
    root: BorrowedFd<'_>,
    place: &Place,
    name: &OsStr,
    entry: &Entry,
) -> Result<(), FileError> {
    place.touch(touched)?;
    clear(place, name, settings.replace)?;
    match &entry.kind {
        EntryKind::File => {
            if entry.links > 1 {
                if let Some((directory, first)) = linked.get(&entry.stamp.inode) {
                    return hard_link(root, directory, first, place, name);
                }
                linked.insert(entry.stamp.inode, (place.path.clone(), name.to_owned()));
            }
            let Some(reuse) = settings.reuse.filter(|_| entry.links == 1) else {
                return copy_file(tree, settings, place, name, entry);
            };
            let wanted = Wanted {
                owner: settings.owner_of(entry),
                mode: settings.mode_of(entry),
                time: settings.time_of(entry),
            };
            if reuse.borrow_mut().claim(root, place, name, entry, wanted) {
                return Ok(());
            }
            copy_file(tree, settings, place, name, entry)?;
            reuse.borrow_mut().copied(place, name, entry);
            Ok(())
        }
        EntryKind::Link(target) => {
            let path = place.path.join(name);
            rustix::fs::symlinkat(target.as_slice(), &place.directory, name)
                .map_err(|errno| FileError::errno("make the link", &path, errno))?;
            own_by_name(settings, place, name, entry)
        }
        EntryKind::Special { file_type, device } => {
            let path = place.path.join(name);
            let kind = FileType::from_raw_mode(*file_type);
            if kind == FileType::Socket || tree.is_context() {
                return Err(FileError::Special(entry.path.clone()));
            }
            rustix::fs::mknodat(&place.directory, name, kind, Mode::from_raw_mode(entry.mode), *device)
                .map_err(|errno| FileError::errno("make the device", &path, errno))?;
            own_by_name(settings, place, name, entry)
        }
        EntryKind::Directory => unreachable!("directories are copied by copy_directory"),
    }
}

fn hard_link(
    root: BorrowedFd<'_>,
    directory: &Path,
    first: &OsStr,
    place: &Place,
    name: &OsStr,
) -> Result<(), FileError> {
    let refuse = |errno| FileError::errno("link", &place.path.join(name), errno);
    let parent = open_in_root(root, directory, OFlags::RDONLY | OFlags::DIRECTORY).map_err(refuse)?;
    rustix::fs::linkat(&parent, first, &place.directory, name, AtFlags::empty()).map_err(refuse)
}

fn own_by_name(
    settings: &CopySettings<'_>,
    place: &Place,
    name: &OsStr,
    entry: &Entry,
) -> Result<(), FileError> {
    let refuse = |errno| FileError::errno("own", &place.path.join(name), errno);
    let owner = settings.owner_of(entry);
    let (uid, gid) = (Some(Uid::from_raw(owner.uid)), Some(Gid::from_raw(owner.gid)));
    rustix::fs::chownat(&place.directory, name, uid, gid, AtFlags::SYMLINK_NOFOLLOW).map_err(refuse)?;
    let times = timestamps(settings.time_of(entry));
    rustix::fs::utimensat(&place.directory, name, &times, AtFlags::SYMLINK_NOFOLLOW).map_err(refuse)
}

fn copy_file(
    tree: &Tree,
    settings: &CopySettings<'_>,
    place: &Place,
    name: &OsStr,
    entry: &Entry,
) -> Result<(), FileError> {
    let path = place.path.join(name);
    let source = tree.open_file(&entry.path).map_err(|errno| FileError::errno("open", &entry.path, errno))?;
    let before = rustix::fs::fstat(&source).map_err(|errno| FileError::errno("stat", &entry.path, errno))?;
    // What was digested must be what is copied.
    if stamp(&before) != entry.stamp {
        return Err(FileError::Changed(entry.path.clone()));
    }
    let attributes = read_attributes(&source, &entry.path)?;
    let mut source = std::fs::File::from(source);
    let mut target = std::fs::File::from(new_file(place, name)?);
    std::io::copy(&mut source, &mut target).map_err(FileError::io("copy to", &path))?;
    let after = rustix::fs::fstat(&source).map_err(|errno| FileError::errno("stat", &entry.path, errno))?;
    if stamp(&after) != entry.stamp {
        return Err(FileError::Changed(entry.path.clone()));
    }
    own(target.as_fd(), settings.owner_of(entry), settings.mode_of(entry))
        .map_err(|errno| FileError::errno("own", &path, errno))?;
    for (name, value) in attributes {
        rustix::fs::fsetxattr(&target, OsStr::from_bytes(&name), &value, rustix::fs::XattrFlags::empty())
            .map_err(|errno| FileError::errno("set an attribute of", &path, errno))?;
    }
    rustix::fs::futimens(&target, &timestamps(settings.time_of(entry)))
        .map_err(|errno| FileError::errno("set the time of", &path, errno))
}

/// Longest list of attribute names and longest value, as the kernel limits them.
const ATTRIBUTE_BYTES: usize = 64 << 10;

/// The extended attributes that travel with a file: the user's own and file capabilities. Labels of
/// security modules and overlay's marks belong to the place, not to the file.
pub fn read_attributes(file: &OwnedFd, path: &Path) -> Result<Vec<(Vec<u8>, Vec<u8>)>, FileError> {
    let refuse = |errno| FileError::errno("read the attributes of", path, errno);
    // Nearly no file has any, and the length alone tells.
    let length = match rustix::fs::flistxattr(file, &mut [0_u8; 0]) {
        Ok(length) => length,
        Err(Errno::NOTSUP) => return Ok(Vec::new()),
        Err(errno) => return Err(refuse(errno)),
    };
    if length == 0 {
        return Ok(Vec::new());
    }
    let mut names = vec![0; ATTRIBUTE_BYTES];
    let length = rustix::fs::flistxattr(file, names.as_mut_slice()).map_err(refuse)?;
    let mut found = Vec::new();
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let travels = name == b"security.capability"
            || name.starts_with(b"user.") && !name.starts_with(b"user.overlay.");
        if travels {
            let mut value = vec![0; ATTRIBUTE_BYTES];
            let length =
                rustix::fs::fgetxattr(file, OsStr::from_bytes(name), value.as_mut_slice()).map_err(refuse)?;
            value.truncate(length);
            found.push((name.to_vec(), value));
        }
    }
    found.sort();
    Ok(found)
}
