//! `build --squash`: one layer of all that a build added to its base image, and no line of history fewer.

use std::sync::Arc;

use ferry_build::build::{Built, Plan};
use ferry_oci::Digest;
use ferry_oci::image::History;
use ferry_store::{DiffError, LayerRecord, Store};

use super::service::BuildFailure;
use crate::engine::Engine;

/// Gives the image one layer in the place of those of its steps. The layer stays while it is held, until the image is
/// kept.
pub async fn squash(
    engine: &Arc<Engine>,
    plan: &Plan,
    built: &mut Built,
) -> Result<Option<Arc<LayerRecord>>, BuildFailure> {
    let base = plan.lowered.config.rootfs.diff_ids.clone();
    let steps = built.config.rootfs.diff_ids[base.len()..].to_vec();
    let store = Arc::clone(&engine.store);
    let below = base.clone();
    let merged = tokio::task::spawn_blocking(move || merge(&store, &below, &steps)).await;
    let merged = merged.map_err(|error| BuildFailure::Worker(error.to_string()))??;
    let config = &mut built.config;
    let lines = plan.lowered.config.history.len();
    for line in config.history.iter_mut().skip(lines) {
        line.empty_layer = true;
    }
    config.history.push(History {
        created: config.created.clone(),
        comment: Some(format!("merge {} to its base", built.id)),
        empty_layer: merged.is_none(),
        ..History::default()
    });
    let layer = merged.as_ref().map(|layer| layer.diff_id.clone());
    config.rootfs.diff_ids = base.into_iter().chain(layer).collect();
    built.config_bytes = serde_json::to_vec(&built.config).expect("a configuration is plain data");
    built.id = Digest::sha256_of(&built.config_bytes);
    Ok(merged)
}

fn merge(store: &Store, base: &[Digest], steps: &[Digest]) -> Result<Option<Arc<LayerRecord>>, DiffError> {
    match steps {
        [] => Ok(None),
        [only] => Ok(store.layers().get(only)),
        _ => store.squash(base, steps),
    }
}
