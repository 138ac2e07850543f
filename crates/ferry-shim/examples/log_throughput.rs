//! Measures the log: `log_throughput DIR [MEGABYTES]` encodes lines of 40 bytes in memory, writes them
//! rotated, and reads them back, printing megabytes of the container's own bytes a second.

use std::collections::BTreeMap;
use std::time::Instant;

use ferry_shim::log::Stream;
use ferry_shim::log::reader::{Format, LogReader, ReadOptions};
use ferry_shim::log::rotate::Limits;
use ferry_shim::log::writer::{LogWriter, WriterConfig};

fn main() {
    let mut arguments = std::env::args().skip(1);
    let directory = std::path::PathBuf::from(arguments.next().unwrap_or_else(|| "/tmp".into()));
    let megabytes: usize = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(200);
    let plain = "a line of forty bytes, newline included\n".repeat(26_214);
    let json = "{\"level\":\"info\",\"msg\":\"served\",\"path\":\"/\"}\n".repeat(24_000);
    let text = "größer als ein Zeichen: 日本語 🚢 café\n".repeat(20_000);
    for (name, input) in [("plain", plain), ("json", json), ("utf-8", text)] {
        for (kind, max_size) in [("rotated", Some(10_000_000)), ("unlimited", None)] {
            let path = directory.join(format!("bench-{}-json.log", std::process::id()));
            let limits = Limits { max_size, max_file: 3, compress: false };
            let config = WriterConfig { path: path.clone(), limits, attrs: BTreeMap::new() };
            let mut writer = LogWriter::open(&config).expect("the directory can be written");
            let rounds = (megabytes << 20) / input.len();
            let begin = Instant::now();
            for _ in 0..rounds {
                writer.write(Stream::Stdout, input.as_bytes());
            }
            let total = (rounds * input.len()) as f64 / 1e6;
            println!("{name} {kind}: write {:.0} MB/s", total / begin.elapsed().as_secs_f64());
            if max_size.is_none() {
                let begin = Instant::now();
                let bytes = read_all(&path);
                println!("{name}: read {:.0} MB/s", bytes as f64 / 1e6 / begin.elapsed().as_secs_f64());
            }
            for ending in ["", ".1", ".2"] {
                let _ = std::fs::remove_file(format!("{}{ending}", path.display()));
            }
        }
    }
}

fn read_all(path: &std::path::Path) -> usize {
    let mut reader = LogReader::open(path, ReadOptions::default()).expect("just written");
    let format = Format { multiplexed: true, ..Format::default() };
    let (mut out, mut bytes) = (Vec::new(), 0);
    while reader.read_into(&mut out, &format, 64 * 1024).expect("just written") > 0 {
        bytes += out.len();
        out.clear();
    }
    bytes
}
