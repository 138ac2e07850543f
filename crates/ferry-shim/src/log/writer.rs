//! The log's writing end: stream bytes in, records on disk.
//!
//! Owns batching: one time stamp and as few writes as possible for each piece read from a stream.
//! Never waits for readers.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::Stream;
use super::backlog::Backlog;
use super::encode::LineEncoder;
use super::rotate::{Limits, LogFile};
use crate::clock;

/// Records are handed to the kernel in pieces of about this size: large enough that the call itself
/// costs nothing, small enough to stay in the processor's cache.
const BATCH: usize = 256 * 1024;

/// Lines are encoded in pieces of this many input bytes, so that they are still in the cache when they are copied.
const WINDOW: usize = 128 * 1024;

/// Pause before the disk is tried again at the end.
const RETRY: Duration = Duration::from_millis(20);

/// What to write where.
#[derive(Debug, Clone)]
pub struct WriterConfig {
    /// The active file.
    pub path: PathBuf,
    /// Rotation.
    pub limits: Limits,
    /// The `attrs` member of every record; left out when empty.
    pub attrs: BTreeMap<String, String>,
}

/// Writes one container's log.
#[derive(Debug)]
pub struct LogWriter {
    file: LogFile,
    stdout: LineEncoder,
    stderr: LineEncoder,
    batch: Vec<u8>,
    /// What the disk did not take.
    backlog: Backlog,
}

impl LogWriter {
    /// Opens the log for appending.
    pub fn open(config: &WriterConfig) -> io::Result<LogWriter> {
        let attrs = attrs_json(&config.attrs);
        Ok(LogWriter {
            file: LogFile::open(&config.path, config.limits.clone())?,
            stdout: LineEncoder::new(Stream::Stdout, &attrs),
            stderr: LineEncoder::new(Stream::Stderr, &attrs),
            batch: Vec::new(),
            backlog: Backlog::default(),
        })
    }

    /// Writes what one read of a stream gave. Where the disk refuses, the container goes on and its output
    /// waits in memory as far as that is sensible: a full disk must not stop every container of the host.
    pub fn write(&mut self, stream: Stream, mut input: &[u8]) {
        self.retry();
        let time = clock::now_text();
        self.encoder(stream).set_time(&time);
        while !input.is_empty() {
            let room = self.make_room();
            let mut batch = std::mem::take(&mut self.batch);
            let window = &input[..input.len().min(WINDOW)];
            let used = self.encoder(stream).encode(window, &mut batch, room.min(BATCH));
            self.batch = batch;
            self.hand_over(used);
            input = &input[used..];
        }
    }

    /// Writes an unfinished line: at the stream's end, or for readers who wait for a prompt.
    pub fn flush_unfinished(&mut self, stream: Stream, at_end: bool) {
        if !self.encoder(stream).has_unfinished() {
            return;
        }
        let time = clock::now_text();
        self.make_room();
        let mut batch = std::mem::take(&mut self.batch);
        self.encoder(stream).set_time(&time);
        self.encoder(stream).flush_unfinished(&mut batch, at_end);
        self.batch = batch;
        self.hand_over(0);
    }

    /// Tries again to write what the disk did not take. Behind that the log says what it does not have.
    pub fn retry(&mut self) {
        if self.backlog.refusal().is_none() {
            return;
        }
        match self.write_backlog() {
            Ok(()) => self.backlog.resumed(),
            Err(error) => self.backlog.refused(&error),
        }
    }

    fn write_backlog(&mut self) -> io::Result<()> {
        while let Some(records) = self.backlog.first() {
            room_in(&mut self.file)?;
            self.file.append(records)?;
            self.backlog.written();
        }
        if let Some(note) = self.backlog.note() {
            let mut encoder = LineEncoder::new(Stream::Stderr, "");
            encoder.set_time(&clock::now_text());
            let mut record = Vec::new();
            encoder.encode(note.as_bytes(), &mut record, usize::MAX);
            room_in(&mut self.file)?;
            self.file.append(&record)?;
            self.backlog.noted();
        }
        Ok(())
    }

    /// The container has ended: what waits is written or, where the disk stays full, given up.
    pub fn finish(&mut self, patience: Duration) {
        let deadline = Instant::now() + patience;
        self.retry();
        while self.backlog.refusal().is_some() && Instant::now() < deadline {
            std::thread::sleep(RETRY);
            self.retry();
        }
        self.backlog.abandon();
    }

    /// Why the log does not grow now although it should; None while all is well.
    pub fn refusal(&self) -> Option<&str> {
        self.backlog.refusal()
    }

    /// True when either stream has an unfinished line.
    pub fn has_unfinished(&self) -> bool {
        self.stdout.has_unfinished() || self.stderr.has_unfinished()
    }

    /// Gives the batch's memory back; called when the container has been silent for a while.
    pub fn release_memory(&mut self) {
        self.batch = Vec::new();
    }

    /// The chain of files.
    pub fn file(&mut self) -> &mut LogFile {
        &mut self.file
    }

    /// What could not be written so far, in words for the exit record.
    pub fn loss(&self) -> Option<String> {
        self.backlog.loss()
    }

    fn encoder(&mut self, stream: Stream) -> &mut LineEncoder {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }

    /// Rotates when the active file is full; returns how many bytes it takes before it is full again. What
    /// has to wait anyway has no such limit.
    fn make_room(&mut self) -> usize {
        if self.backlog.refusal().is_some() {
            return usize::MAX;
        }
        match room_in(&mut self.file) {
            Ok(room) => room,
            Err(error) => {
                self.backlog.refused(&error);
                usize::MAX
            }
        }
    }

    fn hand_over(&mut self, used: usize) {
        if self.batch.is_empty() {
            return;
        }
        if self.backlog.refusal().is_none() {
            match self.file.append(&self.batch) {
                Ok(()) => return self.batch.clear(),
                Err(error) => self.backlog.refused(&error),
            }
        }
        self.backlog.keep(std::mem::take(&mut self.batch), used);
    }
}

/// Rotates a file that is full; gives how many bytes it takes before it is full again.
fn room_in(file: &mut LogFile) -> io::Result<usize> {
    if file.room() == 0 {
        file.rotate()?;
    }
    // A limit of zero bytes still takes one record per file.
    Ok(file.room().max(1))
}

/// A JSON object with sorted keys, escaped as Go's `encoding/json` does; empty for no attributes.
fn attrs_json(attrs: &BTreeMap<String, String>) -> String {
    if attrs.is_empty() {
        return String::new();
    }
    let mut json = Vec::from(*b"{");
    for (index, (key, value)) in attrs.iter().enumerate() {
        if index > 0 {
            json.push(b',');
        }
        json.push(b'"');
        super::encode::escape(key.as_bytes(), &mut json);
        json.extend_from_slice(b"\":\"");
        super::encode::escape(value.as_bytes(), &mut json);
        json.push(b'"');
    }
    json.push(b'}');
    String::from_utf8(json).expect("escape copies valid UTF-8 and writes ASCII")
}
