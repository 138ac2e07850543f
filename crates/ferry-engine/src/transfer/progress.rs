//! The stream of JSON objects in which an engine tells a client how far a transfer is.
//!
//! A slow client never slows the transfer: figures in between are dropped when the queue is full, events are not.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::stream;
use http::header;
use serde_json::{Value, json};
use tokio::sync::mpsc;

/// Messages that may wait for a slow client before figures are dropped.
const QUEUE_FIGURES: usize = 256;
/// Least time between two figures of one blob.
const FIGURE_INTERVAL: Duration = Duration::from_millis(100);

/// The writing end; cheap to clone.
#[derive(Clone)]
pub struct Progress {
    messages: mpsc::UnboundedSender<Bytes>,
    waiting: Arc<AtomicU64>,
    silent: bool,
}

/// A stream of messages and its writing end.
pub fn channel() -> (Progress, Response) {
    let (messages, receiver) = mpsc::unbounded_channel();
    let waiting = Arc::new(AtomicU64::new(0));
    let progress = Progress { messages, waiting: Arc::clone(&waiting), silent: false };
    let pieces = stream::unfold((receiver, waiting), |(mut receiver, waiting)| async move {
        let piece: Bytes = receiver.recv().await?;
        waiting.fetch_sub(1, Ordering::Relaxed);
        Some((Ok::<_, std::convert::Infallible>(piece), (receiver, waiting)))
    });
    let response = ([(header::CONTENT_TYPE, "application/json")], Body::from_stream(pieces)).into_response();
    (progress, response)
}

impl Progress {
    /// Says something about one blob or tag.
    pub fn status(&self, id: &str, status: &str) {
        if !self.silent {
            self.send(&json!({ "status": status, "progressDetail": {}, "id": id }));
        }
    }

    /// Says something about the whole.
    pub fn line(&self, status: &str) {
        self.send(&json!({ "status": status }));
    }

    /// Says something with an id and without figures, as the first line of a pull has it.
    pub fn titled(&self, id: &str, status: &str) {
        self.send(&json!({ "status": status, "id": id }));
    }

    /// Hands the client something to keep, such as a digest.
    pub fn aux(&self, value: Value) {
        self.send(&json!({ "progressDetail": {}, "aux": value }));
    }

    /// Ends the stream with an error; the HTTP status was sent long ago.
    pub fn error(&self, message: &str) {
        self.send(&json!({ "errorDetail": { "message": message }, "error": message }));
    }

    /// Whether the client is gone.
    pub fn is_closed(&self) -> bool {
        self.messages.is_closed()
    }

    /// Waits until the client is gone.
    pub async fn closed(&self) {
        self.messages.closed().await;
    }

    fn figure(&self, id: &str, status: &str, current: u64, total: u64) {
        if self.silent || self.waiting.load(Ordering::Relaxed) as usize > QUEUE_FIGURES {
            return;
        }
        let detail = json!({ "current": current, "total": total });
        self.send(
            &json!({ "status": status, "progressDetail": detail, "progress": bar(current, total), "id": id }),
        );
    }

    fn send(&self, message: &Value) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        // A client that is gone is noticed by whoever asks `is_closed`.
        let _ = self.messages.send(Bytes::from(format!("{message}\r\n")));
    }
}

/// Bytes of one blob counted towards a total, told now and then.
pub struct Meter {
    progress: Progress,
    id: String,
    status: &'static str,
    total: u64,
    state: Mutex<(u64, Option<Instant>)>,
}

impl Meter {
    /// A meter at zero.
    pub fn new(progress: &Progress, id: &str, status: &'static str, total: u64) -> Self {
        Self { progress: progress.clone(), id: id.to_owned(), status, total, state: Mutex::new((0, None)) }
    }

    /// Some bytes are here already.
    pub fn start_at(&self, bytes: u64) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).0 = bytes;
    }

    /// Counts bytes.
    pub fn add(&self, bytes: u64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.0 += bytes;
        let due = state.1.is_none_or(|last| last.elapsed() >= FIGURE_INTERVAL);
        if due || (self.total > 0 && state.0 >= self.total) {
            state.1 = Some(Instant::now());
            // A total that nobody knows yet is 0.
            let shown = if self.total == 0 { state.0 } else { state.0.min(self.total) };
            self.progress.figure(&self.id, self.status, shown, self.total);
        }
    }
}

/// `[=====>      ]  1.2MB/3.4MB`, for clients older than `progressDetail`.
fn bar(current: u64, total: u64) -> String {
    const WIDTH: usize = 50;
    if total == 0 {
        return size(current);
    }
    let filled = usize::try_from(current.saturating_mul(WIDTH as u64) / total).unwrap_or(WIDTH).min(WIDTH);
    let arrow = if filled < WIDTH { ">" } else { "" };
    let rest = WIDTH.saturating_sub(filled + 1);
    format!("[{}{arrow}{}]  {}/{}", "=".repeat(filled), " ".repeat(rest), size(current), size(total))
}

/// Decimal units with four figures, as Docker prints sizes.
fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "kB", "MB", "GB"] {
        if value < 1000.0 {
            let figures = if value >= 100.0 { 1 } else { usize::from(value >= 10.0) + 1 };
            let text = format!("{value:.*}", if unit == "B" { 0 } else { figures });
            return format!("{text}{unit}");
        }
        value /= 1000.0;
    }
    format!("{value:.1}TB")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars() {
        for (current, total, expected) in [
            (0, 100, "[>                                                 ]  0B/100B"),
            (50, 100, "[=========================>                        ]  50B/100B"),
            (100, 100, "[==================================================]  100B/100B"),
            (7, 0, "7B"),
        ] {
            assert_eq!(bar(current, total), expected);
        }
    }
}
