//! Reading a file of a container that is not mounted here: its layers searched as overlayfs would, link by
//! link, never leaving them.
//!
//! Every step opens one name under a directory descriptor without following links, so nothing that an image
//! or a running container does can lead outside its layers.

use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags};
use rustix::io::Errno;

/// Links followed before giving up, as in the kernel.
const MAX_LINKS: usize = 40;

/// The merged view of a container's directories.
pub struct Layered {
    layers: Vec<PathBuf>,
}

/// A file that could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LayeredError {
    /// The kernel refused.
    #[error("read {path} of the image")]
    Io {
        /// Path in the container.
        path: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Links that go in a circle.
    #[error("read {path} of the image: too many levels of symbolic links")]
    Loop {
        /// Path in the container.
        path: String,
    },
    /// The file is larger than the caller wants to read.
    #[error("{path} of the image is larger than {limit} bytes")]
    TooLarge {
        /// Path in the container.
        path: String,
        /// The limit.
        limit: u64,
    },
}

/// One directory of the merged view: the same directory in every layer that has it, topmost first.
type Merged = Vec<OwnedFd>;

enum Found {
    Directory(Merged),
    Link(OsString),
    File(OwnedFd),
    Other,
}

impl Layered {
    /// Layers, topmost first.
    pub fn new(layers: Vec<PathBuf>) -> Self {
        Self { layers }
    }

    /// The content of a regular file; `None` when there is none at this path.
    pub fn read(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>, LayeredError> {
        let Some(file) = self.open(path)? else { return Ok(None) };
        let mut bytes = Vec::new();
        let mut file = std::fs::File::from(file).take(limit + 1);
        file.read_to_end(&mut bytes).map_err(|source| LayeredError::Io { path: path.to_owned(), source })?;
        if bytes.len() as u64 > limit {
            return Err(LayeredError::TooLarge { path: path.to_owned(), limit });
        }
        Ok(Some(bytes))
    }

    fn open(&self, path: &str) -> Result<Option<OwnedFd>, LayeredError> {
        let failed = |errno: Errno| LayeredError::Io { path: path.to_owned(), source: errno.into() };
        let mut stack = vec![self.root().map_err(failed)?];
        let mut pending = reversed(Path::new(path));
        let mut links = 0;
        while let Some(name) = pending.pop() {
            if name == ".." {
                if stack.len() > 1 {
                    stack.pop();
                }
                continue;
            }
            let directory = stack.last().map_or(&[][..], Vec::as_slice);
            match look(directory, &name).map_err(failed)? {
                Some(Found::Directory(merged)) => stack.push(merged),
                Some(Found::File(file)) if pending.is_empty() => return Ok(Some(file)),
                Some(Found::Link(target)) => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(LayeredError::Loop { path: path.to_owned() });
                    }
                    if target.as_bytes().starts_with(b"/") {
                        stack.truncate(1);
                    }
                    pending.extend(reversed(Path::new(&target)));
                }
                Some(Found::File(_) | Found::Other) | None => return Ok(None),
            }
        }
        Ok(None)
    }

    fn root(&self) -> Result<Merged, Errno> {
        let mut merged = Merged::new();
        for layer in &self.layers {
            match rustix::fs::openat(CWD, layer, directory_flags(), Mode::empty()) {
                Ok(fd) => merged.push(fd),
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(errno),
            }
        }
        Ok(merged)
    }
}

fn directory_flags() -> OFlags {
    OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
}

/// The names of a path, last first.
fn reversed(path: &Path) -> Vec<OsString> {
    let names = path.components().filter_map(|component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    let mut names: Vec<OsString> = names.collect();
    names.reverse();
    names
}

/// Finds a name in a merged directory, by overlayfs's rules.
fn look(directory: &[OwnedFd], name: &OsStr) -> Result<Option<Found>, Errno> {
    let mut merged = Merged::new();
    for layer in directory {
        let stat = match rustix::fs::statat(layer, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => continue,
            Err(errno) => return Err(errno),
        };
        let kind = FileType::from_raw_mode(stat.st_mode);
        if kind == FileType::Directory {
            let fd = rustix::fs::openat(layer, name, directory_flags(), Mode::empty())?;
            let opaque = is_opaque(&fd);
            merged.push(fd);
            if opaque {
                break;
            }
            continue;
        }
        if !merged.is_empty() {
            break; // A directory above hides what is no directory below.
        }
        return match kind {
            FileType::CharacterDevice if stat.st_rdev == 0 => Ok(None),
            FileType::Symlink => {
                let target = rustix::fs::readlinkat(layer, name, Vec::new())?;
                Ok(Some(Found::Link(OsString::from_vec(target.into_bytes()))))
            }
            FileType::RegularFile => {
                let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
                Ok(Some(Found::File(rustix::fs::openat(layer, name, flags, Mode::empty())?)))
            }
            _ => Ok(Some(Found::Other)),
        };
    }
    Ok((!merged.is_empty()).then_some(Found::Directory(merged)))
}

/// Does this directory hide the ones below it?
fn is_opaque(directory: &OwnedFd) -> bool {
    use std::os::fd::AsRawFd;
    let mut value = [0u8; 4];
    // An O_PATH descriptor has no fgetxattr; its /proc link names the same directory, not a path.
    let path = format!("/proc/self/fd/{}", directory.as_fd().as_raw_fd());
    ["trusted.overlay.opaque", "user.overlay.opaque"].into_iter().any(
        |name| matches!(rustix::fs::getxattr(path.as_str(), name, &mut value[..]), Ok(1) if value[0] == b'y'),
    )
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            match content.strip_prefix("-> ") {
                Some(target) => symlink(target, path).unwrap(),
                None => fs::write(path, content).unwrap(),
            }
        }
        dir
    }

    #[test]
    fn upper_layers_win_and_links_stay_inside() {
        let upper = tree(&[
            ("etc/group", "upper"),
            ("evil", "-> /../../../../../etc/passwd"),
            ("a", "-> b"),
            ("b", "-> a"),
        ]);
        let lower = tree(&[
            ("etc/group", "lower"),
            ("etc/passwd", "-> ../usr/etc/passwd"),
            ("usr/etc/passwd", "linked"),
            ("bin", "-> usr/bin"),
            ("usr/bin/x", "program"),
        ]);
        let view = Layered::new(vec![upper.path().into(), lower.path().into()]);
        let read = |path: &str| view.read(path, 100).unwrap().map(|bytes| String::from_utf8(bytes).unwrap());
        assert_eq!(read("/etc/group").as_deref(), Some("upper"));
        assert_eq!(read("/etc/passwd").as_deref(), Some("linked"));
        assert_eq!(read("/bin/../bin/x").as_deref(), Some("program"), "bin/.. is usr, and usr/bin is there");
        assert_eq!(read("/bin/x").as_deref(), Some("program"));
        assert_eq!(read("/evil").as_deref(), Some("linked"), "the container's own passwd, not the host's");
        assert_eq!(read("/etc"), None);
        assert_eq!(read("/none/x"), None);
        assert!(matches!(view.read("/a", 100), Err(LayeredError::Loop { .. })));
        assert!(matches!(view.read("/usr/etc/passwd", 3), Err(LayeredError::TooLarge { .. })));
    }
}
