//! The manifests of an image, as `manifests=1` asks for them and `images --tree` shows them: one for each platform that
//! it stands for, and those of what is claimed of them; and the document that its names stand for.

use std::sync::Arc;

use ferry_oci::Digest;
use ferry_oci::image::{Descriptor, Index, Manifest, media_type};
use ferry_store::image::{Attested, Claims, Part};
use ferry_store::{Image, Store};
use serde_json::{Value, json};

/// All of them; none where the store has lost a layer. `containers` gives the ids of those made of an image.
pub fn of(
    store: &Store,
    image: &Arc<Image>,
    containers: &dyn Fn(&Digest) -> Vec<String>,
) -> Option<Vec<Value>> {
    let parts = store.parts(image).ok()?;
    let mut told = Vec::with_capacity(parts.len());
    for part in &parts {
        told.push(of_part(store, part, &containers(&part.image.id))?);
    }
    if let Some(attested) = Attested::of(image, &parts, &image.repo_tags) {
        let index: Index = serde_json::from_slice(&attested.index).ok()?;
        let claimed = parts.iter().zip(&index.manifests);
        let claimed = claimed.filter(|(part, _)| !part.image.attestations.is_empty());
        for ((part, subject), claims) in claimed.zip(&attested.claims) {
            told.push(of_claims(&part.image, subject, claims)?);
        }
    }
    Some(told)
}

/// The document that the names of an image stand for: its index, else its manifest.
pub fn target(store: &Store, image: &Arc<Image>) -> Option<Descriptor> {
    let mut parts = store.parts(image).ok()?;
    match Attested::of(image, &parts, &image.repo_tags) {
        Some(attested) => {
            let (kind, bytes) = (media_type::OCI_INDEX, &attested.index);
            Some(Descriptor::new(kind, Digest::sha256_of(bytes), length(bytes)))
        }
        None => Some(describe(&parts.pop()?)),
    }
}

fn describe(part: &Part) -> Descriptor {
    let (kind, bytes) = &part.manifest;
    let mut descriptor = Descriptor::new(kind, Digest::sha256_of(bytes), length(bytes));
    descriptor.platform = Some(part.image.config.platform());
    descriptor
}

fn of_part(store: &Store, part: &Part, containers: &[String]) -> Option<Value> {
    let image = &part.image;
    let descriptor = describe(part);
    let blobs: u64 = store.layer_descriptors(image).ok()?.iter().map(|layer| layer.size).sum();
    let content = length(&part.manifest.1) + length(&image.config_bytes) + blobs;
    Some(json!({
        "ID": descriptor.digest.to_string(),
        "Descriptor": descriptor,
        "Available": true,
        "Size": { "Content": content, "Total": content + image.size },
        "Kind": "image",
        "ImageData": {
            "Platform": image.config.platform(),
            "Containers": containers,
            "Size": { "Unpacked": image.size },
        },
    }))
}

/// The manifest of the statements about another.
fn of_claims(image: &Image, subject: &Descriptor, claims: &Claims) -> Option<Value> {
    let manifest: Manifest = serde_json::from_slice(&claims.manifest).ok()?;
    let blobs: u64 = manifest.layers.iter().map(|layer| layer.size).sum();
    let content = length(&claims.manifest) + manifest.config.size + blobs;
    let kinds: Vec<&str> = image.attestations.iter().map(|claim| claim.predicate_type.as_str()).collect();
    Some(json!({
        "ID": claims.entry.digest.to_string(),
        "Descriptor": claims.entry,
        "Available": true,
        "Size": { "Content": content, "Total": content },
        "Kind": "attestation",
        "AttestationData": { "For": subject.digest.to_string(), "PredicateTypes": kinds },
    }))
}

fn length(bytes: &[u8]) -> u64 {
    bytes.len() as u64
}
