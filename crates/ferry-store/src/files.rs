//! Small file operations with errors that name the path: whole-or-nothing writes, removal through
//! the trash, unique names, syncing.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::error::IoError;

/// A random name for a temporary file or directory.
pub fn unique_name() -> String {
    let mut bytes = [0u8; 12];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .expect("getrandom of 12 bytes cannot fail once the pool is seeded");
    hex::encode(bytes)
}

/// 32 random bytes in hex, the form of container ids and anonymous volume names.
pub fn random_id() -> String {
    let mut bytes = [0u8; 32];
    rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .expect("getrandom of 32 bytes cannot fail once the pool is seeded");
    hex::encode(bytes)
}

/// Makes a directory with exactly this mode; one that is there is left as it is.
pub fn ensure_dir(path: &Path, mode: u32) -> Result<(), IoError> {
    match fs::DirBuilder::new().mode(mode).create(path) {
        Ok(()) => chmod(path, mode),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(IoError::new("create directory", path)(error)),
    }
}

/// Makes a directory that must not exist yet, with exactly this mode.
pub fn create_dir(path: &Path, mode: u32) -> Result<(), IoError> {
    fs::DirBuilder::new().mode(mode).create(path).map_err(IoError::new("create directory", path))?;
    chmod(path, mode)
}

// The process's umask is not ours to know, so the mode is set again after the creation.
fn chmod(path: &Path, mode: u32) -> Result<(), IoError> {
    rustix::fs::chmod(path, rustix::fs::Mode::from_raw_mode(mode)).map_err(IoError::new("chmod", path))
}

/// Writes a file whole or not at all: temporary file beside it, rename; with `durable` both the
/// data and the name survive a power cut.
pub fn write_atomic(path: &Path, bytes: &[u8], mode: u32, durable: bool) -> Result<(), IoError> {
    let temporary = path.with_extension(format!("{}.tmp", unique_name()));
    let result = write_new(&temporary, bytes, mode, durable)
        .and_then(|()| rename(&temporary, path))
        .and_then(|()| if durable { sync_parent(path) } else { Ok(()) });
    if result.is_err() {
        // The write's own error is the one to tell; the sweep at the next start gets the rest.
        let _ = fs::remove_file(&temporary);
    }
    result
}

fn write_new(path: &Path, bytes: &[u8], mode: u32, durable: bool) -> Result<(), IoError> {
    let mut file = create_new(path, mode)?;
    file.write_all(bytes).map_err(IoError::new("write", path))?;
    if durable {
        file.sync_data().map_err(IoError::new("sync", path))?;
    }
    Ok(())
}

/// Creates a file that must not exist yet.
pub fn create_new(path: &Path, mode: u32) -> Result<File, IoError> {
    File::options()
        .write(true)
        .read(true)
        .create_new(true)
        .mode(mode)
        .open(path)
        .map_err(IoError::new("create", path))
}

/// Renames, naming the target in the error.
pub fn rename(from: &Path, to: &Path) -> Result<(), IoError> {
    fs::rename(from, to).map_err(IoError::new("rename a finished file to", to))
}

/// Makes the name of `path` in its directory durable.
pub fn sync_parent(path: &Path) -> Result<(), IoError> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    sync_path(parent)
}

/// fsync of a file or directory.
pub fn sync_path(path: &Path) -> Result<(), IoError> {
    File::open(path).and_then(|file| file.sync_all()).map_err(IoError::new("sync", path))
}

/// Makes everything written so far to the file system of `path` durable.
pub fn sync_file_system(path: &Path) -> Result<(), IoError> {
    let directory = File::open(path).map_err(IoError::new("open", path))?;
    rustix::fs::syncfs(&directory).map_err(IoError::new("sync the file system of", path))
}

/// Reads a file of at most `limit` bytes.
pub fn read_limited(path: &Path, limit: u64) -> Result<Vec<u8>, IoError> {
    let file = File::open(path).map_err(IoError::new("open", path))?;
    let mut bytes = Vec::new();
    file.take(limit + 1).read_to_end(&mut bytes).map_err(IoError::new("read", path))?;
    if bytes.len() as u64 > limit {
        let error = io::Error::new(io::ErrorKind::FileTooLarge, format!("larger than {limit} bytes"));
        return Err(IoError::new("read", path)(error));
    }
    Ok(bytes)
}

/// Has each directory made in this one begin in a part of the disk of its own, where the file system can (ext4's "top of
/// directory hierarchies", `chattr +T`). ext4 gives no inode away again within a minute of its removal, and looks at all
/// such inodes of the part before it finds another (`recently_deleted` in fs/ext4/ialloc.c): a tree of 30,000 files that
/// took the place of a removed one took three times as long.
pub fn spread_below(path: &Path) {
    use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
    let Ok(directory) = File::open(path) else { return };
    // Others have no such flag, and need none.
    let Ok(flags) = ioctl_getflags(&directory) else { return };
    if !flags.contains(IFlags::TOPDIR) {
        let _ = ioctl_setflags(&directory, flags | IFlags::TOPDIR);
    }
}

/// Names in a directory; none when the directory is absent.
pub fn list_dir(path: &Path) -> Result<Vec<String>, IoError> {
    let entries = match fs::read_dir(path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(IoError::new("list", path)(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(IoError::new("list", path))?;
        names.push(entry.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// Moves a file or directory out of sight. False when it was not there.
pub fn move_to_trash(path: &Path, trash: &Path) -> Result<bool, IoError> {
    let target: PathBuf = trash.join(unique_name());
    match fs::rename(path, &target) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(IoError::new("move to the trash", path)(error)),
    }
}

/// Removes everything inside a directory, going on after errors; gives the first one.
pub fn empty_dir(path: &Path) -> Result<(), IoError> {
    let mut first = Ok(());
    for name in list_dir(path)? {
        let entry = path.join(name);
        let result = match fs::symlink_metadata(&entry) {
            Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(&entry),
            Ok(_) => fs::remove_file(&entry),
            Err(error) => Err(error),
        };
        match result {
            Err(error) if error.kind() != io::ErrorKind::NotFound && first.is_ok() => {
                first = Err(IoError::new("remove", &entry)(error));
            }
            _ => {}
        }
    }
    first
}

/// Now, as RFC 3339 with nanoseconds in UTC.
pub fn now() -> String {
    format!("{:.9}", jiff::Timestamp::now())
}
