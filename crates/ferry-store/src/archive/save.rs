//! `save`: images as docker-archive and OCI layout in one tar, as docker 28 writes it.
//!
//! Layers are written as they arrived (compressed or not), so that the manifest's digests hold;
//! docker, podman and skopeo all take compressed layers in a docker-archive.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::sync::Arc;

use ferry_oci::image::{Descriptor, Index, Manifest, media_type};
use ferry_oci::{Digest, Platform, Reference};
use serde::Serialize;

use crate::blob::BlobError;
use crate::diff::DiffError;
use crate::image::{Attested, Image, ImageLayer, Part, ResolveError};
use crate::store::Store;
use crate::tar::{EntryHeader, EntryKind, TarWriter};

/// Why a save failed.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// A name names nothing.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// A layer is not in the store.
    #[error("cannot save image {image}: its layer {diff_id} is not in the store")]
    MissingLayer {
        /// The image.
        image: Digest,
        /// The layer.
        diff_id: Digest,
    },
    /// A layer cannot be written.
    #[error(transparent)]
    Layer(#[from] DiffError),
    /// A blob cannot be read.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// A document cannot be encoded.
    #[error("cannot encode {document}")]
    Encode {
        /// Which.
        document: &'static str,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
    /// The receiver went away or failed.
    #[error("cannot write the archive")]
    Write(#[from] io::Error),
}

/// An image and the names of it that were asked for.
type Named = (Arc<Image>, Vec<Reference>);

/// One image to be saved, with the names it is saved under.
struct Chosen {
    image: Arc<Image>,
    references: Vec<Reference>,
    layers: Vec<Descriptor>,
    /// The manifests that its names stand for.
    parts: Vec<Part>,
    /// Their index, where there is more than one, or something is claimed of them.
    attested: Option<Attested>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct DockerItem {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
    layer_sources: BTreeMap<String, Descriptor>,
}

impl Store {
    /// Whether a save of these names would find everything it needs.
    pub fn check_saveable(&self, names: &[String], platform: Option<&Platform>) -> Result<(), SaveError> {
        self.choose(names, platform).map(drop)
    }

    /// Writes images by name or id, and gives their ids. A name without a tag means all tags of
    /// that repository; one that stands for several platforms, all of them where none is named.
    pub fn save(
        &self,
        names: &[String],
        platform: Option<&Platform>,
        writer: impl Write,
    ) -> Result<Vec<Digest>, SaveError> {
        let chosen = self.choose(names, platform)?;
        let mut archive = TarWriter::new(writer);
        write_directories(&mut archive)?;
        let mut written = BTreeSet::new();
        for item in &chosen {
            self.write_blobs(&mut archive, item, &mut written)?;
        }
        for (name, document) in documents(&chosen)? {
            archive.append_bytes(name, 0o644, &document, 0)?;
        }
        archive.finish()?;
        Ok(chosen.into_iter().map(|item| item.image.id.clone()).collect())
    }

    fn choose(&self, names: &[String], platform: Option<&Platform>) -> Result<Vec<Chosen>, SaveError> {
        let mut chosen: Vec<(Arc<Image>, BTreeSet<Reference>)> = Vec::new();
        for name in names {
            for (image, references) in self.images_named(name)? {
                match chosen.iter_mut().find(|(known, _)| known.id == image.id) {
                    Some((_, known)) => known.extend(references),
                    None => chosen.push((image, references.into_iter().collect())),
                }
            }
        }
        chosen
            .into_iter()
            .map(|(image, references)| {
                let of_platform = platform.and_then(|wanted| self.images().member_for(&image, wanted));
                let alone = of_platform.is_some();
                let image = of_platform.unwrap_or(image);
                let parts = if alone { vec![self.part(&image)?] } else { self.parts(&image)? };
                let references: Vec<Reference> = references.into_iter().collect();
                let names: Vec<String> = references.iter().map(Reference::to_string).collect();
                let attested = Attested::of(&image, &parts, &names);
                let layers = self.layer_descriptors(&image)?;
                Ok(Chosen { image, references, layers, parts, attested })
            })
            .collect()
    }

    /// An image with its manifest.
    pub fn part(&self, image: &Arc<Image>) -> Result<Part, SaveError> {
        let manifest = manifest_of(image, &self.layer_descriptors(image)?)?;
        Ok(Part { image: Arc::clone(image), manifest })
    }

    /// The images that one stands for, with their manifests.
    pub fn parts(&self, image: &Arc<Image>) -> Result<Vec<Part>, SaveError> {
        self.images().members(image).iter().map(|member| self.part(member)).collect()
    }

    /// By tag: that tag. By repository: all its tags. By id: no name at all, as Docker does.
    fn images_named(&self, name: &str) -> Result<Vec<Named>, ResolveError> {
        let parsed = Reference::parse_name(name).ok().filter(|reference| reference.digest().is_none());
        if let Some(repository) = parsed.as_ref().filter(|reference| reference.tag().is_none()) {
            let mut all = Vec::new();
            for image in self.images().list() {
                let same = |known: &&Reference| {
                    known.tag().is_some() && known.repository() == repository.repository()
                };
                let references: Vec<Reference> = image.references.iter().filter(same).cloned().collect();
                if !references.is_empty() {
                    all.push((image, references));
                }
            }
            if !all.is_empty() {
                return Ok(all);
            }
        }
        let image = self.images().resolve(name)?;
        let named = parsed.filter(|reference| image.references.contains(reference));
        Ok(vec![(image, named.into_iter().collect())])
    }

    fn write_blobs<W: Write>(
        &self,
        archive: &mut TarWriter<W>,
        item: &Chosen,
        written: &mut BTreeSet<Digest>,
    ) -> Result<(), SaveError> {
        for part in &item.parts {
            self.write_layers(archive, &part.image, written)?;
        }
        // The image of the table of contents is one of the parts; all but the index is written with them.
        let own = item.parts.iter().flat_map(|part| [&part.image.config_bytes[..], &part.manifest.1]);
        for document in own.chain(item.attested.iter().flat_map(Attested::documents)) {
            let digest = Digest::sha256_of(document);
            if written.insert(digest.clone()) {
                archive.append_bytes(&blob_name(&digest), 0o644, document, 0)?;
            }
        }
        Ok(())
    }

    fn write_layers<W: Write>(
        &self,
        archive: &mut TarWriter<W>,
        image: &Image,
        written: &mut BTreeSet<Digest>,
    ) -> Result<(), SaveError> {
        for (layer, blob) in image.layers.iter().zip(&self.layer_descriptors(image)?) {
            if !written.insert(blob.digest.clone()) {
                continue;
            }
            let path = blob_name(&blob.digest).into_bytes();
            let header = EntryHeader { path, mode: 0o644, size: blob.size, ..EntryHeader::default() };
            if blob.digest == layer.diff_id {
                archive.append_written(&header, |target| {
                    self.layer_tar(&layer.diff_id, target).map_err(SaveError::from)
                })?;
            } else {
                let (file, _) = self.blobs().open(&blob.digest)?;
                archive.append(&header, EntryKind::Regular, file)?;
            }
        }
        Ok(())
    }

    /// The blobs of an image's layers; of a layer whose tar was not kept, the tar it would give.
    pub fn layer_descriptors(&self, image: &Image) -> Result<Vec<Descriptor>, SaveError> {
        let describe = |layer: &ImageLayer| {
            let missing =
                || SaveError::MissingLayer { image: image.id.clone(), diff_id: layer.diff_id.clone() };
            let record = self.layers().get(&layer.diff_id).ok_or_else(missing)?;
            let plain = || Descriptor::new(media_type::OCI_LAYER, record.diff_id.clone(), record.tar_size);
            Ok(record.blob.clone().unwrap_or_else(plain))
        };
        image.layers.iter().map(describe).collect()
    }
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm(), digest.hex())
}

fn write_directories<W: Write>(archive: &mut TarWriter<W>) -> io::Result<()> {
    archive.append_directory("blobs/", 0o755, 0)?;
    archive.append_directory("blobs/sha256/", 0o755, 0)
}

fn encode(document: &'static str, value: &impl Serialize) -> Result<Vec<u8>, SaveError> {
    serde_json::to_vec(value).map_err(|source| SaveError::Encode { document, source })
}

/// The manifest that the image came with, where it describes these blobs.
pub fn stored_manifest(image: &Image, layers: &[Descriptor]) -> Option<(String, Vec<u8>)> {
    let stored = image.manifest.as_ref()?;
    let manifest = serde_json::from_slice::<Manifest>(&stored.bytes).ok()?;
    let fits = manifest.layers.iter().map(|layer| &layer.digest).eq(layers.iter().map(|layer| &layer.digest));
    let noted = image.annotations.manifest.iter();
    let told = noted.into_iter().all(|(key, value)| manifest.annotations.get(key) == Some(value));
    (fits && told).then(|| (stored.media_type.clone(), stored.bytes.clone()))
}

/// The manifest that the image came with, when it describes the blobs kept; else a new one.
pub fn manifest_of(image: &Image, layers: &[Descriptor]) -> Result<(String, Vec<u8>), SaveError> {
    if let Some(stored) = stored_manifest(image, layers) {
        return Ok(stored);
    }
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(media_type::OCI_MANIFEST.to_owned()),
        artifact_type: None,
        config: Descriptor::new(media_type::OCI_CONFIG, image.id.clone(), image.config_bytes.len() as u64),
        layers: layers.iter().map(as_oci_layer).collect(),
        subject: None,
        annotations: image.annotations.manifest.clone(),
    };
    Ok((media_type::OCI_MANIFEST.to_owned(), encode("manifest", &manifest)?))
}

/// The same blob with OCI's media type: an OCI manifest should not name Docker's.
fn as_oci_layer(layer: &Descriptor) -> Descriptor {
    let media_type = match layer.media_type.as_str() {
        media_type::DOCKER_LAYER => media_type::OCI_LAYER,
        media_type::DOCKER_LAYER_GZIP => media_type::OCI_LAYER_GZIP,
        media_type::DOCKER_LAYER_ZSTD => media_type::OCI_LAYER_ZSTD,
        other => other,
    };
    Descriptor::new(media_type, layer.digest.clone(), layer.size)
}

/// The tables of contents.
fn documents(chosen: &[Chosen]) -> Result<Vec<(&'static str, Vec<u8>)>, SaveError> {
    let items: Vec<DockerItem> = chosen.iter().map(docker_item).collect();
    let index = Index {
        schema_version: 2,
        media_type: Some(media_type::OCI_INDEX.to_owned()),
        manifests: chosen.iter().flat_map(index_entries).collect(),
        annotations: BTreeMap::new(),
    };
    let mut repositories: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    for item in chosen {
        let top = item.image.layers.last().map(|layer| layer.diff_id.hex().to_owned()).unwrap_or_default();
        for reference in &item.references {
            let tag = reference.tag().unwrap_or_default().to_owned();
            repositories.entry(reference.familiar_name()).or_default().insert(tag, top.clone());
        }
    }
    let mut documents = vec![
        ("index.json", encode("index.json", &index)?),
        ("manifest.json", encode("manifest.json", &items)?),
        ("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec()),
    ];
    if !repositories.is_empty() {
        documents.push(("repositories", encode("repositories", &repositories)?));
    }
    Ok(documents)
}

fn docker_item(item: &Chosen) -> DockerItem {
    let tags: Vec<String> = item.references.iter().map(Reference::familiar).collect();
    let sources = item.image.layers.iter().zip(&item.layers);
    DockerItem {
        config: blob_name(&item.image.id),
        repo_tags: (!tags.is_empty()).then_some(tags),
        layers: item.layers.iter().map(|layer| blob_name(&layer.digest)).collect(),
        layer_sources: sources.map(|(layer, blob)| (layer.diff_id.to_string(), blob.clone())).collect(),
    }
}

fn index_entries(item: &Chosen) -> Vec<Descriptor> {
    let plain = match &item.attested {
        Some(attested) => {
            let bytes = &attested.index;
            let mut plain =
                Descriptor::new(media_type::OCI_INDEX, Digest::sha256_of(bytes), bytes.len() as u64);
            plain.annotations = item.image.annotations.index_descriptor.clone();
            plain
        }
        None => {
            let (media_type, bytes) = &item.parts[0].manifest;
            let mut plain = Descriptor::new(media_type.clone(), Digest::sha256_of(bytes), bytes.len() as u64);
            plain.platform = Some(item.image.config.platform());
            plain.annotations = item.image.annotations.manifest_descriptor.clone();
            plain
        }
    };
    if item.references.is_empty() {
        return vec![plain];
    }
    let named = |reference: &Reference| {
        let mut descriptor = plain.clone();
        let tag = reference.tag().unwrap_or_default().to_owned();
        descriptor.annotations.insert("io.containerd.image.name".to_owned(), reference.to_string());
        descriptor.annotations.insert("org.opencontainers.image.ref.name".to_owned(), tag);
        descriptor
    };
    item.references.iter().map(named).collect()
}
