//! The time of a step's files, so that the same inputs give the same layer whenever it is made.
//!
//! What a step writes itself would carry the minute of the build. It gets the time of the newest thing
//! that the step works on instead: its base image, the files it copies. Times that a step sets on
//! purpose (an unpacked archive's) are older than the step and stay. Python keeps the time of a source
//! within what it compiled from it; that one is moved along, else the compiled file would be stale.

use std::fs::{File, Metadata};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

use jiff::Timestamp;
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};

use super::error::SolveError;
use super::solver::Tree;
use crate::fileop::{EntryKind, FileError, Selection};

/// File systems count time in ticks, and may be this much behind the clock.
const TICK_NANOSECONDS: i128 = 50_000_000;

/// First number of the compiled files of Python 3.7, whose header has flags before the time.
const PYTHON_WITH_FLAGS: u16 = 3390;
/// Numbers of Python 3 stay below this; those of Python 2 begin far above.
const PYTHON_3_END: u16 = 20_000;

/// What time the files of a step get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepTime {
    /// No file is later than this (`SOURCE_DATE_EPOCH`), seconds since 1970.
    Fixed(i64),
    /// What is written between the beginning and the end of the step gets the time of its inputs.
    Inputs {
        /// The newest of the inputs.
        newest: Timestamp,
        /// When the step began, in nanoseconds.
        begun: i128,
    },
}

impl StepTime {
    /// For a step that begins now.
    pub fn begin(epoch: Option<i64>, newest: Timestamp) -> Self {
        let now = Timestamp::now();
        match epoch {
            Some(epoch) => Self::Fixed(epoch),
            // A file from the future must not make others of its kind.
            None => Self::Inputs { newest: newest.min(now), begun: now.as_nanosecond() - TICK_NANOSECONDS },
        }
    }

    /// The step's date, RFC 3339.
    pub fn text(self) -> String {
        match self {
            Self::Fixed(epoch) => Timestamp::from_second(epoch).unwrap_or_default().to_string(),
            Self::Inputs { newest, .. } => newest.to_string(),
        }
    }

    /// Gives everything below a directory its time. Nobody else may write there any more.
    pub fn settle(self, directory: &Path) -> Result<(), SolveError> {
        let end = Timestamp::now().as_nanosecond();
        self.settle_below(directory, end)
    }

    fn settle_below(self, directory: &Path, end: i128) -> Result<(), SolveError> {
        let entries = std::fs::read_dir(directory).map_err(FileError::io("read", directory))?;
        for entry in entries {
            let path = entry.map_err(FileError::io("read", directory))?.path();
            let metadata = path.symlink_metadata().map_err(FileError::io("stat", &path))?;
            if metadata.is_dir() {
                self.settle_below(&path, end)?;
            }
            self.settle_one(&path, &metadata, end)?;
        }
        Ok(())
    }

    fn settle_one(self, path: &Path, metadata: &Metadata, end: i128) -> Result<(), SolveError> {
        let modified = i128::from(metadata.mtime()) * 1_000_000_000 + i128::from(metadata.mtime_nsec());
        match self {
            Self::Fixed(epoch) if metadata.mtime() >= epoch => set_time(path, epoch, 0),
            Self::Inputs { newest, begun } if (begun..=end).contains(&modified) => {
                if metadata.is_file() && path.extension().is_some_and(|extension| extension == "pyc") {
                    let window = (begun / 1_000_000_000, end / 1_000_000_000);
                    move_source_time(path, window, newest.as_second())
                        .map_err(FileError::io("set the time within", path))?;
                }
                set_time(path, newest.as_second(), i64::from(newest.subsec_nanosecond()))
            }
            _ => Ok(()),
        }
    }
}

/// The newest of what a step works on: the trees below it, and the files it takes from folders.
pub fn newest<'a>(
    inputs: impl Iterator<Item = &'a Tree>,
    selections: impl Iterator<Item = &'a Selection>,
) -> Timestamp {
    let trees = inputs.filter_map(|tree| tree.created.parse::<Timestamp>().ok());
    let files = selections.filter_map(newest_file);
    trees.chain(files).max().unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Folders do not count: what else lies in them changes their time.
fn newest_file(selection: &Selection) -> Option<Timestamp> {
    let entries = selection.roots.iter().flat_map(|root| std::iter::once(&root.entry).chain(&root.below));
    let files = entries.filter(|entry| entry.kind != EntryKind::Directory);
    let (seconds, nanoseconds) = files.map(|entry| entry.modified).max()?;
    Timestamp::new(seconds, i32::try_from(nanoseconds).unwrap_or(0)).ok()
}

fn set_time(path: &Path, seconds: i64, nanoseconds: i64) -> Result<(), SolveError> {
    let time = Timespec { tv_sec: seconds, tv_nsec: nanoseconds };
    let times = Timestamps { last_access: time, last_modification: time };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)
        .map_err(|errno| FileError::errno("set the time of", path, errno).into())
}

/// Where a compiled file of Python keeps the time of its source; None for one that keeps a digest.
fn source_time_at(header: &[u8; 16]) -> Option<usize> {
    let number = u16::from_le_bytes([header[0], header[1]]);
    let flags = u32::from_le_bytes([header[4], header[5], header[6], header[7]]);
    match number {
        _ if header[2..4] != *b"\r\n" => None,
        PYTHON_WITH_FLAGS..PYTHON_3_END => (flags == 0).then_some(8),
        _ => Some(4),
    }
}

/// Moves the source's time within a compiled file, where the source was written by the same step.
fn move_source_time(path: &Path, window: (i128, i128), seconds: i64) -> std::io::Result<()> {
    const NO_LINKS: i32 = rustix::fs::OFlags::NOFOLLOW.bits() as i32;
    let file = File::options().read(true).write(true).custom_flags(NO_LINKS).open(path)?;
    let mut header = [0; 16];
    if file.metadata()?.len() < header.len() as u64 {
        return Ok(());
    }
    file.read_exact_at(&mut header, 0)?;
    let Some(at) = source_time_at(&header) else { return Ok(()) };
    let kept = u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    if !(window.0..=window.1).contains(&i128::from(kept)) {
        return Ok(());
    }
    // Python too keeps no more of a time than these bits.
    file.write_all_at(&(seconds as u32).to_le_bytes(), at as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::time::{Duration, SystemTime};

    fn modified(path: &Path) -> i64 {
        path.symlink_metadata().unwrap().mtime()
    }

    #[test]
    fn what_a_step_writes_is_as_old_as_its_inputs() {
        let folder = tempfile::tempdir().unwrap();
        let time = StepTime::begin(None, Timestamp::from_second(1_000_000).unwrap());
        let root = folder.path();
        fs::create_dir(root.join("made")).unwrap();
        for name in ["made/new", "old", "future"] {
            fs::write(root.join(name), name).unwrap();
        }
        let set = |name: &str, time| fs::File::open(root.join(name)).unwrap().set_modified(time).unwrap();
        set("old", SystemTime::UNIX_EPOCH + Duration::from_secs(5));
        set("future", SystemTime::now() + Duration::from_secs(10_000));
        std::os::unix::fs::symlink("/nowhere", root.join("link")).unwrap();
        time.settle(root).unwrap();
        for name in ["made", "made/new", "link"] {
            assert_eq!(modified(&root.join(name)), 1_000_000, "{name}");
        }
        assert_eq!(modified(&root.join("old")), 5);
        assert!(modified(&root.join("future")) > 1_000_000);
        assert!(time.text().starts_with("1970-01-12T"));
    }

    #[test]
    fn compiled_python_follows_its_source() {
        let folder = tempfile::tempdir().unwrap();
        let now = Timestamp::now().as_second() as u32;
        let time = StepTime::begin(None, Timestamp::from_second(77).unwrap());
        let header = |number: u16, flags: u32, source: u32| {
            let mut bytes = number.to_le_bytes().to_vec();
            bytes.extend(b"\r\n");
            bytes.extend(flags.to_le_bytes());
            bytes.extend(source.to_le_bytes());
            bytes.extend([9; 8]);
            bytes
        };
        let cases = [
            ("new", header(3531, 0, now), 77),
            ("older", header(3531, 0, 5), 5),
            ("digest", header(3531, 1, now), now),
        ];
        for (name, bytes, _) in &cases {
            fs::write(folder.path().join(name).with_extension("pyc"), bytes).unwrap();
        }
        fs::write(folder.path().join("short.pyc"), "x").unwrap();
        time.settle(folder.path()).unwrap();
        for (name, _, wanted) in cases {
            let bytes = fs::read(folder.path().join(name).with_extension("pyc")).unwrap();
            assert_eq!(u32::from_le_bytes(bytes[8..12].try_into().unwrap()), wanted, "{name}");
        }
    }

    #[test]
    fn a_fixed_time_is_the_latest() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("f"), "x").unwrap();
        StepTime::begin(Some(12), Timestamp::UNIX_EPOCH).settle(folder.path()).unwrap();
        assert_eq!(modified(&folder.path().join("f")), 12);
    }
}
