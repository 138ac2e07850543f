//! Builds: `ferry-build` over this engine's store and containers.
//!
//! Owns what a build needs of the engine: base images, contexts, RUN steps as containers that no list
//! shows, and the texts of the classic API. Never decides what is done again; the solver does.

mod budget;
mod classic;
mod cleanup;
mod context;
mod download;
mod executor;
mod git;
mod images;
mod local;
pub mod options;
mod reuse;
mod service;
mod squash;
mod steps;

pub use budget::Building;
pub use classic::{ClassicOutput, Text};
pub use cleanup::{end_monitor, sweep};
pub use context::{Context, ContextError};
pub use git::clone_repository;
pub use images::BaseImages;
pub use local::{Client, LocalBuild, LocalBuildError};
pub use options::{BuildOptions, OptionsError};
pub use reuse::CacheMode;
pub use service::{BuildFailure, BuildService, Finished, keep_step};
pub use steps::{ensure_step, was_made};

/// Downloads for contexts.
pub fn downloads() -> download::WebDownloads {
    download::WebDownloads::new()
}
