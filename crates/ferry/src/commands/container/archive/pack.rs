//! Packs what goes into a container, straight into the pieces that are sent.

use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::io::{self, Write as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc as plain;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::output;

/// Bytes gathered before they are sent on.
const PIECE: usize = 256 * 1024;
/// Size of a tar's block.
const BLOCK: u64 = 512;

/// Pieces of a body on their way to the engine. Their memory comes back when they are sent.
pub(super) struct PieceWriter {
    sender: mpsc::Sender<io::Result<Bytes>>,
    gathered: Vec<u8>,
    free: plain::Receiver<Vec<u8>>,
    home: plain::Sender<Vec<u8>>,
    /// Bytes sent so far.
    pub(super) count: usize,
}

/// A piece that gives its memory back.
struct Piece {
    bytes: Vec<u8>,
    home: plain::Sender<Vec<u8>>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        let mut bytes = std::mem::take(&mut self.bytes);
        bytes.clear();
        // Nobody takes it any more at the end.
        let _ = self.home.send(bytes);
    }
}

impl PieceWriter {
    /// Sends to a channel.
    pub(super) fn new(sender: mpsc::Sender<io::Result<Bytes>>) -> PieceWriter {
        let (home, free) = plain::channel();
        PieceWriter { sender, gathered: Vec::with_capacity(PIECE), free, home, count: 0 }
    }

    /// Breaks the body off.
    pub(super) fn fail(&self, error: &io::Error) {
        // An engine that is gone need not be told.
        let _ = self.sender.blocking_send(Err(io::Error::new(error.kind(), error.to_string())));
    }

    fn send(&mut self) -> io::Result<()> {
        if self.gathered.is_empty() {
            return Ok(());
        }
        let next = self.free.try_recv().unwrap_or_else(|_| Vec::with_capacity(PIECE));
        let bytes = std::mem::replace(&mut self.gathered, next);
        self.count += bytes.len();
        let piece = Piece { bytes, home: self.home.clone() };
        let sent = self.sender.blocking_send(Ok(Bytes::from_owner(piece)));
        sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    /// Reads a stream to its end into the pieces, or `limit` bytes of it; gives how many came.
    pub(super) fn take_from(&mut self, source: &impl std::os::fd::AsFd, limit: u64) -> io::Result<u64> {
        let mut left = limit;
        while left > 0 {
            if self.gathered.len() >= PIECE {
                self.send()?;
            }
            let room = (PIECE - self.gathered.len()).min(usize::try_from(left).unwrap_or(usize::MAX));
            let start = self.gathered.len();
            self.gathered.resize(start + room, 0);
            let read = rustix::io::retry_on_intr(|| rustix::io::read(source, &mut self.gathered[start..]));
            self.gathered.truncate(start + *read.as_ref().unwrap_or(&0));
            match read? {
                0 => break,
                count => left -= count as u64,
            }
        }
        Ok(limit - left)
    }
}

impl io::Write for PieceWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.gathered.len() >= PIECE {
            self.send()?;
        }
        let count = bytes.len().min(PIECE - self.gathered.len());
        self.gathered.extend_from_slice(&bytes[..count]);
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send()
    }
}

/// Packs a file or folder under the name `rename`; an empty name means its contents only.
pub(super) fn pack(
    out: &mut PieceWriter,
    source: &Path,
    rename: &str,
    follow: bool,
    keep_owner: bool,
) -> io::Result<()> {
    let mut builder = tar::Builder::new(out);
    builder.follow_symlinks(false);
    let name = if rename.is_empty() { Path::new(".") } else { Path::new(rename) };
    let resolved = if follow { source.canonicalize()? } else { source.to_path_buf() };
    let mut packer = Packer { builder, keep_owner, links: HashMap::new() };
    packer.add(&resolved, name)?;
    packer.builder.into_inner()?.flush()
}

struct Packer<'a> {
    builder: tar::Builder<&'a mut PieceWriter>,
    keep_owner: bool,
    /// Files with several names that were packed, by device and inode.
    links: HashMap<(u64, u64), PathBuf>,
}

impl Packer<'_> {
    fn add(&mut self, source: &Path, name: &Path) -> io::Result<()> {
        let metadata = std::fs::symlink_metadata(source)?;
        let mut header = tar::Header::new_gnu();
        header.set_metadata(&metadata);
        if !self.keep_owner {
            header.set_uid(0);
            header.set_gid(0);
        }
        if metadata.is_dir() {
            self.builder.append_data(&mut header, name, io::empty())?;
            let mut entries: Vec<_> = std::fs::read_dir(source)?.collect::<io::Result<_>>()?;
            entries.sort_by_key(std::fs::DirEntry::file_name);
            return entries
                .iter()
                .try_for_each(|entry| self.add(&entry.path(), &name.join(entry.file_name())));
        }
        if metadata.nlink() > 1 {
            let identity = (metadata.dev(), metadata.ino());
            if let Some(first) = self.links.get(&identity) {
                header.set_entry_type(tar::EntryType::Link);
                header.set_size(0);
                return self.builder.append_link(&mut header, name, first);
            }
            self.links.insert(identity, name.to_path_buf());
        }
        if metadata.is_symlink() {
            return self.builder.append_link(&mut header, name, std::fs::read_link(source)?);
        }
        match special_kind(&metadata) {
            None if metadata.is_file() => self.file(source, name, header, &metadata),
            None => {
                let why = "a socket means nothing without its program";
                output::note(&format!("skipped {}: {why}", source.display()));
                Ok(())
            }
            Some(kind) => {
                header.set_entry_type(kind);
                header.set_size(0);
                header.set_device_major(rustix::fs::major(metadata.rdev()))?;
                header.set_device_minor(rustix::fs::minor(metadata.rdev()))?;
                self.builder.append_data(&mut header, name, io::empty())
            }
        }
    }

    fn file(
        &mut self,
        source: &Path,
        name: &Path,
        mut header: tar::Header,
        metadata: &Metadata,
    ) -> io::Result<()> {
        let file = File::open(source)?;
        let size = metadata.len();
        header.set_size(size);
        // The head alone: the data goes from the file into the pieces by itself.
        self.builder.append_data(&mut header, name, io::empty())?;
        let out = self.builder.get_mut();
        let came = out.take_from(&file, size)?;
        // A file that shrinks while it is read is filled up with zeros, as tar does.
        let missing = size.next_multiple_of(BLOCK) - came;
        io::copy(&mut io::Read::take(io::repeat(0), missing), out).map(drop)
    }
}

/// The tar's word for a pipe or a device.
fn special_kind(metadata: &Metadata) -> Option<tar::EntryType> {
    let kind = metadata.file_type();
    match (kind.is_fifo(), kind.is_char_device(), kind.is_block_device()) {
        (true, _, _) => Some(tar::EntryType::Fifo),
        (_, true, _) => Some(tar::EntryType::Char),
        (_, _, true) => Some(tar::EntryType::Block),
        _ => None,
    }
}
