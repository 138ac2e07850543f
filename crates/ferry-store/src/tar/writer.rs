//! Writes archives: POSIX headers, PAX records only where a field does not fit, so that the same
//! entries always give the same bytes.

use std::io::{self, Read, Write};

use super::header::EntryKind;
use super::{BLOCK, padding, pax};

/// What to write about an entry.
#[derive(Clone, Debug, Default)]
pub struct EntryHeader {
    /// Name; directories end with a slash.
    pub path: Vec<u8>,
    /// Target of a hard or symbolic link.
    pub link: Vec<u8>,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Bytes of data that follow.
    pub size: u64,
    /// Modification time: seconds and nanoseconds.
    pub mtime: (i64, u32),
    /// Major and minor number of a device.
    pub device: (u32, u32),
    /// Extended attributes, in the order to write.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// An archive being written.
pub struct TarWriter<W> {
    target: W,
    buffer: Vec<u8>,
}

impl<W: Write> TarWriter<W> {
    /// An archive with nothing in it yet.
    pub fn new(target: W) -> TarWriter<W> {
        TarWriter { target, buffer: Vec::new() }
    }

    /// Writes an entry with the data of `data`, which must have exactly `header.size` bytes.
    pub fn append(&mut self, header: &EntryHeader, kind: EntryKind, data: impl Read) -> io::Result<()> {
        self.write_header(header, kind)?;
        let copied = self.copy(data, header.size)?;
        if copied != header.size {
            let name = String::from_utf8_lossy(&header.path).into_owned();
            let text = format!("{name:?} shrank while it was read ({copied} of {} bytes)", header.size);
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, text));
        }
        self.pad(header.size)
    }

    /// Copies up to `size` bytes in large pieces.
    fn copy(&mut self, mut data: impl Read, size: u64) -> io::Result<u64> {
        let mut left = size;
        while left > 0 {
            let wanted = left.min(crate::blob::COPY_BUFFER as u64) as usize;
            if self.buffer.len() < wanted {
                self.buffer.resize(wanted, 0);
            }
            match data.read(&mut self.buffer[..wanted]) {
                Ok(0) => break,
                Ok(count) => {
                    self.target.write_all(&self.buffer[..count])?;
                    left -= count as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(size - left)
    }

    /// Writes a regular file whose data `write` writes: exactly `header.size` bytes.
    pub fn append_written<E: From<io::Error>>(
        &mut self,
        header: &EntryHeader,
        write: impl FnOnce(&mut W) -> Result<u64, E>,
    ) -> Result<(), E> {
        self.write_header(header, EntryKind::Regular)?;
        let written = write(&mut self.target)?;
        if written != header.size {
            let name = String::from_utf8_lossy(&header.path).into_owned();
            let text = format!("{name:?} has {written} bytes, {} were announced", header.size);
            return Err(io::Error::new(io::ErrorKind::InvalidData, text).into());
        }
        Ok(self.pad(header.size)?)
    }

    /// Writes a regular file from memory.
    pub fn append_bytes(&mut self, path: &str, mode: u32, bytes: &[u8], mtime: i64) -> io::Result<()> {
        let header = EntryHeader {
            path: path.as_bytes().to_vec(),
            mode,
            size: bytes.len() as u64,
            mtime: (mtime, 0),
            ..EntryHeader::default()
        };
        self.append(&header, EntryKind::Regular, bytes)
    }

    /// Writes a directory.
    pub fn append_directory(&mut self, path: &str, mode: u32, mtime: i64) -> io::Result<()> {
        let path = path.as_bytes().to_vec();
        let header = EntryHeader { path, mode, mtime: (mtime, 0), ..EntryHeader::default() };
        self.append(&header, EntryKind::Directory, io::empty())
    }

    /// Writes the end mark and gives the target back.
    pub fn finish(mut self) -> io::Result<W> {
        self.target.write_all(&[0; 2 * BLOCK])?;
        self.target.flush()?;
        Ok(self.target)
    }

    fn pad(&mut self, size: u64) -> io::Result<()> {
        self.target.write_all(&[0; BLOCK][..padding(size) as usize])
    }

    fn write_header(&mut self, header: &EntryHeader, kind: EntryKind) -> io::Result<()> {
        let records = extended_records(header);
        if !records.is_empty() {
            let extended = EntryHeader {
                path: b"PaxHeaders/0".to_vec(),
                mode: 0o644,
                size: records.len() as u64,
                ..EntryHeader::default()
            };
            self.target.write_all(&encode(&extended, b'x'))?;
            self.target.write_all(&records)?;
            self.pad(records.len() as u64)?;
        }
        self.target.write_all(&encode(header, type_flag(kind)))
    }
}

fn type_flag(kind: EntryKind) -> u8 {
    match kind {
        EntryKind::Regular => b'0',
        EntryKind::HardLink => b'1',
        EntryKind::Symlink => b'2',
        EntryKind::CharDevice => b'3',
        EntryKind::BlockDevice => b'4',
        EntryKind::Directory => b'5',
        EntryKind::Fifo => b'6',
        EntryKind::Other(flag) => flag,
    }
}

const OCTAL_7: u64 = 0o7777777;
const OCTAL_11: u64 = 0o77777777777;

fn extended_records(header: &EntryHeader) -> Vec<u8> {
    let mut records = Vec::new();
    let mut number = |key: &str, value: u64, limit: u64| {
        if value > limit {
            pax::encode(&mut records, key.as_bytes(), value.to_string().as_bytes());
        }
    };
    number("uid", header.uid.into(), OCTAL_7);
    number("gid", header.gid.into(), OCTAL_7);
    number("size", header.size, OCTAL_11);
    if header.path.len() > 100 {
        pax::encode(&mut records, b"path", &header.path);
    }
    if header.link.len() > 100 {
        pax::encode(&mut records, b"linkpath", &header.link);
    }
    let (seconds, nanoseconds) = header.mtime;
    if nanoseconds != 0 || !(0..=OCTAL_11 as i64).contains(&seconds) {
        pax::encode(&mut records, b"mtime", time(seconds, nanoseconds).as_bytes());
    }
    for (name, value) in &header.xattrs {
        pax::encode(&mut records, &[b"SCHILY.xattr.", name.as_slice()].concat(), value);
    }
    records
}

fn time(seconds: i64, nanoseconds: u32) -> String {
    let text = if seconds < 0 && nanoseconds > 0 {
        // -2 s and 750 ms is written -1.25.
        format!("-{}.{:09}", -(seconds + 1), 1_000_000_000 - nanoseconds)
    } else {
        format!("{seconds}.{nanoseconds:09}")
    };
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn encode(header: &EntryHeader, flag: u8) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut put = |start: usize, bytes: &[u8]| block[start..start + bytes.len()].copy_from_slice(bytes);
    put(0, &header.path[..header.path.len().min(100)]);
    put(100, format!("{:07o}", header.mode & 0o7777).as_bytes());
    put(108, format!("{:07o}", u64::from(header.uid).min(OCTAL_7)).as_bytes());
    put(116, format!("{:07o}", u64::from(header.gid).min(OCTAL_7)).as_bytes());
    put(124, format!("{:011o}", header.size.min(OCTAL_11)).as_bytes());
    put(136, format!("{:011o}", header.mtime.0.clamp(0, OCTAL_11 as i64)).as_bytes());
    put(148, b"        ");
    put(156, &[flag]);
    put(157, &header.link[..header.link.len().min(100)]);
    put(257, b"ustar\x0000");
    put(329, format!("{:07o}", header.device.0).as_bytes());
    put(337, format!("{:07o}", header.device.1).as_bytes());
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

#[cfg(test)]
mod tests {
    use super::super::reader::TarReader;
    use super::*;

    #[test]
    fn what_is_written_is_read_back() {
        let long = vec![b'n'; 300];
        let headers = [
            (
                EntryKind::Regular,
                EntryHeader { path: b"a".to_vec(), mode: 0o4755, size: 3, ..Default::default() },
            ),
            (EntryKind::Directory, EntryHeader { path: b"d/".to_vec(), mode: 0o1777, ..Default::default() }),
            (
                EntryKind::Symlink,
                EntryHeader {
                    path: long.clone(),
                    link: long.clone(),
                    mtime: (-2, 750_000_000),
                    ..Default::default()
                },
            ),
            (
                EntryKind::CharDevice,
                EntryHeader { path: b"null".to_vec(), device: (1, 3), uid: 3_000_000, ..Default::default() },
            ),
            (
                EntryKind::Regular,
                EntryHeader {
                    path: b"x".to_vec(),
                    mtime: (1_700_000_000, 5),
                    xattrs: vec![(b"user.a".to_vec(), b"\0\n=".to_vec())],
                    ..Default::default()
                },
            ),
        ];
        let mut writer = TarWriter::new(Vec::new());
        for (kind, header) in &headers {
            writer.append(header, *kind, &b"abc"[..]).unwrap();
        }
        let bytes = writer.finish().unwrap();
        let mut reader = TarReader::new(bytes.as_slice());
        for (kind, header) in &headers {
            let entry = reader.next_entry().unwrap().unwrap();
            assert_eq!((entry.kind, &entry.path, &entry.link), (*kind, &header.path, &header.link));
            assert_eq!((entry.mode, entry.uid, entry.gid), (header.mode, header.uid, header.gid));
            assert_eq!(
                (entry.mtime, entry.device, &entry.xattrs),
                (header.mtime, header.device, &header.xattrs)
            );
            assert_eq!(entry.size, header.size);
        }
        assert_eq!(reader.next_entry().unwrap(), None);
    }

    #[test]
    fn a_file_that_shrinks_is_an_error() {
        let header = EntryHeader { path: b"log".to_vec(), size: 10, ..Default::default() };
        let error = TarWriter::new(Vec::new()).append(&header, EntryKind::Regular, &b"abc"[..]).unwrap_err();
        assert_eq!(error.to_string(), "\"log\" shrank while it was read (3 of 10 bytes)");
    }
}
