//! The file system as the loader sees it, so that loading stays a function of its input.

use std::collections::BTreeMap;
use std::io;
use std::path::{Component, Path, PathBuf};

/// Bytes a Compose or env file may have; the largest real ones are a hundredth of it.
pub const MAX_FILE_BYTES: u64 = 4 << 20;

/// Where the loader reads from.
pub trait Files {
    /// A file's bytes; files above [`MAX_FILE_BYTES`] are an error.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;
    /// Whether something that can be read is there.
    fn exists(&self, path: &Path) -> bool;
    /// Whether a folder is there.
    fn is_dir(&self, path: &Path) -> bool;
}

/// The host's files.
#[derive(Clone, Copy, Debug, Default)]
pub struct HostFiles;

impl Files for HostFiles {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        use std::io::Read as _;
        let mut bytes = Vec::new();
        std::fs::File::open(path)?.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_FILE_BYTES {
            return Err(too_large());
        }
        Ok(bytes)
    }

    fn exists(&self, path: &Path) -> bool {
        path.exists()
    }

    fn is_dir(&self, path: &Path) -> bool {
        path.is_dir()
    }
}

/// Files held in memory: for tests, fuzzing and editors.
#[derive(Clone, Debug, Default)]
pub struct MemoryFiles(pub BTreeMap<PathBuf, Vec<u8>>);

impl Files for MemoryFiles {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        match self.0.get(&clean(path)) {
            Some(bytes) if bytes.len() as u64 > MAX_FILE_BYTES => Err(too_large()),
            Some(bytes) => Ok(bytes.clone()),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn exists(&self, path: &Path) -> bool {
        self.0.contains_key(&clean(path)) || self.is_dir(path)
    }

    fn is_dir(&self, path: &Path) -> bool {
        let path = clean(path);
        self.0.keys().any(|file| file.starts_with(&path) && *file != path)
    }
}

fn too_large() -> io::Error {
    io::Error::other(format!("it is larger than {} MiB", MAX_FILE_BYTES >> 20))
}

/// An I/O error as a lower-case fact without the number.
pub fn describe(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        io::ErrorKind::IsADirectory => "it is a directory".to_owned(),
        _ => error.to_string(),
    }
}

/// A path without `.` and `..`, as text: symbolic links are not followed.
pub fn clean(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                if !out.pop() {
                    out.push("..");
                }
            }
            other => out.push(other),
        }
    }
    out
}

/// A path as seen from a folder; `~` is the home folder.
pub fn absolute(base: &Path, path: &str, home: Option<&str>) -> PathBuf {
    if let (Some(rest), Some(home)) = (path.strip_prefix('~'), home)
        && (rest.is_empty() || rest.starts_with('/'))
    {
        return clean(&Path::new(home).join(rest.trim_start_matches('/')));
    }
    clean(&base.join(path))
}
