//! Which images there are: in memory for look-ups, in the database for the next start.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, RwLock};

use ferry_oci::image::LAYERS_MAX;
use ferry_oci::{Digest, Reference};

use super::error::{RegisterError, TagError};
use super::record::{ImageRecord, ManifestRecord, NameRecord};
use super::{Annotations, Image, Registration};
use crate::blob::Blobs;
use crate::database::{Batch, Database, Table};
use crate::error::{DatabaseError, OpenError};
use crate::files;
use crate::gc::Collector;
use crate::layer::Layers;

/// The images of a store.
pub struct Images {
    pub(super) database: Arc<Database>,
    pub(super) images: Table<ImageRecord>,
    pub(super) names: Table<NameRecord>,
    pub(super) layers: Arc<Layers>,
    pub(super) collector: Arc<Collector>,
    blobs: Blobs,
    pub(super) index: RwLock<Index>,
    /// Held over a whole change, durable write included; readers never wait for it.
    pub(super) changing: Mutex<()>,
}

#[derive(Default)]
pub(super) struct Index {
    pub images: HashMap<Digest, Arc<Image>>,
    pub names: BTreeMap<Reference, Digest>,
}

pub(super) const POISONED: &str = "no thread panics while it holds the image index";

impl Images {
    pub(crate) fn open(
        database: &Arc<Database>,
        layers: &Arc<Layers>,
        blobs: &Blobs,
        collector: &Arc<Collector>,
    ) -> Result<Images, OpenError> {
        let images = Table::new(database, "images");
        let names = Table::new(database, "names");
        let index = read_index(&images, &names, layers)?;
        for image in index.images.values() {
            collector.set_image(&image.id, image.diff_ids());
        }
        Ok(Images {
            database: Arc::clone(database),
            images,
            names,
            layers: Arc::clone(layers),
            collector: Arc::clone(collector),
            blobs: blobs.clone(),
            index: RwLock::new(index),
            changing: Mutex::new(()),
        })
    }

    /// All images, newest first.
    pub fn list(&self) -> Vec<Arc<Image>> {
        let mut images: Vec<Arc<Image>> =
            self.index.read().expect(POISONED).images.values().cloned().collect();
        images.sort_by_cached_key(|image| (std::cmp::Reverse(image.created_seconds()), image.id.clone()));
        images
    }

    /// The image with this id.
    pub fn get(&self, id: &Digest) -> Option<Arc<Image>> {
        self.index.read().expect(POISONED).images.get(id).cloned()
    }

    /// Makes an image of a config whose layers are in the store. Durable when it returns.
    pub fn register(&self, registration: Registration) -> Result<Arc<Image>, RegisterError> {
        let mut images = self.register_all(vec![registration])?;
        Ok(images.pop().expect("one image comes of one registration"))
    }

    /// Registers several images with one sync. All or none become visible.
    pub fn register_all(&self, registrations: Vec<Registration>) -> Result<Vec<Arc<Image>>, RegisterError> {
        let mut checked = Vec::with_capacity(registrations.len());
        for registration in registrations {
            checked.push(self.check(registration)?);
        }
        // Holding the records keeps the layers from being collected until the images are there.
        let _leases: Vec<_> = checked.iter().flat_map(|new| &new.leases).cloned().collect();
        let mut batch = Batch::new();
        let mut diff_ids: Vec<Digest> = Vec::new();
        for new in &checked {
            self.layers.inherit(&new.diff_ids)?;
            diff_ids.extend(new.diff_ids.iter().cloned());
        }
        diff_ids.sort();
        diff_ids.dedup();
        let written = self.layers.make_durable(&diff_ids, &mut batch)?;
        let _changing = self.changing.lock().expect(POISONED);
        let mut images = Vec::new();
        for new in &checked {
            images.push(self.plan(new, &mut batch)?);
        }
        self.database.commit(batch)?;
        self.layers.made_durable(&written);
        Ok(images.into_iter().map(|plan| self.apply(plan)).collect())
    }

    fn check(&self, registration: Registration) -> Result<Checked, RegisterError> {
        let id = Digest::sha256_of(&registration.config);
        let config = String::from_utf8(registration.config).map_err(|error| RegisterError::Config {
            digest: id.clone(),
            source: serde::de::Error::custom(error),
        })?;
        let parsed: ferry_oci::image::ImageConfig = serde_json::from_str(&config)
            .map_err(|source| RegisterError::Config { digest: id.clone(), source })?;
        let diff_ids = parsed.rootfs.diff_ids;
        if diff_ids.len() > LAYERS_MAX {
            let layers = diff_ids.len();
            return Err(RegisterError::TooManyLayers { image: id, layers, limit: LAYERS_MAX });
        }
        let mut leases = Vec::new();
        for diff_id in &diff_ids {
            let missing = || RegisterError::MissingLayer { image: id.clone(), diff_id: diff_id.clone() };
            leases.push(self.layers.get(diff_id).ok_or_else(missing)?);
        }
        let manifest = match registration.manifest {
            Some((media_type, bytes)) => {
                let body = String::from_utf8(bytes).map_err(|_| RegisterError::Manifest(id.clone()))?;
                self.blobs.put(body.as_bytes())?;
                Some(ManifestRecord { media_type, body })
            }
            None => None,
        };
        self.blobs.put(config.as_bytes())?;
        let names = registration.references.iter().flat_map(names_of).collect();
        let (parent, built) = (registration.parent, registration.built);
        let record = ImageRecord {
            config,
            manifest,
            parent,
            last_tagged: None,
            built,
            attestations: Vec::new(),
            annotations: Annotations::default(),
            group: Vec::new(),
        };
        Ok(Checked { id, record, diff_ids, names, leases })
    }

    /// Adds what a registration writes to the batch.
    fn plan(&self, new: &Checked, batch: &mut Batch) -> Result<Plan, RegisterError> {
        let known = self.get(&new.id);
        let mut record = new.record.clone();
        if let Some(known) = &known {
            let old = known.record();
            record.manifest = record.manifest.or(old.manifest);
            record.parent = record.parent.or(old.parent);
            record.last_tagged = old.last_tagged;
            record.built = record.built.or(old.built);
            record.attestations = old.attestations;
            record.annotations = old.annotations;
            // A name that is given anew stands for this image alone; what others of its names stand for stays.
            let has_others = known.references.iter().any(|name| !new.names.contains(name));
            record.group = if new.names.is_empty() || has_others { old.group } else { Vec::new() };
        }
        if !new.names.is_empty() {
            record.last_tagged = Some(files::now());
        }
        self.images.put_in(batch, &new.id.to_string(), &record)?;
        for name in &new.names {
            self.names.put_in(batch, &name.to_string(), &NameRecord { image: new.id.clone() })?;
        }
        let references = known.map(|known| known.references.clone()).unwrap_or_default();
        let image = record
            .image(references, &self.layers)
            .map_err(|source| RegisterError::Config { digest: new.id.clone(), source })?;
        Ok(Plan { image, names: new.names.clone() })
    }

    /// Makes a committed registration visible.
    fn apply(&self, plan: Plan) -> Arc<Image> {
        let id = plan.image.id.clone();
        self.collector.set_image(&id, plan.image.diff_ids());
        let mut index = self.index.write().expect(POISONED);
        index.images.insert(id.clone(), Arc::new(plan.image));
        for name in plan.names {
            index.point(name, &id);
        }
        Arc::clone(&index.images[&id])
    }

    /// Gives an image a name, taking it from the image that had it (returned). Durable.
    pub fn tag(&self, id: &Digest, reference: &Reference) -> Result<Option<Digest>, TagError> {
        if reference.digest().is_some() {
            return Err(TagError::Digest);
        }
        let name = with_tag(reference);
        let _changing = self.changing.lock().expect(POISONED);
        let image = self.get(id).ok_or_else(|| TagError::NotFound(id.clone()))?;
        let mut batch = Batch::new();
        let mut record = image.record();
        record.last_tagged = Some(files::now());
        let last_tagged = record.last_tagged.clone();
        self.images.put_in(&mut batch, &id.to_string(), &record)?;
        self.names.put_in(&mut batch, &name.to_string(), &NameRecord { image: id.clone() })?;
        self.database.commit(batch)?;
        let mut index = self.index.write().expect(POISONED);
        index.change(id, |image| image.last_tagged = last_tagged);
        Ok(index.point(name, id).filter(|previous| previous != id))
    }

    /// Notes that a registry knows an image under this name and digest. Durable.
    pub fn note_digest(&self, id: &Digest, reference: &Reference) -> Result<(), TagError> {
        let _changing = self.changing.lock().expect(POISONED);
        if self.get(id).is_none() {
            return Err(TagError::NotFound(id.clone()));
        }
        let mut batch = Batch::new();
        self.names.put_in(&mut batch, &reference.to_string(), &NameRecord { image: id.clone() })?;
        self.database.commit(batch)?;
        self.index.write().expect(POISONED).point(reference.clone(), id);
        Ok(())
    }

    /// Takes a name away, durably; true when it was there. The image stays.
    pub fn untag(&self, reference: &Reference) -> Result<bool, DatabaseError> {
        let name = if reference.digest().is_some() { reference.clone() } else { with_tag(reference) };
        let _changing = self.changing.lock().expect(POISONED);
        if !self.index.read().expect(POISONED).names.contains_key(&name) {
            return Ok(false);
        }
        self.names.remove(&name.to_string())?;
        self.index.write().expect(POISONED).forget(&name);
        Ok(true)
    }
}

struct Checked {
    id: Digest,
    record: ImageRecord,
    diff_ids: Vec<Digest>,
    names: Vec<Reference>,
    leases: Vec<Arc<crate::layer::LayerRecord>>,
}

struct Plan {
    image: Image,
    names: Vec<Reference>,
}

impl Index {
    /// Lets a name point to an image; gives the image it pointed to before.
    pub fn point(&mut self, name: Reference, id: &Digest) -> Option<Digest> {
        let previous = self.names.insert(name, id.clone());
        if let Some(previous) = &previous {
            self.refresh(previous);
        }
        self.refresh(id);
        previous
    }

    /// Removes a name.
    pub fn forget(&mut self, name: &Reference) {
        if let Some(id) = self.names.remove(name) {
            self.refresh(&id);
        }
    }

    /// The names of an image.
    pub fn references(&self, id: &Digest) -> Vec<Reference> {
        self.names.iter().filter(|(_, image)| *image == id).map(|(name, _)| name.clone()).collect()
    }

    fn refresh(&mut self, id: &Digest) {
        let references = self.references(id);
        self.change(id, |image| image.set_references(references));
    }

    pub(super) fn change(&mut self, id: &Digest, change: impl FnOnce(&mut Image)) {
        if let Some(image) = self.images.get_mut(id) {
            change(Arc::make_mut(image));
        }
    }
}

/// `name:tag@digest` is two names.
fn names_of(reference: &Reference) -> Vec<Reference> {
    let mut names = Vec::new();
    if let Some(digest) = reference.digest() {
        names.push(reference.with_digest(digest.clone()));
    }
    if reference.tag().is_some() || reference.digest().is_none() {
        names.push(with_tag(reference));
    }
    names
}

/// The name with its tag, `latest` when it has none, and without a digest.
pub(super) fn with_tag(reference: &Reference) -> Reference {
    let tag = reference.tag().unwrap_or(ferry_oci::reference::DEFAULT_TAG);
    reference.with_tag(tag).expect("a tag of a parsed reference, or the default one, is well formed")
}

fn read_index(
    images: &Table<ImageRecord>,
    names: &Table<NameRecord>,
    layers: &Layers,
) -> Result<Index, DatabaseError> {
    let mut index = Index::default();
    let report = |kind: &str, key: &str, error: &dyn std::error::Error| {
        tracing::error!(kind, key, %error, "record is unusable");
    };
    for (key, record) in images.list_each()? {
        match record {
            Ok(record) => match record.image(Vec::new(), layers) {
                Ok(image) => drop(index.images.insert(image.id.clone(), Arc::new(image))),
                Err(error) => report("image", &key, &error),
            },
            Err(error) => report("image", &key, &error),
        }
    }
    for (key, record) in names.list_each()? {
        match (Reference::parse_name(&key), record) {
            (Ok(name), Ok(record)) if index.images.contains_key(&record.image) => {
                index.point(name, &record.image);
            }
            (Ok(_), Ok(record)) => {
                tracing::error!(name = key, image = %record.image, "name points to an image that is missing");
            }
            (Err(error), _) => report("name", &key, &error),
            (_, Err(error)) => report("name", &key, &error),
        }
    }
    Ok(index)
}
