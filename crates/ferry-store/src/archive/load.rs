//! `load`: from an archive to images.

use std::collections::{BTreeMap, HashSet};
use std::io::Read;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use ferry_oci::image::{Descriptor, ImageConfig, media_type};
use ferry_oci::{Digest, Platform, Reference};

use super::parse::{self, ParseError};
use super::spool::{LayerBytes, Spool};
use crate::error::IoError;
use crate::image::{RegisterError, Registration};
use crate::layer::{LayerError, LayerOptions, LayerRecord};
use crate::store::Store;
use crate::tar::TarError;

/// Layers unpacked side by side. More only makes the disk seek.
const PARALLEL_LAYERS_MAX: usize = 8;
/// Indexes inside indexes followed.
const INDEX_DEPTH_MAX: usize = 4;

/// An image that a load brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// Its id.
    pub id: Digest,
    /// Names given to it, as people write them; empty when the archive named none.
    pub names: Vec<String>,
}

/// How far a load is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LoadProgress {
    /// A layer begins to be unpacked.
    LayerStarted(Digest),
    /// A layer is in the store (or was there before).
    LayerFinished(Digest),
}

/// Why a load failed; nothing of the archive is visible then.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// Neither kind of table of contents.
    #[error(
        "no manifest.json and no index.json in the archive: it is neither a docker-archive nor an OCI layout"
    )]
    NotAnArchive,
    /// The stream cannot be inflated.
    #[error("cannot read the archive")]
    Stream(#[source] LayerError),
    /// The archive cannot be read.
    #[error(transparent)]
    Tar(#[from] TarError),
    /// An entry has a name that leads out of the archive, or is not UTF-8.
    #[error("bad entry name {0:?} in the archive")]
    Name(String),
    /// Too many entries.
    #[error("archive has more than {limit} entries (at {name:?})")]
    TooManyEntries {
        /// The entry too many.
        name: String,
        /// The limit.
        limit: usize,
    },
    /// A document cannot be used.
    #[error(transparent)]
    Parse(#[from] ParseError),
    /// A document names an entry that is not in the archive.
    #[error("{document} names {name:?}, which is not in the archive")]
    MissingEntry {
        /// Who names it.
        document: String,
        /// The entry.
        name: String,
    },
    /// An entry's bytes are not what its name says.
    #[error("{name:?} has digest {found}, expected {expected}")]
    Digest {
        /// The entry.
        name: String,
        /// Announced.
        expected: Digest,
        /// Computed.
        found: Digest,
    },
    /// The config names another number of layers than the archive.
    #[error("image {image} has {diff_ids} layers in its config but {layers} in the archive")]
    LayerCount {
        /// The image.
        image: Digest,
        /// In the config.
        diff_ids: usize,
        /// In the archive.
        layers: usize,
    },
    /// The archive has no image for the platform.
    #[error("no image for platform {platform} in the archive")]
    Platform {
        /// What was asked for, or the host's.
        platform: Platform,
    },
    /// A layer failed.
    #[error("cannot load layer {name}")]
    Layer {
        /// Its name in the archive.
        name: String,
        /// Why.
        #[source]
        source: LayerError,
    },
    /// The image cannot be registered.
    #[error(transparent)]
    Register(#[from] RegisterError),
    /// A file operation failed.
    #[error(transparent)]
    Io(#[from] IoError),
}

impl LoadError {
    /// Whether the archive is at fault (and not this machine).
    pub fn is_bad_input(&self) -> bool {
        match self {
            LoadError::Register(_) | LoadError::Io(_) => false,
            LoadError::Layer { source, .. } | LoadError::Stream(source) => {
                !matches!(source, LayerError::Io(_) | LayerError::Database(_))
            }
            _ => true,
        }
    }
}

/// An image found in the archive.
struct Found {
    config: Vec<u8>,
    diff_ids: Vec<Digest>,
    manifest: Option<(String, Vec<u8>)>,
    layers: Vec<FoundLayer>,
    references: Vec<Reference>,
}

#[derive(Clone)]
struct FoundLayer {
    entry: String,
    /// What the manifest says about the bytes.
    descriptor: Option<Descriptor>,
}

impl Store {
    /// Takes in the images of an archive (plain, gzip or zstd). All become visible together, durably.
    pub fn load(
        &self,
        reader: impl Read,
        platform: Option<&Platform>,
        progress: &(dyn Fn(LoadProgress) + Sync),
    ) -> Result<Vec<Loaded>, LoadError> {
        let mut spool = Spool::read(reader, self.layout())?;
        let found = find_images(&spool, platform)?;
        let before: HashSet<Digest> = found.iter().flat_map(|image| &image.diff_ids).cloned().collect();
        let result = self.load_layers(&found, &mut spool, progress).and_then(|leases| {
            let registrations = found.iter().map(Found::registration).collect();
            let images = self.images().register_all(registrations)?;
            drop(leases);
            Ok(images)
        });
        let images = match result {
            Ok(images) => images,
            Err(error) => {
                let candidates: Vec<Digest> = before.into_iter().collect();
                if let Err(second) = self.collect_layers(&candidates) {
                    tracing::warn!(error = &second as &dyn std::error::Error, "layers are left behind");
                }
                return Err(error);
            }
        };
        let names = |found: &Found| found.references.iter().map(Reference::familiar).collect();
        Ok(images
            .iter()
            .zip(&found)
            .map(|(image, found)| Loaded { id: image.id.clone(), names: names(found) })
            .collect())
    }

    /// Unpacks the layers side by side; the records returned keep them from being collected.
    fn load_layers(
        &self,
        found: &[Found],
        spool: &mut Spool,
        progress: &(dyn Fn(LoadProgress) + Sync),
    ) -> Result<Vec<std::sync::Arc<LayerRecord>>, LoadError> {
        let mut jobs = Vec::new();
        for (diff_id, layer) in unique_layers(found) {
            let known = self.layers().get(diff_id).filter(|known| known.blob.is_some());
            match (known, spool.take(&layer.entry)) {
                (Some(known), _) => jobs.push(Job::Done(known)),
                (None, Some(bytes)) => {
                    jobs.push(Job::Unpack(Box::new(Unpack { diff_id: diff_id.clone(), layer, bytes })))
                }
                (None, None) => {
                    let document = "the image's list of layers".to_owned();
                    return Err(LoadError::MissingEntry { document, name: layer.entry });
                }
            }
        }
        run_in_parallel(jobs, |job| match job {
            Job::Done(known) => {
                progress(LoadProgress::LayerFinished(known.diff_id.clone()));
                Ok(known)
            }
            Job::Unpack(job) => {
                let Unpack { diff_id, layer, bytes } = *job;
                progress(LoadProgress::LayerStarted(diff_id.clone()));
                let record = self.load_layer(&diff_id, &layer, bytes)?;
                progress(LoadProgress::LayerFinished(diff_id));
                Ok(record)
            }
        })
    }

    fn load_layer(
        &self,
        diff_id: &Digest,
        layer: &FoundLayer,
        bytes: LayerBytes,
    ) -> Result<std::sync::Arc<LayerRecord>, LoadError> {
        let options = LayerOptions {
            diff_id: Some(diff_id.clone()),
            blob_digest: layer.descriptor.as_ref().map(|descriptor| descriptor.digest.clone()),
            media_type: layer.descriptor.as_ref().map(|descriptor| descriptor.media_type.clone()),
            discard_blob: false,
            resume: None,
        };
        let result = match bytes {
            LayerBytes::Memory(bytes) => self.layers().import(bytes.as_slice(), &options),
            LayerBytes::File(spooled) => self.layers().import_spooled(spooled, &options),
        };
        result.map_err(|source| LoadError::Layer { name: layer.entry.clone(), source })
    }
}

enum Job {
    Done(std::sync::Arc<LayerRecord>),
    Unpack(Box<Unpack>),
}

struct Unpack {
    diff_id: Digest,
    layer: FoundLayer,
    bytes: LayerBytes,
}

/// Runs jobs on a few threads; after the first error no further job is begun.
fn run_in_parallel<J: Send, T: Send, E: Send>(
    jobs: Vec<J>,
    run: impl Fn(J) -> Result<T, E> + Sync,
) -> Result<Vec<T>, E> {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = processors.min(PARALLEL_LAYERS_MAX).min(jobs.len());
    let queue = Mutex::new(jobs.into_iter());
    let stop = AtomicBool::new(false);
    let results = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let Some(job) = queue.lock().expect("the queue's lock is held for one step").next()
                    else {
                        return;
                    };
                    let result = run(job);
                    stop.fetch_or(result.is_err(), Ordering::Relaxed);
                    results.lock().expect("the results' lock is held for one step").push(result);
                }
            });
        }
    });
    results.into_inner().expect("all threads have ended well").into_iter().collect()
}

fn unique_layers(found: &[Found]) -> BTreeMap<&Digest, FoundLayer> {
    let mut unique = BTreeMap::new();
    for image in found {
        for (diff_id, layer) in image.diff_ids.iter().zip(&image.layers) {
            unique.entry(diff_id).or_insert_with(|| layer.clone());
        }
    }
    unique
}

impl Found {
    fn registration(&self) -> Registration {
        Registration {
            config: self.config.clone(),
            manifest: self.manifest.clone(),
            references: self.references.clone(),
            ..Registration::default()
        }
    }

    fn id(&self) -> Digest {
        Digest::sha256_of(&self.config)
    }
}

fn find_images(spool: &Spool, platform: Option<&Platform>) -> Result<Vec<Found>, LoadError> {
    let mut found: Vec<Found> = Vec::new();
    let index = spool.document("index.json")?;
    let docker = spool.document("manifest.json")?;
    if index.is_none() && docker.is_none() {
        return Err(LoadError::NotAnArchive);
    }
    if let Some(bytes) = index {
        for descriptor in parse::index("index.json", &bytes)?.manifests {
            let name = parse::name_of(&descriptor)?;
            let Some(mut image) = find_oci(spool, &descriptor, platform, 0)? else { continue };
            image.references.extend(name);
            merge(&mut found, image);
        }
    }
    if let Some(bytes) = docker {
        for image in parse::docker_manifest(&bytes)? {
            merge(&mut found, find_docker(spool, image)?);
        }
    }
    if let Some(wanted) = platform {
        check_platform(&mut found, wanted)?;
    }
    if found.is_empty() {
        return Err(LoadError::Platform { platform: platform.cloned().unwrap_or_else(Platform::host) });
    }
    Ok(found)
}

fn check_platform(found: &mut Vec<Found>, wanted: &Platform) -> Result<(), LoadError> {
    found.retain(|image| {
        serde_json::from_slice::<ImageConfig>(&image.config)
            .is_ok_and(|config| config.platform().satisfies(wanted))
    });
    match found.is_empty() {
        true => Err(LoadError::Platform { platform: wanted.clone() }),
        false => Ok(()),
    }
}

/// The same image told of twice (both tables of contents, several names) is one image.
fn merge(found: &mut Vec<Found>, image: Found) {
    let id = image.id();
    match found.iter_mut().find(|known| known.id() == id) {
        None => found.push(image),
        Some(known) => {
            for reference in image.references {
                if !known.references.contains(&reference) {
                    known.references.push(reference);
                }
            }
        }
    }
}

fn blob_name(digest: &Digest) -> String {
    format!("blobs/{}/{}", digest.algorithm(), digest.hex())
}

/// A document of an OCI layout, verified.
fn blob(spool: &Spool, document: &str, digest: &Digest) -> Result<Vec<u8>, LoadError> {
    let name = blob_name(digest);
    let bytes = spool
        .document(&name)?
        .ok_or_else(|| LoadError::MissingEntry { document: document.to_owned(), name: name.clone() })?;
    match spool.digest(&name) {
        Some(found) if found.algorithm() == digest.algorithm() && found != digest => {
            Err(LoadError::Digest { name, expected: digest.clone(), found: found.clone() })
        }
        _ => Ok(bytes),
    }
}

fn find_oci(
    spool: &Spool,
    descriptor: &Descriptor,
    platform: Option<&Platform>,
    depth: usize,
) -> Result<Option<Found>, LoadError> {
    let document = blob_name(&descriptor.digest);
    if parse::is_index(descriptor) {
        let bytes = blob(spool, "index.json", &descriptor.digest)?;
        let index = parse::index(&document, &bytes)?;
        let is_there = |descriptor: &Descriptor| spool.contains(&blob_name(&descriptor.digest));
        let chosen = parse::choose(&index.manifests, platform, &is_there);
        return match chosen {
            Some(chosen) if depth < INDEX_DEPTH_MAX => find_oci(spool, chosen, platform, depth + 1),
            _ => Ok(None),
        };
    }
    let bytes = blob(spool, "index.json", &descriptor.digest)?;
    let manifest = parse::manifest(&document, &bytes)?;
    if !manifest.config.media_type.is_empty() && !media_type::is_image_config(&manifest.config.media_type) {
        return Ok(None);
    }
    let config = blob(spool, &document, &manifest.config.digest)?;
    let entry = |layer: Descriptor| FoundLayer { entry: blob_name(&layer.digest), descriptor: Some(layer) };
    let layers = manifest.layers.into_iter().map(entry).collect();
    let media_type = match (descriptor.media_type.as_str(), manifest.media_type) {
        ("", Some(own)) => own,
        ("", None) => media_type::OCI_MANIFEST.to_owned(),
        (given, _) => given.to_owned(),
    };
    complete(config, Some((media_type, bytes)), layers, Vec::new()).map(Some)
}

fn find_docker(spool: &Spool, image: parse::DockerImage) -> Result<Found, LoadError> {
    let missing =
        |name: &str| LoadError::MissingEntry { document: "manifest.json".to_owned(), name: name.to_owned() };
    let config = spool.document(&image.config)?.ok_or_else(|| missing(&image.config))?;
    if let Some(absent) = image.layers.iter().find(|name| !spool.contains(name)) {
        return Err(missing(absent));
    }
    let layers = image.layers.into_iter().map(|entry| FoundLayer { entry, descriptor: None }).collect();
    complete(config, None, layers, image.references)
}

fn complete(
    config: Vec<u8>,
    manifest: Option<(String, Vec<u8>)>,
    layers: Vec<FoundLayer>,
    references: Vec<Reference>,
) -> Result<Found, LoadError> {
    let image = Digest::sha256_of(&config);
    let parsed: ImageConfig = serde_json::from_slice(&config)
        .map_err(|source| RegisterError::Config { digest: image.clone(), source })?;
    let diff_ids = parsed.rootfs.diff_ids;
    if diff_ids.len() != layers.len() {
        return Err(LoadError::LayerCount { image, diff_ids: diff_ids.len(), layers: layers.len() });
    }
    Ok(Found { config, diff_ids, manifest, layers, references })
}
