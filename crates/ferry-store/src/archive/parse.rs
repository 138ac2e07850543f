//! What an archive's own documents say: `manifest.json` (docker-archive), `index.json` (OCI).
//!
//! Pure: takes bytes, gives plans. What is found is not yet known to be there.

use ferry_oci::image::{Descriptor, Index, LAYERS_MAX, Manifest, media_type};
use ferry_oci::{Platform, Reference, ReferenceError};
use serde::Deserialize;

/// Most images in one archive.
const IMAGES_MAX: usize = 10_000;
/// Most names of one image.
const NAMES_MAX: usize = 10_000;

/// Why a document of an archive cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ParseError {
    /// It is not what it should be.
    #[error("{document} is malformed")]
    Json {
        /// Its name in the archive.
        document: String,
        /// What does not fit.
        #[source]
        source: serde_json::Error,
    },
    /// It names an image with a bad name.
    #[error("{document} names an image badly")]
    Name {
        /// The document's name.
        document: String,
        /// What is wrong.
        #[source]
        source: ReferenceError,
    },
    /// A list is too long.
    #[error("{document}: more than {limit} {what}")]
    TooMany {
        /// The document's name.
        document: String,
        /// Of what.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
}

/// One image of a `manifest.json`.
#[derive(Debug, Clone, PartialEq)]
pub struct DockerImage {
    /// Name of the config's entry.
    pub config: String,
    /// Names of the layers' entries, lowest first.
    pub layers: Vec<String>,
    /// Names of the image.
    pub references: Vec<Reference>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerItem {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Option<Vec<String>>,
}

fn json<'a, T: Deserialize<'a>>(document: &str, bytes: &'a [u8]) -> Result<T, ParseError> {
    serde_json::from_slice(bytes).map_err(|source| ParseError::Json { document: document.to_owned(), source })
}

fn at_most(document: &str, what: &'static str, found: usize, limit: usize) -> Result<(), ParseError> {
    if found > limit {
        return Err(ParseError::TooMany { document: document.to_owned(), what, limit });
    }
    Ok(())
}

/// Parses a `manifest.json`.
pub fn docker_manifest(bytes: &[u8]) -> Result<Vec<DockerImage>, ParseError> {
    let document = "manifest.json";
    let items: Vec<DockerItem> = json(document, bytes)?;
    at_most(document, "images", items.len(), IMAGES_MAX)?;
    items
        .into_iter()
        .map(|item| {
            let tags = item.repo_tags.unwrap_or_default();
            let layers = item.layers.unwrap_or_default();
            at_most(document, "layers of one image", layers.len(), LAYERS_MAX)?;
            at_most(document, "names of one image", tags.len(), NAMES_MAX)?;
            let parse = |tag: &String| {
                Reference::parse_normalized(tag)
                    .map_err(|source| ParseError::Name { document: document.to_owned(), source })
            };
            let references = tags.iter().map(parse).collect::<Result<_, _>>()?;
            Ok(DockerImage { config: item.config, layers, references })
        })
        .collect()
}

/// Parses an index (`index.json` or a blob).
pub fn index(document: &str, bytes: &[u8]) -> Result<Index, ParseError> {
    let index: Index = json(document, bytes)?;
    at_most(document, "manifests", index.manifests.len(), IMAGES_MAX)?;
    Ok(index)
}

/// Parses the manifest of one image.
pub fn manifest(document: &str, bytes: &[u8]) -> Result<Manifest, ParseError> {
    let manifest: Manifest = json(document, bytes)?;
    at_most(document, "layers", manifest.layers.len(), LAYERS_MAX)?;
    Ok(manifest)
}

/// Annotation with the full name, as containerd and docker write it.
const CONTAINERD_NAME: &str = "io.containerd.image.name";
/// Annotation with a name or only a tag, as the OCI layout says.
const OCI_NAME: &str = "org.opencontainers.image.ref.name";

/// The name that a descriptor in an `index.json` gives its image. A lone tag is no name: there is
/// nothing that says of which repository.
pub fn name_of(descriptor: &Descriptor) -> Result<Option<Reference>, ParseError> {
    let full = descriptor.annotations.get(CONTAINERD_NAME);
    let name = full.or_else(|| {
        let name = descriptor.annotations.get(OCI_NAME)?;
        name.contains(['/', ':']).then_some(name)
    });
    match name {
        None => Ok(None),
        Some(name) => Reference::parse_normalized(name)
            .map(Some)
            .map_err(|source| ParseError::Name { document: "index.json".to_owned(), source }),
    }
}

/// Whether the descriptor is of an attestation, which is no image.
fn is_attestation(descriptor: &Descriptor) -> bool {
    descriptor.annotations.contains_key("vnd.docker.reference.type")
        || descriptor.platform.as_ref().is_some_and(|platform| platform.os == "unknown")
}

/// Of an index over platforms, the manifest to take: that of the wanted platform, else (when
/// nobody asked for one) of the host, else the only one there.
pub fn choose<'a>(
    manifests: &'a [Descriptor],
    wanted: Option<&Platform>,
    is_there: &dyn Fn(&Descriptor) -> bool,
) -> Option<&'a Descriptor> {
    let candidates: Vec<&Descriptor> =
        manifests.iter().filter(|descriptor| !is_attestation(descriptor) && is_there(descriptor)).collect();
    let of = |platform: &Platform| {
        let fits = |descriptor: &&&Descriptor| {
            descriptor.platform.as_ref().is_some_and(|found| found.satisfies(platform))
        };
        candidates.iter().find(fits).copied()
    };
    match wanted {
        Some(platform) => of(platform),
        None => of(&Platform::host()).or(match candidates[..] {
            [only] => Some(only),
            _ => None,
        }),
    }
}

/// Whether a descriptor says it is an index; one without a media type is looked into.
pub fn is_index(descriptor: &Descriptor) -> bool {
    media_type::is_index(&descriptor.media_type)
}
