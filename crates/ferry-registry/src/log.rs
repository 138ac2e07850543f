//! What the operator reads: requests on standard output, one JSON line each, and faults on standard error.

use std::io::Write as _;
use std::time::Duration;

use serde_json::json;

/// A request that was answered.
#[derive(Debug)]
pub struct Line<'a> {
    /// Address of the client.
    pub peer: &'a str,
    /// Method.
    pub method: &'a str,
    /// Path and query.
    pub target: &'a str,
    /// Who sent it; `-` for nobody in particular.
    pub user: &'a str,
    /// Status of the answer.
    pub status: u16,
    /// Bytes of its body.
    pub bytes: u64,
    /// What the client calls itself.
    pub agent: &'a str,
    /// Time until the answer began.
    pub took: Duration,
}

/// Longest text of a client that is repeated.
const TEXT_MAX: usize = 1000;

fn now() -> String {
    format!("{:.3}", jiff::Timestamp::now())
}

fn cut(text: &str) -> String {
    text.chars().take(TEXT_MAX).collect()
}

/// Writes a request's line. A reader that went away is no reason to stop serving.
pub fn access(line: &Line<'_>) {
    let text = json!({
        "time": now(), "peer": line.peer, "user": line.user, "method": line.method, "target": cut(line.target),
        "status": line.status, "bytes": line.bytes, "agent": cut(line.agent),
        "milliseconds": line.took.as_secs_f64() * 1000.0,
    });
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

/// Tells a fault that no client is told.
pub fn fault(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{} error: {text}", now());
}

/// Tells what the registry does by itself.
pub fn note(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{} {text}", now());
}
