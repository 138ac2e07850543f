//! `cp`: a path of a container as a tar, a tar into a directory of a container.

use std::io::{Read, Write};

use ferry_store::layer::{LayerError, UnpackOptions, extract};
use ferry_store::pack::{PackError, PackOptions, pack, pack_one};
use http::StatusCode;
use rustix::fs::{FileType, Stat};
use rustix::io::Errno;
use serde::Serialize;

use super::root::RootError;
use super::target::ContainerTarget;
use super::view::{Follow, Place, View};
use crate::error::HttpStatus;

/// Why files were not copied.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The path is not there.
    #[error("Could not find the file {path} in container {container}")]
    NotFound {
        /// The path as given.
        path: String,
        /// The container as given.
        container: String,
    },
    /// The path cannot be walked.
    #[error("look up {path} in container {container}")]
    Lookup {
        /// The path as given.
        path: String,
        /// The container as given.
        container: String,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// A tar can only be unpacked into a directory.
    #[error("extraction point is not a directory")]
    NotADirectory,
    /// The root or the volume is read-only.
    #[error("{0}")]
    ReadOnly(&'static str),
    /// The tar cannot be unpacked.
    #[error("unpack into {path}")]
    Unpack {
        /// The path as given.
        path: String,
        /// Why.
        #[source]
        source: LayerError,
    },
    /// The tar cannot be written.
    #[error(transparent)]
    Pack(#[from] PackError),
    /// The container's root cannot be reached.
    #[error(transparent)]
    Root(#[from] RootError),
}

impl HttpStatus for ArchiveError {
    fn status(&self) -> StatusCode {
        match self {
            Self::NotFound { .. } => StatusCode::NOT_FOUND,
            Self::Lookup { .. } | Self::NotADirectory => StatusCode::BAD_REQUEST,
            Self::ReadOnly(_) => StatusCode::FORBIDDEN,
            Self::Unpack { source: LayerError::Io(_) | LayerError::Database(_), .. } => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
            Self::Unpack { .. } => StatusCode::BAD_REQUEST,
            Self::Pack(_) | Self::Root(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// What the header `X-Docker-Container-Path-Stat` holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PathStat {
    /// Last component of the path as given.
    pub name: String,
    /// Size in bytes.
    pub size: i64,
    /// Go's `FileMode` bits.
    pub mode: u32,
    /// Modification time, RFC 3339.
    pub mtime: String,
    /// Where a symbolic link leads in the end, as a path of the container.
    #[serde(rename = "linkTarget")]
    pub link_target: String,
}

/// How a tar is put into a container.
#[derive(Debug, Clone, Copy, Default)]
pub struct PutOptions {
    /// A directory must not replace another kind of file, nor the other way round.
    pub keep_kinds: bool,
    /// Everything belongs to this user and group.
    pub owner: Option<(u32, u32)>,
}

/// A path of a container as a request names it.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The container as named.
    pub container: String,
    /// The path as named.
    pub path: String,
}

impl Asked {
    fn error(&self, errno: Errno) -> ArchiveError {
        let (path, container) = (self.path.clone(), self.container.clone());
        match errno {
            Errno::NOENT => ArchiveError::NotFound { path, container },
            errno => ArchiveError::Lookup { path, container, source: errno.into() },
        }
    }

    /// Docker looks at a link itself, unless the path says by its end that it means a directory.
    fn place(&self, view: &View) -> Result<Place, ArchiveError> {
        let means_directory = self.path.ends_with('/') || self.path.ends_with("/.");
        let follow = if means_directory { Follow::Yes } else { Follow::No };
        let place =
            view.resolve(self.path.as_bytes(), follow, &mut Vec::new()).map_err(|errno| self.error(errno))?;
        if means_directory && place.kind() != FileType::Directory {
            return Err(self.error(Errno::NOTDIR));
        }
        Ok(place)
    }

    /// What Go's `filepath.Base` makes of the path: the name of the tar's first entry.
    fn base(&self) -> &str {
        if self.path.ends_with("/.") && self.path.trim_end_matches(['/', '.']).is_empty() {
            return "/";
        }
        let trimmed = self.path.trim_end_matches('/');
        match trimmed.rsplit('/').next() {
            None | Some("") => "/",
            Some(name) => name,
        }
    }
}

/// What a path is.
pub fn stat(view: &View, asked: &Asked) -> Result<PathStat, ArchiveError> {
    let place = asked.place(view)?;
    describe(view, asked, &place)
}

fn describe(view: &View, asked: &Asked, place: &Place) -> Result<PathStat, ArchiveError> {
    let link_target = match place.kind() {
        FileType::Symlink => {
            let end = view.resolve(asked.path.as_bytes(), Follow::Yes, &mut Vec::new());
            let text = |path: &[u8]| format!("/{}", String::from_utf8_lossy(path));
            match end {
                Ok(end) => text(&end.path),
                // A link into nothing: as it is written.
                Err(_) => {
                    String::from_utf8_lossy(&place.read_link().map_err(|e| asked.error(e))?).into_owned()
                }
            }
        }
        _ => String::new(),
    };
    let stat = &place.stat;
    let time = jiff::Timestamp::new(stat.st_mtime, stat.st_mtime_nsec as i32).unwrap_or_default();
    Ok(PathStat {
        name: asked.base().to_owned(),
        size: stat.st_size,
        mode: go_mode(stat),
        mtime: crate::clock::format(time),
        link_target,
    })
}

/// Go's `FileMode`: permission bits below, type and special bits above.
fn go_mode(stat: &Stat) -> u32 {
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => 1 << 31,
        FileType::Symlink => 1 << 27,
        FileType::BlockDevice => 1 << 26,
        FileType::CharacterDevice => 1 << 26 | 1 << 21,
        FileType::Fifo => 1 << 25,
        FileType::Socket => 1 << 24,
        _ => 0,
    };
    let special = [(0o4000, 23), (0o2000, 22), (0o1000, 20)];
    let special: u32 =
        special.into_iter().filter(|(bit, _)| stat.st_mode & bit != 0).map(|(_, shift)| 1 << shift).sum();
    kind | special | stat.st_mode & 0o777
}

/// Tells `found` what the path is, then writes it as a tar.
pub fn get(
    view: View,
    asked: &Asked,
    found: impl FnOnce(PathStat),
    writer: impl Write,
) -> Result<(), ArchiveError> {
    let place = asked.place(&view)?;
    found(describe(&view, asked, &place)?);
    let name = asked.base().as_bytes().to_vec();
    match place.kind() {
        FileType::Directory => {
            let root = view.into_root(place, true).map_err(|errno| asked.error(errno))?;
            pack(root, &PackOptions { layer: false, name: Some(name) }, writer)?;
        }
        FileType::RegularFile => {
            let file = place.open().map_err(|errno| asked.error(errno))?;
            pack_one(&name, &place.stat, Some(file), Vec::new(), writer)?;
        }
        FileType::Symlink => {
            let link = place.read_link().map_err(|errno| asked.error(errno))?;
            pack_one(&name, &place.stat, None, link, writer)?;
        }
        _ => pack_one(&name, &place.stat, None, Vec::new(), writer)?,
    }
    Ok(())
}

/// Unpacks a tar (plain, gzip or zstd) into a directory of the container.
pub fn put(view: View, asked: &Asked, options: PutOptions, reader: impl Read) -> Result<(), ArchiveError> {
    let place = view
        .resolve(asked.path.as_bytes(), Follow::Yes, &mut Vec::new())
        .map_err(|errno| asked.error(errno))?;
    if place.kind() != FileType::Directory {
        return Err(ArchiveError::NotADirectory);
    }
    if let Some(reason) = view.refuses_writes(&place.path) {
        return Err(ArchiveError::ReadOnly(reason));
    }
    let target = ContainerTarget::new(view, &place);
    let unpack = UnpackOptions { layer: false, owner: options.owner, keep_kinds: options.keep_kinds };
    extract(reader, target, unpack)
        .map_err(|source| ArchiveError::Unpack { path: asked.path.clone(), source })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_entrys_name_is_gos_base() {
        for (path, base) in
            [("/etc", "etc"), ("/etc/", "etc"), ("/etc/.", "."), ("/", "/"), ("/.", "/"), ("relative/x", "x")]
        {
            let asked = Asked { container: "c".into(), path: path.into() };
            assert_eq!(asked.base(), base, "{path}");
        }
    }
}
