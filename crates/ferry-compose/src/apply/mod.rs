//! Carrying plans out: calls to the engine, in parallel, driven by its events.
//!
//! Owns the engine calls, the waits (no polling: an event, then one inspection), hooks, and the order the plan
//! gives. Reports progress through [`Progress`]; prints nothing.

mod engine;
mod error;
mod executor;
mod health;
mod hooks;
mod images;
mod observe;
mod oneoff;
mod replace;
mod request;
mod watch;

pub use engine::Engine;
pub use error::{ApplyError, Report};
pub use executor::{Executor, Settings};
pub use images::{BuildRequest, Builder, ImagePolicy, Puller, build_requests, prepare_images};
pub use observe::{observe, observe_containers};
pub use oneoff::{OneOff, OneOffContainer, create_one_off};
pub use watch::{Watch, WatchedEvent};

use std::future::Future;
use std::pin::Pin;

/// A future without a thread of its own.
pub type Running<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

/// How far a subject is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Under way.
    Working,
    /// Done.
    Done,
    /// Done, but worth a look.
    Warning,
    /// Failed.
    Failed,
}

/// Hears what happens.
pub trait Progress {
    /// A subject (`Container app-web-1`) has a new state (`Started`).
    fn state(&self, subject: &str, state: &str, phase: Phase);
    /// Something worth telling that belongs to no subject.
    fn note(&self, text: &str);
}

/// Hears nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn state(&self, _subject: &str, _state: &str, _phase: Phase) {}
    fn note(&self, _text: &str) {}
}
