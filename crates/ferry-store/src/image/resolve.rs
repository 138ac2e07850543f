//! From what a person types to an image.

use std::sync::Arc;

use ferry_oci::{Digest, Reference};

use super::Image;
use super::error::ResolveError;
use super::index::{Images, Index, POISONED, with_tag};

impl Images {
    /// The image that a person names: `busybox`, `busybox:1`, an id or its prefix (with or without
    /// `sha256:`), `name@digest`. A name wins over an id prefix, as in Docker.
    pub fn resolve(&self, name: &str) -> Result<Arc<Image>, ResolveError> {
        let index = self.index.read().expect(POISONED);
        index.resolve(name)
    }
}

impl Index {
    pub fn resolve(&self, text: &str) -> Result<Arc<Image>, ResolveError> {
        if let Some(id) = full_id(text) {
            return self.images.get(&id).cloned().ok_or_else(|| ResolveError::NotFound(text.to_owned()));
        }
        let parsed = Reference::parse_name(text);
        if let Ok(reference) = &parsed
            && let Some(image) = self.by_reference(reference)
        {
            return Ok(image);
        }
        if let Some(image) = self.by_prefix(text)? {
            return Ok(image);
        }
        match parsed {
            // Docker tells the name with the tag it looked for.
            Ok(reference) if reference.digest().is_none() => {
                Err(ResolveError::NotFound(with_tag(&reference).familiar()))
            }
            Ok(reference) => Err(ResolveError::NotFound(reference.familiar())),
            Err(_) if text.starts_with("sha256:") => Err(ResolveError::NotFound(text.to_owned())),
            Err(error) => Err(error.into()),
        }
    }

    fn by_reference(&self, reference: &Reference) -> Option<Arc<Image>> {
        let id = match reference.digest() {
            Some(digest) => self.by_digest(reference, digest)?,
            None => self.names.get(&with_tag(reference))?,
        };
        self.images.get(id).cloned()
    }

    /// `name@digest`: the manifest's digest under that name, or the id of an image of that name.
    fn by_digest(&self, reference: &Reference, digest: &Digest) -> Option<&Digest> {
        if let Some(id) = self.names.get(&reference.with_digest(digest.clone())) {
            return Some(id);
        }
        let same_repository =
            |name: &Reference| name.domain() == reference.domain() && name.path() == reference.path();
        let mut ids = self.names.iter().filter(|(name, _)| same_repository(name)).map(|(_, id)| id);
        ids.find(|id| {
            let manifest = self.images.get(*id).and_then(|image| image.manifest.clone());
            *id == digest || manifest.is_some_and(|manifest| manifest.digest == *digest)
        })
    }

    fn by_prefix(&self, text: &str) -> Result<Option<Arc<Image>>, ResolveError> {
        let prefix = text.strip_prefix("sha256:").unwrap_or(text);
        if prefix.is_empty() || !prefix.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Ok(None);
        }
        let mut found = self.images.values().filter(|image| image.id.hex().starts_with(prefix));
        let Some(first) = found.next() else {
            return Ok(None);
        };
        match found.count() {
            0 => Ok(Some(Arc::clone(first))),
            more => Err(ResolveError::Ambiguous { prefix: text.to_owned(), count: 1 + more }),
        }
    }
}

/// 64 hex digits, with or without the algorithm in front.
fn full_id(text: &str) -> Option<Digest> {
    Digest::parse(text).ok().or_else(|| Digest::parse(&format!("sha256:{text}")).ok())
}

/// Whether a text names an image by its id (so that removing it removes the image, not a name).
pub(super) fn is_id_prefix(id: &Digest, text: &str) -> bool {
    let prefix = text.strip_prefix("sha256:").unwrap_or(text);
    !prefix.is_empty() && id.hex().starts_with(prefix)
}
