//! Copies directory trees on the host: what an image has at a volume's place, a volume into a snapshot.
//!
//! Every name is opened under a directory descriptor without following links, so nothing in a tree can
//! make a copy leave its place. Owners, modes, times, extended attributes, hard links, holes and special
//! files come along; where the file system shares data between files (reflink), no data is copied.

mod content;
mod tree;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags};
use rustix::io::Errno;

use crate::error::IoError;
use crate::layer::overlay_opaque;
use tree::{Copier, Source, is_set};

/// Copies what is in a directory into an empty one, which gets the attributes of the first.
pub fn copy_tree(source: &Path, target: &Path) -> Result<(), IoError> {
    let from = open(source)?;
    let to = open(target)?;
    let mut copier = Copier::new(to.as_fd(), target, Source::Tree);
    copier.directory(from.as_fd(), to.as_fd())?;
    copier.directory_attributes(from.as_fd(), to.as_fd())
}

/// Copies the directory `place` of an image (layers topmost first) into an empty directory. Works layer by
/// layer from the lowest up, as the layers were made: files of higher ones replace, whiteouts remove,
/// opaque directories clear. An image that has no directory there leaves the target empty.
pub fn copy_merged(layers: &[PathBuf], place: &str, target: &Path) -> Result<(), IoError> {
    let to = open(target)?;
    for layer in layers.iter().rev() {
        let Some(from) = open_below(layer, Path::new(place))? else { continue };
        let mut copier = Copier::new(to.as_fd(), target, Source::Layer);
        if is_set(from.as_fd(), overlay_opaque()) {
            copier.clear(to.as_fd())?;
        }
        copier.directory(from.as_fd(), to.as_fd())?;
        copier.directory_attributes(from.as_fd(), to.as_fd())?;
    }
    Ok(())
}

/// Makes one layer of several (lowest first) in an empty directory: what they hide of the layers below them stays
/// hidden.
pub(crate) fn copy_stacked(layers: &[PathBuf], target: &Path) -> Result<(), IoError> {
    let to = open(target)?;
    for layer in layers {
        let from = open(layer)?;
        let mut copier = Copier::new(to.as_fd(), target, Source::Stacked);
        copier.directory(from.as_fd(), to.as_fd())?;
        copier.directory_attributes(from.as_fd(), to.as_fd())?;
    }
    Ok(())
}

/// Empties a directory.
pub fn clear(directory: &Path) -> Result<(), IoError> {
    let opened = open(directory)?;
    Copier::new(opened.as_fd(), directory, Source::Tree).clear(opened.as_fd())
}

fn directory_flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
}

fn open(path: &Path) -> Result<OwnedFd, IoError> {
    rustix::fs::openat(CWD, path, directory_flags(), Mode::empty()).map_err(IoError::new("open", path))
}

fn open_in(directory: BorrowedFd<'_>, name: &std::ffi::CStr) -> Result<OwnedFd, Errno> {
    rustix::fs::openat(directory, name, directory_flags(), Mode::empty())
}

/// Opens a directory of one layer, link-free; a link on the way means this layer does not have it.
fn open_below(layer: &Path, place: &Path) -> Result<Option<OwnedFd>, IoError> {
    let mut current = open(layer)?;
    for component in place.components() {
        let Component::Normal(name) = component else { continue };
        current = match rustix::fs::openat(&current, name, directory_flags(), Mode::empty()) {
            Ok(next) => next,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            Err(errno) => return Err(IoError::new("open", &layer.join(place))(errno)),
        };
    }
    Ok(Some(current))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{Read, Seek, SeekFrom, Write};
    use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};

    use super::*;

    fn directory() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    #[test]
    fn layers_merge_and_links_are_not_followed() {
        let (lower, upper, target) = (directory(), directory(), directory());
        for (root, path, text) in [
            (&lower, "data/a", "lower"),
            (&lower, "data/sub/b", "b"),
            (&upper, "data/a", "upper"),
            (&upper, "elsewhere/secret", "s"),
        ] {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        symlink("/etc", upper.path().join("data/link")).unwrap();
        fs::set_permissions(lower.path().join("data/sub/b"), fs::Permissions::from_mode(0o640)).unwrap();
        let layers = [upper.path().to_owned(), lower.path().to_owned()];
        copy_merged(&layers, "/data", target.path()).unwrap();
        let read = |name: &str| fs::read_to_string(target.path().join(name)).unwrap();
        assert_eq!((read("a").as_str(), read("sub/b").as_str()), ("upper", "b"));
        assert_eq!(fs::read_link(target.path().join("link")).unwrap(), Path::new("/etc"));
        assert_eq!(fs::metadata(target.path().join("sub/b")).unwrap().permissions().mode() & 0o777, 0o640);
    }

    #[test]
    fn an_image_without_the_place_leaves_the_target_empty() {
        let (layer, target) = (directory(), directory());
        copy_merged(&[layer.path().to_owned()], "/data", target.path()).unwrap();
        assert!(fs::read_dir(target.path()).unwrap().next().is_none());
    }

    #[test]
    fn trees_come_whole() {
        let (source, target) = (directory(), directory());
        let at = |name: &str| source.path().join(name);
        fs::write(at("plain"), "text").unwrap();
        fs::hard_link(at("plain"), at("second-name")).unwrap();
        symlink("nowhere", at("dangling")).unwrap();
        rustix::fs::mkfifoat(CWD, at("pipe"), Mode::from_raw_mode(0o600)).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        fs::create_dir(at("weird \n\u{1} name")).unwrap();
        let mut sparse = fs::File::create(at("sparse")).unwrap();
        sparse.write_all(b"begin").unwrap();
        sparse.seek(SeekFrom::Start(8 << 20)).unwrap();
        sparse.write_all(b"end").unwrap();
        sparse.set_len(64 << 20).unwrap();
        fs::set_permissions(at("plain"), fs::Permissions::from_mode(0o4751)).unwrap();
        copy_tree(source.path(), target.path()).unwrap();
        let stat = |name: &str| fs::symlink_metadata(target.path().join(name)).unwrap();
        assert_eq!(stat("plain").ino(), stat("second-name").ino());
        assert_eq!(stat("plain").mode() & 0o7777, 0o4751);
        assert_eq!(stat("plain").mtime_nsec(), fs::metadata(at("plain")).unwrap().mtime_nsec());
        assert!(stat("dangling").is_symlink() && stat("weird \n\u{1} name").is_dir());
        for name in ["pipe", "socket"] {
            assert_eq!(stat(name).mode(), fs::symlink_metadata(at(name)).unwrap().mode(), "{name}");
        }
        assert_eq!(stat("sparse").len(), 64 << 20);
        assert!(stat("sparse").blocks() * 512 < 1 << 20, "holes stay holes");
        let mut end = [0; 3];
        let copy = fs::File::open(target.path().join("sparse")).unwrap();
        copy.read_exact_at(&mut end, 8 << 20).unwrap();
        assert_eq!(&end, b"end");
        let mut begin = [0; 6];
        (&copy).read_exact(&mut begin).unwrap();
        assert_eq!(&begin, b"begin\0");
        clear(target.path()).unwrap();
        assert!(fs::read_dir(target.path()).unwrap().next().is_none());
    }

    #[test]
    fn a_whiteout_removes_what_lies_below() {
        let (lower, upper, target) = (directory(), directory(), directory());
        for root in [&lower, &upper] {
            fs::create_dir(root.path().join("data")).unwrap();
        }
        fs::create_dir(lower.path().join("data/gone")).unwrap();
        fs::write(lower.path().join("data/gone/file"), "").unwrap();
        let whiteout = upper.path().join("data/gone");
        let made =
            rustix::fs::mknodat(CWD, &whiteout, rustix::fs::FileType::CharacterDevice, Mode::empty(), 0);
        if made == Err(Errno::PERM) {
            return eprintln!("SKIPPED: this user cannot make a whiteout");
        }
        made.unwrap();
        let layers = [upper.path().to_owned(), lower.path().to_owned()];
        copy_merged(&layers, "/data", target.path()).unwrap();
        assert!(fs::read_dir(target.path()).unwrap().next().is_none());
    }
}
