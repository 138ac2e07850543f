//! Streams in frames: however they are cut into reads, the same payload comes out, or the same refusal.
#![no_main]

use ferry_api::multiplex::{Decoder, FrameError, Splitter};

/// Each stream's bytes, and how it ended.
type Seen = ([Vec<u8>; 5], Result<(), FrameError>);

fn decoded(reads: &[&[u8]]) -> Seen {
    let (mut seen, mut decoder) = (<[Vec<u8>; 5]>::default(), Decoder::default());
    for read in reads {
        decoder.push(read);
        loop {
            match decoder.next_piece() {
                Ok(Some((stream, piece))) => seen[stream as usize].extend_from_slice(&piece),
                Ok(None) => break,
                Err(error) => return (seen, Err(error)),
            }
        }
    }
    (seen, Ok(()))
}

fn split(reads: &[&[u8]]) -> Seen {
    let (mut seen, mut splitter) = (<[Vec<u8>; 5]>::default(), Splitter::default());
    for read in reads {
        if let Err(error) =
            splitter.feed(read, |stream, piece| seen[stream as usize].extend_from_slice(piece))
        {
            return (seen, Err(error));
        }
    }
    (seen, Ok(()))
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let whole = decoded(&[bytes]);
    let size = usize::from(bytes.first().copied().unwrap_or(0) % 13) + 1;
    let pieces: Vec<&[u8]> = bytes.chunks(size).collect();
    assert_eq!(decoded(&pieces), whole);
    assert_eq!(split(&[bytes]), whole);
    assert_eq!(split(&pieces), whole);
});
