//! `/system/df`: what images, containers, volumes and the build cache take on disk, as `du` says it.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router};
use ferry_api::container::Summary as ContainerSummary;
use ferry_api::image::Summary as ImageSummary;
use ferry_api::system::{BuildCache, DiskUsage, Usage};
use ferry_api::volume::{UsageData, Volume};
use ferry_oci::Digest;
use ferry_store::usage::measure;

use crate::container::list;
use crate::container::state::Status;
use crate::container::volumes::users_by_volume;
use crate::engine::Engine;
use crate::error::{HttpError, error_chain};
use crate::image::{users_by_image, view};
use crate::server::RequestVersion;
use crate::server::params::Params;

use super::volumes::view as volume_view;

/// The kinds of things that `type` may ask for.
const KINDS: &[&str] = &["build-cache", "container", "image", "volume"];

/// The routes of this file.
pub fn routes() -> Router<Arc<Engine>> {
    Router::new().route("/system/df", get(usage))
}

/// What is asked for.
struct Asked {
    kinds: Vec<String>,
    /// The flat fields of versions before 1.52.
    flat: bool,
    /// The objects since 1.52, and with their items.
    objects: bool,
    items: bool,
}

impl Asked {
    fn wants(&self, kind: &str) -> bool {
        self.kinds.is_empty() || self.kinds.iter().any(|asked| asked == kind)
    }
}

async fn usage(
    State(engine): State<Arc<Engine>>,
    version: RequestVersion,
    params: Params,
) -> Result<Json<DiskUsage>, HttpError> {
    let kinds: Vec<String> = params.all("type").filter(|kind| !kind.is_empty()).map(str::to_owned).collect();
    if let Some(unknown) = kinds.iter().find(|kind| !KINDS.contains(&kind.as_str())) {
        return Err(HttpError::bad_request(format!("unknown object type: {unknown}")));
    }
    let asked = Asked {
        kinds,
        flat: version.keeps_fields_removed_in(52),
        objects: version.at_least(52),
        items: params.flag("verbose"),
    };
    let cache = match asked.wants("build-cache") {
        true => Some(build_cache(&engine).await?),
        false => None,
    };
    let answer = tokio::task::spawn_blocking(move || collect(&engine, &asked, cache))
        .await
        .map_err(|error| HttpError::internal(error.to_string()))?
        .map_err(|error| HttpError::internal(error_chain(&error)))?;
    Ok(Json(answer))
}

async fn build_cache(engine: &Arc<Engine>) -> Result<Vec<BuildCache>, HttpError> {
    let service = engine.builds().await?;
    let records = service.solver().cache().usage();
    Ok(records.into_iter().map(cache_record).collect())
}

fn cache_record(record: ferry_build::solve::CacheUsage) -> BuildCache {
    let last_used = jiff::Timestamp::from_second(record.last_used).ok().map(crate::clock::format);
    BuildCache {
        id: record.id,
        kind: "regular".to_owned(),
        description: record.description,
        shared: record.shared,
        size: signed(record.size),
        created_at: record.created,
        last_used_at: last_used,
        usage_count: signed(record.uses),
        ..BuildCache::default()
    }
}

fn signed(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

fn runs(container: &ContainerSummary) -> bool {
    let alive = [Status::Running, Status::Paused, Status::Restarting];
    alive.iter().any(|status| status.as_str() == container.state)
}

fn collect(
    engine: &Engine,
    asked: &Asked,
    cache: Option<Vec<BuildCache>>,
) -> Result<DiskUsage, ferry_store::IoError> {
    let mut answer = DiskUsage::default();
    if asked.wants("image") {
        images(engine, asked, &mut answer)?;
    }
    if asked.wants("container") {
        let containers = containers(engine)?;
        let size = |container: &ContainerSummary| container.size_rw.unwrap_or(0);
        let usage = summed(&containers, asked, runs, size);
        answer.container_usage = asked.objects.then_some(usage);
        answer.containers = asked.flat.then_some(containers);
    }
    if asked.wants("volume") {
        let volumes = volumes(engine)?;
        let data = |volume: &Volume| volume.usage_data.clone().unwrap_or_default();
        let usage = summed(&volumes, asked, |volume| data(volume).ref_count > 0, |volume| data(volume).size);
        answer.volume_usage = asked.objects.then_some(usage);
        answer.volumes = asked.flat.then_some(volumes);
    }
    if let Some(cache) = cache {
        let own = |record: &BuildCache| if record.shared { 0 } else { record.size };
        let usage = summed(&cache, asked, |record| record.in_use, own);
        answer.builder_size = asked.flat.then_some(usage.total_size);
        answer.build_cache_usage = asked.objects.then_some(usage);
        answer.build_cache = asked.flat.then_some(cache);
    }
    Ok(answer)
}

/// Counts and sums; what is not active could be had back.
fn summed<T: Clone>(
    items: &[T],
    asked: &Asked,
    active: impl Fn(&T) -> bool,
    size: impl Fn(&T) -> i64,
) -> Usage<T> {
    let count = |items: usize| i64::try_from(items).unwrap_or(i64::MAX);
    Usage {
        active_count: count(items.iter().filter(|item| active(item)).count()),
        total_count: count(items.len()),
        reclaimable: items.iter().filter(|item| !active(item)).map(&size).sum(),
        total_size: items.iter().map(&size).sum(),
        items: asked.items.then(|| items.to_vec()),
    }
}

fn images(engine: &Engine, asked: &Asked, answer: &mut DiskUsage) -> Result<(), ferry_store::IoError> {
    let store = &engine.store;
    let options = view::ListOptions { all: true, shared_size: true, virtual_size: asked.flat };
    let users = users_by_image(engine);
    let users = |id: &Digest| users.get(&id.to_string()).copied().unwrap_or(0);
    let all = store.images().list();
    let summaries = view::list(store, &all, options, &users);
    let (total, used) = store.layers_on_disk(&|id| users(id) > 0)?;
    let mut usage: Usage<ImageSummary> = summed(&summaries, asked, |image| image.containers > 0, |_| 0);
    usage.total_size = signed(total);
    usage.reclaimable = signed(total.saturating_sub(used));
    answer.layers_size = asked.flat.then_some(usage.total_size);
    answer.image_usage = asked.objects.then_some(usage);
    answer.images = asked.flat.then_some(summaries);
    Ok(())
}

fn containers(engine: &Engine) -> Result<Vec<ContainerSummary>, ferry_store::IoError> {
    let images = engine.store.images().list();
    let sizes: HashMap<String, u64> = images.iter().map(|image| (image.id.to_string(), image.size)).collect();
    let with_sizes = |container: Arc<crate::container::Container>| {
        let mut summary = list::Lines::new(engine).line(&container);
        let upper = container.measured(|| Ok(measure(&container.dir.upper())?.allocated))?;
        let below = sizes.get(&summary.image_id).copied().unwrap_or(0);
        summary.size_rw = Some(signed(upper));
        summary.size_root_fs = Some(signed(upper + below));
        Ok(summary)
    };
    engine.containers.all().into_iter().map(with_sizes).collect()
}

fn volumes(engine: &Engine) -> Result<Vec<Volume>, ferry_store::IoError> {
    let users = users_by_volume(engine);
    let with_usage = |volume: &Arc<ferry_store::Volume>| {
        let mut answer = volume_view(volume);
        let size = signed(engine.store.volumes().measure(&volume.name)?);
        let ref_count = users.get(&volume.name).copied().unwrap_or(0);
        answer.usage_data = Some(UsageData { ref_count, size });
        Ok(answer)
    };
    engine.store.volumes().list().iter().map(with_usage).collect()
}
