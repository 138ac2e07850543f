//! Images made of a few files at hand: the embedded default image needs no network and no archive.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::sync::Arc;

use ferry_oci::image::{ContainerConfig, History, ImageConfig, RootFs};
use ferry_oci::{Platform, Reference};
use serde::{Deserialize, Serialize};

use crate::database::{Batch, Table};
use crate::diff::{DiffError, IngestWriter};
use crate::error::{DatabaseError, IoError};
use crate::image::{Image, RegisterError, Registration};
use crate::layer::{LayerError, LayerOptions};
use crate::store::Store;
use crate::tar::{EntryHeader, EntryKind, TarWriter};

/// An image to be made of files.
#[derive(Debug, Clone)]
pub struct DirectoryImage {
    /// Its name.
    pub reference: Reference,
    /// What it holds; parents before children.
    pub files: Vec<DirectoryFile>,
    /// What its containers run.
    pub config: ContainerConfig,
    /// What its history says.
    pub created_by: String,
}

/// One file of such an image.
#[derive(Debug, Clone)]
pub struct DirectoryFile {
    /// Path in the image, without a leading slash.
    pub path: String,
    /// Permission bits.
    pub mode: u32,
    /// What it is.
    pub content: FileContent,
}

/// What a file is made of.
#[derive(Debug, Clone)]
pub enum FileContent {
    /// A file of the host.
    Host(PathBuf),
    /// These bytes.
    Bytes(Vec<u8>),
    /// A directory.
    Directory,
    /// A symbolic link.
    Symlink(String),
}

/// Why it was not made.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryImageError {
    /// The layer cannot be written.
    #[error("cannot write the layer")]
    Write(#[from] io::Error),
    /// The layer cannot be made.
    #[error(transparent)]
    Layer(#[from] LayerError),
    /// The layer cannot be made.
    #[error(transparent)]
    Diff(#[from] DiffError),
    /// The image cannot be registered.
    #[error(transparent)]
    Register(#[from] RegisterError),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// A file operation failed.
    #[error(transparent)]
    Io(#[from] IoError),
}

/// By what a file of the host is recognised without reading it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Stamp {
    path: String,
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

/// What an image was made of (record of the table `directory-images`, keyed by name).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Made {
    stamps: Vec<Stamp>,
    /// Everything that does not come from files of the host.
    rest: ferry_oci::Digest,
    image: ferry_oci::Digest,
}

impl Store {
    /// Makes an image of files, or gives the one that was made of the same files before (told by
    /// their inode, size and time, so an unchanged image costs a few microseconds).
    pub fn register_directory_image(
        &self,
        image: &DirectoryImage,
    ) -> Result<Arc<Image>, DirectoryImageError> {
        let table: Table<Made> = self.kv("directory-images");
        let key = image.reference.to_string();
        let stamps = stamps(image)?;
        let rest = ferry_oci::Digest::sha256_of(format!("{image:?}").as_bytes());
        if let Some(made) = table.get(&key)? {
            let known =
                self.images().get(&made.image).filter(|known| known.references.contains(&image.reference));
            if let (Some(known), true) = (known, made.stamps == stamps && made.rest == rest) {
                return Ok(known);
            }
        }
        let made = self.make_directory_image(image)?;
        let mut batch = Batch::new();
        table.put_in(&mut batch, &key, &Made { stamps, rest, image: made.id.clone() })?;
        self.commit(batch)?;
        Ok(made)
    }

    fn make_directory_image(&self, image: &DirectoryImage) -> Result<Arc<Image>, DirectoryImageError> {
        let mut ingest = IngestWriter::start(self)?;
        let written = write_layer(image, &mut ingest);
        ingest.fail_first()?;
        written?;
        let spooled = ingest.ingest.finish();
        let layer = self.layers().import_spooled(spooled, &LayerOptions::default())?;
        let platform = Platform::host();
        // The files' own time, not the time of day: the same files give the same image.
        let newest = stamps(image)?.iter().map(|stamp| stamp.modified.0).max().unwrap_or(0);
        let created = jiff::Timestamp::from_second(newest).unwrap_or_default().to_string();
        let document = ImageConfig {
            created: Some(created.clone()),
            architecture: platform.architecture,
            variant: platform.variant,
            os: platform.os,
            config: image.config.clone(),
            rootfs: RootFs { diff_ids: vec![layer.diff_id.clone()], ..RootFs::default() },
            history: vec![History {
                created: Some(created),
                created_by: Some(image.created_by.clone()),
                ..History::default()
            }],
            ..ImageConfig::default()
        };
        let config = serde_json::to_vec(&document)
            .map_err(|source| RegisterError::Config { digest: layer.diff_id.clone(), source })?;
        let references = vec![image.reference.clone()];
        Ok(self.images().register(Registration { config, references, ..Registration::default() })?)
    }
}

fn stamps(image: &DirectoryImage) -> Result<Vec<Stamp>, IoError> {
    let hosts = image.files.iter().filter_map(|file| match &file.content {
        FileContent::Host(path) => Some(path),
        _ => None,
    });
    hosts
        .map(|path| {
            let metadata = fs::metadata(path).map_err(IoError::new("stat", path))?;
            Ok(Stamp {
                path: path.to_string_lossy().into_owned(),
                device: metadata.dev(),
                inode: metadata.ino(),
                size: metadata.size(),
                modified: (metadata.mtime(), metadata.mtime_nsec()),
            })
        })
        .collect()
}

fn write_layer(image: &DirectoryImage, target: impl io::Write) -> Result<(), DirectoryImageError> {
    let mut archive = TarWriter::new(target);
    for file in &image.files {
        let mut header =
            EntryHeader { path: file.path.clone().into_bytes(), mode: file.mode, ..EntryHeader::default() };
        match &file.content {
            FileContent::Host(path) => {
                let open = File::open(path).map_err(IoError::new("open", path))?;
                header.size = open.metadata().map_err(IoError::new("stat", path))?.len();
                archive.append(&header, EntryKind::Regular, open)?;
            }
            FileContent::Bytes(bytes) => {
                header.size = bytes.len() as u64;
                archive.append(&header, EntryKind::Regular, bytes.as_slice())?;
            }
            FileContent::Directory => archive.append(&header, EntryKind::Directory, io::empty())?,
            FileContent::Symlink(target) => {
                header.link = target.clone().into_bytes();
                archive.append(&header, EntryKind::Symlink, io::empty())?;
            }
        }
    }
    archive.finish()?;
    Ok(())
}
