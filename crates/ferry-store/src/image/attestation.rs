//! What is claimed of an image: its packages, how it was built. Kept beside the image as statements without a
//! subject; given away as a manifest of its own in an index with the image's, as BuildKit does, because only
//! then the digest that they speak of is known.

use std::collections::BTreeMap;
use std::sync::Arc;

use ferry_oci::image::{Descriptor, Index, Manifest, media_type};
use ferry_oci::{Digest, Platform};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Image;
use super::error::TagError;
use super::index::{Images, POISONED};
use crate::database::Batch;

/// Media type of a statement.
const IN_TOTO: &str = "application/vnd.in-toto+json";
/// Its own type, within.
const STATEMENT: &str = "https://in-toto.io/Statement/v0.1";
/// Names what kind of statement a layer holds.
const PREDICATE_TYPE: &str = "in-toto.io/predicate-type";
/// Marks a manifest as one of statements.
const REFERENCE_TYPE: &str = "vnd.docker.reference.type";
/// Names the manifest that they speak of.
const REFERENCE_DIGEST: &str = "vnd.docker.reference.digest";
/// The kind.
const ATTESTATIONS: &str = "attestation-manifest";
/// Operating system and architecture of what runs nowhere.
const UNKNOWN: &str = "unknown";

/// One claim.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Attestation {
    /// What kind of claim, a URL.
    pub predicate_type: String,
    /// The claim.
    pub predicate: Value,
}

/// An image with the manifest that it is given away with.
#[derive(Debug, Clone)]
pub struct Part {
    /// The image.
    pub image: Arc<Image>,
    /// Media type and bytes of its manifest.
    pub manifest: (String, Vec<u8>),
}

/// An index of the manifests of an image, one for each platform, and of the statements there are of them.
#[derive(Debug, Clone)]
pub struct Attested {
    /// The index.
    pub index: Vec<u8>,
    /// The manifests of the statements.
    pub claims: Vec<Claims>,
}

impl Attested {
    /// Puts the manifests of an image beside each other, and their statements behind them; None where there is one
    /// manifest without any, and nothing is noted of an index. `names` are those the image goes by.
    pub fn of(lead: &Image, parts: &[Part], names: &[String]) -> Option<Attested> {
        let claimed = parts.iter().any(|part| !part.image.attestations.is_empty());
        if parts.len() < 2 && !claimed && lead.annotations.index.is_empty() {
            return None;
        }
        let entries: Vec<Descriptor> = parts.iter().map(Part::entry).collect();
        let claims: Vec<Claims> = parts
            .iter()
            .zip(&entries)
            .filter(|(part, _)| !part.image.attestations.is_empty())
            .map(|(part, entry)| Claims::of(&part.image, &entry.digest, names))
            .collect();
        let manifests = entries.into_iter().chain(claims.iter().map(|claims| claims.entry.clone()));
        let index = bytes(&Index {
            schema_version: 2,
            media_type: Some(media_type::OCI_INDEX.to_owned()),
            manifests: manifests.collect(),
            annotations: lead.annotations.index.clone(),
        });
        Some(Attested { index, claims })
    }

    /// The documents beside the images' own: of each account of statements the blobs and the manifest, then the index.
    pub fn documents(&self) -> impl Iterator<Item = &[u8]> {
        let claims = self.claims.iter().flat_map(|claims| claims.blobs.iter().chain([&claims.manifest]));
        claims.chain([&self.index]).map(Vec::as_slice)
    }
}

impl Part {
    /// How an index names it.
    fn entry(&self) -> Descriptor {
        let mut entry = describe(&self.manifest.0, &self.manifest.1);
        entry.platform = Some(self.image.config.platform());
        entry.annotations = self.image.annotations.manifest_descriptor.clone();
        entry
    }
}

/// The manifest of an image's statements.
#[derive(Debug, Clone)]
pub struct Claims {
    /// How an index names it.
    pub entry: Descriptor,
    /// Its bytes.
    pub manifest: Vec<u8>,
    /// What it names: its configuration, then the statements.
    pub blobs: Vec<Vec<u8>>,
}

impl Claims {
    fn of(image: &Image, subject: &Digest, names: &[String]) -> Claims {
        let statements: Vec<Vec<u8>> =
            image.attestations.iter().map(|claim| statement(claim, names, subject)).collect();
        let layers: Vec<Descriptor> = image.attestations.iter().zip(&statements).map(layer).collect();
        let diff_ids: Vec<&Digest> = layers.iter().map(|layer| &layer.digest).collect();
        let config = bytes(&json!({
            "architecture": UNKNOWN,
            "os": UNKNOWN,
            "config": {},
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        }));
        let manifest = bytes(&Manifest {
            schema_version: 2,
            media_type: Some(media_type::OCI_MANIFEST.to_owned()),
            artifact_type: None,
            config: describe(media_type::OCI_CONFIG, &config),
            layers,
            subject: None,
            annotations: BTreeMap::new(),
        });
        let mut entry = describe(media_type::OCI_MANIFEST, &manifest);
        entry.platform =
            Some(Platform { architecture: UNKNOWN.into(), os: UNKNOWN.into(), ..Platform::default() });
        entry.annotations = BTreeMap::from([
            (REFERENCE_TYPE.to_owned(), ATTESTATIONS.to_owned()),
            (REFERENCE_DIGEST.to_owned(), subject.to_string()),
        ]);
        let blobs = std::iter::once(config).chain(statements).collect();
        Claims { entry, manifest, blobs }
    }
}

fn bytes(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("documents of plain fields can be encoded")
}

fn describe(media_type: &str, bytes: &[u8]) -> Descriptor {
    Descriptor::new(media_type, Digest::sha256_of(bytes), bytes.len() as u64)
}

fn statement(claim: &Attestation, names: &[String], subject: &Digest) -> Vec<u8> {
    let digest = json!({ "sha256": subject.hex() });
    // One without a name is known by its digest alone.
    let nameless = [String::new()];
    let names = if names.is_empty() { &nameless[..] } else { names };
    let subjects: Vec<Value> = names.iter().map(|name| json!({ "name": name, "digest": digest })).collect();
    bytes(&json!({
        "_type": STATEMENT,
        "predicateType": claim.predicate_type,
        "subject": subjects,
        "predicate": claim.predicate,
    }))
}

fn layer((claim, statement): (&Attestation, &Vec<u8>)) -> Descriptor {
    let mut layer = describe(IN_TOTO, statement);
    layer.annotations.insert(PREDICATE_TYPE.to_owned(), claim.predicate_type.clone());
    layer
}

impl Images {
    /// Keeps claims of an image, in the place of those of the same kinds. Durable.
    pub fn attest(&self, id: &Digest, claims: Vec<Attestation>) -> Result<(), TagError> {
        let _changing = self.changing.lock().expect(POISONED);
        let image = self.get(id).ok_or_else(|| TagError::NotFound(id.clone()))?;
        let is_new =
            |known: &&Attestation| claims.iter().all(|claim| claim.predicate_type != known.predicate_type);
        let kept: Vec<Attestation> = image.attestations.iter().filter(is_new).cloned().collect();
        let all: Arc<[Attestation]> = kept.into_iter().chain(claims.clone()).collect();
        let mut record = image.record();
        record.attestations = all.to_vec();
        let mut batch = Batch::new();
        self.images.put_in(&mut batch, &id.to_string(), &record)?;
        self.database.commit(batch)?;
        self.index.write().expect(POISONED).change(id, |image| image.attestations = all);
        Ok(())
    }
}
