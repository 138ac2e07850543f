//! Who follows a container's log, and how they learn that it grew.
//!
//! The monitor ticks once and then waits for an acknowledgement, so a busy container costs no more messages
//! than its fastest reader can use, and a reader that stands still costs none. Rotated files that a reader
//! still needs are pinned at the monitor.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ferry_shim::protocol::ShimRequest;
use tokio::sync::watch;

use crate::shim::ShimLink;

/// The followers of one container's log.
pub struct Output {
    state: Mutex<State>,
    ticks: watch::Sender<u64>,
    followers: watch::Sender<usize>,
}

#[derive(Default)]
struct State {
    link: Option<ShimLink>,
    /// Oldest log generation each follower still needs.
    followers: BTreeMap<u64, u64>,
    next_follower: u64,
    generation: u64,
    pinned: Option<u64>,
    unacknowledged: bool,
}

impl Default for Output {
    fn default() -> Self {
        Self { state: Mutex::default(), ticks: watch::Sender::new(0), followers: watch::Sender::new(0) }
    }
}

impl Output {
    /// A new monitor: whoever follows already follows it.
    pub fn connect(&self, link: &ShimLink) {
        let mut state = self.lock();
        state.link = Some(link.clone());
        state.unacknowledged = false;
        state.pinned = None;
        if !state.followers.is_empty() {
            link.tell(ShimRequest::FollowLog { on: true }, Vec::new());
            state.pin();
        }
    }

    /// The log grew.
    pub fn tick(&self, generation: u64) {
        let mut state = self.lock();
        state.generation = generation;
        state.unacknowledged = true;
        self.ticks.send_modify(|count| *count += 1);
    }

    /// Waits until nobody reads any more, but not for ever: a client may have stopped reading.
    pub async fn drained(&self, patience: Duration) {
        let mut followers = self.followers.subscribe();
        // Out of patience is an answer too.
        let _ = tokio::time::timeout(patience, followers.wait_for(|count| *count == 0)).await;
    }

    /// Follows until the follower is dropped.
    pub fn follow(self: &Arc<Self>) -> Follower {
        let mut state = self.lock();
        let id = state.next_follower;
        state.next_follower += 1;
        let generation = state.generation;
        state.followers.insert(id, generation);
        if state.followers.len() == 1
            && let Some(link) = &state.link
        {
            link.tell(ShimRequest::FollowLog { on: true }, Vec::new());
        }
        state.pin();
        self.followers.send_replace(state.followers.len());
        drop(state);
        Follower { output: Arc::clone(self), id, ticks: self.ticks.subscribe() }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Tells the monitor the oldest generation that somebody still needs, when that changed.
    fn pin(&mut self) {
        let wanted = self.followers.values().min().copied();
        if wanted == self.pinned {
            return;
        }
        self.pinned = wanted;
        if let Some(link) = &self.link {
            link.tell(ShimRequest::PinLog { generation: wanted }, Vec::new());
        }
    }
}

/// One reader of a log.
pub struct Follower {
    output: Arc<Output>,
    id: u64,
    ticks: watch::Receiver<u64>,
}

impl Follower {
    /// Waits until the log grew since the last call.
    pub async fn grew(&mut self) {
        // The sender lives in the same allocation this holds.
        let _ = self.ticks.changed().await;
    }

    /// Everything there was has been read, but for this many newer files.
    pub fn caught_up(&self, files_behind: u64) {
        let mut state = self.output.lock();
        let generation = state.generation.saturating_sub(files_behind);
        state.followers.insert(self.id, generation);
        state.pin();
        if std::mem::take(&mut state.unacknowledged)
            && let Some(link) = &state.link
        {
            link.tell(ShimRequest::LogAck, Vec::new());
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        let mut state = self.output.lock();
        state.followers.remove(&self.id);
        state.pin();
        self.output.followers.send_replace(state.followers.len());
        if state.followers.is_empty()
            && let Some(link) = &state.link
        {
            link.tell(ShimRequest::FollowLog { on: false }, Vec::new());
        }
    }
}
