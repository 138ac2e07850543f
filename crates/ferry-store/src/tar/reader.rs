//! Reads an archive entry by entry from any stream.

use std::io::{self, Read};

use super::error::{TarError, printable};
use super::header::{EntryKind, RawHeader, flag};
use super::pax::{self, Extended};
use super::sparse::{self, LineMap, Segment};
use super::{BLOCK, EXTENDED_HEADER_MAX, FILE_SIZE_MAX, NAME_MAX, padding};

/// One entry, without its data.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Name as in the archive.
    pub path: Vec<u8>,
    /// Target of a hard or symbolic link.
    pub link: Vec<u8>,
    /// What it is.
    pub kind: EntryKind,
    /// Permission bits with setuid, setgid and sticky.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Size of the file, holes included; 0 for everything but regular files.
    pub size: u64,
    /// Bytes of data in the archive.
    pub stored: u64,
    /// Modification time: seconds and nanoseconds.
    pub mtime: (i64, u32),
    /// Major and minor number of a device.
    pub device: (u32, u32),
    /// Extended attributes.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Pieces of a sparse file; None when the data is the file.
    pub sparse: Option<Vec<Segment>>,
}

/// A stream of entries. After [`TarReader::next_entry`], reading from it gives that entry's data.
pub struct TarReader<R> {
    source: R,
    offset: u64,
    remaining: u64,
    padding: u64,
    current: Vec<u8>,
    finished: bool,
}

/// What came before an entry's own header.
#[derive(Default)]
struct Preface {
    extended: Extended,
    long_name: Option<Vec<u8>>,
    long_link: Option<Vec<u8>>,
}

impl<R: Read> TarReader<R> {
    /// A reader at the start of an archive.
    pub fn new(source: R) -> TarReader<R> {
        TarReader { source, offset: 0, remaining: 0, padding: 0, current: Vec::new(), finished: false }
    }

    /// Bytes of the archive read so far.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The stream, for reading what follows the archive's end.
    pub fn into_inner(self) -> R {
        self.source
    }

    /// The next entry; None at the end of the archive. Skips what is left of the entry before.
    pub fn next_entry(&mut self) -> Result<Option<Entry>, TarError> {
        self.skip_rest()?;
        let mut preface = Preface::default();
        loop {
            let Some(header) = self.read_header()? else {
                return Ok(None);
            };
            header.check()?;
            let stored = self.stored_size(&header)?;
            match header.type_flag() {
                flag::PAX => {
                    let offset = self.offset;
                    let data = self.read_extended(stored)?;
                    preface.extended = pax::parse(&data, offset)?;
                }
                // What global headers say (a commit id, mostly) is about no file.
                flag::PAX_GLOBAL => drop(self.read_extended(stored)?),
                flag::GNU_LONG_NAME => preface.long_name = Some(self.read_long_name(stored)?),
                flag::GNU_LONG_LINK => preface.long_link = Some(self.read_long_name(stored)?),
                _ => return self.finish_entry(&header, preface, stored).map(Some),
            }
        }
    }

    fn stored_size(&self, header: &RawHeader) -> Result<u64, TarError> {
        let size = header.number("size", 124, 12)?;
        u64::try_from(size).map_err(|_| TarError::Number {
            offset: header.offset,
            field: "size",
            text: size.to_string(),
        })
    }

    fn finish_entry(&mut self, header: &RawHeader, preface: Preface, size: u64) -> Result<Entry, TarError> {
        let Preface { extended, long_name, long_link } = preface;
        let path =
            extended.sparse.name.clone().or(extended.path).or(long_name).unwrap_or_else(|| header.path());
        let link = extended.link.or(long_link).unwrap_or_else(|| header.link());
        check_name(&path, "path", &path)?;
        check_name(&link, "link target", &path)?;
        self.current.clone_from(&path);
        let mut kind = header.kind();
        // Archives older than POSIX mark directories by the slash alone.
        if kind == EntryKind::Regular && path.ends_with(b"/") {
            kind = EntryKind::Directory;
        }
        let stored = match kind {
            EntryKind::Regular | EntryKind::Other(_) => extended.size.unwrap_or(size),
            // Links and the rest carry no data, whatever their size field says (Go does the same).
            _ => 0,
        };
        limit(&path, "size", stored, FILE_SIZE_MAX)?;
        let mtime = match extended.mtime {
            Some(mtime) => mtime,
            None => (header.number("mtime", 136, 12)?, 0),
        };
        let mut entry = Entry {
            link,
            kind,
            mode: (header.number("mode", 100, 8)? & 0o7777) as u32,
            uid: owner(&path, "uid", extended.uid, header.number("uid", 108, 8))?,
            gid: owner(&path, "gid", extended.gid, header.number("gid", 116, 8))?,
            size: if kind == EntryKind::Regular { stored } else { 0 },
            stored,
            mtime,
            device: device(header, kind, &path)?,
            xattrs: extended.xattrs,
            sparse: None,
            path,
        };
        self.remaining = stored;
        self.padding = padding(stored);
        if kind == EntryKind::Regular {
            if header.type_flag() == flag::GNU_SPARSE {
                self.read_gnu_sparse(header, &mut entry)?;
            } else if extended.sparse.is_present() {
                self.read_pax_sparse(&extended.sparse, &mut entry)?;
            }
        }
        Ok(entry)
    }

    /// GNU's own sparse form: pieces in the header and in blocks behind it.
    fn read_gnu_sparse(&mut self, header: &RawHeader, entry: &mut Entry) -> Result<(), TarError> {
        let mut segments = Vec::new();
        let mut more = gnu_segments(header, 386, 4, &mut segments)? && header.block[482] != 0;
        while more {
            let Some(block) = self.read_block()? else {
                return Err(self.truncated());
            };
            if segments.len() >= super::SPARSE_SEGMENTS_MAX {
                let reason = "more than 1048576 pieces";
                return Err(TarError::Sparse { entry: printable(&entry.path), reason });
            }
            more = gnu_segments(&block, 0, 21, &mut segments)? && block.block[504] != 0;
        }
        let size = header.number("real size", 483, 12)?;
        entry.size = u64::try_from(size).map_err(|_| TarError::Sparse {
            entry: printable(&entry.path),
            reason: "real size is negative",
        })?;
        sparse::check(&segments, entry.size, entry.stored, &entry.path)?;
        entry.sparse = Some(segments);
        Ok(())
    }

    fn read_pax_sparse(&mut self, records: &pax::SparseRecords, entry: &mut Entry) -> Result<(), TarError> {
        let wrong = |reason| TarError::Sparse { entry: printable(&entry.path), reason };
        let size = records.real_size.ok_or_else(|| wrong("real size is missing"))?;
        let segments = match (records.major.unwrap_or(0), records.minor.unwrap_or(0)) {
            (0, _) => sparse::from_records(records, &entry.path)?,
            (1, 0) => self.read_line_map(entry)?,
            _ => return Err(wrong("unknown version")),
        };
        entry.size = size;
        sparse::check(&segments, size, entry.stored, &entry.path)?;
        entry.sparse = Some(segments);
        Ok(())
    }

    /// Version 1.0: the map takes whole blocks off the front of the data.
    fn read_line_map(&mut self, entry: &mut Entry) -> Result<Vec<Segment>, TarError> {
        let path = entry.path.clone();
        let mut map = LineMap::new(&path);
        loop {
            if self.remaining < BLOCK as u64 {
                let reason = "map is not complete";
                return Err(TarError::Sparse { entry: printable(&path), reason });
            }
            let Some(block) = self.read_block()? else {
                return Err(self.truncated());
            };
            self.remaining -= BLOCK as u64;
            entry.stored -= BLOCK as u64;
            if let Some(segments) = map.take(&block.block)? {
                return Ok(segments);
            }
        }
    }

    /// The next header; None at the end mark or at a clean end of the stream.
    fn read_header(&mut self) -> Result<Option<RawHeader>, TarError> {
        if self.finished {
            return Ok(None);
        }
        self.current.clear();
        match self.read_block()? {
            Some(header) if header.is_zero() => {
                // The mark is two zero blocks; what follows a single one is read all the same.
                match self.read_block()? {
                    Some(second) if !second.is_zero() => Ok(Some(second)),
                    _ => {
                        self.finished = true;
                        Ok(None)
                    }
                }
            }
            Some(header) => Ok(Some(header)),
            None => {
                self.finished = true;
                Ok(None)
            }
        }
    }

    /// A whole block, or None when the stream ends before its first byte.
    fn read_block(&mut self) -> Result<Option<RawHeader>, TarError> {
        let mut block = [0; BLOCK];
        let offset = self.offset;
        let mut filled = 0;
        while filled < BLOCK {
            match self.read_source(&mut block[filled..])? {
                0 if filled == 0 => return Ok(None),
                0 => return Err(self.truncated()),
                count => filled += count,
            }
        }
        Ok(Some(RawHeader { block, offset }))
    }

    fn read_source(&mut self, buffer: &mut [u8]) -> Result<usize, TarError> {
        loop {
            match self.source.read(buffer) {
                Ok(count) => {
                    self.offset += count as u64;
                    return Ok(count);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(TarError::Source { offset: self.offset, source }),
            }
        }
    }

    fn truncated(&self) -> TarError {
        let inside = match self.current.as_slice() {
            [] => "a header".to_owned(),
            path => format!("{:?}", printable(path)),
        };
        TarError::Truncated { offset: self.offset, inside }
    }

    /// The data of an extended header, whole.
    fn read_extended(&mut self, size: u64) -> Result<Vec<u8>, TarError> {
        limit(b"(extended header)", "size", size, EXTENDED_HEADER_MAX)?;
        self.current = b"(extended header)".to_vec();
        self.remaining = size;
        self.padding = padding(size);
        let mut data = vec![0; size as usize];
        let mut filled = 0;
        while filled < data.len() {
            filled += self.read_data(&mut data[filled..])?;
        }
        self.skip_rest()?;
        Ok(data)
    }

    fn read_long_name(&mut self, size: u64) -> Result<Vec<u8>, TarError> {
        let mut name = self.read_extended(size)?;
        if let Some(end) = name.iter().position(|byte| *byte == 0) {
            name.truncate(end);
        }
        Ok(name)
    }

    /// Reads data of the current entry; 0 at its end, an error when the archive ends before it.
    pub fn read_data(&mut self, buffer: &mut [u8]) -> Result<usize, TarError> {
        if self.remaining == 0 || buffer.is_empty() {
            return Ok(0);
        }
        let wanted = self.remaining.min(buffer.len() as u64) as usize;
        match self.read_source(&mut buffer[..wanted])? {
            0 => Err(self.truncated()),
            count => {
                self.remaining -= count as u64;
                Ok(count)
            }
        }
    }

    fn skip_rest(&mut self) -> Result<(), TarError> {
        let mut skip = self.remaining + self.padding;
        let mut buffer = [0; 16 << 10];
        while skip > 0 {
            let wanted = skip.min(buffer.len() as u64) as usize;
            match self.read_source(&mut buffer[..wanted])? {
                0 => return Err(self.truncated()),
                count => skip -= count as u64,
            }
        }
        self.remaining = 0;
        self.padding = 0;
        Ok(())
    }
}

/// For handing an entry's data to whatever takes a `Read`.
impl<R: Read> Read for TarReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read_data(buffer).map_err(io::Error::other)
    }
}

/// Pieces from `count` pairs of 12-byte fields; false once an empty one ends the list.
fn gnu_segments(
    block: &RawHeader,
    start: usize,
    count: usize,
    segments: &mut Vec<Segment>,
) -> Result<bool, TarError> {
    for index in 0..count {
        let at = start + index * 24;
        if block.block[at] == 0 {
            return Ok(false);
        }
        let number = |position| {
            let value = block.number("sparse piece", position, 12)?;
            u64::try_from(value).map_err(|_| TarError::Number {
                offset: block.offset,
                field: "sparse piece",
                text: value.to_string(),
            })
        };
        segments.push(Segment { offset: number(at)?, length: number(at + 12)? });
    }
    Ok(true)
}

fn limit(entry: &[u8], field: &'static str, value: u64, limit: u64) -> Result<(), TarError> {
    if value > limit {
        return Err(TarError::Range { entry: printable(entry), field, value: value.to_string(), limit });
    }
    Ok(())
}

fn check_name(name: &[u8], field: &'static str, path: &[u8]) -> Result<(), TarError> {
    let wrong = |reason| Err(TarError::Name { entry: printable(path), field, reason });
    if name.len() > NAME_MAX {
        return wrong("is longer than 4096 bytes");
    }
    if name.contains(&0) {
        return wrong("contains a NUL byte");
    }
    Ok(())
}

/// A user or group id; the highest number means "nobody given" to the kernel and is refused.
fn owner(
    path: &[u8],
    field: &'static str,
    extended: Option<u64>,
    header: Result<i64, TarError>,
) -> Result<u32, TarError> {
    const OWNER_MAX: u64 = u32::MAX as u64 - 1;
    let value = match extended {
        Some(value) => i128::from(value),
        None => i128::from(header?),
    };
    match u32::try_from(value) {
        Ok(value) if u64::from(value) <= OWNER_MAX => Ok(value),
        _ => {
            Err(TarError::Range { entry: printable(path), field, value: value.to_string(), limit: OWNER_MAX })
        }
    }
}

fn device(header: &RawHeader, kind: EntryKind, path: &[u8]) -> Result<(u32, u32), TarError> {
    if !matches!(kind, EntryKind::CharDevice | EntryKind::BlockDevice) {
        return Ok((0, 0));
    }
    // What Linux's dev_t holds.
    const MAJOR_MAX: u64 = 0xfff;
    const MINOR_MAX: u64 = 0xf_ffff;
    let number =
        |field, start, limit: u64| {
            let value = header.number(field, start, 8)?;
            u32::try_from(value).ok().filter(|value| u64::from(*value) <= limit).ok_or_else(|| {
                TarError::Range { entry: printable(path), field, value: value.to_string(), limit }
            })
        };
    Ok((number("device major", 329, MAJOR_MAX)?, number("device minor", 337, MINOR_MAX)?))
}
