//! Filling a new volume with what the image has at its place: a copy of the merged directory of the layers.
//!
//! Works layer by layer from the lowest up, as the layers were made: files of higher ones replace, whiteouts
//! remove, opaque directories clear. Every name is opened under a directory descriptor without following
//! links, so an image cannot make the copy leave its place.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags,
};
use rustix::io::Errno;

/// Nesting that no sane image reaches.
const MAX_DEPTH: usize = 256;
/// Largest extended attribute of the kernel.
const XATTR_MAX: usize = 64 * 1024;

/// Copies the directory `destination` of the image (layers topmost first) into `target`. An image that has
/// no directory there leaves the volume empty.
pub fn copy_up(layers: &[PathBuf], destination: &str, target: &Path) -> io::Result<()> {
    let target = rustix::fs::openat(CWD, target, directory_flags(), Mode::empty())?;
    for layer in layers.iter().rev() {
        let Some(source) = open_below(layer, Path::new(destination))? else { continue };
        if is_opaque(source.as_fd()) {
            clear(target.as_fd(), 0)?;
        }
        copy_directory(source.as_fd(), target.as_fd(), 0)?;
        copy_metadata_of_directory(source.as_fd(), target.as_fd())?;
    }
    Ok(())
}

fn directory_flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
}

/// Opens a directory of one layer, link-free; a link on the way means this layer does not have it.
fn open_below(layer: &Path, path: &Path) -> io::Result<Option<OwnedFd>> {
    let mut current = rustix::fs::openat(CWD, layer, directory_flags(), Mode::empty())?;
    for component in path.components() {
        let Component::Normal(name) = component else { continue };
        current = match rustix::fs::openat(&current, name, directory_flags(), Mode::empty()) {
            Ok(next) => next,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
            Err(errno) => return Err(errno.into()),
        };
    }
    Ok(Some(current))
}

fn names(directory: BorrowedFd<'_>) -> io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        if name.to_bytes() != b"." && name.to_bytes() != b".." {
            names.push(name.to_owned());
        }
    }
    Ok(names)
}

fn copy_directory(source: BorrowedFd<'_>, target: BorrowedFd<'_>, depth: usize) -> io::Result<()> {
    if depth > MAX_DEPTH {
        return Err(io::Error::other(format!("directories nested deeper than {MAX_DEPTH}")));
    }
    for name in names(source)? {
        let stat = rustix::fs::statat(source, &name, AtFlags::SYMLINK_NOFOLLOW)?;
        copy_entry(source, target, &name, &stat, depth)?;
    }
    Ok(())
}

fn copy_entry(
    source: BorrowedFd<'_>,
    target: BorrowedFd<'_>,
    name: &CString,
    stat: &Stat,
    depth: usize,
) -> io::Result<()> {
    let kind = FileType::from_raw_mode(stat.st_mode);
    if kind == FileType::Directory {
        let from = rustix::fs::openat(source, name, directory_flags(), Mode::empty())?;
        if !matches!(rustix::fs::statat(target, name, AtFlags::SYMLINK_NOFOLLOW), Ok(old) if FileType::from_raw_mode(old.st_mode) == FileType::Directory)
        {
            remove(target, name, depth)?;
            rustix::fs::mkdirat(target, name, Mode::from_raw_mode(0o700))?;
        }
        let to = rustix::fs::openat(target, name, directory_flags(), Mode::empty())?;
        if is_opaque(from.as_fd()) {
            clear(to.as_fd(), depth)?;
        }
        copy_directory(from.as_fd(), to.as_fd(), depth + 1)?;
        return copy_metadata_of_directory(from.as_fd(), to.as_fd());
    }
    remove(target, name, depth)?;
    match kind {
        FileType::CharacterDevice if stat.st_rdev == 0 => return Ok(()), // a whiteout
        FileType::Symlink => {
            let link = rustix::fs::readlinkat(source, name, Vec::new())?;
            rustix::fs::symlinkat(&link, target, name)?;
        }
        FileType::RegularFile => return copy_file(source, target, name, stat),
        kind => {
            rustix::fs::mknodat(target, name, kind, Mode::from_raw_mode(stat.st_mode & 0o7777), stat.st_rdev)?
        }
    }
    own(target, name, stat)?;
    Ok(rustix::fs::utimensat(target, name, &times(stat), AtFlags::SYMLINK_NOFOLLOW)?)
}

fn copy_file(source: BorrowedFd<'_>, target: BorrowedFd<'_>, name: &CString, stat: &Stat) -> io::Result<()> {
    let flags = OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let from = rustix::fs::openat(source, name, flags | OFlags::RDONLY, Mode::empty())?;
    let create = flags | OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL;
    let to = rustix::fs::openat(target, name, create, Mode::from_raw_mode(0o600))?;
    let (mut from, mut to) = (std::fs::File::from(from), std::fs::File::from(to));
    io::copy(&mut from, &mut to)?;
    rustix::fs::fchown(&to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    // After the owner: changing it takes set-user-id bits away.
    rustix::fs::fchmod(&to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    copy_xattrs(from.as_fd(), to.as_fd())?;
    Ok(rustix::fs::futimens(&to, &times(stat))?)
}

fn copy_metadata_of_directory(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    let stat = rustix::fs::fstat(from)?;
    rustix::fs::fchown(to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    rustix::fs::fchmod(to, Mode::from_raw_mode(stat.st_mode & 0o7777))?;
    copy_xattrs(from, to)?;
    Ok(rustix::fs::futimens(to, &times(&stat))?)
}

fn own(target: BorrowedFd<'_>, name: &CString, stat: &Stat) -> io::Result<()> {
    let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    Ok(rustix::fs::chownat(target, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?)
}

fn times(stat: &Stat) -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: stat.st_mtime, tv_nsec: stat.st_mtime_nsec as _ },
    }
}

/// Everything but overlayfs's own marks.
fn copy_xattrs(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> io::Result<()> {
    let mut list = vec![0u8; XATTR_MAX];
    let length = match rustix::fs::flistxattr(from, &mut list[..]) {
        Ok(length) => length,
        Err(Errno::OPNOTSUPP) => return Ok(()),
        Err(errno) => return Err(errno.into()),
    };
    let mut value = vec![0u8; if length == 0 { 0 } else { XATTR_MAX }];
    for name in list[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        if name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.") {
            continue;
        }
        let size = rustix::fs::fgetxattr(from, name, &mut value[..])?;
        match rustix::fs::fsetxattr(to, name, &value[..size], XattrFlags::empty()) {
            Ok(()) | Err(Errno::OPNOTSUPP) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

fn is_opaque(directory: BorrowedFd<'_>) -> bool {
    let mut value = [0u8; 4];
    let path = format!("/proc/self/fd/{}", directory.as_raw_fd());
    ["trusted.overlay.opaque", "user.overlay.opaque"].into_iter().any(
        |name| matches!(rustix::fs::getxattr(path.as_str(), name, &mut value[..]), Ok(1) if value[0] == b'y'),
    )
}

fn clear(directory: BorrowedFd<'_>, depth: usize) -> io::Result<()> {
    for name in names(directory)? {
        remove(directory, &name, depth)?;
    }
    Ok(())
}

/// Removes whatever has this name; nothing is fine.
fn remove(directory: BorrowedFd<'_>, name: &CString, depth: usize) -> io::Result<()> {
    if depth > MAX_DEPTH {
        return Err(io::Error::other(format!("directories nested deeper than {MAX_DEPTH}")));
    }
    match rustix::fs::unlinkat(directory, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {
            let inner = rustix::fs::openat(directory, name, directory_flags(), Mode::empty())?;
            for name in names(inner.as_fd())? {
                remove(inner.as_fd(), &name, depth + 1)?;
            }
            Ok(rustix::fs::unlinkat(directory, name, AtFlags::REMOVEDIR)?)
        }
        Err(errno) => Err(errno.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn layers_merge_and_links_are_not_followed() {
        let (lower, upper, target) =
            (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
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
        copy_up(&layers, "/data", target.path()).unwrap();
        let read = |name: &str| fs::read_to_string(target.path().join(name)).unwrap();
        assert_eq!((read("a").as_str(), read("sub/b").as_str()), ("upper", "b"));
        assert_eq!(fs::read_link(target.path().join("link")).unwrap(), Path::new("/etc"));
        assert_eq!(fs::metadata(target.path().join("sub/b")).unwrap().permissions().mode() & 0o777, 0o640);
    }

    #[test]
    fn an_image_without_the_place_leaves_the_volume_empty() {
        let (layer, target) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        copy_up(&[layer.path().to_owned()], "/data", target.path()).unwrap();
        assert!(fs::read_dir(target.path()).unwrap().next().is_none());
    }
}
