//! `docker logs` and the output half of `attach`: the log read by a cursor, once or as it grows.

use std::sync::Arc;

use ferry_shim::log::reader::{Format, LogReader, ReadOptions};
use http::StatusCode;
use jiff::Timestamp;

use super::output::Follower;
use super::{Container, Moment};
use crate::error::HttpStatus;

/// Bytes read and sent at a time: every piece wakes the client once.
const CHUNK: usize = 256 * 1024;

/// Which part of a log is wanted, and how it is written.
#[derive(Debug, Clone, Default)]
pub struct LogRequest {
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
    /// Only the last so many lines.
    pub tail: Option<u64>,
    /// Not before.
    pub since: Option<Timestamp>,
    /// Not after.
    pub until: Option<Timestamp>,
    /// Go on while the container runs.
    pub follow: bool,
    /// Times before lines.
    pub timestamps: bool,
    /// Attributes before lines.
    pub details: bool,
    /// A frame for each line.
    pub frame_each: bool,
}

/// A log that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The driver keeps nothing.
    #[error("configured logging driver does not support reading")]
    NotKept,
    /// The disk.
    #[error("open the log of container {id}")]
    Open {
        /// The container.
        id: String,
        /// Why.
        #[source]
        source: std::io::Error,
    },
}

impl HttpStatus for LogError {
    fn status(&self) -> StatusCode {
        match self {
            Self::NotKept => StatusCode::NOT_IMPLEMENTED,
            Self::Open { .. } => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// A position in a container's log.
pub struct Cursor {
    reader: LogReader,
    format: Format,
    follower: Option<Follower>,
    container: Arc<Container>,
    moments: tokio::sync::watch::Receiver<Moment>,
    /// The run that is followed ends when the count of ends passes this.
    exits: u64,
    /// And so for starts that fail.
    failed_starts: u64,
    ended: bool,
}

impl Cursor {
    /// Opens the log. What is read later begins where the log is now; `follow` ends with the container's
    /// present run, or with its next one if it does not run.
    pub fn open(container: &Arc<Container>, request: &LogRequest) -> Result<Self, LogError> {
        let (kept, terminal) = {
            let inner = container.lock();
            (inner.record.host_config.log_config.kind != "none", inner.record.config.tty)
        };
        if !kept {
            return Err(LogError::NotKept);
        }
        // Watched before the log is opened: nothing that happens between the two is missed.
        let follower = request.follow.then(|| container.output.follow());
        let mut moments = container.watch();
        let (exits, failed_starts) = {
            let moment = moments.borrow_and_update();
            (moment.exits, moment.failed_starts)
        };
        let options = ReadOptions {
            stdout: request.stdout,
            stderr: request.stderr,
            tail: request.tail,
            since: request.since.map(Timestamp::as_nanosecond),
            until: request.until.map(Timestamp::as_nanosecond),
            follow: request.follow,
        };
        let reader = LogReader::open(&container.dir.log_path(), options)
            .map_err(|source| LogError::Open { id: container.id.clone(), source })?;
        let format = Format {
            multiplexed: !terminal,
            frame_each: request.frame_each,
            timestamps: request.timestamps,
            details: request.details,
        };
        let container = Arc::clone(container);
        Ok(Self { reader, format, follower, container, moments, exits, failed_starts, ended: false })
    }

    /// The next piece, waiting for it when following; `None` at the end.
    pub async fn next(&mut self) -> std::io::Result<Option<Vec<u8>>> {
        loop {
            let mut chunk = Vec::new();
            self.reader.read_into(&mut chunk, &self.format, CHUNK)?;
            if !chunk.is_empty() {
                return Ok(Some(chunk));
            }
            let Some(follower) = &mut self.follower else { return Ok(None) };
            if self.ended || self.reader.is_finished() {
                return Ok(None);
            }
            follower.caught_up(self.reader.files_behind());
            tokio::select! {
                () = follower.grew() => {}
                // All output was in the log before the end was told: one more look finds the rest.
                () = run_over(&mut self.moments, self.exits, self.failed_starts) => self.ended = true,
            }
        }
    }

    /// The container whose log this is.
    pub fn container(&self) -> &Arc<Container> {
        &self.container
    }
}

/// Waits until the run that was current ended, a start failed, or the container went away.
pub async fn run_over(moments: &mut tokio::sync::watch::Receiver<Moment>, exits: u64, failed_starts: u64) {
    let over =
        |moment: &Moment| moment.exits > exits || moment.failed_starts > failed_starts || moment.removed;
    // The sender lives as long as the container; its end is an end as well.
    let _ = moments.wait_for(over).await;
}
