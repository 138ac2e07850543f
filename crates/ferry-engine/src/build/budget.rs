//! The disk budget of builds, cache and images without names together: what was not of use for longest goes first, and only while no build runs,
//! so that none loses what it stands on.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ferry_build::solve::PruneOptions;
use ferry_oci::Digest;
use ferry_store::RemoveOptions;

use super::service::BuildService;
use crate::engine::Engine;
use crate::error::error_chain;
use crate::image::users_of;

/// The part of the file system that the cache may fill: one in so many bytes.
const PART: u64 = 5;

/// The cache may always have this much: the steps of some large projects.
const LEAST: u64 = 2 << 30;

/// Builds under way.
#[derive(Debug, Default)]
pub struct Active(AtomicUsize);

/// One build under way; the last one that ends looks after the budget.
pub struct Building {
    engine: Arc<Engine>,
    service: Arc<BuildService>,
}

impl Building {
    /// Notes that a build begins.
    pub fn begin(engine: &Arc<Engine>, service: &Arc<BuildService>) -> Self {
        service.active().0.fetch_add(1, Ordering::AcqRel);
        Self { engine: Arc::clone(engine), service: Arc::clone(service) }
    }
}

impl Drop for Building {
    fn drop(&mut self) {
        if self.service.active().0.fetch_sub(1, Ordering::AcqRel) != 1 {
            return;
        }
        let (engine, service) = (Arc::clone(&self.engine), Arc::clone(&self.service));
        tokio::task::spawn_blocking(move || {
            // Another build may have begun in the meantime; then that one looks after it.
            if service.active().is_idle() {
                keep_within(&engine, &service);
            }
        });
    }
}

impl Active {
    /// No build is under way.
    pub fn is_idle(&self) -> bool {
        self.0.load(Ordering::Acquire) == 0
    }
}

/// Images without a name and the cache are one: what was not of use for longest goes first. Images with a name, or
/// with containers, are never touched, nor is the youngest one: somebody may have only its id.
fn keep_within(engine: &Arc<Engine>, service: &BuildService) {
    let budget = match budget(engine, service) {
        Ok(budget) => budget,
        Err(reason) => return tracing::warn!(reason, "the budget of builds is not known"),
    };
    loop {
        let records = service.solver().cache().usage();
        let own = records.iter().filter(|usage| !usage.shared);
        let cached: u64 = own.clone().map(|usage| usage.size).sum();
        let oldest = own.map(|usage| usage.last_used).min();
        let images = nameless(engine);
        let kept: u64 = images.iter().map(|image| image.size).sum();
        if cached + kept <= budget {
            return;
        }
        let gone = match images.first() {
            Some(image) if images.len() > 1 && oldest.is_none_or(|oldest| image.time <= oldest) => {
                remove(engine, image)
            }
            _ => prune(service, budget.saturating_sub(kept)),
        };
        if !gone {
            return;
        }
    }
}

fn budget(engine: &Engine, service: &BuildService) -> Result<u64, String> {
    if let Some(budget) = engine.options.registries.build_budget().map_err(|error| error_chain(&error))? {
        return Ok(budget);
    }
    let size = service.solver().store().file_system_size().map_err(|error| error_chain(&error))?;
    Ok((size / PART).max(LEAST))
}

/// An image that nobody has a name for.
struct Nameless {
    id: Digest,
    /// When it was made, seconds since 1970.
    time: i64,
    /// The same in full, where it was built here: a second sees many builds, and the youngest stays.
    moment: Option<jiff::Timestamp>,
    /// Bytes that go with it.
    size: u64,
}

/// Images without names and containers, oldest first.
fn nameless(engine: &Engine) -> Vec<Nameless> {
    let (loose, held): (Vec<_>, Vec<_>) = engine
        .store
        .images()
        .list()
        .into_iter()
        .partition(|image| image.references.is_empty() && users_of(engine, &image.id).is_empty());
    let held: HashSet<Digest> = held.iter().flat_map(|image| image.diff_ids()).collect();
    let mut found: Vec<Nameless> = loose
        .iter()
        .map(|image| {
            let own = image.layers.iter().filter(|layer| !held.contains(&layer.diff_id));
            let size = own.map(|layer| layer.size).sum();
            let moment = image.built.as_deref().and_then(|built| built.parse().ok());
            Nameless { id: image.id.clone(), time: image.created_seconds(), moment, size }
        })
        .collect();
    found.sort_by_key(|image| (image.time, image.moment));
    found
}

fn remove(engine: &Engine, image: &Nameless) -> bool {
    let options = RemoveOptions { force: false, no_prune: true };
    let users = |id: &Digest| users_of(engine, id);
    match engine.store.images().remove(&image.id.to_string(), options, &users) {
        Ok(_) => {
            tracing::info!(image = %image.id, "an image without a name was over the budget of builds");
            true
        }
        Err(error) => {
            tracing::warn!(image = %image.id, error = %error_chain(&error), "an image stays over the budget");
            false
        }
    }
}

fn prune(service: &BuildService, keep: u64) -> bool {
    let options = PruneOptions { all: false, unused_since: None, keep_bytes: Some(keep), only: None };
    match service.solver().cache().prune(&options) {
        Ok((removed, freed)) => {
            tracing::info!(records = removed.len(), freed, keep, "build cache was over its budget");
            !removed.is_empty()
        }
        Err(error) => {
            tracing::warn!(error = %error_chain(&error), "build cache stays over its budget");
            false
        }
    }
}
