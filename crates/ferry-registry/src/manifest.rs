//! Manifests as pushed: what a document must have to be one, and what it refers to.

use ferry_oci::Digest;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::refusal::{Code, Refusal};

/// Largest manifest that is taken; the specification asks for at least this much.
pub const SIZE_MAX: u64 = 4 << 20;

/// `application/vnd.oci.image.manifest.v1+json`.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// `application/vnd.oci.image.index.v1+json`.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";

/// What the registry must know about a manifest.
#[derive(Debug, PartialEq, Eq)]
pub struct Parsed {
    /// Its type.
    pub media_type: String,
    /// Blobs that must be in the repository.
    pub blobs: Vec<Digest>,
    /// Manifests that an index lists.
    pub children: Vec<Digest>,
    /// The manifest that this one is about.
    pub subject: Option<Digest>,
    /// The artifact's type as referrers show it.
    pub artifact_type: Option<String>,
    /// Annotations as referrers show them.
    pub annotations: Option<Map<String, Value>>,
    /// Bytes of all that it lists.
    pub listed_size: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    schema_version: Option<u64>,
    media_type: Option<String>,
    artifact_type: Option<String>,
    config: Option<Descriptor>,
    layers: Option<Vec<Descriptor>>,
    manifests: Option<Vec<Descriptor>>,
    subject: Option<Descriptor>,
    annotations: Option<Map<String, Value>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    media_type: String,
    digest: Digest,
    size: u64,
}

/// Whether manifests of a type list other manifests.
pub fn is_index(media_type: &str) -> bool {
    matches!(media_type, OCI_INDEX | DOCKER_LIST)
}

fn invalid(message: impl Into<String>) -> Refusal {
    Refusal::new(Code::ManifestInvalid, message)
}

/// Reads a manifest that came with this `Content-Type`.
pub fn parse(content_type: Option<&str>, bytes: &[u8]) -> Result<Parsed, Refusal> {
    // serde takes an array for a struct, too.
    if bytes.trim_ascii_start().first() != Some(&b'{') {
        return Err(invalid("the manifest is no JSON object"));
    }
    let document: Document = serde_json::from_slice(bytes)
        .map_err(|error| invalid(format!("the manifest is not valid: {error}")))?;
    if document.schema_version != Some(2) {
        return Err(invalid("the manifest's schemaVersion is not 2"));
    }
    let media_type = media_type(content_type, document.media_type.as_deref())?;
    let is_index = match media_type.as_str() {
        OCI_MANIFEST | DOCKER_MANIFEST => false,
        OCI_INDEX | DOCKER_LIST => true,
        other => return Err(invalid(format!("manifests of type {other:?} are not supported"))),
    };
    check_annotations(document.annotations.as_ref())?;
    let subject = document.subject.as_ref().map(|subject| subject.digest.clone());
    let mut artifact_type = document.artifact_type.filter(|text| !text.is_empty());
    let (mut blobs, mut children, mut listed_size) = (Vec::new(), Vec::new(), 0u64);
    if is_index {
        if document.config.is_some() || document.layers.is_some() {
            return Err(invalid("an index has no config and no layers"));
        }
        for child in document.manifests.ok_or_else(|| invalid("the index has no list of manifests"))? {
            listed_size = listed_size.saturating_add(child.size);
            children.push(child.digest);
        }
    } else {
        if document.manifests.is_some() {
            return Err(invalid("an image manifest has no list of manifests"));
        }
        let config = document.config.ok_or_else(|| invalid("the manifest has no config"))?;
        artifact_type = artifact_type.or_else(|| Some(config.media_type.clone()));
        let layers = document.layers.ok_or_else(|| invalid("the manifest has no list of layers"))?;
        for blob in std::iter::once(config).chain(layers).filter(|blob| !lies_elsewhere(&blob.media_type)) {
            listed_size = listed_size.saturating_add(blob.size);
            blobs.push(blob.digest);
        }
        blobs.sort();
        blobs.dedup();
    }
    Ok(Parsed {
        media_type,
        blobs,
        children,
        subject,
        artifact_type,
        annotations: document.annotations,
        listed_size,
    })
}

/// The header and the document must tell the same, where both tell.
fn media_type(header: Option<&str>, field: Option<&str>) -> Result<String, Refusal> {
    let header = header.map(|text| text.split(';').next().unwrap_or_default().trim());
    let header = header.filter(|text| !text.is_empty() && *text != "application/json");
    match (header, field) {
        (Some(header), Some(field)) if header != field => Err(invalid(format!(
            "the manifest's mediaType {field:?} is not the Content-Type {header:?} it was sent with"
        ))),
        (Some(text), _) | (None, Some(text)) => Ok(text.to_owned()),
        (None, None) => Err(invalid("neither the Content-Type nor the manifest names its media type")),
    }
}

fn check_annotations(annotations: Option<&Map<String, Value>>) -> Result<(), Refusal> {
    match annotations.into_iter().flatten().find(|(_, value)| !value.is_string()) {
        Some((key, _)) => Err(invalid(format!("the annotation {key:?} is no text"))),
        None => Ok(()),
    }
}

/// Layers that their makers do not let registries hold.
fn lies_elsewhere(media_type: &str) -> bool {
    media_type.contains(".nondistributable.") || media_type.contains(".foreign.")
}

/// What its subject's list of referrers says of it; None where it is about nothing.
pub fn descriptor(parsed: &Parsed, digest: &Digest, size: usize) -> Option<Value> {
    parsed.subject.as_ref()?;
    let mut descriptor = json!({ "mediaType": parsed.media_type, "digest": digest, "size": size });
    if let Some(kind) = &parsed.artifact_type {
        descriptor["artifactType"] = json!(kind);
    }
    if let Some(annotations) = &parsed.annotations {
        descriptor["annotations"] = json!(annotations);
    }
    Some(descriptor)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn descriptor(media_type: &str) -> String {
        format!(r#"{{"mediaType":"{media_type}","digest":"sha256:{HEX}","size":3}}"#)
    }

    #[test]
    fn what_a_manifest_refers_to() {
        let text = format!(
            r#"{{"schemaVersion":2,"config":{c},"layers":[{c},{l}],"subject":{c},"annotations":{{"a":"b"}}}}"#,
            c = descriptor("x/config"),
            l = descriptor("application/vnd.oci.image.layer.nondistributable.v1.tar")
        );
        let parsed = parse(Some(OCI_MANIFEST), text.as_bytes()).unwrap();
        assert_eq!(parsed.blobs.len(), 1);
        assert_eq!(parsed.artifact_type.as_deref(), Some("x/config"));
        assert!(parsed.subject.is_some());
    }

    #[test]
    fn what_is_no_manifest() {
        let config = descriptor("x/config");
        let manifest = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[]}}"#);
        assert!(parse(Some(OCI_MANIFEST), manifest.as_bytes()).is_ok());
        let wrong_media = format!(r#"{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[]}}"#);
        for (header, text) in [
            (Some(OCI_MANIFEST), "{"),
            (Some(OCI_MANIFEST), "[]"),
            (Some(OCI_MANIFEST), r#"{"schemaVersion":1}"#),
            (Some(OCI_MANIFEST), r#"{"schemaVersion":2}"#),
            (
                Some(OCI_MANIFEST),
                r#"{"schemaVersion":2,"config":{"mediaType":"x","digest":"sha256:1","size":1}}"#,
            ),
            (Some(OCI_INDEX), r#"{"schemaVersion":2}"#),
            (Some(OCI_MANIFEST), wrong_media.as_str()),
            (None, manifest.as_str()),
            (Some("text/plain"), manifest.as_str()),
        ] {
            assert!(parse(header, text.as_bytes()).is_err(), "{header:?} {text}");
        }
    }
}
