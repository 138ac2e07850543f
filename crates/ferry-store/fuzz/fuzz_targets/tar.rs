//! Archives: whatever the bytes, entries or an error, never a panic or endless work.
#![no_main]

use std::io::Read;

use ferry_store::tar::TarReader;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let mut reader = TarReader::new(bytes);
    let mut buffer = [0; 4096];
    while let Ok(Some(entry)) = reader.next_entry() {
        assert!(entry.path.len() <= ferry_store::tar::NAME_MAX);
        let mut read = 0;
        while let Ok(count @ 1..) = reader.read(&mut buffer) {
            read += count as u64;
        }
        assert!(read <= entry.stored && read <= bytes.len() as u64);
    }
});
