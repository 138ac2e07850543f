//! Paths of a container, resolved from outside, volumes included.

use std::collections::VecDeque;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use ferry_store::layer::{components, make_directory};
use rustix::fs::{FileType, Mode, OFlags, Stat};
use rustix::io::Errno;

/// Symbolic links followed in one path, as in Linux.
const LINKS_MAX: usize = 40;

/// Something mounted into a container.
pub struct Mounted {
    /// Where, without slashes at the ends.
    pub path: Vec<u8>,
    /// What.
    pub descriptor: OwnedFd,
    /// Writes are refused.
    pub read_only: bool,
    /// It belongs to the container itself, as `/etc/hosts` does, and is exported with it.
    pub own: bool,
}

/// A container's files as its processes see them (but for `/proc`, `/sys` and `/dev`).
pub struct View {
    root: OwnedFd,
    mounts: Vec<Mounted>,
    read_only: bool,
}

/// What a path leads to.
pub struct Place {
    /// The path without links, without a slash in front.
    pub path: Vec<u8>,
    /// Opened as a mere handle (`O_PATH`).
    pub handle: OwnedFd,
    /// What it is.
    pub stat: Stat,
}

impl Place {
    /// Its type.
    pub fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }

    /// Opens a regular file or a directory for reading. Anything else is never opened: a device
    /// would act, a pipe would wait.
    pub fn open(&self) -> Result<OwnedFd, Errno> {
        match self.kind() {
            FileType::Directory => {
                let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
                rustix::fs::openat(&self.handle, c".", flags, Mode::empty())
            }
            FileType::RegularFile => {
                // The link leads to the very file that the handle holds.
                let link = format!("/proc/self/fd/{}", self.handle.as_raw_fd());
                rustix::fs::open(link, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            }
            _ => Err(Errno::INVAL),
        }
    }

    /// The target of a symbolic link.
    pub fn read_link(&self) -> Result<Vec<u8>, Errno> {
        Ok(rustix::fs::readlinkat(&self.handle, c"", Vec::new())?.into_bytes())
    }
}

/// What to do about a last name that is a link, and about directories that are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follow {
    /// Look at the link itself.
    No,
    /// Go where it leads.
    Yes,
    /// Go where it leads and make what is missing.
    Make,
}

impl View {
    /// A view of an open root.
    pub fn new(root: OwnedFd, mounts: Vec<Mounted>, read_only: bool) -> View {
        View { root, mounts, read_only }
    }

    /// Puts something at its place; links on the way there are followed, as they were when it was mounted.
    pub fn mount(&mut self, mut mounted: Mounted) {
        if let Ok(place) = self.resolve(&mounted.path, Follow::Yes, &mut Vec::new()) {
            mounted.path = place.path;
        }
        self.mounts.push(mounted);
    }

    /// The root and what is mounted (all of it, or only what is the container's own), for packing the
    /// tree below a path.
    pub fn into_root(self, place: Place, with_volumes: bool) -> Result<ferry_store::pack::Root, Errno> {
        let directory = place.open()?;
        let prefix = place.path;
        let below = |path: &[u8]| -> Option<Vec<u8>> {
            let rest = if prefix.is_empty() {
                path
            } else {
                path.strip_prefix(prefix.as_slice())?.strip_prefix(b"/")?
            };
            (!rest.is_empty()).then(|| rest.to_vec())
        };
        let mounts = self
            .mounts
            .into_iter()
            .filter(|mounted| with_volumes || mounted.own)
            .filter_map(|mounted| Some((below(&mounted.path)?, mounted.descriptor)))
            .collect();
        let label = std::path::PathBuf::from(format!("/{}", String::from_utf8_lossy(&prefix)));
        Ok(ferry_store::pack::Root { directory, label, mounts })
    }

    /// Whether writing below a path (without links) is refused, and by what.
    pub fn refuses_writes(&self, path: &[u8]) -> Option<&'static str> {
        let within = |mounted: &&Mounted| {
            path.strip_prefix(mounted.path.as_slice())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
        };
        match self.mounts.iter().filter(within).max_by_key(|mounted| mounted.path.len()) {
            Some(mounted) => mounted.read_only.then_some("mounted volume is marked read-only"),
            None => self.read_only.then_some("container rootfs is marked read-only"),
        }
    }

    /// Resolves a path. Directories made on the way are added to `made`.
    pub fn resolve(&self, path: &[u8], follow: Follow, made: &mut Vec<Vec<u8>>) -> Result<Place, Errno> {
        let mut todo: VecDeque<Vec<u8>> = components(path).collect();
        let mut done: Vec<(Vec<u8>, OwnedFd)> = Vec::new();
        let mut links = 0;
        while let Some(name) = todo.pop_front() {
            if name == b".." {
                done.pop();
                continue;
            }
            let (handle, stat) = self.step(&done, &name, follow, made)?;
            let kind = FileType::from_raw_mode(stat.st_mode);
            if kind == FileType::Symlink && (follow != Follow::No || !todo.is_empty()) {
                links += 1;
                if links > LINKS_MAX {
                    return Err(Errno::LOOP);
                }
                let target = rustix::fs::readlinkat(&handle, c"", Vec::new())?.into_bytes();
                if target.starts_with(b"/") {
                    done.clear();
                }
                for component in components(&target).collect::<Vec<_>>().into_iter().rev() {
                    todo.push_front(component);
                }
                continue;
            }
            if kind != FileType::Directory {
                if !todo.is_empty() {
                    return Err(Errno::NOTDIR);
                }
                return Ok(Place { path: joined(&done, &name), handle, stat });
            }
            done.push((name, handle));
        }
        self.directory_place(done)
    }

    fn directory_place(&self, mut done: Vec<(Vec<u8>, OwnedFd)>) -> Result<Place, Errno> {
        let path = done.iter().map(|(name, _)| name.as_slice()).collect::<Vec<_>>().join(&b'/');
        let handle = match done.pop() {
            Some((_, handle)) => handle,
            None => {
                let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
                rustix::fs::openat(&self.root, c".", flags, Mode::empty())?
            }
        };
        let stat = rustix::fs::fstat(&handle)?;
        Ok(Place { path, handle, stat })
    }

    /// One name in an open directory, or what is mounted there.
    fn step(
        &self,
        done: &[(Vec<u8>, OwnedFd)],
        name: &[u8],
        follow: Follow,
        made: &mut Vec<Vec<u8>>,
    ) -> Result<(OwnedFd, Stat), Errno> {
        let path = joined(done, name);
        if let Some(mounted) = self.mounts.iter().rev().find(|mounted| mounted.path == path) {
            let handle = rustix::io::fcntl_dupfd_cloexec(&mounted.descriptor, 0)?;
            let stat = rustix::fs::fstat(&handle)?;
            return Ok((handle, stat));
        }
        let here: BorrowedFd<'_> = done.last().map_or(self.root.as_fd(), |(_, handle)| handle.as_fd());
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = match rustix::fs::openat(here, name, flags, Mode::empty()) {
            Err(Errno::NOENT) if follow == Follow::Make => {
                make_directory(here, name)?;
                made.push(path);
                rustix::fs::openat(here, name, flags, Mode::empty())
            }
            other => other,
        };
        let handle = opened?;
        let stat = rustix::fs::fstat(&handle)?;
        Ok((handle, stat))
    }
}

fn joined(done: &[(Vec<u8>, OwnedFd)], name: &[u8]) -> Vec<u8> {
    let mut path = done.iter().map(|(name, _)| name.as_slice()).collect::<Vec<_>>();
    path.push(name);
    path.join(&b'/')
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::path::Path;

    use super::*;

    fn open(path: &Path) -> OwnedFd {
        fs::File::open(path).unwrap().into()
    }

    #[test]
    fn links_stay_inside_and_volumes_are_seen() {
        let directory = tempfile::tempdir().unwrap();
        let (root, volume) = (directory.path().join("root"), directory.path().join("volume"));
        for path in ["root/etc", "root/data", "volume/sub"] {
            fs::create_dir_all(directory.path().join(path)).unwrap();
        }
        fs::write(root.join("etc/passwd"), "inside").unwrap();
        fs::write(volume.join("sub/file"), "volume").unwrap();
        symlink("../../../../etc", root.join("up")).unwrap();
        symlink("/data/sub", root.join("into")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        let mounted =
            Mounted { path: b"data".to_vec(), descriptor: open(&volume), read_only: true, own: false };
        let view = View::new(open(&root), vec![mounted], false);
        let table: &[(&[u8], Result<&[u8], Errno>)] = &[
            (b"/etc/passwd", Ok(b"etc/passwd")),
            (b"up/passwd", Ok(b"etc/passwd")),
            (b"/../../etc/passwd", Ok(b"etc/passwd")),
            (b"into/file", Ok(b"data/sub/file")),
            (b"/data/../etc", Ok(b"etc")),
            (b"/", Ok(b"")),
            (b"loop/x", Err(Errno::LOOP)),
            (b"etc/passwd/x", Err(Errno::NOTDIR)),
            (b"nowhere", Err(Errno::NOENT)),
        ];
        for (path, expected) in table {
            let found = view.resolve(path, Follow::Yes, &mut Vec::new()).map(|place| place.path);
            assert_eq!(found.as_deref(), expected.as_ref().copied(), "{}", String::from_utf8_lossy(path));
        }
        let link = view.resolve(b"up", Follow::No, &mut Vec::new()).unwrap();
        assert_eq!(link.read_link().unwrap(), b"../../../../etc");
        assert_eq!(view.refuses_writes(b"data/sub"), Some("mounted volume is marked read-only"));
        assert_eq!(view.refuses_writes(b"database"), None);
        let mut made = Vec::new();
        view.resolve(b"new/deep", Follow::Make, &mut made).unwrap();
        assert_eq!(made, [b"new".to_vec(), b"new/deep".to_vec()]);
        assert!(root.join("new/deep").is_dir());
    }
}
