//! The 512-byte header: fields, numbers, checksum.

use super::BLOCK;
use super::error::{TarError, printable};

/// What an entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A file with data (possibly sparse).
    Regular,
    /// A further name of an earlier entry.
    HardLink,
    /// A symbolic link.
    Symlink,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
    /// A directory.
    Directory,
    /// A named pipe.
    Fifo,
    /// A kind that Linux file systems do not have; its data is skipped.
    Other(u8),
}

/// Type flags that only carry data about the next entry, or none.
pub(super) mod flag {
    pub const PAX: u8 = b'x';
    pub const PAX_GLOBAL: u8 = b'g';
    pub const GNU_LONG_NAME: u8 = b'L';
    pub const GNU_LONG_LINK: u8 = b'K';
    pub const GNU_SPARSE: u8 = b'S';
}

/// A header's fields, as bytes.
pub(super) struct RawHeader {
    pub block: [u8; BLOCK],
    pub offset: u64,
}

impl RawHeader {
    pub fn is_zero(&self) -> bool {
        self.block.iter().all(|byte| *byte == 0)
    }

    /// Checks the checksum, which old writers computed over signed bytes.
    pub fn check(&self) -> Result<(), TarError> {
        // Something that is no tar at all has anything here; it is told by the checksum all the same.
        let found = self.number("checksum", 148, 8).unwrap_or(-1);
        let in_field = |index: usize| (148..156).contains(&index);
        let bytes =
            || self.block.iter().enumerate().map(|(index, byte)| if in_field(index) { b' ' } else { *byte });
        let unsigned: i64 = bytes().map(i64::from).sum();
        let signed: i64 = bytes().map(|byte| i64::from(byte as i8)).sum();
        if found == unsigned || found == signed {
            return Ok(());
        }
        Err(TarError::Checksum { offset: self.offset })
    }

    pub fn type_flag(&self) -> u8 {
        self.block[156]
    }

    pub fn kind(&self) -> EntryKind {
        match self.type_flag() {
            0 | b'0' | b'7' | flag::GNU_SPARSE => EntryKind::Regular,
            b'1' => EntryKind::HardLink,
            b'2' => EntryKind::Symlink,
            b'3' => EntryKind::CharDevice,
            b'4' => EntryKind::BlockDevice,
            b'5' => EntryKind::Directory,
            b'6' => EntryKind::Fifo,
            other => EntryKind::Other(other),
        }
    }

    fn is_posix(&self) -> bool {
        &self.block[257..263] == b"ustar\0"
    }

    /// The name, with the prefix that POSIX headers (not GNU's) keep apart.
    pub fn path(&self) -> Vec<u8> {
        let name = text(&self.block[0..100]);
        let prefix = if self.is_posix() { text(&self.block[345..500]) } else { b"" };
        if prefix.is_empty() {
            return name.to_vec();
        }
        [prefix, b"/", name].concat()
    }

    pub fn link(&self) -> Vec<u8> {
        text(&self.block[157..257]).to_vec()
    }

    /// A number field: octal text, or binary when the first bit is set. Empty is 0.
    pub fn number(&self, field: &'static str, start: usize, length: usize) -> Result<i64, TarError> {
        let bytes = &self.block[start..start + length];
        let error = || TarError::Number { offset: self.offset, field, text: printable(text(bytes)) };
        if bytes[0] & 0x80 != 0 {
            return binary(bytes).ok_or_else(error);
        }
        let digits = text(bytes).trim_ascii();
        if digits.is_empty() {
            return Ok(0);
        }
        let mut value: i64 = 0;
        for digit in digits {
            match digit {
                b'0'..=b'7' => {
                    value = value.checked_mul(8).ok_or_else(error)? + i64::from(digit - b'0');
                }
                _ => return Err(error()),
            }
        }
        Ok(value)
    }
}

/// GNU's base-256 numbers: big-endian two's complement, the topmost bit being the mark.
fn binary(bytes: &[u8]) -> Option<i64> {
    let negative = bytes[0] & 0x40 != 0;
    let mut value: i64 = if negative { -1 } else { 0 };
    for (index, byte) in bytes.iter().enumerate() {
        // The mark is not part of the number; where it is negative, the bit is set anyway.
        let byte = if index == 0 && !negative { byte & 0x7f } else { *byte };
        if value != value << 8 >> 8 {
            return None;
        }
        value = value << 8 | i64::from(byte);
    }
    Some(value)
}

/// A field up to its first NUL.
fn text(field: &[u8]) -> &[u8] {
    let end = field.iter().position(|byte| *byte == 0).unwrap_or(field.len());
    &field[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(start: usize, bytes: &[u8]) -> RawHeader {
        let mut block = [0; BLOCK];
        block[start..start + bytes.len()].copy_from_slice(bytes);
        RawHeader { block, offset: 0 }
    }

    #[test]
    fn numbers() {
        let table: &[(&[u8], Option<i64>)] = &[
            (b"0000644\0", Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"77777777", Some(0o77777777)),
            (b"\x80\0\0\0\0\0\x01\0", Some(256)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff", Some(-1)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xfe", Some(-2)),
            (b"12x\0\0\0\0\0", None),
            (b"99\0\0\0\0\0\0", None),
        ];
        for (bytes, expected) in table {
            assert_eq!(with(100, bytes).number("mode", 100, 8).ok(), *expected, "{bytes:?}");
        }
        let large = b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff";
        assert!(with(124, large).number("size", 124, 12).is_err());
    }
}
