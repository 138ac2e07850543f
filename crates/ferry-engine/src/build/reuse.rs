//! Cache records from and for elsewhere: within images (`--cache-to type=inline`), or in an image that is
//! nothing but a set of layers with their records, which travels as any image does.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use ferry_build::build::{Built, Plan};
use ferry_build::solve::{CONFIG_FIELD, PortableRecord};
use ferry_oci::Digest;
use ferry_oci::image::{History, ImageConfig, RootFs};
use ferry_store::{Image, Registration, RemoveOptions};

use super::images::BaseImages;
use super::service::{BuildFailure, BuildService};
use crate::engine::Engine;

/// What is written of the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CacheMode {
    /// The steps that made the image's layers.
    Min,
    /// All steps of all stages.
    Max,
}

impl BuildService {
    /// Takes the records of images; gives a line for each of them. One that is not there is said, and no failure.
    pub async fn import_caches(
        &self,
        engine: &Arc<Engine>,
        names: &[String],
        images: &BaseImages,
        pull: bool,
    ) -> Vec<String> {
        let mut lines = Vec::new();
        for name in names {
            let before = engine.store.images().resolve(name).ok();
            let fetched = match pull && !name.starts_with("sha256:") {
                true => images.fetch(engine, name).await,
                false => Ok(()),
            };
            let image = engine.store.images().resolve(name).ok();
            match (fetched, image) {
                (Ok(()), Some(image)) => {
                    let count = self.import(&image);
                    lines.push(format!("cache from {name}: {count} new records\n"));
                    self.forget(engine, name, before.as_deref(), &image);
                }
                (Err(reason), _) => lines.push(format!("[Warning] no cache from {name}: {reason}\n")),
                (Ok(()), None) => {
                    lines.push(format!("[Warning] no cache from {name}: there is no such image\n"))
                }
            }
        }
        lines
    }

    fn import(&self, image: &Image) -> usize {
        let cache = self.solver().cache();
        let count = image.config.other.get(CONFIG_FIELD).map_or(0, |records| cache.import(records));
        if count > 0
            && let Err(error) = cache.flush()
        {
            tracing::warn!(error = &error as &dyn std::error::Error, "imported build cache is not durable");
        }
        count
    }

    /// A set of layers that was fetched for its records only is no image that anybody wants to see.
    fn forget(&self, engine: &Arc<Engine>, name: &str, before: Option<&Image>, image: &Image) {
        let is_new = before.is_none_or(|before| before.id != image.id);
        if !is_new || !is_layer_set(image) {
            return;
        }
        let options = RemoveOptions { force: true, no_prune: false };
        if let Err(error) = engine.store.images().remove(name, options, &|_| Vec::new()) {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "fetched build cache stays as an image"
            );
        }
    }

    /// Adds the records of a build to its image.
    pub fn add_inline(&self, plan: &Plan, built: &mut Built) {
        let records = self.solver().cache().portable(&built.cache_keys(&plan.lowered, false));
        let value = serde_json::to_value(records).expect("records are plain data");
        built.config.other.insert(CONFIG_FIELD.to_owned(), value);
        built.config_bytes = serde_json::to_vec(&built.config).expect("a configuration is plain data");
        built.id = Digest::sha256_of(&built.config_bytes);
    }

    /// Makes the image that holds the layers and records of a build.
    pub async fn cache_image(
        &self,
        engine: &Arc<Engine>,
        plan: &Plan,
        built: &Built,
        mode: CacheMode,
    ) -> Result<Digest, BuildFailure> {
        let keys = built.cache_keys(&plan.lowered, mode == CacheMode::Max);
        let records = self.solver().cache().portable(&keys);
        let config = cache_config(&built.config, &records);
        let config = serde_json::to_vec(&config).expect("a configuration is plain data");
        let registration = Registration { config, ..Registration::default() };
        let store = Arc::clone(&engine.store);
        let registered = tokio::task::spawn_blocking(move || store.images().register(registration)).await;
        let image = registered.map_err(|error| BuildFailure::Worker(error.to_string()))??;
        Ok(image.id.clone())
    }
}

fn is_layer_set(image: &Image) -> bool {
    image.config.config.labels.as_ref().is_some_and(|labels| labels.contains_key(LABEL))
}

/// Marks images that are sets of layers.
const LABEL: &str = "ferry.build.cache";

/// The configuration of a set of layers: every layer once, with the records that name them.
fn cache_config(of: &ImageConfig, records: &[PortableRecord]) -> ImageConfig {
    let mut seen = HashSet::new();
    let layers: Vec<Digest> = records
        .iter()
        .flat_map(PortableRecord::layers)
        .filter(|layer| seen.insert((*layer).clone()))
        .cloned()
        .collect();
    let mut config = ImageConfig {
        created: of.created.clone(),
        architecture: of.architecture.clone(),
        os: of.os.clone(),
        variant: of.variant.clone(),
        ..ImageConfig::default()
    };
    config.config.labels = Some(BTreeMap::from([(LABEL.to_owned(), "1".to_owned())]));
    config.history = layers
        .iter()
        .map(|_| History {
            created: of.created.clone(),
            comment: Some("build cache".to_owned()),
            ..History::default()
        })
        .collect();
    config.rootfs = RootFs { diff_ids: layers, ..RootFs::default() };
    let value = serde_json::to_value(records).expect("records are plain data");
    config.other.insert(CONFIG_FIELD.to_owned(), value);
    config
}
