//! What a build tells while it runs.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use super::solver::Tree;
use crate::llb::VertexId;

/// Something that happened.
#[derive(Debug, Clone)]
pub enum Event {
    /// A step is being worked on.
    Started(VertexId),
    /// A step wrote something.
    Log(VertexId, Stream, Bytes),
    /// A step is over.
    Finished {
        /// The step.
        vertex: VertexId,
        /// How.
        outcome: Outcome,
        /// How long it took.
        duration: Duration,
        /// Its tree, unless it failed.
        tree: Option<Tree>,
    },
    /// Why a step was not found in the cache.
    Missed(VertexId, Vec<String>),
}

/// Which stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Output,
    /// Standard error.
    Error,
}

/// How a step ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Found in the cache.
    Cached,
    /// Done.
    Done,
    /// Failed.
    Failed(String),
}

/// Where events go. A slow reader holds the build back; a reader that is gone does not.
#[derive(Debug, Clone)]
pub struct EventSender(mpsc::Sender<Event>);

/// Events that may wait for a slow reader.
const QUEUE: usize = 256;

impl EventSender {
    /// A sender and what reads from it.
    pub fn channel() -> (Self, mpsc::Receiver<Event>) {
        let (sender, receiver) = mpsc::channel(QUEUE);
        (Self(sender), receiver)
    }

    /// Sends an event.
    pub async fn send(&self, event: Event) {
        // Nobody listens any more: the build is about to be canceled, or nobody ever cared.
        let _ = self.0.send(event).await;
    }
}
