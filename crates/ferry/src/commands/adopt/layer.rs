//! Layers of a Docker data root as the archives they came as: Docker keeps the files unpacked and, beside them, what of the
//! archive is not a file's content (`tar-split`). Both together give every byte back, so that digests hold.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Component, Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

const FILE: u8 = 1;
const SEGMENT: u8 = 2;

/// One line of `tar-split.json`.
#[derive(Debug, Deserialize)]
struct Entry {
    #[serde(rename = "type")]
    kind: u8,
    #[serde(default)]
    name: String,
    #[serde(default)]
    name_raw: String,
    #[serde(default)]
    size: u64,
    #[serde(default)]
    payload: Option<String>,
}

/// A layer in a data root.
#[derive(Debug, Clone)]
pub struct Layer {
    /// `tar-split.json.gz`.
    pub split: PathBuf,
    /// Its files.
    pub files: PathBuf,
}

fn invalid(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text)
}

impl Layer {
    /// How long the archive is.
    ///
    /// # Errors
    /// Where the description cannot be read.
    pub fn length(&self) -> io::Result<u64> {
        let mut length = 0;
        self.each(|entry| {
            length += match entry.kind {
                FILE => entry.size,
                _ => segment(entry)?.len() as u64,
            };
            Ok(())
        })?;
        Ok(length)
    }

    /// Writes the archive.
    ///
    /// # Errors
    /// Where a file is not as it was described.
    pub fn write(&self, out: &mut impl Write) -> io::Result<()> {
        self.each(|entry| match entry.kind {
            FILE if entry.size > 0 => {
                let path = self.files.join(inside(entry)?);
                let file = File::open(&path)
                    .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
                let copied = io::copy(&mut file.take(entry.size), out)?;
                match copied == entry.size {
                    true => Ok(()),
                    false => Err(invalid(format!("{} is shorter than it was", path.display()))),
                }
            }
            FILE => Ok(()),
            _ => out.write_all(&segment(entry)?),
        })
    }

    fn each(&self, mut act: impl FnMut(&Entry) -> io::Result<()>) -> io::Result<()> {
        let packed = BufReader::new(File::open(&self.split)?);
        for line in BufReader::new(flate2::bufread::MultiGzDecoder::new(packed)).lines() {
            let line = line?;
            if line.trim().is_empty() {
                continue;
            }
            let entry: Entry = serde_json::from_str(&line)?;
            if !matches!(entry.kind, FILE | SEGMENT) {
                return Err(invalid(format!("{}: an entry of kind {}", self.split.display(), entry.kind)));
            }
            act(&entry)?;
        }
        Ok(())
    }
}

fn segment(entry: &Entry) -> io::Result<Vec<u8>> {
    STANDARD.decode(entry.payload.as_deref().unwrap_or("")).map_err(|error| invalid(error.to_string()))
}

/// The file's place below the layer, which no name leads out of.
fn inside(entry: &Entry) -> io::Result<PathBuf> {
    use std::os::unix::ffi::OsStringExt as _;
    let name = match entry.name_raw.as_str() {
        "" => entry.name.clone().into_bytes(),
        raw => STANDARD.decode(raw).map_err(|error| invalid(error.to_string()))?,
    };
    let path = PathBuf::from(std::ffi::OsString::from_vec(name));
    let parts = path.components().filter(|part| !matches!(part, Component::CurDir | Component::RootDir));
    let inside: PathBuf = parts.collect();
    match Path::new(&inside).components().all(|part| matches!(part, Component::Normal(_))) {
        true => Ok(inside),
        false => Err(invalid(format!("{} leads out of its layer", path.display()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_segments_make_the_archive() {
        let folder = tempfile::tempdir().unwrap();
        let files = folder.path().join("diff");
        std::fs::create_dir_all(files.join("etc")).unwrap();
        std::fs::write(files.join("etc/x"), "content").unwrap();
        let split = folder.path().join("tar-split.json.gz");
        let lines = [
            serde_json::json!({"type": 2, "payload": STANDARD.encode("head"), "position": 0}),
            serde_json::json!({"type": 1, "name": "./etc/x", "size": 7, "payload": "AA==", "position": 1}),
            serde_json::json!({"type": 1, "name": "empty", "payload": null, "position": 2}),
            serde_json::json!({"type": 2, "payload": STANDARD.encode("tail"), "position": 3}),
        ];
        let text = lines.map(|line| line.to_string()).join("\n");
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(text.as_bytes()).unwrap();
        std::fs::write(&split, packed.finish().unwrap()).unwrap();
        let layer = Layer { split, files };
        let mut out = Vec::new();
        layer.write(&mut out).unwrap();
        assert_eq!((out.as_slice(), layer.length().unwrap()), (&b"headcontenttail"[..], 15));
        let out_of = Entry { kind: 1, name: "../x".into(), name_raw: String::new(), size: 1, payload: None };
        assert!(inside(&out_of).is_err());
    }
}
