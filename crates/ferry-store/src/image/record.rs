//! The disk form of images and names, and how an [`Image`] is made of it.

use std::sync::Arc;

use ferry_oci::{Digest, Reference};
use serde::{Deserialize, Serialize};

use super::{Annotations, Attestation, Image, ImageLayer, StoredManifest};
use crate::layer::Layers;

/// Record of the table `images`, keyed by image id.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct ImageRecord {
    /// The config's text; its digest is the key.
    pub config: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub manifest: Option<ManifestRecord>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Digest>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_tagged: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub built: Option<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attestations: Vec<Attestation>,
    #[serde(default, skip_serializing_if = "Annotations::is_empty")]
    pub annotations: Annotations,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub group: Vec<Digest>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct ManifestRecord {
    pub media_type: String,
    pub body: String,
}

/// Record of the table `names`, keyed by the full reference.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct NameRecord {
    pub image: Digest,
}

impl ImageRecord {
    /// The image as callers see it. A layer that is missing counts nothing; whoever wants to run
    /// the image is told which one.
    pub fn image(&self, references: Vec<Reference>, layers: &Layers) -> Result<Image, serde_json::Error> {
        let config: ferry_oci::image::ImageConfig = serde_json::from_str(&self.config)?;
        let layers: Vec<ImageLayer> = config
            .rootfs
            .diff_ids
            .iter()
            .map(|diff_id| {
                let record = layers.get(diff_id);
                let size = record.as_ref().map_or(0, |record| record.size);
                let blob = record.and_then(|record| record.blob.clone());
                ImageLayer { diff_id: diff_id.clone(), blob, size }
            })
            .collect();
        let manifest = self.manifest.as_ref().map(|manifest| {
            Arc::new(StoredManifest {
                digest: Digest::sha256_of(manifest.body.as_bytes()),
                media_type: manifest.media_type.clone(),
                bytes: manifest.body.clone().into_bytes(),
            })
        });
        let mut image = Image {
            id: Digest::sha256_of(self.config.as_bytes()),
            created: config.created.clone(),
            config,
            config_bytes: self.config.as_bytes().into(),
            manifest,
            size: layers.iter().map(|layer| layer.size).sum(),
            layers,
            repo_tags: Vec::new(),
            repo_digests: Vec::new(),
            references: Vec::new(),
            parent: self.parent.clone(),
            last_tagged: self.last_tagged.clone(),
            built: self.built.clone(),
            attestations: self.attestations.clone().into(),
            annotations: self.annotations.clone().into(),
            group: self.group.clone().into(),
        };
        image.set_references(references);
        Ok(image)
    }
}

impl Image {
    pub(super) fn set_references(&mut self, mut references: Vec<Reference>) {
        references.sort();
        references.dedup();
        let familiar = |digest: bool| {
            let chosen = references.iter().filter(|reference| reference.digest().is_some() == digest);
            chosen.map(Reference::familiar).collect::<Vec<_>>()
        };
        self.repo_tags = familiar(false);
        self.repo_digests = familiar(true);
        self.references = references;
    }

    pub(super) fn record(&self) -> ImageRecord {
        ImageRecord {
            config: String::from_utf8_lossy(&self.config_bytes).into_owned(),
            manifest: self.manifest.as_ref().map(|manifest| ManifestRecord {
                media_type: manifest.media_type.clone(),
                body: String::from_utf8_lossy(&manifest.bytes).into_owned(),
            }),
            parent: self.parent.clone(),
            last_tagged: self.last_tagged.clone(),
            built: self.built.clone(),
            attestations: self.attestations.to_vec(),
            annotations: (*self.annotations).clone(),
            group: self.group.to_vec(),
        }
    }
}
