//! Sparse maps: which pieces of a file the archive holds.

use super::error::{TarError, printable};
use super::pax::{SparseRecords, decimal};
use super::{FILE_SIZE_MAX, SPARSE_SEGMENTS_MAX};

/// A piece of a sparse file that has data; everything else is a hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// Where in the file.
    pub offset: u64,
    /// How many bytes.
    pub length: u64,
}

fn wrong(entry: &[u8], reason: &'static str) -> TarError {
    TarError::Sparse { entry: printable(entry), reason }
}

/// Checks that pieces are in order, inside the file, and as many bytes as the archive holds.
pub(super) fn check(segments: &[Segment], size: u64, stored: u64, entry: &[u8]) -> Result<(), TarError> {
    if size > FILE_SIZE_MAX {
        return Err(wrong(entry, "file is larger than 16 TiB"));
    }
    let mut end = 0;
    let mut total: u64 = 0;
    for segment in segments {
        let next =
            segment.offset.checked_add(segment.length).ok_or_else(|| wrong(entry, "a piece is too large"))?;
        if segment.offset < end {
            return Err(wrong(entry, "pieces overlap or are out of order"));
        }
        if next > size {
            return Err(wrong(entry, "a piece lies behind the end of the file"));
        }
        end = next;
        total += segment.length;
    }
    if total != stored {
        return Err(wrong(entry, "pieces do not add up to the data in the archive"));
    }
    Ok(())
}

fn pairs(numbers: &[u64], entry: &[u8]) -> Result<Vec<Segment>, TarError> {
    if !numbers.len().is_multiple_of(2) {
        return Err(wrong(entry, "an offset has no length"));
    }
    if numbers.len() / 2 > SPARSE_SEGMENTS_MAX {
        return Err(wrong(entry, "more than 1048576 pieces"));
    }
    Ok(numbers.chunks_exact(2).map(|pair| Segment { offset: pair[0], length: pair[1] }).collect())
}

/// The map of versions 0.0 and 0.1, which is in the extended header.
pub(super) fn from_records(records: &SparseRecords, entry: &[u8]) -> Result<Vec<Segment>, TarError> {
    let Some(map) = &records.map else {
        return pairs(&records.offsets_and_lengths, entry);
    };
    if map.is_empty() {
        return Ok(Vec::new());
    }
    let numbers: Option<Vec<u64>> = map.split(|byte| *byte == b',').map(decimal).collect();
    pairs(&numbers.ok_or_else(|| wrong(entry, "map holds something that is no number"))?, entry)
}

/// Reads the map of version 1.0, which is lines of decimals before the data.
pub(super) struct LineMap<'a> {
    entry: &'a [u8],
    line: Vec<u8>,
    numbers: Vec<u64>,
}

impl<'a> LineMap<'a> {
    pub fn new(entry: &'a [u8]) -> LineMap<'a> {
        LineMap { entry, line: Vec::new(), numbers: Vec::new() }
    }

    /// Takes the next block; the whole map once it is complete.
    pub fn take(&mut self, block: &[u8]) -> Result<Option<Vec<Segment>>, TarError> {
        for byte in block {
            if *byte != b'\n' {
                self.line.push(*byte);
                if self.line.len() > 20 {
                    return Err(wrong(self.entry, "a number is too long"));
                }
                continue;
            }
            let number = decimal(&self.line).ok_or_else(|| wrong(self.entry, "a line is no number"))?;
            self.line.clear();
            self.numbers.push(number);
            let count = self.numbers[0];
            if count > SPARSE_SEGMENTS_MAX as u64 {
                return Err(wrong(self.entry, "more than 1048576 pieces"));
            }
            if self.numbers.len() as u64 == 1 + 2 * count {
                return pairs(&self.numbers[1..], self.entry).map(Some);
            }
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_checked() {
        let s = |offset, length| Segment { offset, length };
        let table: &[(&[Segment], u64, u64, &str)] = &[
            (&[s(0, 5), s(10, 5)], 20, 10, ""),
            (&[], 1 << 30, 0, ""),
            (&[s(5, 5), s(0, 5)], 20, 10, "out of order"),
            (&[s(0, 6), s(5, 5)], 20, 11, "overlap"),
            (&[s(0, 30)], 20, 30, "behind the end"),
            (&[s(u64::MAX, 2)], 20, 2, "too large"),
            (&[s(0, 5)], 20, 6, "do not add up"),
            (&[], u64::MAX, 0, "16 TiB"),
        ];
        for (segments, size, stored, expected) in table {
            match check(segments, *size, *stored, b"f") {
                Ok(()) => assert_eq!(*expected, ""),
                Err(error) => {
                    assert!(!expected.is_empty() && error.to_string().contains(expected), "{error}")
                }
            }
        }
    }

    #[test]
    fn line_maps_come_in_blocks() {
        let mut map = LineMap::new(b"f");
        assert_eq!(map.take(b"2\n0\n1").unwrap(), None);
        let segments = map.take(b"0\n100\n5\n\0\0\0").unwrap().unwrap();
        assert_eq!(segments, [Segment { offset: 0, length: 10 }, Segment { offset: 100, length: 5 }]);
        assert!(LineMap::new(b"f").take(b"9999999999\n").is_err());
        assert!(LineMap::new(b"f").take(b"x\n").is_err());
    }
}
