//! Files that are unpacked among others appear whole: made without a name or beside the one they are to have,
//! which they get when they are complete.

use std::io::Read;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;

use super::error::LayerError;
use super::unpack::{Name, Target, Unpacker, failed};
use crate::tar::{Entry, TarReader};

impl<T: Target> Unpacker<T> {
    /// Makes a file that gets its name when it is complete.
    pub(super) fn whole_file<R: Read>(
        &mut self,
        name: &Name,
        entry: &Entry,
        archive: &mut TarReader<R>,
    ) -> Result<(), LayerError> {
        let path = &entry.path;
        self.may_replace(name, path, false)?;
        let beside = beside_name();
        let parent = self.parent(name, path)?;
        let (file, nameless) = match nameless_file(parent) {
            Ok(file) => (file, true),
            // Not every file system has such files.
            Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::INVAL | Errno::NOENT) => {
                (create_file(parent, &beside).map_err(failed("create", path))?, false)
            }
            Err(errno) => return Err(failed("create", path)(errno)),
        };
        let filled = self.fill(&file, entry, archive);
        if filled.is_err() {
            if !nameless {
                // The first error is the one to tell.
                let _ = self.target.remove(&name.directory, &beside);
            }
            return filled;
        }
        if nameless {
            let parent = self.parent(name, path)?;
            match give_name(&file, parent, &name.last) {
                Err(Errno::EXIST) => give_name(&file, parent, &beside).map_err(failed("name", path))?,
                other => return other.map_err(failed("name", path)),
            }
        }
        self.take_place(name, &beside, path)
    }

    /// Gives what was made beside a name that name. What had it is there until this moment, so that whoever
    /// is killed or fails leaves the old or the new.
    pub(super) fn take_place(&mut self, name: &Name, beside: &[u8], path: &[u8]) -> Result<(), LayerError> {
        let rename = |target: &mut T| {
            let parent = target.parent(&name.directory)?;
            rustix::fs::renameat(parent, beside, parent, name.last.as_slice())
        };
        let mut renamed = rename(&mut self.target);
        if matches!(renamed, Err(Errno::ISDIR | Errno::NOTDIR | Errno::NOTEMPTY | Errno::EXIST)) {
            // A directory gives way to no file and the other way round: that takes two steps.
            renamed = self.target.remove(&name.directory, &name.last).and_then(|()| rename(&mut self.target));
            self.forget_below(&name.path());
        }
        // Left where the renaming failed, and where both are names of one file: then it does nothing.
        let cleaned = self.target.remove(&name.directory, beside);
        renamed.map_err(failed("replace", path))?;
        match cleaned {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(errno) => Err(failed("clean up beside", path)(errno)),
        }
    }
}

/// Makes an empty file that was not there.
pub(super) fn create_file(parent: BorrowedFd<'_>, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o600))
}

/// Makes an empty file without a name: who is killed leaves nothing of it.
fn nameless_file(parent: BorrowedFd<'_>) -> Result<OwnedFd, Errno> {
    let flags = OFlags::WRONLY | OFlags::TMPFILE | OFlags::CLOEXEC;
    rustix::fs::openat(parent, c".", flags, Mode::from_raw_mode(0o600))
}

/// Gives a file without a name one that is free.
fn give_name(file: &OwnedFd, parent: BorrowedFd<'_>, name: &[u8]) -> Result<(), Errno> {
    rustix::fs::linkat(file, c"", parent, name, AtFlags::EMPTY_PATH)
}

/// A name for what is made beside another.
pub(super) fn beside_name() -> Vec<u8> {
    format!(".ferry-{}", crate::files::unique_name()).into_bytes()
}
