//! The chain of log files: appending, rotation, retention, compression.
//!
//! Owns the names `path`, `path.N`, `path.N.gz` and which of them exist. Never looks into records.
//!
//! Rotation happens between two appends, once the active file holds `max_size` bytes or more, as in
//! Docker's daemon. Files beyond `max_file` are removed unless a live reader pins them.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::protocol::MAX_PINNED_FILES;

/// Limits of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Rotate once the active file is this large; `None` never does.
    pub max_size: Option<u64>,
    /// Files kept, the active one included; 1 empties the file instead of renaming it.
    pub max_file: u32,
    /// gzip rotated files.
    pub compress: bool,
}

/// The writer's side of a chain.
#[derive(Debug)]
pub struct LogFile {
    path: PathBuf,
    limits: Limits,
    active: File,
    size: u64,
    /// Number of the active file; `path.k` has the number `generation - k`.
    generation: u64,
    /// The oldest generation a live reader needs.
    pinned: Option<u64>,
    /// How many rotated files there may be: the highest `k` in use.
    rotated: u64,
}

impl LogFile {
    /// Opens or creates the active file, ready to append. A record torn by a crash stays as it is, but
    /// gets a newline, so that the next one is whole.
    pub fn open(path: &Path, limits: Limits) -> io::Result<LogFile> {
        let active = open_active(path)?;
        let mut size = active.metadata()?.len();
        if size > 0 && !ends_in_newline(&active, size)? {
            (&active).write_all(b"\n")?;
            size += 1;
        }
        let rotated = highest_index(path)?;
        // Half of a compressed file, left by a crash.
        let _ = std::fs::remove_file(suffixed(path, ".compressing"));
        Ok(LogFile {
            path: path.to_owned(),
            limits,
            active,
            size,
            generation: rotated,
            pinned: None,
            rotated,
        })
    }

    /// Number of the active file; grows by one with every rotation.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// How many more bytes the active file takes before it is rotated; at least 1 after [`Self::append`]
    /// is allowed to run.
    pub fn room(&self) -> usize {
        match self.limits.max_size {
            None => usize::MAX,
            Some(max) => usize::try_from(max.saturating_sub(self.size)).unwrap_or(usize::MAX),
        }
    }

    /// Appends whole records. After an error nothing of them is in the file.
    pub fn append(&mut self, records: &[u8]) -> io::Result<()> {
        match (&self.active).write_all(records) {
            Ok(()) => {
                self.size += records.len() as u64;
                Ok(())
            }
            Err(error) => {
                // Best effort: where even this fails the reader skips the torn record.
                let _ = self.active.set_len(self.size);
                Err(error)
            }
        }
    }

    /// Keeps files from this generation on.
    pub fn pin(&mut self, oldest: Option<u64>) {
        self.pinned = oldest;
        self.remove_surplus();
    }

    /// Starts a new active file.
    pub fn rotate(&mut self) -> io::Result<()> {
        if self.limits.max_file <= 1 && self.pinned.is_none() {
            self.active.set_len(0)?;
        } else {
            for index in (1..=self.rotated).rev() {
                self.shift(index)?;
            }
            std::fs::rename(&self.path, indexed(&self.path, 1))?;
            self.active = open_active(&self.path)?;
            self.rotated += 1;
        }
        self.size = 0;
        self.generation += 1;
        self.remove_surplus();
        Ok(())
    }

    /// Chooses the newest rotated file that waits to be compressed and that no live reader needs (a reader
    /// knows files by their inode).
    pub fn start_compression(&self) -> io::Result<Option<CompressionJob>> {
        let Some(index) = (1..=self.rotated).find(|&index| self.is_compressible(index)) else {
            return Ok(None);
        };
        let source = File::open(indexed(&self.path, index))?;
        let mut options = OpenOptions::new();
        let target = options.write(true).create(true).truncate(true).mode(MODE).open(self.compressing())?;
        Ok(Some(CompressionJob { generation: self.generation_of(index), source, target }))
    }

    /// Puts the compressed file in the place of the plain one, wherever rotation has moved that since.
    pub fn finish_compression(&mut self, job: CompressionJob, success: bool) {
        let index = self.generation.saturating_sub(job.generation);
        let plain = indexed(&self.path, index);
        // Each failure leaves the plain file, which is read just the same.
        let replaced = success
            && index <= self.rotated
            && plain.exists()
            && std::fs::rename(self.compressing(), suffixed(&plain, ".gz")).is_ok();
        let _ = std::fs::remove_file(if replaced { plain } else { self.compressing() });
    }

    fn is_compressible(&self, index: u64) -> bool {
        self.limits.compress
            && self.pinned.is_none_or(|oldest| self.generation_of(index) < oldest)
            && indexed(&self.path, index).exists()
    }

    fn compressing(&self) -> PathBuf {
        suffixed(&self.path, ".compressing")
    }

    fn shift(&self, index: u64) -> io::Result<()> {
        for ending in ["", ".gz"] {
            let from = suffixed(&indexed(&self.path, index), ending);
            let to = suffixed(&indexed(&self.path, index + 1), ending);
            match std::fs::rename(from, to) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    fn generation_of(&self, index: u64) -> u64 {
        self.generation.saturating_sub(index)
    }

    /// Removes what neither `max_file` nor a pin keeps. A file that cannot be removed is tried again at
    /// the next rotation under its next name.
    fn remove_surplus(&mut self) {
        let kept = u64::from(self.limits.max_file.max(1)) - 1;
        let mut highest = 0;
        for index in 1..=self.rotated {
            let pinned = index <= kept + MAX_PINNED_FILES
                && self.pinned.is_some_and(|oldest| self.generation_of(index) >= oldest);
            if index <= kept || pinned {
                highest = index;
                continue;
            }
            for ending in ["", ".gz"] {
                let path = suffixed(&indexed(&self.path, index), ending);
                if matches!(std::fs::remove_file(path), Err(error) if error.kind() != io::ErrorKind::NotFound)
                {
                    highest = index;
                }
            }
        }
        self.rotated = highest;
    }
}

/// One rotated file being compressed. It has no name in it: rotation may rename both files meanwhile.
#[derive(Debug)]
pub struct CompressionJob {
    generation: u64,
    source: File,
    target: File,
}

impl CompressionJob {
    /// Does the work. Meant for a helper process: it takes its time.
    pub fn run(&self) -> io::Result<()> {
        let mut encoder = flate2::write::GzEncoder::new(&self.target, flate2::Compression::default());
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match (&self.source).read(&mut buffer)? {
                0 => break,
                count => encoder.write_all(&buffer[..count])?,
            }
        }
        encoder.finish()?;
        Ok(())
    }
}

/// Readable by root and its group, as Docker's.
const MODE: u32 = 0o640;

fn open_active(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).append(true).create(true).mode(MODE).open(path)
}

fn ends_in_newline(file: &File, size: u64) -> io::Result<bool> {
    let mut last = [0];
    file.read_exact_at(&mut last, size - 1)?;
    Ok(last[0] == b'\n')
}

/// `path.index`.
pub(super) fn indexed(path: &Path, index: u64) -> PathBuf {
    suffixed(path, &format!(".{index}"))
}

pub(super) fn suffixed(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

/// Endings with larger numbers are not ours: `logrotate` may have left a date there.
const MAX_INDEX: u64 = 9999;

/// The highest N of `path.N` and `path.N.gz`; 0 when there is none.
/// Removes rotated files beyond `max_file` of a log that nobody writes and nobody reads any more: those that a
/// slow reader had pinned when the writer ended.
pub fn trim(path: &Path, max_file: u32) -> io::Result<()> {
    for index in u64::from(max_file.max(1))..=highest_index(path)? {
        for ending in ["", ".gz"] {
            match std::fs::remove_file(suffixed(&indexed(path, index), ending)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
    }
    Ok(())
}

/// Whether [`trim`] has something to do.
pub fn has_surplus(path: &Path, max_file: u32) -> bool {
    highest_index(path).is_ok_and(|highest| highest >= u64::from(max_file.max(1)))
}

pub(super) fn highest_index(path: &Path) -> io::Result<u64> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, format!("log path {path:?} names no file")));
    };
    let mut highest = 0;
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?.file_name();
        let Some(ending) = entry.as_encoded_bytes().strip_prefix(name.as_encoded_bytes()) else { continue };
        let Some(ending) = ending.strip_prefix(b".") else { continue };
        let number = ending.strip_suffix(b".gz").unwrap_or(ending);
        let parsed = std::str::from_utf8(number).ok().and_then(|number| number.parse().ok());
        highest = highest.max(parsed.filter(|index| *index <= MAX_INDEX).unwrap_or(0));
    }
    Ok(highest)
}
