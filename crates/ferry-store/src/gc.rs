//! What may go: a layer that no image, no container, no pin and no import under way refers to.
//!
//! Marking is a pure function over data ([`unreferenced`]); removing is the layers' business.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, MutexGuard};

use ferry_oci::Digest;

use crate::layer::{LayerError, Layers};
use crate::store::Store;

/// What refers to layers: images by id, containers' snapshots by container id.
#[derive(Debug, Default)]
pub struct Collector {
    roots: Mutex<Roots>,
}

/// The references to layers.
#[derive(Debug, Default, Clone)]
pub struct Roots {
    /// Layers of each image.
    pub images: HashMap<Digest, Vec<Digest>>,
    /// Layers under each container.
    pub snapshots: HashMap<String, Vec<Digest>>,
}

/// Those of the candidates that no root refers to, each once.
pub fn unreferenced(candidates: &[Digest], roots: &Roots) -> Vec<Digest> {
    let marked: HashSet<&Digest> = roots.images.values().chain(roots.snapshots.values()).flatten().collect();
    let mut seen = HashSet::new();
    candidates.iter().filter(|diff_id| !marked.contains(*diff_id) && seen.insert(*diff_id)).cloned().collect()
}

impl Collector {
    fn roots(&self) -> MutexGuard<'_, Roots> {
        self.roots.lock().expect("no thread panics while it holds the roots")
    }

    pub(crate) fn set_image(&self, id: &Digest, layers: Vec<Digest>) {
        self.roots().images.insert(id.clone(), layers);
    }

    pub(crate) fn forget_image(&self, id: &Digest) {
        self.roots().images.remove(id);
    }

    /// Notes the layers of a snapshot if all of them are there; else gives the missing one.
    pub(crate) fn set_snapshot(&self, id: &str, diff_ids: &[Digest], layers: &Layers) -> Result<(), Digest> {
        let mut roots = self.roots();
        if let Some(missing) = diff_ids.iter().find(|diff_id| layers.get(diff_id).is_none()) {
            return Err(missing.clone());
        }
        roots.snapshots.insert(id.to_owned(), diff_ids.to_vec());
        Ok(())
    }

    pub(crate) fn forget_snapshot(&self, id: &str) -> Option<Vec<Digest>> {
        self.roots().snapshots.remove(id)
    }

    pub(crate) fn snapshot(&self, id: &str) -> Option<Vec<Digest>> {
        self.roots().snapshots.get(id).cloned()
    }

    /// Removes those of the candidates that nothing refers to.
    pub(crate) fn collect(&self, layers: &Layers, candidates: &[Digest]) -> Result<Vec<Digest>, LayerError> {
        let taken = {
            // While the roots are held nobody can begin to refer to a layer by way of them, and
            // taking layers out of the index is done in memory, so this is short.
            let roots = self.roots();
            layers.take_unused(&unreferenced(candidates, &roots))
        };
        layers.discard_taken(&taken)?;
        Ok(taken.iter().map(|record| record.diff_id.clone()).collect())
    }
}

/// Pending layers and blobs younger than this are left alone: an import may be about to use them.
const GRACE_SECONDS: i64 = 3600;

/// What came of a blob whose transfer broke off waits this long for somebody to go on: a weekend.
const PARTIAL_SECONDS: i64 = 3 * 24 * 3600;

/// What a collection removed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Collected {
    /// Layers, by diff id.
    pub layers: Vec<Digest>,
    /// Blobs.
    pub blobs: Vec<Digest>,
}

impl Store {
    /// Removes layers and blobs that nothing refers to. `keep` speaks for blobs of others (a
    /// registry's, a transfer's). Run at start-up and after large removals; most of what becomes
    /// free is removed at once by the removal itself.
    pub fn gc(&self, keep: &dyn Fn(&Digest) -> bool) -> Result<Collected, LayerError> {
        let now = jiff::Timestamp::now().as_second();
        let old = |created: &str| now - crate::image::seconds_of(created) > GRACE_SECONDS;
        let candidates: Vec<Digest> = self
            .layers()
            .list()
            .iter()
            .filter(|record| old(&record.created))
            .map(|record| record.diff_id.clone())
            .collect();
        let layers = self.collect_layers(&candidates)?;
        let mut used: HashSet<Digest> = HashSet::new();
        for record in self.layers().list() {
            used.extend(record.blob.iter().map(|blob| blob.digest.clone()));
        }
        for image in self.images().list() {
            used.insert(image.id.clone());
            used.extend(image.manifest.iter().map(|manifest| manifest.digest.clone()));
        }
        let unused = |digest: &Digest| !used.contains(digest) && !keep(digest);
        let mut blobs = Vec::new();
        for digest in self.blobs().older_than(now - GRACE_SECONDS)?.into_iter().filter(unused) {
            self.blobs().discard(&digest)?;
            blobs.push(digest);
        }
        crate::blob::discard_partial(self.layout(), now - PARTIAL_SECONDS)?;
        Ok(Collected { layers, blobs })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_nothing_refers_to_is_unreferenced() {
        let digest = |text: &str| Digest::sha256_of(text.as_bytes());
        let (a, b, c, d) = (digest("a"), digest("b"), digest("c"), digest("d"));
        let mut roots = Roots::default();
        roots.images.insert(digest("image"), vec![a.clone(), b.clone()]);
        roots.snapshots.insert("container".into(), vec![c.clone()]);
        let candidates = [a, b, c, d.clone(), d.clone()];
        assert_eq!(unreferenced(&candidates, &roots), [d]);
        assert_eq!(unreferenced(&candidates, &Roots::default()).len(), 4);
    }
}
