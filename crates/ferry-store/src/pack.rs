//! Writes a directory tree as a tar: a layer (whiteouts in the archive's form), or files as they
//! are (out of a container). The same tree always gives the same bytes.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{FileType, OFlags, Stat};
use rustix::io::Errno;

use crate::error::IoError;
use crate::layer::{is_whiteout, overlay_opaque};
use crate::tar::{EntryHeader, EntryKind, TarWriter, error_text};
use crate::walk::{Node, Walk};

pub use crate::walk::Root;

/// Why a tree cannot be packed.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// Overlayfs moved a directory by reference, so the writable layer is not complete by itself.
    #[error("cannot make a layer of {entry:?}: overlayfs recorded it by reference ({attribute})")]
    Reference {
        /// The path.
        entry: String,
        /// The attribute that says so.
        attribute: &'static str,
    },
    /// The receiver of the tar failed.
    #[error("cannot write the archive")]
    Write(#[source] io::Error),
    /// A file operation failed.
    #[error(transparent)]
    Io(#[from] IoError),
}

/// Attributes by which overlayfs makes a layer depend on those below; the runtime mounts without
/// these features, but a kernel may be built to use them unasked.
const REFERENCES: &[&str] = &["trusted.overlay.redirect", "trusted.overlay.metacopy"];
/// Largest attribute read, as in Linux (XATTR_SIZE_MAX).
const XATTR_MAX: usize = 64 << 10;

/// Up to this many bytes are read before their number is told: what a running container truncates and writes anew
/// in the meantime is packed as it is now.
const READ_FIRST: u64 = 64 << 10;

/// How a tree is packed.
#[derive(Debug, Clone, Default)]
pub struct PackOptions {
    /// It is a writable layer: whiteouts become `.wh.` names.
    pub layer: bool,
    /// The name that the root's own entry gets, and all others in front; no entry when absent.
    pub name: Option<Vec<u8>>,
}

/// What a tar came to.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Packed {
    /// Entries written.
    pub entries: u64,
    /// Sum of the file sizes.
    pub size: u64,
}

/// Packs a tree.
pub fn pack(root: Root, options: &PackOptions, writer: impl Write) -> Result<Packed, PackError> {
    let stat = rustix::fs::fstat(&root.directory).map_err(IoError::new("stat", &root.label))?;
    let mut walk = Walk::new(root)?;
    let mut layer = LayerWriter {
        archive: TarWriter::new(io::BufWriter::with_capacity(crate::blob::COPY_BUFFER, writer)),
        options,
        links: HashMap::new(),
        packed: Packed::default(),
        bytes: Vec::new(),
    };
    if options.name.is_some() {
        layer.node(&walk, &Node { path: Vec::new(), stat })?;
    }
    while let Some(node) = walk.next()? {
        layer.node(&walk, &node)?;
    }
    let LayerWriter { archive, packed, .. } = layer;
    archive.finish().map_err(PackError::Write)?;
    Ok(packed)
}

/// Packs one thing that is no directory; `file` is needed for a regular file only.
pub fn pack_one(
    name: &[u8],
    stat: &Stat,
    file: Option<OwnedFd>,
    link: Vec<u8>,
    writer: impl Write,
) -> Result<(), PackError> {
    let mut archive = TarWriter::new(writer);
    let mut header = header_of(name.to_vec(), stat);
    header.link = link;
    let kind = entry_kind(FileType::from_raw_mode(stat.st_mode)).unwrap_or(EntryKind::Regular);
    if matches!(kind, EntryKind::CharDevice | EntryKind::BlockDevice) {
        header.device = (rustix::fs::major(stat.st_rdev), rustix::fs::minor(stat.st_rdev));
    }
    match file {
        Some(file) => {
            let padded = File::from(file).chain(io::repeat(0));
            archive.append(&header, kind, padded).map_err(PackError::Write)?;
        }
        None => {
            header.size = 0;
            archive.append(&header, kind, io::empty()).map_err(PackError::Write)?;
        }
    }
    archive.finish().map(drop).map_err(PackError::Write)
}

/// The tar's word for a type; None for sockets, which mean nothing without who listens on them.
fn entry_kind(kind: FileType) -> Option<EntryKind> {
    Some(match kind {
        FileType::RegularFile => EntryKind::Regular,
        FileType::Directory => EntryKind::Directory,
        FileType::Symlink => EntryKind::Symlink,
        FileType::CharacterDevice => EntryKind::CharDevice,
        FileType::BlockDevice => EntryKind::BlockDevice,
        FileType::Fifo => EntryKind::Fifo,
        _ => return None,
    })
}

struct LayerWriter<'a, W: Write> {
    archive: TarWriter<W>,
    options: &'a PackOptions,
    /// Files with several names that were written, by device and inode.
    links: HashMap<(u64, u64), Vec<u8>>,
    packed: Packed,
    /// Of the last file that was read before its size was told.
    bytes: Vec<u8>,
}

impl<W: Write> LayerWriter<'_, W> {
    fn node(&mut self, walk: &Walk, node: &Node) -> Result<(), PackError> {
        if self.options.layer && is_whiteout(&node.stat) {
            return self.whiteout(&node.path);
        }
        let Some(kind) = entry_kind(node.kind()) else { return Ok(()) };
        let mut header = header_of(self.name(&node.path), &node.stat);
        let identity = (node.stat.st_dev, node.stat.st_ino);
        if kind != EntryKind::Directory && node.stat.st_nlink > 1 {
            if let Some(first) = self.links.get(&identity) {
                header.link = first.clone();
                header.size = 0;
                return self.append(&header, EntryKind::HardLink, io::empty());
            }
            self.links.insert(identity, header.path.clone());
        }
        match kind {
            EntryKind::Regular => self.regular(walk, node, header),
            EntryKind::Directory => self.directory(walk, node, header),
            EntryKind::Symlink => {
                header.link = walk.read_link(&node.path)?;
                self.append(&header, kind, io::empty())
            }
            EntryKind::CharDevice | EntryKind::BlockDevice => {
                let device = node.stat.st_rdev;
                header.device = (rustix::fs::major(device), rustix::fs::minor(device));
                self.append(&header, kind, io::empty())
            }
            _ => self.append(&header, kind, io::empty()),
        }
    }

    fn name(&self, path: &[u8]) -> Vec<u8> {
        match &self.options.name {
            None => path.to_vec(),
            Some(name) if path.is_empty() => name.clone(),
            Some(name) if name.ends_with(b"/") => [name, path].concat(),
            Some(name) => [name, &b"/"[..], path].concat(),
        }
    }

    fn append(&mut self, header: &EntryHeader, kind: EntryKind, data: impl Read) -> Result<(), PackError> {
        self.packed.entries += 1;
        self.packed.size += header.size;
        self.archive.append(header, kind, data).map_err(PackError::Write)
    }

    fn regular(&mut self, walk: &Walk, node: &Node, mut header: EntryHeader) -> Result<(), PackError> {
        let file = walk.open(&node.path, OFlags::RDONLY)?;
        let (xattrs, _) = read_xattrs(walk, &file, &node.path)?;
        header.xattrs = xattrs;
        let mut file = File::from(file);
        if header.size > READ_FIRST {
            // Should it shrink now, zeros fill it up, as tar does it.
            return self.append(&header, EntryKind::Regular, file.chain(io::repeat(0)));
        }
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.clear();
        let read = (&mut file).take(READ_FIRST).read_to_end(&mut bytes);
        read.map_err(IoError::new("read", Path::new(OsStr::from_bytes(&node.path))))?;
        header.size = bytes.len() as u64;
        let appended = self.append(&header, EntryKind::Regular, &bytes[..]);
        self.bytes = bytes;
        appended
    }

    fn directory(&mut self, walk: &Walk, node: &Node, mut header: EntryHeader) -> Result<(), PackError> {
        let directory = walk.open(&node.path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let (xattrs, opaque) = read_xattrs(walk, &directory, &node.path)?;
        header.xattrs = xattrs;
        if !header.path.ends_with(b"/") {
            header.path.push(b'/');
        }
        self.append(&header, EntryKind::Directory, io::empty())?;
        if opaque && self.options.layer {
            let path = [&header.path[..], b".wh..wh..opq"].concat();
            return self.append(
                &EntryHeader { path, ..EntryHeader::default() },
                EntryKind::Regular,
                io::empty(),
            );
        }
        Ok(())
    }

    fn whiteout(&mut self, path: &[u8]) -> Result<(), PackError> {
        let split = path.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
        let path = [&path[..split], b".wh.", &path[split..]].concat();
        self.append(&EntryHeader { path, ..EntryHeader::default() }, EntryKind::Regular, io::empty())
    }
}

fn header_of(path: Vec<u8>, stat: &Stat) -> EntryHeader {
    let regular = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile;
    EntryHeader {
        path,
        mode: stat.st_mode & 0o7777,
        uid: stat.st_uid,
        gid: stat.st_gid,
        size: if regular { stat.st_size.max(0) as u64 } else { 0 },
        mtime: (stat.st_mtime, stat.st_mtime_nsec as u32),
        ..EntryHeader::default()
    }
}

/// An extended attribute: name and value.
type Xattr = (Vec<u8>, Vec<u8>);

/// The attributes that belong to an image (file capabilities and `user.`), sorted, and whether
/// overlayfs calls the directory opaque.
fn read_xattrs(walk: &Walk, file: &OwnedFd, path: &[u8]) -> Result<(Vec<Xattr>, bool), PackError> {
    let mut names = vec![0; XATTR_MAX];
    let length = match rustix::fs::flistxattr(file, &mut names[..]) {
        Ok(length) => length,
        Err(Errno::NOTSUP) => return Ok((Vec::new(), false)),
        Err(errno) => return Err(walk.failed("list attributes of", path)(errno).into()),
    };
    let mut xattrs = Vec::new();
    let mut opaque = false;
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        if let Some(attribute) = REFERENCES.iter().find(|reference| reference.as_bytes() == name) {
            return Err(PackError::Reference { entry: error_text(path), attribute });
        }
        let belongs = name == b"security.capability"
            || name.starts_with(b"user.") && !name.starts_with(b"user.overlay.");
        if !belongs && name != overlay_opaque().as_bytes() {
            continue;
        }
        let mut value = vec![0; XATTR_MAX];
        let length = rustix::fs::fgetxattr(file, name, &mut value[..])
            .map_err(walk.failed("read an attribute of", path))?;
        value.truncate(length);
        match belongs {
            true => xattrs.push((name.to_vec(), value)),
            false => opaque = value == b"y",
        }
    }
    xattrs.sort();
    Ok((xattrs, opaque))
}
