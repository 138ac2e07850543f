//! What changes below folders: inotify on every folder of a tree, new ones included.
//!
//! Owns the watches; says which paths changed, never what that means. Paths are reported whether they are still
//! there or not.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;
use tokio::io::unix::AsyncFd;

/// A change is told once nothing else happened for so long: an editor's save is several steps, a checkout many.
const QUIET: Duration = Duration::from_millis(50);
/// However much goes on, changes are told after so long.
const LONGEST: Duration = Duration::from_secs(2);
const BUFFER: usize = 16 << 10;

/// Watched trees.
pub struct Notify {
    inotify: AsyncFd<OwnedFd>,
    folders: BTreeMap<i32, PathBuf>,
    /// Says of a folder that nothing below it matters.
    skip: Box<dyn Fn(&Path) -> bool>,
}

/// Paths that changed; `everything` when the kernel lost some.
#[derive(Debug, Default)]
pub struct Changes {
    /// What changed.
    pub paths: BTreeSet<PathBuf>,
    /// Some changes were lost: everything is to be looked at.
    pub everything: bool,
}

impl Notify {
    /// Watches nothing yet.
    pub fn new(skip: impl Fn(&Path) -> bool + 'static) -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
        #[allow(
            deprecated,
            reason = "an owned descriptor always gives the same number, and unsafe code is not for here"
        )]
        let inotify = AsyncFd::new(inotify)?;
        Ok(Notify { inotify, folders: BTreeMap::new(), skip: Box::new(skip) })
    }

    /// Watches a folder with all below it, or the folder of a file.
    pub fn add(&mut self, path: &Path) -> io::Result<()> {
        let folder = if path.is_dir() { path } else { path.parent().unwrap_or(path) };
        self.add_folder(folder, path.is_dir(), &mut BTreeSet::new())
    }

    /// `found` gets the files of folders that appeared: they may have been written before the watch was there.
    fn add_folder(&mut self, folder: &Path, deep: bool, found: &mut BTreeSet<PathBuf>) -> io::Result<()> {
        let mask = WatchFlags::CREATE
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_FROM
            | WatchFlags::MOVED_TO
            | WatchFlags::ATTRIB
            | WatchFlags::ONLYDIR
            | WatchFlags::EXCL_UNLINK;
        let watch = match inotify::add_watch(self.inotify.get_ref(), folder, mask) {
            Ok(watch) => watch,
            // It went away again.
            Err(Errno::NOENT | Errno::NOTDIR) => return Ok(()),
            Err(Errno::NOSPC) => {
                return Err(io::Error::other(format!(
                    "no more folders can be watched than fs.inotify.max_user_watches allows (at {})",
                    folder.display()
                )));
            }
            Err(errno) => return Err(errno.into()),
        };
        self.folders.insert(watch, folder.to_owned());
        if !deep {
            return Ok(());
        }
        for entry in folder.read_dir()?.flatten() {
            let path = entry.path();
            if !entry.file_type()?.is_dir() {
                found.insert(path);
            } else if !(self.skip)(&path) {
                self.add_folder(&path, true, found)?;
            }
        }
        Ok(())
    }

    /// The next changes, gathered until it is quiet.
    pub async fn next(&mut self) -> io::Result<Changes> {
        let mut changes = Changes::default();
        self.gather(&mut changes).await?;
        let end = tokio::time::Instant::now() + LONGEST;
        loop {
            let quiet = (tokio::time::Instant::now() + QUIET).min(end);
            match tokio::time::timeout_at(quiet, self.gather(&mut changes)).await {
                Ok(result) => result?,
                Err(_) => return Ok(changes),
            }
        }
    }

    async fn gather(&mut self, changes: &mut Changes) -> io::Result<()> {
        let mut events = Vec::new();
        {
            let mut ready = self.inotify.readable().await?;
            let mut buffer = [MaybeUninit::<u8>::uninit(); BUFFER];
            let mut reader = Reader::new(self.inotify.get_ref(), &mut buffer);
            loop {
                match reader.next() {
                    Ok(event) => {
                        let name =
                            event.file_name().map(|name| OsStr::from_bytes(name.to_bytes()).to_owned());
                        events.push((event.wd(), event.events(), name));
                    }
                    Err(Errno::AGAIN) => {
                        ready.clear_ready();
                        break;
                    }
                    Err(errno) => return Err(errno.into()),
                }
            }
        }
        for (watch, flags, name) in events {
            self.take(watch, flags, name.as_deref(), changes)?;
        }
        Ok(())
    }

    fn take(
        &mut self,
        watch: i32,
        flags: ReadFlags,
        name: Option<&OsStr>,
        changes: &mut Changes,
    ) -> io::Result<()> {
        if flags.contains(ReadFlags::QUEUE_OVERFLOW) {
            changes.everything = true;
            return Ok(());
        }
        if flags.contains(ReadFlags::IGNORED) {
            self.folders.remove(&watch);
            return Ok(());
        }
        let (Some(folder), Some(name)) = (self.folders.get(&watch), name) else { return Ok(()) };
        let path = folder.join(name);
        let appeared = flags.intersects(ReadFlags::CREATE | ReadFlags::MOVED_TO);
        if flags.contains(ReadFlags::ISDIR) {
            if appeared && !(self.skip)(&path) {
                self.add_folder(&path, true, &mut changes.paths)?;
            }
            // The attributes of a folder change with each entry of it.
            if flags.contains(ReadFlags::ATTRIB) {
                return Ok(());
            }
        } else if flags.contains(ReadFlags::CREATE) && path.is_file() && !is_link(&path) {
            // A new file is told when its writer is done with it.
            return Ok(());
        }
        changes.paths.insert(path);
        Ok(())
    }
}

fn is_link(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt as _;
    // A second name for a file is never written, so nothing else tells of it.
    path.symlink_metadata().is_ok_and(|metadata| metadata.is_symlink() || metadata.nlink() > 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn tells_of_files_in_new_folders_and_of_what_goes() {
        let root = tempfile::tempdir().expect("a folder");
        let mut notify = Notify::new(|path| path.ends_with("skipped")).expect("inotify");
        notify.add(root.path()).expect("a watch");
        std::fs::create_dir_all(root.path().join("a/b")).expect("folders");
        std::fs::create_dir_all(root.path().join("skipped")).expect("folders");
        std::fs::write(root.path().join("a/b/file"), "x").expect("a file");
        let changes = notify.next().await.expect("changes");
        assert!(changes.paths.contains(&root.path().join("a/b/file")), "{changes:?}");
        std::fs::write(root.path().join("skipped/file"), "x").expect("a file");
        std::fs::remove_file(root.path().join("a/b/file")).expect("removed");
        let changes = notify.next().await.expect("changes");
        assert_eq!(changes.paths, [root.path().join("a/b/file")].into(), "{changes:?}");
    }
}
