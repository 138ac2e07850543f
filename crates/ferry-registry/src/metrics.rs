//! Counters, in the text form that Prometheus reads.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::catalog::Totals;
use crate::scrub::Report;

/// Counters since the start.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Answers by the first digit of their status, 1 to 5.
    answers: [AtomicU64; 6],
    sent: AtomicU64,
    connections: AtomicU64,
    freed: AtomicU64,
    scrubs: AtomicU64,
    repaired: AtomicU64,
    lost: AtomicU64,
    limited: AtomicU64,
}

impl Metrics {
    /// An answer with so many bytes of body was begun.
    pub fn answered(&self, status: http::StatusCode, bytes: u64) {
        let class = usize::from(status.as_u16() / 100).min(self.answers.len() - 1);
        self.answers[class].fetch_add(1, Ordering::Relaxed);
        self.sent.fetch_add(bytes, Ordering::Relaxed);
    }

    /// A connection was accepted.
    pub fn connected(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    /// A sweep freed so many bytes.
    pub fn swept(&self, bytes: u64) {
        self.freed.fetch_add(bytes, Ordering::Relaxed);
    }

    /// A scrub has ended.
    pub fn scrubbed(&self, report: &Report) {
        self.scrubs.fetch_add(1, Ordering::Relaxed);
        self.repaired.fetch_add(report.repaired.len() as u64, Ordering::Relaxed);
        self.lost.fetch_add(report.lost.len() as u64, Ordering::Relaxed);
    }

    /// A client sent more than it may.
    pub fn limited(&self) {
        self.limited.fetch_add(1, Ordering::Relaxed);
    }

    /// The text form.
    pub fn text(&self, totals: &Totals, uploads: usize) -> String {
        let load = |number: &AtomicU64| number.load(Ordering::Relaxed);
        let mut text = String::new();
        let _ = writeln!(text, "# TYPE ferry_registry_requests_total counter");
        for class in 1..self.answers.len() {
            let count = load(&self.answers[class]);
            let _ = writeln!(text, "ferry_registry_requests_total{{status=\"{class}xx\"}} {count}");
        }
        for (name, kind, value) in [
            ("sent_bytes_total", "counter", load(&self.sent)),
            ("connections_total", "counter", load(&self.connections)),
            ("freed_bytes_total", "counter", load(&self.freed)),
            ("scrubs_total", "counter", load(&self.scrubs)),
            ("blobs_repaired_total", "counter", load(&self.repaired)),
            ("blobs_lost_total", "counter", load(&self.lost)),
            ("rate_limited_total", "counter", load(&self.limited)),
            ("repositories", "gauge", totals.repositories),
            ("manifests", "gauge", totals.manifests),
            ("tags", "gauge", totals.tags),
            ("blobs", "gauge", totals.blobs),
            ("uploads_open", "gauge", uploads as u64),
        ] {
            let _ = writeln!(text, "# TYPE ferry_registry_{name} {kind}\nferry_registry_{name} {value}");
        }
        text
    }
}
