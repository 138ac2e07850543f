//! Password files of Apache's `htpasswd -B`: `name:$2y$…`, one to a line, read again when they change.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

/// A hash that no password of a user has; checked for names that do not exist, so that an answer takes as long.
const NOBODY: &str = "$2b$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW";

/// Why access cannot be decided.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// A file cannot be read or written.
    #[error("cannot use {path}: {source}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A line of the password file.
    #[error("{path}, line {line}: not NAME:BCRYPT-HASH, as `htpasswd -B` writes it")]
    Line {
        /// The file.
        path: PathBuf,
        /// The line's number.
        line: usize,
    },
    /// Nobody is in the password file.
    #[error("{0}: no user is in it, so nobody could log in")]
    Empty(PathBuf),
}

/// A user's hash.
pub struct Hash {
    /// The bcrypt text.
    pub text: String,
    /// Whether there is such a user.
    pub known: bool,
}

/// The users of a file.
#[derive(Debug)]
pub struct Passwords {
    path: PathBuf,
    current: Mutex<(Option<SystemTime>, Arc<HashMap<String, String>>)>,
}

impl Passwords {
    /// Reads a file.
    pub fn open(path: &Path) -> Result<Passwords, AccessError> {
        let changed = changed(path)?;
        let users = Arc::new(read(path)?);
        Ok(Passwords { path: path.to_owned(), current: Mutex::new((changed, users)) })
    }

    /// The hash to check a user's password against. A file that has become unreadable lets nobody in.
    pub fn hash_of(&self, name: &str) -> Result<Hash, AccessError> {
        let time = changed(&self.path)?;
        let users = {
            let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
            if current.0 != time {
                *current = (time, Arc::new(read(&self.path)?));
            }
            Arc::clone(&current.1)
        };
        Ok(match users.get(name) {
            Some(text) => Hash { text: text.clone(), known: true },
            None => Hash { text: NOBODY.to_owned(), known: false },
        })
    }
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> AccessError {
    let path = path.to_owned();
    move |source| AccessError::File { path, source }
}

fn changed(path: &Path) -> Result<Option<SystemTime>, AccessError> {
    Ok(fs::metadata(path).map_err(failed(path))?.modified().ok())
}

fn read(path: &Path) -> Result<HashMap<String, String>, AccessError> {
    let text = fs::read_to_string(path).map_err(failed(path))?;
    let mut users = HashMap::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let wrong = || AccessError::Line { path: path.to_owned(), line: number + 1 };
        let (name, hash) = line.split_once(':').ok_or_else(wrong)?;
        if name.is_empty() || !["$2a$", "$2b$", "$2x$", "$2y$"].iter().any(|kind| hash.starts_with(kind)) {
            return Err(wrong());
        }
        users.insert(name.to_owned(), hash.to_owned());
    }
    match users.is_empty() {
        true => Err(AccessError::Empty(path.to_owned())),
        false => Ok(users),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("htpasswd");
        for (text, good) in [
            ("ann:$2y$05$abc\n", true),
            ("# people\n\nann:$2b$05$abc\n", true),
            ("", false),
            ("ann\n", false),
            ("ann:{SHA}abc\n", false),
            (":$2y$05$abc\n", false),
        ] {
            fs::write(&path, text).unwrap();
            assert_eq!(Passwords::open(&path).is_ok(), good, "{text}");
        }
        assert!(Passwords::open(&folder.path().join("none")).is_err());
    }

    #[test]
    fn nobody_has_a_well_formed_hash() {
        assert!(bcrypt::verify("x", NOBODY).is_ok());
    }
}
