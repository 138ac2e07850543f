//! The chain of log files as a reader sees it while a writer may rotate it.
//!
//! Owns opening all files in order, oldest first, each exactly once. A file is known by its inode: its
//! name changes with every rotation. Never looks into records.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::time::Duration;

use super::rotate::{highest_index, indexed, suffixed};

/// What tells one file from another, whatever its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    inode: u64,
}

/// One opened file of the chain.
#[derive(Debug)]
pub(super) struct ChainFile {
    pub file: File,
    pub identity: Identity,
    pub size: u64,
    pub compressed: bool,
    /// Seconds since 1970 of the last write.
    pub modified: i64,
}

/// How often a chain that changes under us is opened again. Renaming a whole chain takes microseconds,
/// so this ends long before; a chain with a hole (somebody removed a file) is accepted at the end.
const ATTEMPTS: u32 = 20;

/// Opens every file of the chain, oldest first. An empty list when there is no log yet.
pub(super) fn open(path: &Path) -> io::Result<Vec<ChainFile>> {
    let mut chain = open_once(path)?;
    for _ in 1..ATTEMPTS {
        if chain.complete && identity_of(path)? == chain.active {
            break;
        }
        std::thread::sleep(Duration::from_micros(200));
        chain = open_once(path)?;
    }
    Ok(chain.files)
}

struct Attempt {
    files: Vec<ChainFile>,
    active: Option<Identity>,
    complete: bool,
}

/// Opens the active file first, so that a rotation in between shows as the same inode again.
fn open_once(path: &Path) -> io::Result<Attempt> {
    let mut files: Vec<ChainFile> = Vec::new();
    let active = open_one(path, false)?;
    let identity = active.as_ref().map(|file| file.identity);
    let mut complete = active.is_some();
    files.extend(active);
    let highest = match highest_index(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
        other => other?,
    };
    complete |= highest == 0;
    for index in 1..=highest {
        let name = indexed(path, index);
        let file = match open_one(&name, false)? {
            Some(file) => Some(file),
            None => open_one(&suffixed(&name, ".gz"), true)?,
        };
        complete &= file.is_some();
        if let Some(file) = file
            && files.iter().all(|known| known.identity != file.identity)
        {
            files.push(file);
        }
    }
    files.reverse();
    Ok(Attempt { files, active: identity, complete })
}

fn open_one(path: &Path, compressed: bool) -> io::Result<Option<ChainFile>> {
    let file = match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let metadata = file.metadata()?;
    let identity = Identity { device: metadata.dev(), inode: metadata.ino() };
    let (size, modified) = (metadata.len(), metadata.mtime());
    Ok(Some(ChainFile { file, identity, size, compressed, modified }))
}

/// Which file has this name now; `None` when none has.
pub(super) fn identity_of(path: &Path) -> io::Result<Option<Identity>> {
    match std::fs::metadata(path) {
        Ok(metadata) => Ok(Some(Identity { device: metadata.dev(), inode: metadata.ino() })),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Where the records after the last `records` newlines from the end begin; also how many were found.
pub(super) fn tail_offset(file: &File, size: u64, records: u64) -> io::Result<(u64, u64)> {
    let mut found = 0;
    let mut end = size;
    let mut block = vec![0; 64 * 1024];
    while end > 0 {
        let length = end.min(block.len() as u64) as usize;
        let begin = end - length as u64;
        file.read_exact_at(&mut block[..length], begin)?;
        for at in memchr::memrchr_iter(b'\n', &block[..length]) {
            if found == records {
                return Ok((begin + at as u64 + 1, records));
            }
            found += 1;
        }
        end = begin;
    }
    Ok((0, found))
}
