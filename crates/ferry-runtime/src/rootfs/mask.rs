//! Masked and read-only paths.
//!
//! Every place is opened once and used by descriptor; what is put over it is checked to be what it
//! should be (CVE-2025-31133).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use ferry_sys::mount::{Attributes, FileSystem, attach, clone_descriptor, set_attributes};
use ferry_sys::tree;
use rustix::fs::{FileType, OFlags};
use rustix::io::Errno;

use super::devices::open_null;
use crate::create::Step;
use crate::error::StepError;

/// Covers what a container must not see: directories by one empty read-only tmpfs, files by its
/// `/dev/null`.
pub(crate) struct Masks<'a> {
    root: BorrowedFd<'a>,
    null: Option<OwnedFd>,
    /// The tmpfs, once it is attached somewhere; further places get copies of that mount, which are
    /// far cheaper than further tmpfs instances.
    empty: Option<OwnedFd>,
}

impl<'a> Masks<'a> {
    pub fn new(root: BorrowedFd<'a>) -> Masks<'a> {
        Masks { root, null: None, empty: None }
    }

    /// Masks one path; a path that does not exist needs no mask.
    pub fn mask(&mut self, path: &Path) -> Result<(), StepError> {
        self.try_mask(path).map_err(|errno| StepError::new(Step::MaskPath, path.display(), errno))
    }

    fn try_mask(&mut self, path: &Path) -> Result<(), Errno> {
        let place = match tree::open_in_root(self.root, path, OFlags::PATH) {
            Ok(place) => place,
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            Err(errno) => return Err(errno),
        };
        if FileType::from_raw_mode(rustix::fs::fstat(&place)?.st_mode) == FileType::Directory {
            self.mask_directory(place.as_fd())
        } else {
            self.mask_file(place.as_fd())
        }
    }

    fn mask_directory(&mut self, place: BorrowedFd<'_>) -> Result<(), Errno> {
        if let Some(empty) = &self.empty {
            return attach(clone_descriptor(empty.as_fd(), false)?.as_fd(), place);
        }
        let file_system = FileSystem::open("tmpfs")?;
        // An empty directory needs one inode and no block; whoever gets at it cannot fill memory.
        file_system.set("nr_inodes", b"2")?;
        file_system.set("size", b"4k")?;
        let flags =
            Attributes::READ_ONLY | Attributes::NO_SUID | Attributes::NO_DEVICES | Attributes::NO_EXEC;
        let empty = file_system.mount(flags)?;
        attach(empty.as_fd(), place)?;
        self.empty = Some(empty);
        Ok(())
    }

    fn mask_file(&mut self, place: BorrowedFd<'_>) -> Result<(), Errno> {
        let null = match self.null.take() {
            Some(null) => null,
            None => open_null(self.root, OFlags::PATH)?,
        };
        let copy = clone_descriptor(null.as_fd(), false)?;
        self.null = Some(null);
        attach(copy.as_fd(), place)
    }
}

/// Makes one path (with all mounted below it) read-only; one that does not exist stays so.
pub(crate) fn make_readonly(root: BorrowedFd<'_>, path: &Path) -> Result<(), StepError> {
    try_make_readonly(root, path).map_err(|errno| StepError::new(Step::ReadonlyPath, path.display(), errno))
}

fn try_make_readonly(root: BorrowedFd<'_>, path: &Path) -> Result<(), Errno> {
    let place = match tree::open_in_root(root, path, OFlags::PATH) {
        Ok(place) => place,
        Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
        Err(errno) => return Err(errno),
    };
    let copy = clone_descriptor(place.as_fd(), true)?;
    // Only this bit: nosuid and its kin stay as the mount has them.
    let read_only = Attributes { set: Attributes::READ_ONLY, ..Attributes::default() };
    set_attributes(copy.as_fd(), read_only, true)?;
    attach(copy.as_fd(), place.as_fd())
}
