//! PAX extended headers: `length key=value\n` records.

use super::error::{TarError, printable};

/// Most extended attributes of one entry.
const XATTRS_MAX: usize = 1024;
/// Longest value of an extended attribute, as in Linux (XATTR_SIZE_MAX).
const XATTR_VALUE_MAX: usize = 64 << 10;
/// Longest name of an extended attribute, as in Linux (XATTR_NAME_MAX).
const XATTR_NAME_MAX: usize = 255;

/// What an extended header says about the entry after it.
#[derive(Debug, Default)]
pub(super) struct Extended {
    pub path: Option<Vec<u8>>,
    pub link: Option<Vec<u8>>,
    pub size: Option<u64>,
    pub uid: Option<u64>,
    pub gid: Option<u64>,
    pub mtime: Option<(i64, u32)>,
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub sparse: SparseRecords,
}

/// The `GNU.sparse.*` records, of all three versions.
#[derive(Debug, Default)]
pub(super) struct SparseRecords {
    pub major: Option<u64>,
    pub minor: Option<u64>,
    pub name: Option<Vec<u8>>,
    pub real_size: Option<u64>,
    /// Version 0.1: `offset,length,offset,length`.
    pub map: Option<Vec<u8>>,
    /// Version 0.0: repeated records, offsets and lengths in turn.
    pub offsets_and_lengths: Vec<u64>,
}

impl SparseRecords {
    pub fn is_present(&self) -> bool {
        self.major.is_some() || self.map.is_some() || !self.offsets_and_lengths.is_empty()
    }
}

/// Parses the data of an extended header that starts at `offset`.
pub(super) fn parse(data: &[u8], offset: u64) -> Result<Extended, TarError> {
    let mut extended = Extended::default();
    let mut rest = data;
    while !rest.is_empty() {
        let (record, after) = split_record(rest, offset)?;
        let Some(equals) = record.iter().position(|byte| *byte == b'=') else {
            return Err(malformed(offset, "a record has no '='", record));
        };
        extended.apply(&record[..equals], &record[equals + 1..], offset)?;
        rest = after;
    }
    Ok(extended)
}

fn malformed(offset: u64, reason: &'static str, record: &[u8]) -> TarError {
    TarError::Pax { offset, reason, record: printable(record) }
}

/// Takes the first record off: its text without length and newline, and what follows.
fn split_record(rest: &[u8], offset: u64) -> Result<(&[u8], &[u8]), TarError> {
    let error = |reason| malformed(offset, reason, rest);
    let space =
        rest.iter().take(20).position(|byte| *byte == b' ').ok_or_else(|| error("a record has no length"))?;
    let length = decimal(&rest[..space]).ok_or_else(|| error("a record's length is not a number"))?;
    let length = usize::try_from(length).map_err(|_| error("a record's length is too large"))?;
    if length <= space + 1 || length > rest.len() || rest[length - 1] != b'\n' {
        return Err(error("a record's length is wrong"));
    }
    Ok((&rest[space + 1..length - 1], &rest[length..]))
}

pub(super) fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// `seconds[.fraction]`, possibly negative; digits beyond nanoseconds are cut.
fn time(value: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(value).ok()?;
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let seconds = i64::try_from(decimal(whole.as_bytes())?).ok()?;
    let digits = &fraction[..fraction.len().min(9)];
    let nanoseconds = if digits.is_empty() { 0 } else { format!("{digits:0<9}").parse::<u32>().ok()? };
    match (negative, nanoseconds) {
        (false, _) => Some((seconds, nanoseconds)),
        (true, 0) => Some((-seconds, 0)),
        (true, _) => Some((-seconds - 1, 1_000_000_000 - nanoseconds)),
    }
}

impl Extended {
    fn apply(&mut self, key: &[u8], value: &[u8], offset: u64) -> Result<(), TarError> {
        let number = || decimal(value).ok_or_else(|| malformed(offset, "not a number", value)).map(Some);
        // An empty value takes back what an earlier record said.
        let text = || (!value.is_empty()).then(|| value.to_vec());
        match key {
            b"path" => self.path = text(),
            b"linkpath" => self.link = text(),
            b"size" => self.size = number()?,
            b"uid" => self.uid = number()?,
            b"gid" => self.gid = number()?,
            b"mtime" if value.is_empty() => self.mtime = None,
            b"mtime" => {
                self.mtime = Some(time(value).ok_or_else(|| malformed(offset, "not a time", value))?);
            }
            b"GNU.sparse.major" => self.sparse.major = number()?,
            b"GNU.sparse.minor" => self.sparse.minor = number()?,
            b"GNU.sparse.name" => self.sparse.name = text(),
            b"GNU.sparse.size" | b"GNU.sparse.realsize" => self.sparse.real_size = number()?,
            b"GNU.sparse.map" => self.sparse.map = Some(value.to_vec()),
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => self.sparse_piece(key, value, offset)?,
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    self.xattr(name, value, offset)?;
                }
            }
        }
        Ok(())
    }

    fn sparse_piece(&mut self, key: &[u8], value: &[u8], offset: u64) -> Result<(), TarError> {
        let pieces = &mut self.sparse.offsets_and_lengths;
        let expects_offset = pieces.len().is_multiple_of(2);
        if expects_offset != (key == b"GNU.sparse.offset") {
            return Err(malformed(offset, "sparse offsets and lengths do not alternate", key));
        }
        pieces.push(decimal(value).ok_or_else(|| malformed(offset, "not a number", value))?);
        Ok(())
    }

    fn xattr(&mut self, name: &[u8], value: &[u8], offset: u64) -> Result<(), TarError> {
        if name.is_empty() || name.len() > XATTR_NAME_MAX || name.contains(&0) {
            return Err(malformed(offset, "bad name of an extended attribute", name));
        }
        if value.len() > XATTR_VALUE_MAX {
            return Err(malformed(offset, "extended attribute is larger than 64 KiB", name));
        }
        self.xattrs.retain(|(known, _)| known != name);
        if self.xattrs.len() >= XATTRS_MAX {
            return Err(malformed(offset, "more than 1024 extended attributes", name));
        }
        self.xattrs.push((name.to_vec(), value.to_vec()));
        Ok(())
    }
}

/// Encodes one record; its length counts itself.
pub(super) fn encode(record: &mut Vec<u8>, key: &[u8], value: &[u8]) {
    let payload = key.len() + value.len() + 3;
    let mut length = payload + 1;
    while payload + length.to_string().len() != length {
        length = payload + length.to_string().len();
    }
    record.extend_from_slice(length.to_string().as_bytes());
    record.push(b' ');
    record.extend_from_slice(key);
    record.push(b'=');
    record.extend_from_slice(value);
    record.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_round_trip_at_every_length() {
        for length in 0..1200 {
            let value = vec![b'v'; length];
            let mut data = Vec::new();
            encode(&mut data, b"path", &value);
            let extended = parse(&data, 0).unwrap();
            assert_eq!(extended.path.unwrap_or_default(), value, "{length}");
        }
    }

    #[test]
    fn times() {
        type Row = (&'static [u8], Option<(i64, u32)>);
        let table: &[Row] = &[
            (b"1700000000", Some((1_700_000_000, 0))),
            (b"1.5", Some((1, 500_000_000))),
            (b"1.1234567891", Some((1, 123_456_789))),
            (b"-1.25", Some((-2, 750_000_000))),
            (b"-3", Some((-3, 0))),
            (b"1.x", None),
            (b"", None),
        ];
        for (text, expected) in table {
            assert_eq!(time(text), *expected, "{:?}", printable(text));
        }
    }

    #[test]
    fn malformed_records_are_refused() {
        for (data, expected) in [
            (&b"xx path=a\n"[..], "length is not a number"),
            (b"99 path=a\n", "length is wrong"),
            (b"8 path=a\n", "length is wrong"),
            (b"7 path\n", "has no '='"),
            (b"aaaaaaaaaaaaaaaaaaaaaaaaaaaa", "no length"),
            (b"9 size=x\n", "not a number"),
            (b"24 GNU.sparse.numbytes=1\n", "length is wrong"),
            (b"25 GNU.sparse.numbytes=1\n", "do not alternate"),
        ] {
            let error = parse(data, 0).unwrap_err().to_string();
            assert!(error.contains(expected), "{:?}: {error}", printable(data));
        }
    }
}
