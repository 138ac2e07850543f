//! A container's output: every record is one line of JSON, and valid text survives whole.
#![no_main]

use ferry_shim::log::Stream;
use ferry_shim::log::encode::LineEncoder;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut encoder = LineEncoder::new(Stream::Stdout, "");
    let mut records = Vec::new();
    // The first byte chooses how the output is cut into reads.
    let piece = usize::from(bytes.first().copied().unwrap_or(0)) + 1;
    for read in bytes.chunks(piece) {
        assert_eq!(encoder.encode(read, &mut records, usize::MAX), read.len());
    }
    encoder.flush_unfinished(&mut records, true);
    let mut text = String::new();
    for line in records.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        let record: serde_json::Value = serde_json::from_slice(line).expect("a record is JSON");
        text.push_str(record["log"].as_str().expect("its text is a string"));
    }
    if let Ok(valid) = std::str::from_utf8(bytes) {
        assert_eq!(text, valid);
    }
});
