//! The disk budget of the build cache: what was not of use for longest goes first, and only while no build runs,
//! so that none loses what it stands on.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ferry_build::solve::PruneOptions;

use super::service::BuildService;

/// The part of the file system that the cache may fill: one in so many bytes.
const PART: u64 = 5;

/// The cache may always have this much: the steps of some large projects.
const LEAST: u64 = 2 << 30;

/// Builds under way.
#[derive(Debug, Default)]
pub struct Active(AtomicUsize);

/// One build under way; the last one that ends looks after the budget.
pub struct Building {
    service: Arc<BuildService>,
}

impl Building {
    /// Notes that a build begins.
    pub fn begin(service: &Arc<BuildService>) -> Self {
        service.active().0.fetch_add(1, Ordering::AcqRel);
        Self { service: Arc::clone(service) }
    }
}

impl Drop for Building {
    fn drop(&mut self) {
        if self.service.active().0.fetch_sub(1, Ordering::AcqRel) != 1 {
            return;
        }
        let service = Arc::clone(&self.service);
        tokio::task::spawn_blocking(move || {
            // Another build may have begun in the meantime; then that one looks after it.
            if service.active().is_idle() {
                keep_within(&service);
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

fn keep_within(service: &BuildService) {
    let solver = service.solver();
    let budget = match solver.store().file_system_size() {
        Ok(size) => (size / PART).max(LEAST),
        Err(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "the build cache's budget is not known");
            return;
        }
    };
    let own: u64 = solver.cache().usage().iter().filter(|usage| !usage.shared).map(|usage| usage.size).sum();
    if own <= budget {
        return;
    }
    let options = PruneOptions { all: false, unused_since: None, keep_bytes: Some(budget) };
    match solver.cache().prune(&options) {
        Ok((removed, freed)) => {
            tracing::info!(records = removed.len(), freed, budget, "build cache was over its budget")
        }
        Err(error) => {
            tracing::warn!(error = &error as &dyn std::error::Error, "build cache stays over its budget");
        }
    }
}
