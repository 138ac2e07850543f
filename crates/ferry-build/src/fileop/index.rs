//! The digests of context files on disk, so that an engine that was just started need not read again what did
//! not change. A file of batches, each with a checksum; what is damaged at its end (a crash, a full disk) is
//! cut off: it is only read again.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use super::tree::Stamp;

/// The first bytes of the file: what it is and its version.
const HEADER: &[u8; 16] = b"ferry hashes 1\n\0";

/// Bytes of one record: device, inode, change time, size, digest.
const RECORD: usize = 8 + 8 + 16 + 8 + 32;

/// Bytes in front of a batch: the number of its records and the beginning of their digest.
const BATCH: usize = 4 + 8;

/// Largest file, some 230,000 records: beyond it the file begins anew with what is in use.
const MAX_BYTES: u64 = 16 << 20;

/// Where the digests are kept.
#[derive(Debug)]
pub struct HashIndex {
    path: PathBuf,
}

/// A file's stamp and the digest of its contents.
pub type Known = (Stamp, [u8; 32]);

impl HashIndex {
    /// An index that is kept in a file, which need not exist.
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// Reads what is known. A file that is none of ours is as good as none.
    pub fn load(&self) -> io::Result<Vec<Known>> {
        let mut bytes = Vec::new();
        match File::open(&self.path) {
            Ok(file) => file.take(2 * MAX_BYTES).read_to_end(&mut bytes)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut known = Vec::new();
        let whole = read_batches(&bytes, &mut known);
        if whole < bytes.len() {
            OpenOptions::new().write(true).open(&self.path)?.set_len(whole as u64)?;
        }
        Ok(known)
    }

    /// Adds what was learned.
    pub fn append(&self, learned: &[Known]) -> io::Result<()> {
        if learned.is_empty() {
            return Ok(());
        }
        let mut payload = Vec::with_capacity(learned.len() * RECORD);
        learned.iter().for_each(|known| write_record(known, &mut payload));
        let mut bytes = Vec::with_capacity(HEADER.len() + BATCH + payload.len());
        let size = length(&self.path)?;
        let begin_anew = size == 0 || size + payload.len() as u64 > MAX_BYTES;
        if begin_anew {
            bytes.extend_from_slice(HEADER);
        }
        let count = u32::try_from(learned.len()).map_err(io::Error::other)?;
        bytes.extend_from_slice(&count.to_le_bytes());
        bytes.extend_from_slice(&blake3::hash(&payload).as_bytes()[..8]);
        bytes.extend_from_slice(&payload);
        if begin_anew {
            let fresh = self.path.with_extension("new");
            std::fs::write(&fresh, bytes)?;
            return std::fs::rename(fresh, &self.path);
        }
        OpenOptions::new().append(true).open(&self.path)?.write_all(&bytes)
    }
}

fn length(path: &Path) -> io::Result<u64> {
    match path.metadata() {
        Ok(metadata) => Ok(metadata.len()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(error),
    }
}

/// Reads the whole batches; gives where they end.
fn read_batches(bytes: &[u8], known: &mut Vec<Known>) -> usize {
    let Some(mut rest) = bytes.strip_prefix(HEADER) else { return 0 };
    let mut whole = HEADER.len();
    while let Some((head, after)) = rest.split_at_checked(BATCH) {
        let count = u32::from_le_bytes(head[..4].try_into().expect("four bytes")) as usize;
        let Some((payload, next)) = count.checked_mul(RECORD).and_then(|size| after.split_at_checked(size))
        else {
            break;
        };
        if blake3::hash(payload).as_bytes()[..8] != head[4..] {
            break;
        }
        known.extend(payload.chunks_exact(RECORD).map(read_record));
        whole += BATCH + payload.len();
        rest = next;
    }
    whole
}

fn write_record((stamp, digest): &Known, bytes: &mut Vec<u8>) {
    bytes.extend_from_slice(&stamp.inode.0.to_le_bytes());
    bytes.extend_from_slice(&stamp.inode.1.to_le_bytes());
    bytes.extend_from_slice(&stamp.changed.to_le_bytes());
    bytes.extend_from_slice(&stamp.size.to_le_bytes());
    bytes.extend_from_slice(digest);
}

fn read_record(bytes: &[u8]) -> Known {
    let number = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    let changed = i128::from_le_bytes(bytes[16..32].try_into().expect("sixteen bytes"));
    let stamp = Stamp { inode: (number(0), number(8)), changed, size: number(32) };
    (stamp, bytes[40..].try_into().expect("thirty-two bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(number: u64) -> Known {
        (
            Stamp { inode: (1, number), changed: i128::from(number) << 70, size: number * 3 },
            [number as u8; 32],
        )
    }

    #[test]
    fn what_was_learned_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let index = HashIndex::new(folder.path().join("index"));
        assert_eq!(index.load().unwrap(), []);
        index.append(&[known(1), known(2)]).unwrap();
        index.append(&[]).unwrap();
        index.append(&[known(3)]).unwrap();
        assert_eq!(index.load().unwrap(), [known(1), known(2), known(3)]);
    }

    #[test]
    fn damage_is_cut_off() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("index");
        let index = HashIndex::new(path.clone());
        index.append(&[known(1)]).unwrap();
        let whole = std::fs::read(&path).unwrap();
        index.append(&[known(2)]).unwrap();
        let both = std::fs::read(&path).unwrap();
        for (bytes, wanted) in [
            (both[..both.len() - 5].to_vec(), vec![known(1)]),
            ([&whole[..], b"noise"].concat(), vec![known(1)]),
            (b"something else".to_vec(), vec![]),
            (both.iter().enumerate().map(|(at, byte)| byte ^ u8::from(at == 40)).collect(), vec![]),
        ] {
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(index.load().unwrap(), wanted);
            index.append(&[known(4)]).unwrap();
            assert_eq!(index.load().unwrap().last(), Some(&known(4)));
        }
    }
}
