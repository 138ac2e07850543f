//! The manifests of an image, as `manifests=1` asks for them and `images --tree` shows them: its own, and that of what is
//! claimed of it.

use ferry_oci::Digest;
use ferry_oci::image::{Descriptor, Index, Manifest};
use ferry_store::image::Attested;
use ferry_store::{Image, Store};
use serde_json::{Value, json};

/// All of them; none where the store has lost a layer. `containers` are the ids of those made of the image.
pub fn of(store: &Store, image: &Image, containers: &[String]) -> Option<Vec<Value>> {
    let layers = store.layer_descriptors(image).ok()?;
    let (media_type, manifest) = ferry_store::archive::manifest_of(image, &layers).ok()?;
    let mut descriptor = Descriptor::new(&media_type, Digest::sha256_of(&manifest), length(&manifest));
    descriptor.platform = Some(image.config.platform());
    let blobs: u64 = layers.iter().map(|layer| layer.size).sum();
    let content = length(&manifest) + length(&image.config_bytes) + blobs;
    let own = json!({
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
    });
    let claims = Attested::of(image, &(media_type, manifest), &image.repo_tags);
    Some(std::iter::once(own).chain(claims.and_then(|claims| of_claims(image, &claims))).collect())
}

/// The manifest of the statements, which comes second in the index that they make of the image.
fn of_claims(image: &Image, claims: &Attested) -> Option<Value> {
    let index: Index = serde_json::from_slice(&claims.index).ok()?;
    let (subject, own) = (index.manifests.first()?, index.manifests.get(1)?);
    let bytes = claims.manifest.as_ref()?;
    let manifest: Manifest = serde_json::from_slice(bytes).ok()?;
    let blobs: u64 = manifest.layers.iter().map(|layer| layer.size).sum();
    let content = length(bytes) + manifest.config.size + blobs;
    let kinds: Vec<&str> = image.attestations.iter().map(|claim| claim.predicate_type.as_str()).collect();
    Some(json!({
        "ID": own.digest.to_string(),
        "Descriptor": own,
        "Available": true,
        "Size": { "Content": content, "Total": content },
        "Kind": "attestation",
        "AttestationData": { "For": subject.digest.to_string(), "PredicateTypes": kinds },
    }))
}

fn length(bytes: &[u8]) -> u64 {
    bytes.len() as u64
}
