//! Writer and reader together: rotation, tails, times, truncation, compression.

use super::*;
use crate::log::rotate::Limits;
use crate::log::writer::{LogWriter, WriterConfig};
use std::collections::BTreeMap;

/// A log in a directory of its own, gone with it.
struct Log {
    directory: PathBuf,
    writer: LogWriter,
}

impl Log {
    fn new(name: &str, max_size: Option<u64>, max_file: u32, compress: bool) -> Log {
        let directory = std::env::temp_dir().join(format!("ferry-log-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&directory);
        std::fs::create_dir_all(&directory).unwrap();
        let config = WriterConfig {
            path: directory.join("c-json.log"),
            limits: Limits { max_size, max_file, compress },
            attrs: BTreeMap::new(),
        };
        let writer = LogWriter::open(&config).unwrap();
        Log { directory, writer }
    }

    fn path(&self) -> PathBuf {
        self.directory.join("c-json.log")
    }

    fn lines(&mut self, range: std::ops::Range<u32>) {
        for number in range {
            self.writer.write(Stream::Stdout, format!("line {number}\n").as_bytes());
        }
    }

    fn files(&self) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(&self.directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn reader(&self, options: ReadOptions) -> LogReader {
        LogReader::open(&self.path(), options).unwrap()
    }
}

impl Drop for Log {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

fn text(reader: &mut LogReader) -> String {
    let mut out = Vec::new();
    reader.read_into(&mut out, &Format::default(), usize::MAX).unwrap();
    String::from_utf8(out).unwrap()
}

fn expected(range: std::ops::Range<u32>) -> String {
    range.map(|number| format!("line {number}\n")).collect()
}

/// Each record of `line N` takes 81 to 85 bytes, so a file of this limit takes 3 or 4 of them.
const SMALL: Option<u64> = Some(300);

#[test]
fn rotation_keeps_the_newest_files() {
    let mut log = Log::new("keep", SMALL, 3, false);
    log.lines(0..40);
    assert_eq!(log.files(), ["c-json.log", "c-json.log.1", "c-json.log.2"]);
    for name in log.files() {
        let size = std::fs::metadata(log.directory.join(name)).unwrap().len();
        assert!((1..300 + 100).contains(&size), "{size}");
    }
    let all = text(&mut log.reader(ReadOptions::default()));
    assert!(all.ends_with("line 39\n") && expected(0..40).ends_with(&all), "{all}");
}

#[test]
fn one_file_is_emptied() {
    let mut log = Log::new("one", SMALL, 1, false);
    let mut reader = log.reader(ReadOptions { follow: true, ..ReadOptions::default() });
    log.lines(0..3);
    assert_eq!(text(&mut reader), expected(0..3));
    log.lines(3..5);
    assert_eq!(log.files(), ["c-json.log"]);
    assert!(text(&mut reader).ends_with("line 4\n"));
}

#[test]
fn a_follower_reads_across_rotation_when_pinned() {
    for steps in [1, 3, 50] {
        let mut log = Log::new(&format!("follow{steps}"), SMALL, 2, true);
        log.writer.file().pin(Some(0));
        let mut reader = log.reader(ReadOptions { follow: true, ..ReadOptions::default() });
        let mut seen = String::new();
        for first in (0..300).step_by(steps) {
            let next = (first + steps as u32).min(300);
            log.lines(first..next);
            seen += &text(&mut reader);
            let generation = log.writer.file().generation();
            log.writer.file().pin(Some(generation - reader.files_behind()));
        }
        assert!(seen == expected(0..300), "steps of {steps}");
        log.writer.file().pin(None);
        assert_eq!(log.files(), ["c-json.log", "c-json.log.1"]);
    }
}

#[test]
fn pins_hold_back_a_bounded_number_of_files() {
    let mut log = Log::new("bounded", Some(1), 2, false);
    log.writer.file().pin(Some(0));
    log.lines(0..300);
    let limit = 2 + crate::protocol::MAX_PINNED_FILES as usize;
    assert_eq!(log.files().len(), limit);
}

#[test]
fn tails_count_from_the_end_over_files() {
    let mut log = Log::new("tail", SMALL, 100, false);
    log.lines(0..50);
    for count in [0, 1, 2, 7, 49, 50, 51] {
        let options = ReadOptions { tail: Some(count), ..ReadOptions::default() };
        let from = 50u32.saturating_sub(count as u32);
        assert_eq!(text(&mut log.reader(options)), expected(from..50), "tail {count}");
    }
    let mut reader = log.reader(ReadOptions { tail: Some(0), follow: true, ..ReadOptions::default() });
    assert_eq!(text(&mut reader), "");
    log.lines(50..60);
    assert_eq!(text(&mut reader), expected(50..60));
}

#[test]
fn compressed_files_read_as_plain_ones() {
    let mut log = Log::new("gzip", SMALL, 100, true);
    for first in (0..40).step_by(2) {
        log.lines(first..first + 2);
        while let Some(job) = log.writer.file().start_compression().unwrap() {
            job.run().unwrap();
            log.writer.file().finish_compression(job, true);
        }
    }
    assert!(log.files().iter().filter(|name| name.ends_with(".gz")).count() > 5, "{:?}", log.files());
    assert_eq!(text(&mut log.reader(ReadOptions::default())), expected(0..40));
    let options = ReadOptions { tail: Some(9), ..ReadOptions::default() };
    assert_eq!(text(&mut log.reader(options)), expected(31..40));
}

#[test]
fn rotation_during_compression_loses_nothing() {
    let mut log = Log::new("gzip-race", SMALL, 100, true);
    log.lines(0..5);
    let job = log.writer.file().start_compression().unwrap().unwrap();
    log.lines(5..30);
    job.run().unwrap();
    log.writer.file().finish_compression(job, true);
    assert_eq!(log.files().iter().filter(|name| name.ends_with(".gz")).count(), 1);
    assert!(!log.files().iter().any(|name| name.ends_with(".compressing")));
    assert_eq!(text(&mut log.reader(ReadOptions::default())), expected(0..30));
}

#[test]
fn without_follow_reading_ends_where_the_log_ended() {
    let mut log = Log::new("snapshot", None, 1, false);
    log.lines(0..3);
    let mut reader = log.reader(ReadOptions::default());
    log.lines(3..6);
    assert_eq!(text(&mut reader), expected(0..3));
    assert!(reader.is_finished());
}

#[test]
fn streams_times_and_frames() {
    let mut log = Log::new("frames", None, 1, false);
    std::fs::write(
        log.path(),
        concat!(
            "{\"log\":\"a\\n\",\"stream\":\"stdout\",\"time\":\"2026-01-01T00:00:00Z\"}\n",
            "{\"log\":\"b\\n\",\"stream\":\"stdout\",\"time\":\"2026-01-01T00:00:01.5Z\"}\n",
            "garbage\n",
            "{\"log\":\"c\\n\",\"stream\":\"stderr\",\"attrs\":{\"k\":\"v w\",\"a\":\"1\"},\"time\":\"2026-01-01T00:00:02Z\"}\n",
        ),
    )
    .unwrap();
    let mut out = Vec::new();
    let format = Format { multiplexed: true, ..Format::default() };
    let mut reader = log.reader(ReadOptions::default());
    assert_eq!(reader.read_into(&mut out, &format, usize::MAX).unwrap(), 3);
    assert_eq!(out, b"\x01\0\0\0\0\0\0\x04a\nb\n\x02\0\0\0\0\0\0\x02c\n");
    assert_eq!(reader.malformed(), 1);

    out.clear();
    let format = Format { timestamps: true, details: true, ..Format::default() };
    let second = clock::parse(b"2026-01-01T00:00:01Z");
    let options = ReadOptions { since: second, ..ReadOptions::default() };
    log.reader(options).read_into(&mut out, &format, usize::MAX).unwrap();
    assert_eq!(
        String::from_utf8(out).unwrap(),
        "2026-01-01T00:00:01.500000000Z  b\n2026-01-01T00:00:02.000000000Z a=1,k=v+w c\n"
    );

    let options = ReadOptions { until: second, stderr: false, ..ReadOptions::default() };
    assert_eq!(text(&mut log.reader(options)), "a\n");
    log.writer.release_memory();
}

#[test]
fn a_record_torn_by_a_crash_spoils_only_itself() {
    let mut log = Log::new("torn", None, 1, false);
    log.lines(0..2);
    let file = std::fs::OpenOptions::new().write(true).open(log.path()).unwrap();
    file.set_len(file.metadata().unwrap().len() - 5).unwrap();
    let config = WriterConfig {
        path: log.path(),
        limits: Limits { max_size: None, max_file: 1, compress: false },
        attrs: BTreeMap::new(),
    };
    log.writer = LogWriter::open(&config).unwrap();
    log.lines(2..4);
    assert_eq!(text(&mut log.reader(ReadOptions::default())), "line 0\nline 2\nline 3\n");
}

#[test]
fn something_longer_than_any_record_is_skipped() {
    let log = Log::new("long", None, 1, false);
    let mut bytes = vec![b'x'; 5 << 20];
    bytes
        .extend_from_slice(b"\n{\"log\":\"a\\n\",\"stream\":\"stdout\",\"time\":\"2026-01-01T00:00:00Z\"}\n");
    std::fs::write(log.path(), bytes).unwrap();
    let mut reader = log.reader(ReadOptions::default());
    assert_eq!(text(&mut reader), "a\n");
    assert!(reader.buffer.len() < 4 << 20);
}

#[test]
fn a_log_that_does_not_exist_yet_can_be_followed() {
    let mut log = Log::new("absent", None, 1, false);
    std::fs::remove_file(log.path()).unwrap();
    let mut reader = log.reader(ReadOptions { follow: true, ..ReadOptions::default() });
    assert_eq!(text(&mut reader), "");
    let config = WriterConfig {
        path: log.path(),
        limits: Limits { max_size: None, max_file: 1, compress: false },
        attrs: BTreeMap::new(),
    };
    log.writer = LogWriter::open(&config).unwrap();
    log.lines(0..2);
    assert_eq!(text(&mut reader), expected(0..2));
}
