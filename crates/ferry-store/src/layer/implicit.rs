//! Directories that a layer's tar only implies.
//!
//! A tar may hold `etc/motd` without `etc/`. Unpacked alone, the layer's `etc` has made-up
//! attributes, and because it is the upper one, overlayfs would show those instead of the base
//! image's. So they are copied from the topmost layer below that has the directory.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Gid, Mode, OFlags, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use super::error::LayerError;
use super::tree::Tree;
use crate::error::IoError;

fn open_tree(path: &Path) -> Result<Tree, IoError> {
    Ok(Tree::new(OwnedFd::from(File::open(path).map_err(IoError::new("open", path))?)))
}

fn open_directory(tree: &Tree, path: &str) -> Result<Option<OwnedFd>, Errno> {
    match tree.open(path.as_bytes(), OFlags::RDONLY | OFlags::DIRECTORY) {
        Ok(opened) => Ok(Some(opened)),
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Copies attributes to `directories` of the tree `layer` from the trees `below`, topmost first.
/// Gives the directories that none of them has.
pub(super) fn inherit(
    layer: &Path,
    below: &[PathBuf],
    directories: &[String],
) -> Result<Vec<String>, LayerError> {
    let target = open_tree(layer)?;
    let mut missing: Vec<String> = directories.to_vec();
    for lower in below {
        if missing.is_empty() {
            break;
        }
        let source = open_tree(lower)?;
        let mut still = Vec::new();
        for directory in missing {
            match copy(&source, &target, &directory) {
                Ok(true) => {}
                Ok(false) => still.push(directory),
                Err(errno) => {
                    let action = "take the attributes of the layer below for";
                    return Err(LayerError::Entry { action, entry: directory, source: errno.into() });
                }
            }
        }
        missing = still;
    }
    Ok(missing)
}

fn copy(source: &Tree, target: &Tree, directory: &str) -> Result<bool, Errno> {
    let Some(from) = open_directory(source, directory)? else { return Ok(false) };
    let Some(to) = open_directory(target, directory)? else { return Ok(true) };
    let stat = rustix::fs::fstat(&from)?;
    rustix::fs::fchown(&to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    rustix::fs::fchmod(&to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    let time = Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as _ };
    rustix::fs::futimens(&to, &Timestamps { last_access: time, last_modification: time })?;
    Ok(true)
}
