//! One stream of the engine's events, shared by everyone who waits for something.

use super::ApplyError;
use super::engine::Engine;
use crate::labels;
use ferry_api::event::Event;
use ferry_api::{Call, Filters};
use std::sync::Arc;
use tokio::sync::broadcast;

/// Events a slow listener may be behind; one that is further behind looks anew.
const BACKLOG: usize = 1024;

/// What listeners get.
pub type WatchedEvent = Arc<Event>;

/// The stream, running until it is dropped.
#[derive(Debug)]
pub struct Watch {
    sender: broadcast::Sender<WatchedEvent>,
    task: tokio::task::JoinHandle<()>,
}

impl Watch {
    /// Opens the stream; from when this returns no event is missed.
    pub async fn start(engine: &Engine) -> Result<Self, ApplyError> {
        let mut filters = Filters::default();
        filters.add("type", "container");
        filters.add("label", labels::of_project(&engine.project));
        let call = Call::get("/events").query("filters", filters.to_json());
        let response = engine.client.call(call).await.map_err(ApplyError::engine("cannot follow events"))?;
        let (sender, _) = broadcast::channel(BACKLOG);
        let publisher = sender.clone();
        let mut events = response.json_lines::<Event>();
        let task = tokio::spawn(async move {
            // When the stream breaks the channel closes, and waiters look one last time.
            while let Ok(Some(event)) = events.next().await {
                let _ = publisher.send(Arc::new(event));
            }
        });
        Ok(Watch { sender, task })
    }

    /// A listener of everything from now on.
    pub fn subscribe(&self) -> broadcast::Receiver<WatchedEvent> {
        self.sender.subscribe()
    }

    /// Whether the stream broke.
    pub fn is_over(&self) -> bool {
        self.task.is_finished()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Waits until something happened to a container; false when no more events come.
pub(super) async fn next_about(listener: &mut broadcast::Receiver<WatchedEvent>, id: &str) -> bool {
    loop {
        match listener.recv().await {
            Ok(event) if event.actor.id == id => return true,
            Ok(_) => {}
            // Some were missed: looking anew tells what they would have told.
            Err(broadcast::error::RecvError::Lagged(_)) => return true,
            Err(broadcast::error::RecvError::Closed) => return false,
        }
    }
}
