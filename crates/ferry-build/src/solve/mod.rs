//! The solver: a build graph in, a tree of layers out, as little done as the cache allows.
//!
//! Knows neither Dockerfiles nor how a process is started. Every operation has two keys. The
//! definition key says what was asked for: the operation and the definition keys of its inputs, with
//! contents in the place of context folders. The content key says what went in: the operation and
//! the digests of the trees it works on. The first finds a result without doing anything; the second
//! finds it where an input was made anew but came out the same.

mod cache;
mod download;
mod error;
mod event;
mod executor;
mod files;
mod inputs;
mod key;
mod mounts;
mod overlay;
mod portable;
mod run;
mod solver;
mod time;

pub use cache::{Cache, CacheRecord, CacheUsage, PruneOptions};
pub use download::{CHECKSUM, FILE_NAME, GIT};
pub use error::{SolveError, StepFailure};
pub use event::{Event, EventSender, Outcome, Stream};
pub use executor::{
    BoxFuture, Executor, ExecutorError, MountKind, OutputSender, RunOutcome, RunStep, StepMount, StepOutput,
};
pub use inputs::{BuildInputs, Downloads, Folder, Secret};
pub use key::StepKey;
pub use portable::{CONFIG_FIELD, PortableRecord};
pub use solver::{Job, Solved, Solver, Tree};
