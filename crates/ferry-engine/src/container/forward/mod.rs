//! Log drivers that send output elsewhere: syslog, journald, fluentd, gelf.
//!
//! The monitor writes a local copy whatever the driver, so that `logs` works for each, and nothing is lost while a
//! receiver is away: a task reads the copy as `logs --follow` does and sends what it reads. The engine may be
//! replaced at any time; the next one goes on behind the last record that was sent.

mod fluentd;
mod gelf;
mod journald;
mod syslog;
mod target;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use self::target::Target;
use super::Container;
use super::logs::{Cursor, LogRequest};
use super::record::Record as ContainerRecord;
use crate::engine::Engine;

/// Pause after a receiver refused, doubled up to the longest.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Longest pause.
const MAX_PAUSE: Duration = Duration::from_secs(10);
/// How long what is left of an ended container is offered to a receiver that is away.
const LAST_PATIENCE: Duration = Duration::from_secs(30);
/// A frame's header: stream, three zeros, length.
const HEADER: usize = 8;

/// The drivers, and the options that each has besides those of the local copy.
pub const DRIVERS: [(&str, &[&str]); 4] = [
    ("syslog", &["syslog-address", "syslog-facility", "syslog-format"]),
    ("journald", &[]),
    (
        "fluentd",
        &["fluentd-address", "fluentd-async", "fluentd-async-connect", "fluentd-sub-second-precision"],
    ),
    (
        "gelf",
        &["gelf-address", "gelf-compression-type", "gelf-tcp-max-reconnect", "gelf-tcp-reconnect-delay"],
    ),
];

/// What is said of each line besides its text.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Whole id.
    id: String,
    name: String,
    image: String,
    image_id: String,
    command: String,
    created: String,
    /// The tag, filled in.
    tag: String,
    hostname: String,
    /// First process of the container.
    pid: i32,
    /// Labels and variables that were chosen.
    extra: std::collections::BTreeMap<String, String>,
}

/// One line to send.
#[derive(Debug)]
pub struct Line<'a> {
    text: &'a [u8],
    time: Timestamp,
    is_error: bool,
}

/// Can this container's log be sent as its options say? The text is the reason why not.
pub fn check(driver: &str, options: &std::collections::BTreeMap<String, String>) -> Result<(), String> {
    check_tag(options.get("tag").map_or("", String::as_str))?;
    Target::parse(driver, options).map(|_| ())
}

/// Sends the container's output from now on, or from where an engine before left off.
pub fn begin(engine: &Arc<Engine>, container: &Arc<Container>, resumed: bool) {
    let record = container.record();
    let log = &record.host_config.log_config;
    if !DRIVERS.iter().any(|(driver, _)| *driver == log.kind) {
        return;
    }
    let target = match Target::parse(&log.kind, &log.config) {
        Ok(target) => target,
        Err(reason) => {
            tracing::error!(container = %container.id, reason, "the log is not sent");
            return;
        }
    };
    let facts = facts(&engine.host.name, &record);
    let sent = container.dir.dir().join("forwarded");
    let since = resumed.then(|| std::fs::read_to_string(&sent).ok()).flatten();
    let since = since.unwrap_or_else(|| record.state.started_at.clone());
    let request = LogRequest {
        stdout: true,
        stderr: true,
        since: crate::clock::parse(&since),
        follow: true,
        timestamps: true,
        ..LogRequest::default()
    };
    match Cursor::open(container, &request) {
        Ok(cursor) => {
            let multiplexed = !record.config.tty;
            tokio::spawn(Forward { target, facts, sent, multiplexed, known_trouble: false }.run(cursor));
        }
        Err(error) => tracing::error!(container = %container.id, %error, "the log is not sent"),
    }
}

struct Forward {
    target: Target,
    facts: Facts,
    /// Where the time of the last record that was sent is noted.
    sent: PathBuf,
    multiplexed: bool,
    known_trouble: bool,
}

impl Forward {
    async fn run(mut self, mut cursor: Cursor) {
        loop {
            let chunk = match cursor.next().await {
                Ok(Some(chunk)) => chunk,
                Ok(None) => return,
                Err(error) => {
                    tracing::error!(container = %self.facts.id, %error, "the log cannot be read to be sent");
                    return;
                }
            };
            let mut last = None;
            for line in lines(&chunk, self.multiplexed) {
                if !self.send(&line, &cursor).await {
                    return;
                }
                last = Some(line.time);
            }
            if let Some(time) = last
                && let Err(error) = std::fs::write(&self.sent, time.to_string())
            {
                tracing::debug!(container = %self.facts.id, %error, "note what was sent");
            }
        }
    }

    /// Sends a line, again and again while the container lives; false when it is given up.
    async fn send(&mut self, line: &Line<'_>, cursor: &Cursor) -> bool {
        let (mut pause, mut waited) = (FIRST_PAUSE, Duration::ZERO);
        loop {
            let Err(error) = self.target.send(line, &self.facts).await else {
                self.known_trouble = false;
                return true;
            };
            if !std::mem::replace(&mut self.known_trouble, true) {
                tracing::warn!(container = %self.facts.id, to = %self.target, %error, "the log waits for its receiver");
            }
            let container = cursor.container();
            if container.lock().removed || !container.status().has_process() && waited >= LAST_PATIENCE {
                tracing::warn!(container = %self.facts.id, to = %self.target, "the rest of the log is not sent");
                return false;
            }
            tokio::time::sleep(pause).await;
            waited += pause;
            pause = (pause * 2).min(MAX_PAUSE);
        }
    }
}

/// The lines of a chunk as the cursor writes them: frames, each with its time in front; without frames from a
/// terminal.
fn lines(chunk: &[u8], multiplexed: bool) -> Vec<Line<'_>> {
    let mut found = Vec::new();
    let mut rest = chunk;
    while !rest.is_empty() {
        let (is_error, record, behind) = match multiplexed {
            true => {
                let Some(header) = rest.get(..HEADER) else { break };
                let length = u32::from_be_bytes([header[4], header[5], header[6], header[7]]) as usize;
                let Some(record) = rest.get(HEADER..HEADER + length) else { break };
                (header[0] == 2, record, &rest[HEADER + length..])
            }
            false => {
                let end = rest.iter().position(|byte| *byte == b'\n').map_or(rest.len(), |end| end + 1);
                (false, &rest[..end], &rest[end..])
            }
        };
        rest = behind;
        let Some(space) = record.iter().position(|byte| *byte == b' ') else { continue };
        let time = std::str::from_utf8(&record[..space]).ok().and_then(|time| time.parse().ok());
        let text = &record[space + 1..];
        let text = text.strip_suffix(b"\n").unwrap_or(text);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        found.push(Line { text, time: time.unwrap_or_else(Timestamp::now), is_error });
    }
    found
}

fn facts(hostname: &str, record: &ContainerRecord) -> Facts {
    let labels = record.config.labels.clone().unwrap_or_default();
    let environment = record.config.env.clone().unwrap_or_default();
    let mut extra = super::logging::attributes(&record.host_config, &labels, &environment);
    extra.remove("tag");
    let mut facts = Facts {
        id: record.id.clone(),
        name: record.name.clone(),
        image: record.config.image.clone(),
        image_id: record.image_id.clone(),
        command: record.argv().join(" "),
        created: record.created.clone(),
        hostname: hostname.to_owned(),
        pid: record.state.pid,
        extra,
        ..Facts::default()
    };
    let template = record.host_config.log_config.config.get("tag").cloned().unwrap_or_default();
    facts.tag = tag(&template, &facts);
    facts
}

/// What a tag's template may name.
const TAG_NAMES: [&str; 6] = ["ID", "FullID", "Name", "ImageName", "ImageID", "DaemonName"];

fn short(id: &str) -> &str {
    let id = id.strip_prefix("sha256:").unwrap_or(id);
    id.get(..12).unwrap_or(id)
}

/// Fills a tag in; the short id where there is none.
fn tag(template: &str, facts: &Facts) -> String {
    if template.is_empty() {
        return short(&facts.id).to_owned();
    }
    let values = [short(&facts.id), &facts.id, &facts.name, &facts.image, short(&facts.image_id), "docker"];
    TAG_NAMES.iter().zip(values).fold(template.to_owned(), |text, (name, value)| {
        text.replace(&format!("{{{{.{name}}}}}"), value).replace(&format!("{{{{ .{name} }}}}"), value)
    })
}

fn check_tag(template: &str) -> Result<(), String> {
    let left = tag(template, &Facts::default());
    match left.contains("{{") {
        true => Err(format!(
            "the tag {template:?} has something else than {{{{.ID}}}}, .FullID, .Name, .ImageName, .ImageID and .DaemonName"
        )),
        false => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_become_lines() {
        let mut chunk = vec![1, 0, 0, 0, 0, 0, 0, 24];
        chunk.extend_from_slice(b"2024-01-02T03:04:05Z abc");
        chunk.extend_from_slice(&[2, 0, 0, 0, 0, 0, 0, 23]);
        chunk.extend_from_slice(b"2024-01-02T03:04:05Z x\n");
        let found = lines(&chunk, true);
        assert_eq!(found.len(), 2);
        assert!(found[0].text == b"abc" && !found[0].is_error && found[1].text == b"x" && found[1].is_error);
        let found = lines(b"2024-01-02T03:04:05Z one\r\n2024-01-02T03:04:06Z two\r\n", false);
        assert_eq!(found.iter().map(|line| line.text).collect::<Vec<_>>(), [b"one", b"two"]);
    }

    #[test]
    fn tags() {
        let facts = Facts { id: "0123456789abcdef".into(), name: "web".into(), ..Facts::default() };
        for (template, wanted) in
            [("", "0123456789ab"), ("{{.Name}}/{{.ID}}", "web/0123456789ab"), ("x", "x")]
        {
            assert_eq!(tag(template, &facts), wanted);
        }
        assert!(check_tag("{{.Nope}}").is_err() && check_tag("a{{.FullID}}").is_ok());
    }
}
