//! Unpacks what comes out of a container, file by file, each of which appears whole.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _, fchown, lchown};
use std::path::{Component, Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use rustix::fs::{AtFlags, CWD, OFlags, Timespec, Timestamps};
use tokio::sync::mpsc;

use crate::output;

/// Bytes written in one go.
const BUFFER: usize = 256 * 1024;

/// Unpacks an archive of one file or folder to `to`, as `cp -a` would place it.
pub(super) fn unpack(
    archive: impl io::Read,
    to: &str,
    contents_only: bool,
    keep_owner: bool,
) -> Result<(), String> {
    let target = Path::new(to);
    let exists = target.symlink_metadata().is_ok();
    let is_folder = target.is_dir();
    if !exists && target.parent().is_some_and(|parent| !parent.as_os_str().is_empty() && !parent.is_dir()) {
        return Err(format!(
            "invalid output path: directory {:?} does not exist",
            target.parent().unwrap_or(target)
        ));
    }
    let mut archive = tar::Archive::new(archive);
    let mut folders = Vec::new();
    for entry in archive.entries().map_err(|error| error.to_string())? {
        let mut entry = entry.map_err(|error| format!("cannot read the archive: {error}"))?;
        let inside = entry.path().map_err(|error| error.to_string())?.into_owned();
        let mut parts = inside.components().filter(|part| *part != Component::CurDir);
        let rename = !is_folder || contents_only;
        if rename {
            parts.next();
        }
        let rest: PathBuf = parts.collect();
        if rest.components().any(|part| !matches!(part, Component::Normal(_))) {
            return Err(format!("the archive names {inside:?}, which leads out of the target"));
        }
        let kind = entry.header().entry_type();
        if rename && rest.as_os_str().is_empty() && !kind.is_dir() && (to.ends_with('/') || is_folder) {
            return Err(format!("the destination directory {to:?} must exist to copy a file into it"));
        }
        if kind.is_dir() && exists && !is_folder && rest.as_os_str().is_empty() {
            return Err(format!("cannot copy directory to {to:?}: it is a file"));
        }
        place_entry(&mut entry, target, &rest, rename, keep_owner, &mut folders)?;
    }
    // Times of folders last: what is put into one changes them.
    for (folder, mode, time) in folders.into_iter().rev() {
        set_folder(&folder, mode, time)
            .map_err(|error| format!("cannot set the mode of {folder:?}: {error}"))?;
    }
    Ok(())
}

type Folder = (PathBuf, u32, u64);

fn place_entry<R: io::Read>(
    entry: &mut tar::Entry<'_, R>,
    target: &Path,
    rest: &Path,
    rename: bool,
    keep_owner: bool,
    folders: &mut Vec<Folder>,
) -> Result<(), String> {
    let place = if rest.as_os_str().is_empty() { target.to_path_buf() } else { target.join(rest) };
    let place = place.as_path();
    let failed = |error: io::Error| format!("cannot write {place:?}: {error}");
    refuse_links_on_the_way(target, rest)?;
    let mode = entry.header().mode().unwrap_or(0o644) & 0o7777;
    let time = entry.header().mtime().unwrap_or(0);
    let owner = (entry.header().uid().unwrap_or(0) as u32, entry.header().gid().unwrap_or(0) as u32);
    match entry.header().entry_type() {
        tar::EntryType::Directory => {
            match std::fs::create_dir(place) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && place.is_dir() => {}
                other => other.map_err(failed)?,
            }
            folders.push((place.to_path_buf(), mode, time));
        }
        tar::EntryType::Symlink => {
            let link = entry.link_name().map_err(failed)?.unwrap_or_default().into_owned();
            remove_file(place).map_err(failed)?;
            std::os::unix::fs::symlink(link, place).map_err(failed)?;
        }
        tar::EntryType::Link => {
            let link = entry.link_name().map_err(failed)?.unwrap_or_default().into_owned();
            // Named from the archive's root, as entries are.
            let from: PathBuf = link
                .components()
                .filter(|part| *part != Component::CurDir)
                .skip(usize::from(rename))
                .collect();
            if from.components().any(|part| !matches!(part, Component::Normal(_))) {
                return Err(format!("the archive links to {link:?}, which leads out of the target"));
            }
            refuse_links_on_the_way(target, &from)?;
            remove_file(place).map_err(failed)?;
            std::fs::hard_link(target.join(from), place).map_err(failed)?;
        }
        tar::EntryType::Regular | tar::EntryType::Continuous | tar::EntryType::GNUSparse => {
            let modified = UNIX_EPOCH + std::time::Duration::from_secs(time);
            let mut file = Incoming::open(place, rest.as_os_str().is_empty()).map_err(failed)?;
            let size = entry.size();
            fill(&mut file.file, entry, size)
                .and_then(|()| file.take_place(mode, modified, keep_owner.then_some(owner)))
                .map_err(failed)?;
        }
        kind => {
            if let Err(reason) = make_special(kind, entry.header(), place, mode) {
                // The rest of the tree is worth having without it.
                output::note(&format!("skipped {}: {reason}", place.display()));
                return Ok(());
            }
        }
    }
    // A file has both already, and a change of owner takes set-user-id bits away.
    if matches!(entry.header().entry_type(), tar::EntryType::Regular | tar::EntryType::Link) {
        return Ok(());
    }
    if keep_owner {
        lchown(place, Some(owner.0), Some(owner.1)).map_err(failed)?;
    }
    let time = Timespec { tv_sec: time as i64, tv_nsec: 0 };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, place, &times, AtFlags::SYMLINK_NOFOLLOW).map_err(|errno| failed(errno.into()))
}

/// A file on its way to its place. What is there stays until the new file is whole, and where that fails or
/// the process is killed, nothing of it is left.
struct Incoming {
    file: File,
    place: PathBuf,
    /// Under what name it is meanwhile; None for a file without one.
    beside: Option<PathBuf>,
    /// It is written where it belongs: a device or a pipe.
    direct: bool,
}

impl Incoming {
    /// Prepares a file for a place. A link is written through where it is what the person named, as cp does.
    fn open(place: &Path, named: bool) -> io::Result<Incoming> {
        let place = match named && place.is_symlink() {
            true => written_through(place)?,
            false => place.to_path_buf(),
        };
        if place.symlink_metadata().is_ok_and(|found| !found.is_file() && !found.is_symlink()) {
            let file = OpenOptions::new().write(true).open(&place)?;
            return Ok(Incoming { file, place, beside: None, direct: true });
        }
        let flags = OFlags::TMPFILE.bits() as i32;
        let folder = match place.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        if let Ok(file) = OpenOptions::new().write(true).custom_flags(flags).open(folder) {
            return Ok(Incoming { file, place, beside: None, direct: false });
        }
        // Not every file system has files without a name.
        let beside = Self::beside(&place);
        match OpenOptions::new().write(true).create_new(true).open(&beside) {
            Ok(file) => Ok(Incoming { file, place, beside: Some(beside), direct: false }),
            // Where only the file itself may be written, it is written as it lies.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied && place.is_file() => {
                let file = OpenOptions::new().write(true).truncate(true).open(&place)?;
                Ok(Incoming { file, place, beside: None, direct: true })
            }
            Err(error) => Err(error),
        }
    }

    fn beside(place: &Path) -> PathBuf {
        static COUNT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let count = COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        place.with_file_name(format!(".ferry-{}-{count}", std::process::id()))
    }

    /// Gives the file its attributes and its name. What is not ours alone, a device say, keeps its own.
    fn take_place(mut self, mode: u32, modified: SystemTime, owner: Option<(u32, u32)>) -> io::Result<()> {
        if self.direct {
            return Ok(());
        }
        if let Some((user, group)) = owner {
            // Before the mode: a change of owner takes set-user-id bits away.
            fchown(&self.file, Some(user), Some(group))?;
        }
        self.file.set_permissions(Permissions::from_mode(mode))?;
        self.file.set_modified(modified)?;
        if self.beside.is_none() {
            match self.give_name(&self.place) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                other => return other,
            }
            let beside = Self::beside(&self.place);
            self.give_name(&beside)?;
            self.beside = Some(beside);
        }
        let Some(beside) = &self.beside else { return Ok(()) };
        std::fs::rename(beside, &self.place)?;
        self.beside = None;
        Ok(())
    }

    fn give_name(&self, name: &Path) -> io::Result<()> {
        // The kernel's link to the open file: naming a file by its descriptor alone is root's privilege.
        let own = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        Ok(rustix::fs::linkat(CWD, own, CWD, name, AtFlags::SYMLINK_FOLLOW)?)
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if let Some(beside) = &self.beside {
            // Something failed, and that is what is told.
            let _ = std::fs::remove_file(beside);
        }
    }
}

/// Where a link leads; one into nothing names the file that is to be made.
fn written_through(link: &Path) -> io::Result<PathBuf> {
    match link.canonicalize() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Ok(link.parent().unwrap_or(Path::new("")).join(link.read_link()?))
        }
        other => other,
    }
}

/// Copies an entry's data into a new file. Stretches of zeros become holes.
fn fill(file: &mut File, entry: &mut impl io::Read, size: u64) -> io::Result<()> {
    let regular = file.metadata()?.is_file();
    let mut buffer = vec![0; BUFFER];
    let mut place = 0;
    while place < size {
        let wanted = (size - place).min(BUFFER as u64) as usize;
        let mut count = 0;
        while count < wanted {
            match entry.read(&mut buffer[count..wanted])? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => count += read,
            }
        }
        if regular && buffer[..count].iter().all(|byte| *byte == 0) {
            io::Seek::seek_relative(file, count as i64)?;
        } else {
            file.write_all(&buffer[..count])?;
        }
        place += count as u64;
    }
    if regular {
        file.set_len(size)?;
    }
    Ok(())
}

/// Makes a pipe or a device, which only root may.
fn make_special(kind: tar::EntryType, header: &tar::Header, place: &Path, mode: u32) -> Result<(), String> {
    use rustix::fs::{FileType, Mode, makedev, mknodat};
    let kind = match kind {
        tar::EntryType::Fifo => FileType::Fifo,
        tar::EntryType::Char => FileType::CharacterDevice,
        tar::EntryType::Block => FileType::BlockDevice,
        other => return Err(format!("a {other:?} cannot be copied")),
    };
    let number = |field: io::Result<Option<u32>>| field.ok().flatten().unwrap_or(0);
    let device = makedev(number(header.device_major()), number(header.device_minor()));
    remove_file(place).map_err(|error| error.to_string())?;
    mknodat(CWD, place, kind, Mode::from_raw_mode(mode), device).map_err(|errno| errno.to_string())?;
    // The process's umask had its say.
    std::fs::set_permissions(place, std::fs::Permissions::from_mode(mode)).map_err(|error| error.to_string())
}

/// A link that the archive itself has put there must not lead later entries elsewhere.
fn refuse_links_on_the_way(target: &Path, rest: &Path) -> Result<(), String> {
    let mut at = target.to_path_buf();
    for part in rest.parent().into_iter().flat_map(Path::components) {
        at.push(part);
        if at.is_symlink() {
            return Err(format!("{at:?} is a symbolic link, which an archive must not lead through"));
        }
    }
    Ok(())
}

fn remove_file(place: &Path) -> io::Result<()> {
    match std::fs::remove_file(place) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn set_folder(folder: &Path, mode: u32, time: u64) -> io::Result<()> {
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(mode))?;
    let modified = UNIX_EPOCH + std::time::Duration::from_secs(time);
    std::fs::File::open(folder)?.set_modified(modified)
}

/// A body as it comes, for code that reads.
pub(super) struct Pieces {
    receiver: mpsc::Receiver<Bytes>,
    current: Bytes,
}

impl Pieces {
    /// Reads what is received.
    pub(super) fn new(receiver: mpsc::Receiver<Bytes>) -> Pieces {
        Pieces { receiver, current: Bytes::new() }
    }
}

impl io::Read for Pieces {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.current.is_empty() {
            match self.receiver.blocking_recv() {
                Some(piece) => self.current = piece,
                None => return Ok(0),
            }
        }
        let count = buffer.len().min(self.current.len());
        buffer[..count].copy_from_slice(&self.current.split_to(count));
        Ok(count)
    }
}
