//! A directory tree that is written without ever leaving it.
//!
//! Every path is resolved by the kernel below the tree's root (`RESOLVE_IN_ROOT`), so symbolic
//! links made by an archive, absolute or full of `..`, stay inside; magic links are refused. What
//! is made is made by name in an open parent directory.

use std::collections::VecDeque;
use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags, Stat};
use rustix::io::Errno;

use super::unpack::Target;

/// The attribute by which overlayfs knows an opaque directory.
///
/// Only the machine's root may set the first name; in a user namespace overlay is told to use the other.
pub fn overlay_opaque() -> &'static str {
    if ferry_sys::namespace::in_user_namespace() { "user.overlay.opaque" } else { "trusted.overlay.opaque" }
}
/// Symbolic links followed in one path, as in Linux.
const LINKS_MAX: usize = 40;
/// Retries when the kernel could not resolve a path because of a rename elsewhere (it says EAGAIN).
const RESOLVE_RETRIES: usize = 64;

/// A tree being written or read.
pub struct Tree {
    root: OwnedFd,
    /// The directory opened last: archives put a directory's entries one after the other.
    last: Option<(Vec<u8>, OwnedFd)>,
    implicit: Vec<Vec<u8>>,
}

fn directory_flags() -> OFlags {
    OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC
}

impl Tree {
    /// The tree below an open directory.
    pub fn new(root: OwnedFd) -> Tree {
        Tree { root, last: None, implicit: Vec::new() }
    }

    /// The root.
    pub fn root(&self) -> BorrowedFd<'_> {
        self.root.as_fd()
    }

    /// Opens something below the root; links on the way stay inside, a link at the end is not followed.
    pub fn open(&self, path: &[u8], flags: OFlags) -> Result<OwnedFd, Errno> {
        let path = if path.is_empty() { b"." } else { path };
        resolve(self.root.as_fd(), path, flags | OFlags::NOFOLLOW, ResolveFlags::IN_ROOT)
    }

    /// Looks at something below the root; links on the way are not followed at all, since a link in
    /// one layer does not lead into another.
    pub fn stat(&self, path: &[u8]) -> Result<Stat, Errno> {
        let flags = OFlags::PATH | OFlags::NOFOLLOW;
        let parent = match path.iter().rposition(|byte| *byte == b'/') {
            Some(slash) => &path[..slash],
            None => return rustix::fs::statat(&self.root, path, AtFlags::SYMLINK_NOFOLLOW),
        };
        let parent = resolve(
            self.root.as_fd(),
            parent,
            flags | OFlags::DIRECTORY,
            ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH,
        )?;
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
        rustix::fs::statat(&parent, name, AtFlags::SYMLINK_NOFOLLOW)
    }

    /// Whether this layer hides what layers below it have at a path: a whiteout, a file or an
    /// opaque directory among its parents.
    pub fn hides_below(&self, path: &[u8]) -> Result<bool, Errno> {
        let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(index, _)| index);
        for end in slashes {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY;
            match resolve(
                self.root.as_fd(),
                &path[..end],
                flags,
                ResolveFlags::NO_SYMLINKS | ResolveFlags::BENEATH,
            ) {
                Ok(directory) => {
                    let mut value = [0; 4];
                    let found = rustix::fs::fgetxattr(&directory, overlay_opaque(), &mut value[..]);
                    if found == Ok(1) && value[0] == b'y' {
                        return Ok(true);
                    }
                }
                Err(Errno::NOENT) => return Ok(false),
                Err(Errno::NOTDIR | Errno::LOOP) => return Ok(true),
                Err(errno) => return Err(errno),
            }
        }
        Ok(false)
    }

    /// Walks a path whose end does not exist yet, making what is missing, following links by hand
    /// (the kernel cannot tell where a dangling one points to).
    fn make_directories(&mut self, directory: &[u8]) -> Result<OwnedFd, Errno> {
        let mut todo: VecDeque<Vec<u8>> = components(directory).collect();
        let mut done: Vec<Vec<u8>> = Vec::new();
        let mut links = 0;
        while let Some(component) = todo.pop_front() {
            if component == b".." {
                done.pop();
                continue;
            }
            let here = self.physical(&done)?;
            match self.step(here.as_fd(), &component)? {
                Step::Directory => done.push(component),
                Step::Made => {
                    done.push(component);
                    self.implicit.push(done.join(&b'/'));
                }
                Step::Link(target) => {
                    links += 1;
                    if links > LINKS_MAX {
                        return Err(Errno::LOOP);
                    }
                    if target.starts_with(b"/") {
                        done.clear();
                    }
                    for component in components(&target).collect::<Vec<_>>().into_iter().rev() {
                        todo.push_front(component);
                    }
                }
            }
        }
        self.physical(&done)
    }

    /// Opens a path that has no links in it.
    fn physical(&self, components: &[Vec<u8>]) -> Result<OwnedFd, Errno> {
        let path = if components.is_empty() { b".".to_vec() } else { components.join(&b'/') };
        resolve(
            self.root.as_fd(),
            &path,
            directory_flags(),
            ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
        )
    }

    fn step(&self, here: BorrowedFd<'_>, component: &[u8]) -> Result<Step, Errno> {
        match rustix::fs::statat(here, component, AtFlags::SYMLINK_NOFOLLOW) {
            Err(Errno::NOENT) => {
                make_directory(here, component)?;
                Ok(Step::Made)
            }
            Err(errno) => Err(errno),
            Ok(stat) => match FileType::from_raw_mode(stat.st_mode) {
                FileType::Directory => Ok(Step::Directory),
                FileType::Symlink => {
                    Ok(Step::Link(rustix::fs::readlinkat(here, component, Vec::new())?.into_bytes()))
                }
                _ => Err(Errno::NOTDIR),
            },
        }
    }
}

impl Target for Tree {
    fn parent(&mut self, directory: &[u8]) -> Result<BorrowedFd<'_>, Errno> {
        let known = matches!(&self.last, Some((path, _)) if path == directory);
        if !known {
            let path = if directory.is_empty() { b"." } else { directory };
            let opened = match resolve(self.root.as_fd(), path, directory_flags(), ResolveFlags::IN_ROOT) {
                Err(Errno::NOENT) => self.make_directories(directory)?,
                other => other?,
            };
            self.last = Some((directory.to_vec(), opened));
        }
        match &self.last {
            Some((_, opened)) => Ok(opened.as_fd()),
            None => Ok(self.root.as_fd()),
        }
    }

    fn existing_directory(&self, directory: &[u8]) -> Result<OwnedFd, Errno> {
        let path = if directory.is_empty() { b"." } else { directory };
        resolve(self.root.as_fd(), path, directory_flags(), ResolveFlags::IN_ROOT)
    }

    fn remove(&mut self, directory: &[u8], name: &[u8]) -> Result<(), Errno> {
        let parent = rustix::io::fcntl_dupfd_cloexec(self.parent(directory)?, 0)?;
        // The directory opened last may be the one that goes.
        self.last = None;
        remove_all(parent.as_fd(), name)
    }
    fn directory(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        self.open(path, OFlags::RDONLY | OFlags::DIRECTORY)
    }

    fn implicit(&self) -> Vec<Vec<u8>> {
        self.implicit.clone()
    }
}

enum Step {
    Directory,
    Made,
    Link(Vec<u8>),
}

/// The components of a path, without empty ones and `.`.
pub fn components(path: &[u8]) -> impl Iterator<Item = Vec<u8>> + '_ {
    path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".").map(<[u8]>::to_vec)
}

fn resolve(root: BorrowedFd<'_>, path: &[u8], flags: OFlags, how: ResolveFlags) -> Result<OwnedFd, Errno> {
    let how = how | ResolveFlags::NO_MAGICLINKS | ResolveFlags::NO_XDEV;
    for _ in 0..RESOLVE_RETRIES {
        match rustix::fs::openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), how) {
            Err(Errno::AGAIN) => {}
            other => return other,
        }
    }
    Err(Errno::AGAIN)
}

/// Makes a directory with mode 0755 whatever the umask.
pub fn make_directory(parent: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755))?;
    set_mode(parent, name, Mode::from_raw_mode(0o755))
}

/// Sets the mode of what has a name, which whoever else writes in the directory may make a link meanwhile: a
/// link is not followed, wherever it leads.
pub fn set_mode(parent: BorrowedFd<'_>, name: &[u8], mode: Mode) -> Result<(), Errno> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let opened = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    // The kernel's own link to the very thing that is open; for a link that is none to follow.
    let path = format!("/proc/self/fd/{}", opened.as_raw_fd());
    rustix::fs::chmod(path, mode)
}

/// Removes a name and, if it is a directory, everything below, without following links. Deep trees
/// need no deep stack: directories still to be emptied are kept in a list.
pub fn remove_all(parent: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Err(Errno::ISDIR | Errno::PERM) => {}
        other => return other,
    }
    let open = |at: BorrowedFd<'_>, name: &[u8]| {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(at, name, flags, Mode::empty())
    };
    let top = open(parent, name)?;
    let mut stack: Vec<(OwnedFd, Vec<CString>)> = vec![];
    let subdirectories = unlink_files(&top)?;
    stack.push((top, subdirectories));
    while let Some((directory, mut subdirectories)) = stack.pop() {
        match subdirectories.last() {
            Some(next) => {
                let child = open(directory.as_fd(), next.to_bytes())?;
                let below = unlink_files(&child)?;
                if below.is_empty() {
                    rustix::fs::unlinkat(&directory, next.as_c_str(), AtFlags::REMOVEDIR)?;
                    subdirectories.pop();
                    stack.push((directory, subdirectories));
                } else {
                    stack.push((directory, subdirectories));
                    stack.push((child, below));
                }
            }
            None => {
                if let Some((above, pending)) = stack.last_mut()
                    && let Some(finished) = pending.pop()
                {
                    rustix::fs::unlinkat(&*above, finished.as_c_str(), AtFlags::REMOVEDIR)?;
                }
            }
        }
    }
    rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)
}

/// Unlinks everything in a directory that is not a directory; gives the names of those that are.
fn unlink_files(directory: &OwnedFd) -> Result<Vec<CString>, Errno> {
    let mut subdirectories = Vec::new();
    for entry in Dir::read_from(directory)? {
        let entry = entry?;
        if matches!(entry.file_name().to_bytes(), b"." | b"..") {
            continue;
        }
        match rustix::fs::unlinkat(directory, entry.file_name(), AtFlags::empty()) {
            Ok(()) => {}
            Err(Errno::ISDIR | Errno::PERM) => subdirectories.push(entry.file_name().to_owned()),
            Err(errno) => return Err(errno),
        }
    }
    Ok(subdirectories)
}
