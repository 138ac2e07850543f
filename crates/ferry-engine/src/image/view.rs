//! An image as list, inspect and history answer it.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use ferry_api::container::GraphDriver;
use ferry_api::image::{HistoryItem, ImageConfig, Inspect, Metadata, RootFs, Summary};
use ferry_oci::Digest;
use ferry_store::image::Attested;
use ferry_store::{Image, Store};

/// Which optional parts of a list are wanted.
#[derive(Debug, Clone, Copy, Default)]
pub struct ListOptions {
    /// Images that are only parents of others too.
    pub all: bool,
    /// Compute how much of each image others share.
    pub shared_size: bool,
    /// Write `VirtualSize`, which clients before 1.44 read.
    pub virtual_size: bool,
}

/// Lines of a list. `containers` counts the containers of an image, -1 where not counted.
pub fn list(
    store: &Store,
    images: &[Arc<Image>],
    options: ListOptions,
    containers: &dyn Fn(&Digest) -> i64,
) -> Vec<Summary> {
    let everything = store.images().list();
    let shared = options.shared_size.then(|| layers_shared(&everything));
    let is_parent = |image: &Image| {
        everything.iter().any(|other| other.parent.as_ref() == Some(&image.id) || image.is_member_of(other))
    };
    images
        .iter()
        .filter(|image| options.all || !image.references.is_empty() || !is_parent(image))
        .map(|image| {
            let size = signed(image.size);
            let shared_size = shared.as_ref().map_or(-1, |uses| {
                let several =
                    image.layers.iter().filter(|layer| uses.get(&layer.diff_id).is_some_and(|n| *n > 1));
                signed(several.map(|layer| layer.size).sum())
            });
            Summary {
                containers: containers(&image.id),
                created: image.created_seconds(),
                id: image.id.to_string(),
                labels: image.config.config.labels.clone(),
                parent_id: parent(image),
                repo_digests: image.repo_digests.clone(),
                repo_tags: image.repo_tags.clone(),
                shared_size,
                size,
                virtual_size: options.virtual_size.then_some(size),
                ..Summary::default()
            }
        })
        .collect()
}

fn layers_shared(images: &[Arc<Image>]) -> HashMap<Digest, usize> {
    let mut uses = HashMap::new();
    for image in images {
        let mut diff_ids = image.diff_ids();
        diff_ids.sort();
        diff_ids.dedup();
        for diff_id in diff_ids {
            *uses.entry(diff_id).or_insert(0) += 1;
        }
    }
    uses
}

fn signed(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

fn parent(image: &Image) -> String {
    image.parent.as_ref().map(Digest::to_string).unwrap_or_default()
}

/// Fields of an inspection that only older versions of the API have.
#[derive(Debug, Clone, Copy)]
pub struct OldFields {
    /// `VirtualSize`, gone in 1.44.
    pub virtual_size: bool,
    /// `Container` and `ContainerConfig`, gone in 1.45. The config is the image's own.
    pub container: bool,
}

/// The inspect object.
pub fn inspect(store: &Store, image: &Image, old: OldFields) -> Inspect {
    let size = signed(image.size);
    let config = &image.config;
    Inspect {
        id: image.id.to_string(),
        repo_tags: image.repo_tags.clone(),
        repo_digests: image.repo_digests.clone(),
        parent: parent(image),
        comment: config.comment.clone().unwrap_or_default(),
        created: image.created.clone(),
        docker_version: config.docker_version.clone().unwrap_or_default(),
        author: config.author.clone().unwrap_or_default(),
        config: run_config(image),
        architecture: config.architecture.clone(),
        variant: config.variant.clone().unwrap_or_default(),
        os: config.os.clone(),
        os_version: config.os_version.clone().unwrap_or_default(),
        size,
        virtual_size: old.virtual_size.then_some(size),
        container: old.container.then(|| container_of(image)),
        container_config: old.container.then(|| run_config(image)),
        graph_driver: Some(graph_driver(store, image)),
        root_fs: RootFs {
            kind: "layers".to_owned(),
            layers: image.layers.iter().map(|layer| layer.diff_id.to_string()).collect(),
        },
        metadata: Metadata {
            last_tag_time: image.last_tagged.clone().unwrap_or_else(|| ferry_api::ZERO_TIME.to_owned()),
        },
        ..Inspect::default()
    }
}

/// The statements about an image as they lie beside its manifest, in full where that is asked for.
pub fn statements(store: &Store, image: &Arc<Image>, in_full: bool) -> Vec<serde_json::Value> {
    let attested = || {
        let part = store.part(image).ok()?;
        let claims = Attested::of(image, &[part], &image.repo_tags)?.claims.pop()?;
        let own: ferry_oci::image::Manifest = serde_json::from_slice(&claims.manifest).ok()?;
        // The configuration comes before the statements.
        let texts = claims.blobs.into_iter().skip(1);
        let each = image.attestations.iter().zip(own.layers).zip(texts).map(|((claim, layer), text)| {
            let mut one = serde_json::json!({ "Descriptor": layer, "PredicateType": claim.predicate_type });
            if in_full {
                one["Statement"] = serde_json::from_slice(&text).unwrap_or_default();
            }
            one
        });
        Some(each.collect::<Vec<_>>())
    };
    attested().unwrap_or_default()
}

/// The container that was committed, where the image is one.
fn container_of(image: &Image) -> String {
    let noted = image.config.other.get("container").and_then(|id| id.as_str());
    noted.unwrap_or_default().to_owned()
}

/// Puts in what an image's `Config` had before 1.50: the fields of a container that say nothing of an image.
pub fn fill_old_config(config: &mut serde_json::Map<String, serde_json::Value>) {
    use serde_json::Value;
    for name in ["Hostname", "Domainname", "User", "Image", "WorkingDir"] {
        config.entry(name).or_insert_with(|| Value::String(String::new()));
    }
    for name in ["AttachStdin", "AttachStdout", "AttachStderr", "Tty", "OpenStdin", "StdinOnce"] {
        config.entry(name).or_insert(Value::Bool(false));
    }
    for name in ["Env", "Cmd", "Volumes", "Entrypoint", "Labels"] {
        config.entry(name).or_insert(Value::Null);
    }
    config.entry("OnBuild").or_insert_with(|| Value::Array(Vec::new()));
}

/// The config in the API's shape; both sides spell the fields as Docker does.
fn run_config(image: &Image) -> ImageConfig {
    let value = serde_json::to_value(&image.config.config).unwrap_or_default();
    ferry_api::from_value(value).unwrap_or_default()
}

fn graph_driver(store: &Store, image: &Image) -> GraphDriver {
    let mut data = BTreeMap::new();
    if let Ok(lowers) = store.snapshots().lowers(&image.diff_ids()) {
        let mut lowers = lowers.iter().map(|lower| lower.display().to_string());
        data.insert("UpperDir".to_owned(), lowers.next().unwrap_or_default());
        let rest: Vec<String> = lowers.collect();
        if !rest.is_empty() {
            data.insert("LowerDir".to_owned(), rest.join(":"));
        }
    }
    GraphDriver { data: Some(data), name: "overlay2".to_owned() }
}

/// The history, newest first.
pub fn history(store: &Store, image: &Image) -> Vec<HistoryItem> {
    let line = |entry: ferry_store::image::HistoryEntry| HistoryItem {
        comment: entry.comment,
        created: entry.created,
        created_by: entry.created_by,
        id: entry.id.map_or_else(|| "<missing>".to_owned(), |id| id.to_string()),
        size: signed(entry.size),
        tags: (!entry.tags.is_empty()).then_some(entry.tags),
    };
    store.images().history(image).into_iter().map(line).collect()
}
