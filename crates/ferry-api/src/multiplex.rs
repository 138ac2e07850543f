//! The framing of attach, exec and log streams without a terminal: an 8-byte head, then the payload.
//!
//! Head: stream number, three zero bytes, payload length as big-endian u32.

use bytes::{Buf, Bytes, BytesMut};

/// Length of a frame's head.
pub const HEADER_LEN: usize = 8;
/// Longest payload accepted from a peer: engines write at most tens of KiB, so more means a stream that is
/// not framed at all (the first text bytes read as a length).
pub const MAX_PAYLOAD: usize = 16 * 1024 * 1024;

/// Which stream a frame belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard input (only ever echoed).
    Stdin = 0,
    /// Standard output.
    Stdout = 1,
    /// Standard error.
    Stderr = 2,
    /// An error of the engine itself, as text.
    SystemError = 3,
    /// Ferry's own: how the run ended, as the last frame of `/ferry/run`.
    End = 4,
}

/// What is wrong with a framed stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// The first byte names no stream.
    #[error("unrecognized stream type {0} in a multiplexed stream")]
    UnknownStream(u8),
    /// The length cannot be meant.
    #[error("frame of {0} bytes in a multiplexed stream is longer than {MAX_PAYLOAD}")]
    TooLong(usize),
}

/// The head of a frame of `length` payload bytes.
pub fn header(stream: Stream, length: u32) -> [u8; HEADER_LEN] {
    let [a, b, c, d] = length.to_be_bytes();
    [stream as u8, 0, 0, 0, a, b, c, d]
}

/// Appends one frame to `out`.
pub fn encode(stream: Stream, payload: &[u8], out: &mut Vec<u8>) {
    out.reserve(HEADER_LEN + payload.len());
    out.extend_from_slice(&header(stream, payload.len() as u32));
    out.extend_from_slice(payload);
}

/// Cuts a byte stream into frames. Payloads are passed on as they arrive, so a part of a long frame
/// comes out as a frame of its own and nothing is held back.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: BytesMut,
    current: Option<(Stream, usize)>,
}

impl Decoder {
    /// Adds received bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
    }

    /// The next piece of payload, or None until more bytes are pushed.
    pub fn next_piece(&mut self) -> Result<Option<(Stream, Bytes)>, FrameError> {
        loop {
            if let Some((stream, left)) = self.current {
                if left == 0 {
                    self.current = None;
                    continue;
                }
                if self.buffer.is_empty() {
                    return Ok(None);
                }
                let take = left.min(self.buffer.len());
                self.current = Some((stream, left - take));
                return Ok(Some((stream, self.buffer.split_to(take).freeze())));
            }
            if self.buffer.len() < HEADER_LEN {
                return Ok(None);
            }
            self.current = Some(self.take_header()?);
        }
    }

    /// True when the stream ended between frames.
    pub fn is_complete(&self) -> bool {
        self.buffer.is_empty() && matches!(self.current, None | Some((_, 0)))
    }

    fn take_header(&mut self) -> Result<(Stream, usize), FrameError> {
        let mut header = [0; HEADER_LEN];
        self.buffer.copy_to_slice(&mut header);
        read_header(header)
    }
}

/// Cuts a byte stream into frames without keeping it: for readers of logs, where a frame is a line and there
/// may be a hundred million of them.
#[derive(Debug, Default)]
pub struct Splitter {
    header: [u8; HEADER_LEN],
    filled: usize,
    current: Option<(Stream, usize)>,
}

impl Splitter {
    /// Gives every piece of payload in `input` to `sink`, in order.
    pub fn feed(&mut self, mut input: &[u8], mut sink: impl FnMut(Stream, &[u8])) -> Result<(), FrameError> {
        while !input.is_empty() {
            let Some((stream, left)) = self.current else {
                let take = (HEADER_LEN - self.filled).min(input.len());
                self.header[self.filled..self.filled + take].copy_from_slice(&input[..take]);
                self.filled += take;
                input = &input[take..];
                if self.filled == HEADER_LEN {
                    self.filled = 0;
                    self.current = Some(read_header(self.header)?).filter(|(_, length)| *length > 0);
                }
                continue;
            };
            let (piece, rest) = input.split_at(left.min(input.len()));
            sink(stream, piece);
            self.current = Some((stream, left - piece.len())).filter(|(_, left)| *left > 0);
            input = rest;
        }
        Ok(())
    }
}

fn read_header(header: [u8; HEADER_LEN]) -> Result<(Stream, usize), FrameError> {
    let [kind, _, _, _, a, b, c, d] = header;
    let stream = match kind {
        0 => Stream::Stdin,
        1 => Stream::Stdout,
        2 => Stream::Stderr,
        3 => Stream::SystemError,
        4 => Stream::End,
        other => return Err(FrameError::UnknownStream(other)),
    };
    let length = u32::from_be_bytes([a, b, c, d]) as usize;
    match length > MAX_PAYLOAD {
        true => Err(FrameError::TooLong(length)),
        false => Ok((stream, length)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collect(chunks: &[&[u8]]) -> Result<Vec<(Stream, Vec<u8>)>, FrameError> {
        let mut decoder = Decoder::default();
        let mut out = Vec::new();
        for chunk in chunks {
            decoder.push(chunk);
            while let Some((stream, bytes)) = decoder.next_piece()? {
                out.push((stream, bytes.to_vec()));
            }
        }
        Ok(out)
    }

    #[test]
    fn frames_survive_any_cut() {
        let mut wire = Vec::new();
        encode(Stream::Stdout, b"hello", &mut wire);
        encode(Stream::Stderr, b"", &mut wire);
        encode(Stream::Stderr, b"oops", &mut wire);
        for cut in 0..wire.len() {
            let pieces = collect(&[&wire[..cut], &wire[cut..]]).unwrap();
            let of = |wanted| -> Vec<u8> {
                pieces.iter().filter(|(s, _)| *s == wanted).flat_map(|(_, b)| b.clone()).collect()
            };
            assert_eq!(of(Stream::Stdout), b"hello");
            assert_eq!(of(Stream::Stderr), b"oops");
            let (mut splitter, mut texts) = (Splitter::default(), [Vec::new(), Vec::new()]);
            for part in [&wire[..cut], &wire[cut..]] {
                let sink = |stream: Stream, piece: &[u8]| texts[stream as usize - 1].extend_from_slice(piece);
                splitter.feed(part, sink).unwrap();
            }
            assert_eq!(texts, [b"hello".to_vec(), b"oops".to_vec()]);
        }
    }

    #[test]
    fn unframed_text_is_refused() {
        assert_eq!(collect(&[b"hello world"]), Err(FrameError::UnknownStream(b'h')));
        let split = Splitter::default().feed(b"hello world", |_, _| {});
        assert_eq!(split, Err(FrameError::UnknownStream(b'h')));
        assert_eq!(collect(&[&[1, 0, 0, 0, 0xff, 0, 0, 0]]), Err(FrameError::TooLong(0xff00_0000)));
    }
}
