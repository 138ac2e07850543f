//! The log's writing end: stream bytes in, records on disk.
//!
//! Owns batching: one time stamp and as few writes as possible for each piece read from a stream.
//! Never waits for readers.

use std::collections::BTreeMap;
use std::io;
use std::path::PathBuf;

use super::Stream;
use super::encode::LineEncoder;
use super::rotate::{Limits, LogFile};
use crate::clock;

/// Records are handed to the kernel in pieces of about this size: large enough that the call itself
/// costs nothing, small enough to stay in the processor's cache.
const BATCH: usize = 256 * 1024;

/// Lines are encoded in pieces of this many input bytes, so that they are still in the cache when they are copied.
const WINDOW: usize = 128 * 1024;

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
    /// Bytes of the streams that could not be written, and the last reason.
    lost: Option<(u64, String)>,
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
            lost: None,
        })
    }

    /// Writes what one read of a stream gave. Where the disk refuses, the container goes on and the loss
    /// is counted (see [`LogWriter::loss`]): a full disk must not stop every container of the host.
    pub fn write(&mut self, stream: Stream, mut input: &[u8]) {
        let time = clock::now_text();
        self.encoder(stream).set_time(&time);
        while !input.is_empty() {
            let room = match self.make_room() {
                Ok(room) => room,
                Err(error) => return self.lose(input.len(), &error),
            };
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
        if let Err(error) = self.make_room() {
            return self.lose(0, &error);
        }
        let mut batch = std::mem::take(&mut self.batch);
        self.encoder(stream).set_time(&time);
        self.encoder(stream).flush_unfinished(&mut batch, at_end);
        self.batch = batch;
        self.hand_over(0);
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
        self.lost.as_ref().map(|(bytes, reason)| format!("log: {bytes} bytes were not written: {reason}"))
    }

    fn encoder(&mut self, stream: Stream) -> &mut LineEncoder {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
    }

    /// Rotates when the active file is full; returns how many bytes it takes before it is full again.
    fn make_room(&mut self) -> io::Result<usize> {
        if self.file.room() == 0 {
            self.file.rotate()?;
        }
        // A limit of zero bytes still takes one record per file.
        Ok(self.file.room().max(1))
    }

    fn hand_over(&mut self, used: usize) {
        if !self.batch.is_empty() {
            if let Err(error) = self.file.append(&self.batch) {
                self.lose(used, &error);
            }
            self.batch.clear();
        }
    }

    fn lose(&mut self, bytes: usize, error: &io::Error) {
        let lost = self.lost.get_or_insert_with(|| (0, String::new()));
        lost.0 += bytes as u64;
        lost.1 = error.to_string();
    }
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
