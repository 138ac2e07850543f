//! What the store's tests share: small layers, archives around them, and the root check.

#![allow(dead_code, reason = "each test program uses its own part")]

use std::io::{self, Write};

use ferry_oci::Digest;
use ferry_store::tar::{EntryHeader, EntryKind, TarWriter};

/// Whether this test can make devices and owners. Says so when not.
pub fn is_root(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("SKIPPED {test}: needs root (unpacking sets owners and makes devices)");
    }
    root
}

/// A tar under construction.
pub struct Tar(TarWriter<Vec<u8>>);

impl Tar {
    pub fn new() -> Tar {
        Tar(TarWriter::new(Vec::new()))
    }

    pub fn entry(mut self, kind: EntryKind, header: EntryHeader, data: &[u8]) -> Tar {
        self.0.append(&header, kind, data).unwrap();
        self
    }

    pub fn file(self, path: &str, data: &[u8]) -> Tar {
        let header = EntryHeader { mode: 0o644, size: data.len() as u64, ..header(path) };
        self.entry(EntryKind::Regular, header, data)
    }

    pub fn directory(self, path: &str) -> Tar {
        self.entry(EntryKind::Directory, EntryHeader { mode: 0o755, ..header(path) }, b"")
    }

    pub fn symlink(self, path: &str, target: &str) -> Tar {
        self.entry(EntryKind::Symlink, EntryHeader { link: target.into(), ..header(path) }, b"")
    }

    pub fn hard_link(self, path: &str, target: &str) -> Tar {
        self.entry(EntryKind::HardLink, EntryHeader { link: target.into(), ..header(path) }, b"")
    }

    pub fn done(self) -> Vec<u8> {
        self.0.finish().unwrap()
    }
}

pub fn header(path: &str) -> EntryHeader {
    EntryHeader { path: path.into(), mtime: (1_600_000_000, 0), ..EntryHeader::default() }
}

/// A config over layers.
pub fn config(layers: &[Vec<u8>]) -> Vec<u8> {
    let diff_ids: Vec<Digest> = layers.iter().map(|layer| Digest::sha256_of(layer)).collect();
    serde_json::to_vec(&serde_json::json!({
        "created": "2024-01-02T03:04:05Z", "architecture": "amd64", "os": "linux",
        "config": {"Cmd": ["sh"]}, "rootfs": {"type": "layers", "diff_ids": diff_ids},
    }))
    .unwrap()
}

pub fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 1).unwrap()
}

/// A docker-archive as docker 20.10 writes it.
pub fn docker_archive(tags: &[&str], layers: &[Vec<u8>]) -> Vec<u8> {
    let config = config(layers);
    let config_name = format!("{}.json", Digest::sha256_of(&config).hex());
    let mut tar = Tar::new().file(&config_name, &config);
    let mut names = Vec::new();
    for (index, layer) in layers.iter().enumerate() {
        let name = format!("layer{index}/layer.tar");
        tar = tar.file(&name, layer);
        names.push(name);
    }
    let manifest = serde_json::json!([{"Config": config_name, "RepoTags": tags, "Layers": names}]);
    tar.file("manifest.json", manifest.to_string().as_bytes()).done()
}

/// An OCI layout with one image; `compress` makes the blobs of the layers.
pub fn oci_archive(
    name: &str,
    layers: &[Vec<u8>],
    media_type: &str,
    compress: fn(&[u8]) -> Vec<u8>,
) -> Vec<u8> {
    let config = config(layers);
    let blob = |bytes: &[u8]| format!("blobs/sha256/{}", Digest::sha256_of(bytes).hex());
    let mut tar =
        Tar::new().file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#).file(&blob(&config), &config);
    let mut descriptors = Vec::new();
    for layer in layers {
        let bytes = compress(layer);
        tar = tar.file(&blob(&bytes), &bytes);
        descriptors.push(serde_json::json!({
            "mediaType": media_type, "digest": Digest::sha256_of(&bytes), "size": bytes.len(),
        }));
    }
    let manifest = serde_json::to_vec(&serde_json::json!({
        "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "layers": descriptors,
        "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": Digest::sha256_of(&config), "size": config.len()},
    }))
    .unwrap();
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [{
        "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": Digest::sha256_of(&manifest),
        "size": manifest.len(), "annotations": {"org.opencontainers.image.ref.name": name},
    }]});
    tar.file(&blob(&manifest), &manifest).file("index.json", index.to_string().as_bytes()).done()
}

/// Reads to the end and forgets.
pub fn sink() -> io::Sink {
    io::sink()
}
