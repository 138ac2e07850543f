//! The entries of an image archive: small ones in memory, large ones in files, all hashed.
//!
//! An archive is a stream, and its table of contents may come last, so everything is kept until
//! it is known what it is.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufReader, Read};

use ferry_oci::{Algorithm, Digest, Hasher};

use super::load::LoadError;
use crate::blob::{COPY_BUFFER, Ingest, Spooled};
use crate::layer::Decoder;
use crate::layout::Layout;
use crate::tar::{EntryKind, TarReader, error_text};

/// Documents (manifests, configs) stay in memory; anything larger is a layer.
const IN_MEMORY_MAX: u64 = 256 << 10;
/// All documents together; what comes after goes to files.
const IN_MEMORY_TOTAL_MAX: u64 = 64 << 20;
/// Most entries of an archive: some three per layer.
const ENTRIES_MAX: usize = 100_000;
/// Symbolic links followed from one name (docker 20.10 links equal layers to each other).
const LINKS_MAX: usize = 8;

/// One entry's bytes.
enum Content {
    Memory { bytes: Vec<u8>, digest: Digest },
    File(Spooled),
}

/// The entries by name.
#[derive(Default)]
pub(super) struct Spool {
    entries: BTreeMap<String, Content>,
    links: HashMap<String, String>,
    in_memory: u64,
}

/// Where the bytes of a layer are.
pub(super) enum LayerBytes {
    Memory(Vec<u8>),
    File(Spooled),
}

impl Spool {
    /// Reads a whole archive.
    pub fn read(source: impl Read, layout: &Layout) -> Result<Spool, LoadError> {
        let (decoder, _) =
            Decoder::detect(BufReader::with_capacity(COPY_BUFFER, source)).map_err(LoadError::Stream)?;
        let mut archive = TarReader::new(decoder);
        let mut spool = Spool::default();
        while let Some(entry) = archive.next_entry()? {
            let Some(name) = clean_name(&entry.path) else {
                return Err(LoadError::Name(error_text(&entry.path)));
            };
            if spool.entries.len() + spool.links.len() >= ENTRIES_MAX {
                return Err(LoadError::TooManyEntries { name, limit: ENTRIES_MAX });
            }
            match entry.kind {
                EntryKind::Regular if entry.sparse.is_none() => {
                    spool.add(name, entry.size, &mut archive, layout)?
                }
                EntryKind::Symlink | EntryKind::HardLink => {
                    let base = if entry.kind == EntryKind::Symlink { parent(&name) } else { "" };
                    let target =
                        join(base, &entry.link).ok_or_else(|| LoadError::Name(error_text(&entry.link)))?;
                    spool.links.insert(name, target);
                }
                _ => {}
            }
        }
        Ok(spool)
    }

    fn add(
        &mut self,
        name: String,
        size: u64,
        archive: &mut TarReader<impl Read>,
        layout: &Layout,
    ) -> Result<(), LoadError> {
        let content = if size <= IN_MEMORY_MAX && self.in_memory + size <= IN_MEMORY_TOTAL_MAX {
            let mut bytes = vec![0; size as usize];
            let mut filled = 0;
            while filled < bytes.len() {
                filled += archive.read_data(&mut bytes[filled..])?;
            }
            self.in_memory += size;
            let digest = Digest::sha256_of(&bytes);
            Content::Memory { bytes, digest }
        } else {
            let mut ingest = Ingest::start(layout, Hasher::new(Algorithm::Sha256))?;
            let mut buffer = vec![0; COPY_BUFFER];
            loop {
                match archive.read_data(&mut buffer)? {
                    0 => break,
                    count => ingest.write(&buffer[..count])?,
                }
            }
            Content::File(ingest.finish())
        };
        self.entries.insert(name, content);
        Ok(())
    }

    /// Follows links to the name of an entry that has bytes.
    fn resolve<'a>(&'a self, name: &'a str) -> Option<&'a str> {
        let mut name = name;
        for _ in 0..LINKS_MAX {
            if self.entries.contains_key(name) {
                return Some(name);
            }
            name = self.links.get(name)?;
        }
        None
    }

    /// Whether the archive has this entry.
    pub fn contains(&self, name: &str) -> bool {
        self.resolve(name).is_some()
    }

    /// Digest of an entry's bytes.
    pub fn digest(&self, name: &str) -> Option<&Digest> {
        Some(match self.entries.get(self.resolve(name)?)? {
            Content::Memory { digest, .. } => digest,
            Content::File(spooled) => &spooled.digest,
        })
    }

    /// A document whole.
    pub fn document(&self, name: &str) -> Result<Option<Vec<u8>>, LoadError> {
        let Some(found) = self.resolve(name) else { return Ok(None) };
        match &self.entries[found] {
            Content::Memory { bytes, .. } => Ok(Some(bytes.clone())),
            Content::File(spooled) => {
                let limit = ferry_oci::image::DOCUMENT_SIZE_MAX;
                Ok(Some(crate::files::read_limited(spooled.path(), limit)?))
            }
        }
    }

    /// Takes the bytes of a layer out. A second taker of the same entry gets None.
    pub fn take(&mut self, name: &str) -> Option<LayerBytes> {
        let found = self.resolve(name)?.to_owned();
        Some(match self.entries.remove(&found)? {
            Content::Memory { bytes, .. } => LayerBytes::Memory(bytes),
            Content::File(spooled) => LayerBytes::File(spooled),
        })
    }
}

fn clean_name(path: &[u8]) -> Option<String> {
    join("", path)
}

/// Joins a relative name to a directory inside the archive; None when it leads out of it.
fn join(base: &str, path: &[u8]) -> Option<String> {
    let path = std::str::from_utf8(path).ok()?;
    let mut parts: Vec<&str> = base.split('/').filter(|part| !part.is_empty()).collect();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    Some(parts.join("/"))
}

fn parent(name: &str) -> &str {
    name.rsplit_once('/').map_or("", |(parent, _)| parent)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_inside() {
        let table: &[(&str, &[u8], Option<&str>)] = &[
            ("", b"./manifest.json", Some("manifest.json")),
            ("", b"/abs/x", Some("abs/x")),
            ("abc", b"../def/layer.tar", Some("def/layer.tar")),
            ("abc", b"../../x", None),
            ("", b"a/../../x", None),
            ("", b"\xff", None),
        ];
        for (base, path, expected) in table {
            assert_eq!(join(base, path).as_deref(), *expected, "{base} {path:?}");
        }
    }
}
