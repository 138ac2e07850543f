//! Unpacking into a container: the store's unpacker asks, the view resolves.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use ferry_store::layer::{Target, remove_all};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

use super::view::{Follow, Place, View};

/// A directory of a container into which an archive is unpacked.
pub struct ContainerTarget {
    view: View,
    base: Vec<u8>,
    /// The directory opened last: archives put a directory's entries one after the other.
    last: Option<(Vec<u8>, OwnedFd)>,
    made: Vec<Vec<u8>>,
}

impl ContainerTarget {
    /// Unpacks below this place, which is a directory.
    pub fn new(view: View, place: &Place) -> ContainerTarget {
        ContainerTarget { view, base: place.path.clone(), last: None, made: Vec::new() }
    }

    fn full(&self, path: &[u8]) -> Vec<u8> {
        [&self.base, &b"/"[..], path].concat()
    }
}

impl Target for ContainerTarget {
    fn parent(&mut self, directory: &[u8]) -> Result<BorrowedFd<'_>, Errno> {
        let known = matches!(&self.last, Some((path, _)) if path == directory);
        if !known {
            let path = self.full(directory);
            let place = self.view.resolve(&path, Follow::Make, &mut self.made)?;
            if place.kind() != FileType::Directory {
                return Err(Errno::NOTDIR);
            }
            self.last = Some((directory.to_vec(), place.handle));
        }
        self.last.as_ref().map(|(_, handle)| handle.as_fd()).ok_or(Errno::NOENT)
    }

    fn existing_directory(&self, directory: &[u8]) -> Result<OwnedFd, Errno> {
        let place = self.view.resolve(&self.full(directory), Follow::Yes, &mut Vec::new())?;
        if place.kind() == FileType::Directory { Ok(place.handle) } else { Err(Errno::NOTDIR) }
    }

    fn directory(&self, path: &[u8]) -> Result<OwnedFd, Errno> {
        let place = self.view.resolve(&self.full(path), Follow::No, &mut Vec::new())?;
        if place.kind() != FileType::Directory {
            return Err(Errno::NOTDIR);
        }
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::openat(&place.handle, c".", flags, Mode::empty())
    }

    fn remove(&mut self, directory: &[u8], name: &[u8]) -> Result<(), Errno> {
        let parent = rustix::io::fcntl_dupfd_cloexec(self.parent(directory)?, 0)?;
        // The directory opened last may be the one that goes.
        self.last = None;
        remove_all(parent.as_fd(), name)
    }

    fn implicit(&self) -> Vec<Vec<u8>> {
        self.made.clone()
    }
}
