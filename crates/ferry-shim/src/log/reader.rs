//! The log's reading end: a cursor over the rotated chain.
//!
//! Owns following a log across rotation and truncation, the last N records, times, and turning records
//! into Docker's stream. Synchronous: reading the page cache does not wait, and when there is nothing
//! more the caller decides how to wait (the shim's `LogTick` says when to look again).
//!
//! ```no_run
//! use ferry_shim::log::reader::{LogReader, ReadOptions, Format};
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let options = ReadOptions { tail: Some(10), ..ReadOptions::default() };
//! let mut reader = LogReader::open("/tmp/c-json.log".as_ref(), options)?;
//! let mut out = Vec::new();
//! while reader.read_into(&mut out, &Format::default(), 64 * 1024)? > 0 {
//!     out.clear(); // hand it to the client
//! }
//! # Ok(()) }
//! ```
//!
//! A reader holds the files it has still to read open, so rotation cannot take them away. A *following*
//! reader should pin the log (`PinLog`) as well, so that files that come and go while it is slow stay:
//! pin generation 0 before opening, and later `LogTick.generation - reader.files_behind()`.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

use super::Stream;
use super::chain::{self, ChainFile, Identity, tail_offset};
use super::decode::{Decoded, decode};
use crate::clock;

/// Read from the files in pieces of this size.
const BLOCK: usize = 256 * 1024;
/// A record is at most 16 KiB of text, six times that when all of it is escaped, and its attributes;
/// what is longer is no record and is skipped.
const MAX_RECORD: usize = 1 << 20;

/// Which records to read.
#[derive(Debug, Clone)]
pub struct ReadOptions {
    /// Records of standard output.
    pub stdout: bool,
    /// Records of standard error.
    pub stderr: bool,
    /// Only the last so many records (of both streams, as Docker counts); `None` means all.
    pub tail: Option<u64>,
    /// Not before this time, in nanoseconds since 1970.
    pub since: Option<i128>,
    /// Not after this time.
    pub until: Option<i128>,
    /// Go on when the log grows. Otherwise reading ends where the log ended when it was opened.
    pub follow: bool,
}

impl Default for ReadOptions {
    fn default() -> Self {
        ReadOptions { stdout: true, stderr: true, tail: None, since: None, until: None, follow: false }
    }
}

/// How records are written for a client.
#[derive(Debug, Clone, Default)]
pub struct Format {
    /// Docker's frame headers; off for containers with a terminal.
    pub multiplexed: bool,
    /// A frame for each record, instead of one for all that follow each other in a stream.
    pub frame_each: bool,
    /// The record's time before each line, nine digits always, as `docker logs -t`.
    pub timestamps: bool,
    /// The record's attributes before each line, as `docker logs --details`.
    pub details: bool,
}

/// One record.
#[derive(Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Where it came from.
    pub stream: Stream,
    /// The bytes, with the newline if it ended a line.
    pub text: &'a [u8],
    /// Nanoseconds since 1970.
    pub time: i128,
    /// A JSON object.
    pub attrs: Option<&'a [u8]>,
}

/// A cursor over one container's log.
#[derive(Debug)]
pub struct LogReader {
    path: PathBuf,
    options: ReadOptions,
    /// The file being read first, then newer ones.
    sources: VecDeque<Source>,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Records at the front of a compressed file that `tail` leaves out.
    skip: u64,
    /// Inside something longer than a record can be.
    oversized: bool,
    /// The text and value of the last record's time: a batch shares one.
    last_time: (Vec<u8>, i128),
    finished: bool,
    malformed: u64,
}

#[derive(Debug)]
struct Source {
    identity: Identity,
    /// Reading stops here when not following.
    limit: Option<u64>,
    input: Input,
}

#[derive(Debug)]
enum Input {
    Plain { file: File, offset: u64 },
    Gzip(Box<MultiGzDecoder<File>>),
}

impl LogReader {
    /// Opens the log. It may not exist yet.
    pub fn open(path: &Path, options: ReadOptions) -> io::Result<LogReader> {
        let files = chain::open(path)?;
        let mut reader = LogReader {
            path: path.to_owned(),
            sources: VecDeque::new(),
            buffer: Vec::new(),
            start: 0,
            end: 0,
            skip: 0,
            oversized: false,
            last_time: (Vec::new(), 0),
            finished: false,
            malformed: 0,
            options,
        };
        reader.position(files)?;
        Ok(reader)
    }

    /// The next record, or `None` when there is no more now (or at all, see [`LogReader::is_finished`]).
    pub fn next_record(&mut self) -> io::Result<Option<Record<'_>>> {
        let Some((decoded, time)) = self.advance()? else { return Ok(None) };
        let attrs = decoded.attrs.map(|range| &self.buffer[range]);
        Ok(Some(Record { stream: decoded.stream, text: &self.buffer[decoded.text], time, attrs }))
    }

    /// Appends records to `out`, formatted, until it holds `limit` bytes or there are no more now;
    /// returns how many records that were. Records of one stream share a frame unless each is to have its own.
    pub fn read_into(&mut self, out: &mut Vec<u8>, format: &Format, limit: usize) -> io::Result<usize> {
        let mut count = 0;
        let mut frame: Option<(Stream, usize)> = None;
        while out.len() < limit {
            let Some((decoded, time)) = self.advance()? else { break };
            let goes_on = |(stream, _)| stream == decoded.stream && !format.frame_each;
            if format.multiplexed && !frame.is_some_and(goes_on) {
                close_frame(out, frame);
                frame = Some((decoded.stream, out.len()));
                out.extend_from_slice(&[decoded.stream.number(), 0, 0, 0, 0, 0, 0, 0]);
            }
            if format.timestamps {
                write_time(out, time);
            }
            if format.details {
                write_details(out, decoded.attrs.as_ref().map(|range| &self.buffer[range.clone()]));
            }
            out.extend_from_slice(&self.buffer[decoded.text]);
            count += 1;
        }
        close_frame(out, frame);
        Ok(count)
    }

    /// True once nothing can come any more: `until` has passed, or the end when not following.
    pub fn is_finished(&self) -> bool {
        self.finished
    }

    /// Goes on only to where the log ends now: for a follower whose container has ended.
    pub fn stop_following(&mut self) {
        self.options.follow = false;
    }

    /// How many files of the chain are newer than the one being read.
    pub fn files_behind(&self) -> u64 {
        self.sources.len().saturating_sub(1) as u64
    }

    /// How many lines were no records.
    pub fn malformed(&self) -> u64 {
        self.malformed
    }

    /// Chooses where to begin.
    fn position(&mut self, files: Vec<ChainFile>) -> io::Result<()> {
        let mut wanted = self.options.tail;
        let mut sources = VecDeque::new();
        for file in files.into_iter().rev() {
            let old = self.options.since.is_some_and(|since| is_older(&file, since));
            if old && !sources.is_empty() {
                break;
            }
            let offset = match wanted {
                None => 0,
                Some(records) => {
                    let (offset, found) = self.tail_position(&file, records)?;
                    wanted = Some(records - found);
                    offset
                }
            };
            sources.push_front(Source::new(file, offset, self.options.follow)?);
            if wanted == Some(0) {
                break;
            }
        }
        self.sources = sources;
        Ok(())
    }

    /// Where the last `records` records of the file begin and how many there are.
    fn tail_position(&mut self, file: &ChainFile, records: u64) -> io::Result<(u64, u64)> {
        if !file.compressed {
            return tail_offset(&file.file, file.size, records);
        }
        let total = count_lines(&mut MultiGzDecoder::new(&file.file))?;
        (&file.file).seek(SeekFrom::Start(0))?;
        self.skip = total.saturating_sub(records);
        Ok((0, total.min(records)))
    }

    /// Finds the next record that passes the filters.
    fn advance(&mut self) -> io::Result<Option<(Decoded, i128)>> {
        while !self.finished {
            let Some(range) = self.next_line()? else { return Ok(None) };
            if self.skip > 0 {
                self.skip -= 1;
                continue;
            }
            let decoded = decode(&mut self.buffer[range.clone()], range.start);
            let Some((decoded, time)) = decoded.and_then(|decoded| self.with_time(decoded)) else {
                self.malformed += u64::from(!range.is_empty());
                continue;
            };
            if self.options.until.is_some_and(|until| time > until) {
                self.finished = true;
                return Ok(None);
            }
            let wanted = match decoded.stream {
                Stream::Stdout => self.options.stdout,
                Stream::Stderr => self.options.stderr,
            };
            if wanted && self.options.since.is_none_or(|since| time >= since) {
                return Ok(Some((decoded, time)));
            }
        }
        Ok(None)
    }

    fn with_time(&mut self, decoded: Decoded) -> Option<(Decoded, i128)> {
        let text = &self.buffer[decoded.time.clone()];
        if text != self.last_time.0 {
            let time = clock::parse(text)?;
            self.last_time = (text.to_vec(), time);
        }
        Some((decoded, self.last_time.1))
    }

    /// The next whole line, without its newline.
    fn next_line(&mut self) -> io::Result<Option<std::ops::Range<usize>>> {
        let mut searched = self.start;
        loop {
            if let Some(length) = memchr::memchr(b'\n', &self.buffer[searched..self.end]) {
                let line = self.start..searched + length;
                self.start = line.end + 1;
                if !std::mem::take(&mut self.oversized) {
                    return Ok(Some(line));
                }
                self.malformed += 1;
                searched = self.start;
                continue;
            }
            if self.end - self.start > MAX_RECORD {
                self.oversized = true;
                self.start = self.end;
            }
            let kept = self.end - self.start;
            if !self.fill()? {
                return Ok(None);
            }
            searched = self.start + kept.min(self.end - self.start);
        }
    }

    /// Reads more bytes behind those that are kept. False when there are none now.
    fn fill(&mut self) -> io::Result<bool> {
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if self.buffer.len() < self.end + BLOCK {
            self.buffer.resize(self.end + BLOCK, 0);
        }
        loop {
            let Some(source) = self.sources.front_mut() else {
                return self.next_source();
            };
            let count = source.read(&mut self.buffer[self.end..])?;
            if count > 0 {
                self.end += count;
                return Ok(true);
            }
            if !self.next_source()? {
                return Ok(false);
            }
        }
    }

    /// At the end of a file: steps to the next newer one, where there is one. False when this is the
    /// end for now.
    fn next_source(&mut self) -> io::Result<bool> {
        if self.sources.len() > 1 {
            self.sources.pop_front();
            self.drop_torn_line();
            return Ok(true);
        }
        if !self.options.follow {
            self.finished = true;
            return Ok(false);
        }
        let current = self.sources.front().map(|source| source.identity);
        let active = chain::identity_of(&self.path)?;
        if active.is_none() {
            return Ok(false);
        }
        if active == current {
            return self.check_truncation();
        }
        self.append_newer(current)
    }

    /// A file that became shorter was emptied: by `max-file=1` or by somebody's hand.
    fn check_truncation(&mut self) -> io::Result<bool> {
        let Some(Source { input: Input::Plain { file, offset }, .. }) = self.sources.front_mut() else {
            return Ok(false);
        };
        if file.metadata()?.len() >= *offset {
            return Ok(false);
        }
        *offset = 0;
        self.drop_torn_line();
        Ok(true)
    }

    /// The log was rotated since: what came between the end we saw and the rotation is still to be read
    /// from the old file, then come the newer ones.
    fn append_newer(&mut self, current: Option<Identity>) -> io::Result<bool> {
        let files = chain::open(&self.path)?;
        let at = files.iter().position(|file| Some(file.identity) == current);
        for file in files.into_iter().skip(at.map_or(0, |at| at + 1)) {
            // Our file may have become a compressed one, which must not be read again.
            if at.is_none() && current.is_some() && file.compressed {
                continue;
            }
            self.sources.push_back(Source::new(file, 0, true)?);
        }
        Ok(!self.sources.is_empty())
    }

    /// Nothing completes a line whose file has ended.
    fn drop_torn_line(&mut self) {
        self.malformed += u64::from(self.end > self.start);
        self.start = self.end;
        self.oversized = false;
    }
}

impl Source {
    fn new(file: ChainFile, offset: u64, follow: bool) -> io::Result<Source> {
        let limit = (!follow).then_some(file.size);
        let identity = file.identity;
        let input = if file.compressed {
            Input::Gzip(Box::new(MultiGzDecoder::new(file.file)))
        } else {
            Input::Plain { file: file.file, offset }
        };
        Ok(Source { identity, limit, input })
    }

    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.input {
            Input::Gzip(decoder) => decoder.read(buffer),
            Input::Plain { file, offset } => {
                let left = self.limit.map_or(u64::MAX, |limit| limit.saturating_sub(*offset));
                let length = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
                let count = file.read_at(&mut buffer[..length], *offset)?;
                *offset += count as u64;
                Ok(count)
            }
        }
    }
}

/// Nothing in the file can be of `since` or later. Generous by two seconds: file times are coarse.
fn is_older(file: &ChainFile, since: i128) -> bool {
    i128::from(file.modified + 2) * 1_000_000_000 < since
}

fn count_lines(input: &mut impl Read) -> io::Result<u64> {
    let mut block = vec![0; 64 * 1024];
    let mut lines = 0;
    loop {
        match input.read(&mut block)? {
            0 => return Ok(lines),
            count => lines += memchr::memchr_iter(b'\n', &block[..count]).count() as u64,
        }
    }
}

/// Writes the length into the header of the frame that ends here.
fn close_frame(out: &mut [u8], frame: Option<(Stream, usize)>) {
    if let Some((_, header)) = frame {
        let length = (out.len() - header - 8) as u32;
        out[header + 4..header + 8].copy_from_slice(&length.to_be_bytes());
    }
}

/// Go's `RFC3339NanoFixed`: nine digits, so that columns align.
fn write_time(out: &mut Vec<u8>, time: i128) {
    let text = clock::format(time);
    let (seconds, fraction) = text.trim_end_matches('Z').split_at(19);
    out.extend_from_slice(seconds.as_bytes());
    out.extend_from_slice(format!(".{:0<9}Z ", fraction.trim_start_matches('.')).as_bytes());
}

/// `k=v,k=v ` with keys and values escaped as in a URL query; just the space when there are none.
fn write_details(out: &mut Vec<u8>, attrs: Option<&[u8]>) {
    let parsed: Option<std::collections::BTreeMap<String, String>> =
        attrs.and_then(|attrs| serde_json::from_slice(attrs).ok());
    for (index, (key, value)) in parsed.unwrap_or_default().iter().enumerate() {
        if index > 0 {
            out.push(b',');
        }
        query_escape(key, out);
        out.push(b'=');
        query_escape(value, out);
    }
    out.push(b' ');
}

/// Go's `url.QueryEscape`.
fn query_escape(text: &str, out: &mut Vec<u8>) {
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(byte),
            b' ' => out.push(b'+'),
            _ => out.extend_from_slice(format!("%{byte:02X}").as_bytes()),
        }
    }
}

#[cfg(test)]
mod tests;
