//! From a reference and a platform to the one manifest that is meant, over mirrors first.

use ferry_oci::image::{Descriptor, Index, LAYERS_MAX, Manifest, media_type};
use ferry_oci::{Platform, Reference};

use crate::credentials::Credentials;
use crate::error::RemoteError;
use crate::registry::Registry;
use crate::repository::{FetchedManifest, Repository};

/// Most manifests that an index may list.
const INDEX_ENTRIES_MAX: usize = 1000;

/// An image found on a registry.
pub struct Resolved {
    /// Where it was found; layers come from there.
    pub repository: Repository,
    /// Where else it should be, the registry itself last: for what the first place fails to give.
    pub others: Vec<Repository>,
    /// What the reference itself stands for: the index, or the manifest where there is none. Its digest is what
    /// `name@digest` shows.
    pub top: FetchedManifest,
    /// The platform's manifest as sent.
    pub manifest: FetchedManifest,
    /// The same, parsed.
    pub parsed: Manifest,
}

impl Resolved {
    /// All places, best first.
    #[must_use]
    pub fn repositories(&self) -> Vec<Repository> {
        std::iter::once(&self.repository).chain(&self.others).cloned().collect()
    }
}

/// Finds an image, asking mirrors first and going on to the next address where one fails or has it not.
///
/// # Errors
/// The last address's answer; that of the registry itself rather than of a mirror, unless it is out of reach.
pub async fn resolve(
    registry: &Registry,
    reference: &Reference,
    platform: &Platform,
    credentials: Option<&Credentials>,
) -> Result<Resolved, RemoteError> {
    let mut first_own = None;
    let mut unknown_to_mirror = false;
    let mut candidates = registry.candidates(reference, credentials).into_iter();
    while let Some(repository) = candidates.next() {
        let is_mirror = repository.endpoint().is_mirror;
        match resolve_at(repository, reference, platform).await {
            Ok(resolved) if !is_mirror => return Ok(resolved),
            Ok(resolved) => return Ok(Resolved { others: candidates.collect(), ..resolved }),
            Err(error) if !is_mirror && !is_mute(&error) => return Err(error),
            Err(error) if !is_mirror => first_own = Some(error),
            Err(error) => {
                tracing::info!(%error, "a mirror does not give {reference}");
                unknown_to_mirror |= matches!(error, RemoteError::ManifestUnknown { .. });
            }
        }
    }
    // Where the registry itself is out of reach, as on a machine that only has its mirror, the mirror's word counts.
    if unknown_to_mirror && first_own.as_ref().is_some_and(is_unreachable) {
        return Err(RemoteError::Denied {
            repository: reference.familiar_name(),
            reason: format!(
                "no mirror has {}, and {} cannot be reached",
                reference.familiar(),
                reference.domain()
            ),
        });
    }
    Err(first_own.unwrap_or_else(|| RemoteError::ManifestUnknown { reference: reference.familiar() }))
}

/// An answer is an answer: plain http is tried only where https could not be spoken at all. A proxy for http alone may
/// know a name that nobody else does.
fn is_mute(error: &RemoteError) -> bool {
    use RemoteError as E;
    matches!(error, E::Connect { .. } | E::Exchange { .. } | E::Resolve { .. })
}

/// Nobody was there to answer.
fn is_unreachable(error: &RemoteError) -> bool {
    matches!(error, RemoteError::Connect { .. } | RemoteError::Resolve { .. })
}

async fn resolve_at(
    repository: Repository,
    reference: &Reference,
    platform: &Platform,
) -> Result<Resolved, RemoteError> {
    let wanted = match (reference.digest(), reference.tag()) {
        (Some(digest), _) => digest.to_string(),
        (None, tag) => tag.unwrap_or("latest").to_owned(),
    };
    let top = repository.manifest(&wanted).await?;
    let manifest = if media_type::is_index(&top.media_type) {
        let index: Index = parse(&top, reference)?;
        let entry = choose(&index, platform, reference)?;
        repository.manifest(&entry.digest.to_string()).await?
    } else {
        top.clone()
    };
    if !media_type::is_manifest(&manifest.media_type) {
        return Err(RemoteError::MediaType {
            reference: reference.familiar(),
            media_type: manifest.media_type,
        });
    }
    let parsed: Manifest = parse(&manifest, reference)?;
    if parsed.layers.len() > LAYERS_MAX {
        let reason = format!("{} layers, more than {LAYERS_MAX}", parsed.layers.len());
        return Err(RemoteError::Protocol { place: reference.familiar(), reason });
    }
    Ok(Resolved { repository, others: Vec::new(), top, manifest, parsed })
}

fn parse<T: serde::de::DeserializeOwned>(
    document: &FetchedManifest,
    reference: &Reference,
) -> Result<T, RemoteError> {
    serde_json::from_slice(&document.bytes).map_err(|error| RemoteError::Protocol {
        place: reference.familiar(),
        reason: format!("its manifest {} cannot be read: {error}", document.digest),
    })
}

/// The entry for a platform: the first that satisfies it, as the specification orders them. Attestations and other
/// entries without a real platform are passed over.
fn choose<'a>(
    index: &'a Index,
    wanted: &Platform,
    reference: &Reference,
) -> Result<&'a Descriptor, RemoteError> {
    if index.manifests.len() > INDEX_ENTRIES_MAX {
        let reason = format!("{} entries, more than {INDEX_ENTRIES_MAX}", index.manifests.len());
        return Err(RemoteError::Protocol { place: reference.familiar(), reason });
    }
    let images: Vec<&Descriptor> = index.manifests.iter().filter(|entry| is_image(entry)).collect();
    let fits =
        |entry: &&&Descriptor| entry.platform.as_ref().is_some_and(|platform| platform.satisfies(wanted));
    let unnamed = |entry: &&&Descriptor| entry.platform.is_none() && images.len() == 1;
    if let Some(entry) = images.iter().find(fits).or_else(|| images.iter().find(unnamed)) {
        return Ok(entry);
    }
    let present: Vec<String> =
        images.iter().filter_map(|entry| entry.platform.as_ref()).map(ToString::to_string).collect();
    Err(RemoteError::NoPlatform {
        reference: reference.familiar(),
        wanted: wanted.to_string(),
        present: present.join(", "),
    })
}

fn is_image(entry: &Descriptor) -> bool {
    let attestation = entry.annotations.contains_key("vnd.docker.reference.type");
    let unknown = entry.platform.as_ref().is_some_and(|platform| platform.os == "unknown");
    !attestation && !unknown && (entry.media_type.is_empty() || media_type::is_manifest(&entry.media_type))
}

#[cfg(test)]
mod tests {
    use super::*;
    use ferry_oci::Digest;

    fn entry(name: &str, platform: Option<&str>) -> Descriptor {
        let mut entry = Descriptor::new(media_type::OCI_MANIFEST, Digest::sha256_of(name.as_bytes()), 1);
        entry.platform = platform.map(|platform| Platform::parse(platform).expect("a platform"));
        entry
    }

    fn index(manifests: Vec<Descriptor>) -> Index {
        Index { schema_version: 2, media_type: None, manifests, annotations: Default::default() }
    }

    #[test]
    fn choice_of_platform() {
        let reference = Reference::parse_normalized("box").expect("a name");
        let many = index(vec![
            entry("a", Some("linux/arm64")),
            entry("b", Some("linux/amd64")),
            entry("c", Some("linux/amd64")),
        ]);
        let pick = |index: &Index, platform: &str| {
            choose(index, &Platform::parse(platform).expect("a platform"), &reference)
                .map(|entry| entry.digest.clone())
        };
        assert_eq!(pick(&many, "linux/amd64").expect("found"), Digest::sha256_of(b"b"));
        assert_eq!(pick(&many, "linux/arm64").expect("found"), Digest::sha256_of(b"a"));
        let error = pick(&many, "linux/s390x").expect_err("not there").to_string();
        assert!(error.contains("linux/s390x") && error.contains("linux/arm64"), "{error}");
        assert_eq!(
            pick(&index(vec![entry("a", None)]), "linux/amd64").expect("the only one"),
            Digest::sha256_of(b"a")
        );
    }
}
