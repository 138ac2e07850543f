//! `docker container prune`: every container that does not run, if the filters choose it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use ferry_api::Filters;
use ferry_api::container::PruneResponse;
use jiff::{SignedDuration, Timestamp};

use super::record::Record;
use super::remove::{self, RemoveOptions};
use super::state::Status;
use crate::clock;
use crate::engine::Engine;
use crate::error::HttpError;

/// Keys that `filters` may have.
pub const FILTER_KEYS: &[&str] = &["label", "label!", "until"];

/// One at a time: two would race for the same containers and report them twice.
#[derive(Default)]
pub struct PruneGuard(AtomicBool);

impl PruneGuard {
    /// Refuses while another runs; free again when the answer is dropped.
    pub fn enter(&self) -> Result<Pruning<'_>, HttpError> {
        match self.0.swap(true, Ordering::AcqRel) {
            false => Ok(Pruning(self)),
            true => Err(HttpError::conflict("a prune operation is already running")),
        }
    }
}

/// A prune that runs.
pub struct Pruning<'a>(&'a PruneGuard);

impl Drop for Pruning<'_> {
    fn drop(&mut self) {
        self.0.0.store(false, Ordering::Release);
    }
}

/// Removes what does not run.
pub async fn prune(engine: &Arc<Engine>, filters: &Filters) -> Result<PruneResponse, HttpError> {
    let _pruning = engine.pruning.enter()?;
    let until = until(filters, Timestamp::now())?;
    let (mut deleted, mut reclaimed) = (Vec::new(), 0);
    for container in engine.containers.all() {
        if !is_chosen(&container.record(), filters, until) {
            continue;
        }
        let size = engine.store.writable_size(&container.id).unwrap_or(0);
        // One that was started in between stays; that is no failure of the prune.
        match remove::remove(engine, &container, RemoveOptions::default()).await {
            Ok(()) => {
                deleted.push(container.id.clone());
                reclaimed += size;
            }
            Err(error) => tracing::info!(container = %container.id, %error, "not pruned"),
        }
    }
    let attributes = [("reclaimed".to_owned(), reclaimed.to_string())].into();
    engine.events.emit("container", "prune", "", attributes);
    Ok(PruneResponse {
        containers_deleted: (!deleted.is_empty()).then_some(deleted),
        space_reclaimed: reclaimed,
    })
}

fn is_chosen(record: &Record, filters: &Filters, until: Option<Timestamp>) -> bool {
    let stopped = matches!(record.state.status, Status::Created | Status::Exited | Status::Dead);
    let created = clock::parse(&record.created);
    let empty = Default::default();
    let labels = record.config.labels.as_ref().unwrap_or(&empty);
    let excluded = filters.contains("label!") && filters.match_labels("label!", labels);
    stopped
        && until.is_none_or(|until| created.is_some_and(|created| created < until))
        && filters.match_labels("label", labels)
        && !excluded
}

/// The moment before which things are old enough: a time, or how long ago.
pub fn until(filters: &Filters, now: Timestamp) -> Result<Option<Timestamp>, HttpError> {
    match filters.get("until").next() {
        Some(text) => bound(text, now),
        None => Ok(None),
    }
}

/// A time, or how long ago.
pub fn bound(text: &str, now: Timestamp) -> Result<Option<Timestamp>, HttpError> {
    if let Some(ago) = go_duration(text) {
        return Ok(now.checked_sub(ago).ok());
    }
    clock::parse_bound(text)
        .map_err(|error| HttpError::bad_request(format!("invalid filter 'until': {error}")))
}

/// Reads `10m`, `1h30m`, `24h`, `1.5s`.
fn go_duration(text: &str) -> Option<SignedDuration> {
    let mut total = 0.0;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
        let value: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let end = rest.find(|letter: char| letter.is_ascii_digit()).unwrap_or(rest.len());
        let factor = match &rest[..end] {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        total += value * factor;
        rest = &rest[end..];
    }
    (!text.is_empty()).then(|| SignedDuration::try_from_secs_f64(total).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos() {
        for (text, seconds) in [
            ("10m", Some(600)),
            ("1h30m", Some(5400)),
            ("24h", Some(86_400)),
            ("5", None),
            ("x", None),
            ("", None),
        ] {
            assert_eq!(go_duration(text).map(|it| it.as_secs()), seconds, "{text}");
        }
    }

    #[test]
    fn until_is_a_time_or_an_age() {
        let now = Timestamp::new(10_000, 0).unwrap();
        let parse =
            |value: &str| until(&Filters::parse(&format!("{{\"until\":[\"{value}\"]}}")).unwrap(), now);
        assert_eq!(parse("1h").unwrap(), Timestamp::new(6400, 0).ok());
        assert_eq!(parse("500").unwrap(), Timestamp::new(500, 0).ok());
        assert!(parse("soon").is_err());
    }

    #[test]
    fn one_prune_at_a_time() {
        let guard = PruneGuard::default();
        let running = guard.enter();
        assert!(running.is_ok() && guard.enter().is_err());
        drop(running);
        assert!(guard.enter().is_ok());
    }
}
