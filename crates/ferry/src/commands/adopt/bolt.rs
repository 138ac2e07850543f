//! Reading of bolt databases, in which Docker keeps the labels of volumes and its networks. Pure; only what a walk over
//! buckets needs, and every number of the file is checked before it is followed.

use std::io;

/// Of a page's head.
const PAGE_HEAD: usize = 16;
const BRANCH: u16 = 0x01;
const LEAF: u16 = 0x02;
const META: u16 = 0x04;
const MAGIC: u32 = 0xED0C_DAED;
/// Of an element in a branch or leaf page.
const ELEMENT: usize = 16;
/// Of a bucket's head within a leaf.
const BUCKET_HEAD: usize = 16;
/// Deeper than any tree that fits on a disk.
const DEPTH_MAX: usize = 32;

/// A whole database in memory.
pub struct Bolt {
    bytes: Vec<u8>,
    page_size: usize,
    root: u64,
}

/// Key and value of a leaf.
pub type Pair = (Vec<u8>, Vec<u8>);

fn damaged() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "no bolt database, or a damaged one")
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> io::Result<[u8; N]> {
    let end = at.checked_add(N).ok_or_else(damaged)?;
    bytes.get(at..end).and_then(|part| part.try_into().ok()).ok_or_else(damaged)
}

fn u16_at(bytes: &[u8], at: usize) -> io::Result<u16> {
    number(bytes, at).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> io::Result<u32> {
    number(bytes, at).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> io::Result<u64> {
    number(bytes, at).map(u64::from_le_bytes)
}

impl Bolt {
    /// Finds the newer of the two roots.
    ///
    /// # Errors
    /// Where neither is one.
    pub fn new(bytes: Vec<u8>) -> io::Result<Self> {
        let page_size = u32_at(&bytes, PAGE_HEAD + 8)? as usize;
        if !page_size.is_power_of_two() || page_size < 512 {
            return Err(damaged());
        }
        let meta = |at: usize| -> io::Result<(u64, u64)> {
            let body = at + PAGE_HEAD;
            if u16_at(&bytes, at + 8)? != META || u32_at(&bytes, body)? != MAGIC {
                return Err(damaged());
            }
            Ok((u64_at(&bytes, body + 48)?, u64_at(&bytes, body + 16)?))
        };
        let newest = [meta(0), meta(page_size)].into_iter().flatten().max();
        let (_, root) = newest.ok_or_else(damaged)?;
        Ok(Self { bytes, page_size, root })
    }

    /// What is in the bucket of this name at the top; nothing where there is none.
    ///
    /// # Errors
    /// Where the file is damaged.
    pub fn bucket(&self, name: &str) -> io::Result<Vec<Pair>> {
        let mut top = Vec::new();
        self.walk(self.page(self.root)?, &mut top, 0)?;
        let Some((_, value)) = top.into_iter().find(|(key, _)| key == name.as_bytes()) else {
            return Ok(Vec::new());
        };
        let mut found = Vec::new();
        match u64_at(&value, 0)? {
            // Small buckets are pages within the value.
            0 => self.walk(value.get(BUCKET_HEAD..).ok_or_else(damaged)?, &mut found, 0)?,
            root => self.walk(self.page(root)?, &mut found, 0)?,
        }
        Ok(found)
    }

    fn page(&self, id: u64) -> io::Result<&[u8]> {
        let at = usize::try_from(id).ok().and_then(|id| id.checked_mul(self.page_size));
        at.and_then(|at| self.bytes.get(at..)).ok_or_else(damaged)
    }

    fn walk(&self, page: &[u8], found: &mut Vec<Pair>, depth: usize) -> io::Result<()> {
        if depth > DEPTH_MAX {
            return Err(damaged());
        }
        let (kind, count) = (u16_at(page, 8)?, usize::from(u16_at(page, 10)?));
        for index in 0..count {
            let at = PAGE_HEAD + index * ELEMENT;
            match kind {
                BRANCH => self.walk(self.page(u64_at(page, at + 8)?)?, found, depth + 1)?,
                LEAF => {
                    let start = at + u32_at(page, at + 4)? as usize;
                    let middle = start + u32_at(page, at + 8)? as usize;
                    let end = middle + u32_at(page, at + 12)? as usize;
                    let key = page.get(start..middle).ok_or_else(damaged)?;
                    let value = page.get(middle..end).ok_or_else(damaged)?;
                    found.push((key.to_vec(), value.to_vec()));
                }
                _ => return Err(damaged()),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two meta pages, and a leaf with one bucket that is within its value.
    fn small() -> Vec<u8> {
        const PAGE: usize = 512;
        let mut bytes = vec![0; 3 * PAGE];
        for (index, transaction) in [(0, 1_u64), (1, 2)] {
            let at = index * PAGE;
            bytes[at + 8..at + 10].copy_from_slice(&META.to_le_bytes());
            let body = at + PAGE_HEAD;
            bytes[body..body + 4].copy_from_slice(&MAGIC.to_le_bytes());
            bytes[body + 8..body + 12].copy_from_slice(&(PAGE as u32).to_le_bytes());
            bytes[body + 16..body + 24].copy_from_slice(&2_u64.to_le_bytes());
            bytes[body + 48..body + 56].copy_from_slice(&transaction.to_le_bytes());
        }
        let leaf = |key: &[u8], value: &[u8]| {
            let mut page = vec![0; PAGE_HEAD + ELEMENT];
            page[8..10].copy_from_slice(&LEAF.to_le_bytes());
            page[10..12].copy_from_slice(&1_u16.to_le_bytes());
            page[20..24].copy_from_slice(&(ELEMENT as u32).to_le_bytes());
            page[24..28].copy_from_slice(&(key.len() as u32).to_le_bytes());
            page[28..32].copy_from_slice(&(value.len() as u32).to_le_bytes());
            page.extend_from_slice(key);
            page.extend_from_slice(value);
            page
        };
        let bucket = [vec![0; BUCKET_HEAD], leaf(b"data", b"{}")].concat();
        let top = leaf(b"volumes", &bucket);
        bytes[2 * PAGE..2 * PAGE + top.len()].copy_from_slice(&top);
        bytes
    }

    #[test]
    fn buckets_are_walked() {
        let bolt = Bolt::new(small()).unwrap();
        assert_eq!(bolt.bucket("volumes").unwrap(), [(b"data".to_vec(), b"{}".to_vec())]);
        assert!(bolt.bucket("other").unwrap().is_empty());
    }

    #[test]
    fn damaged_files_are_refused_and_never_followed_out_of_bounds() {
        assert!(Bolt::new(Vec::new()).is_err());
        let whole = small();
        // Every byte changed, and every length: no panic, whatever the answer.
        for index in 0..whole.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut bytes = whole.clone();
                bytes[index] = value;
                let _ = Bolt::new(bytes).and_then(|bolt| bolt.bucket("volumes"));
            }
            let _ = Bolt::new(whole[..index].to_vec()).and_then(|bolt| bolt.bucket("volumes"));
        }
    }
}
