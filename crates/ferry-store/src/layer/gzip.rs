//! gzip by all cores: the stream is cut into blocks that are deflated side by side and joined into one member.
//!
//! The result depends on the bytes alone, never on the number of threads or on who was faster, so a layer packed twice
//! has one digest.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use flate2::{Compress, Compression, Crc, FlushCompress, Status};

/// Bytes of a block. Each begins without the history of the one before, which at this size costs some thousandths.
const BLOCK: usize = 1 << 20;
/// Most threads: beyond these the disk is the limit, and each holds two blocks.
const THREADS_MAX: usize = 8;
/// Stack of a thread.
const STACK: usize = 256 << 10;
/// No name, no time, unknown system: nothing that differs from machine to machine (RFC 1952, section 2.3).
const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
/// The last block of a deflate stream, with nothing in it (RFC 1951, section 3.2.6).
const END: [u8; 2] = [0x03, 0x00];

struct Job {
    block: Vec<u8>,
    answer: SyncSender<io::Result<Vec<u8>>>,
}

/// Writes gzip to `target`; [`ParallelGzip::finish`] ends it.
pub struct ParallelGzip<W: Write> {
    target: W,
    block: Vec<u8>,
    crc: Crc,
    /// None once all jobs were handed out.
    jobs: Option<SyncSender<Job>>,
    deflated: VecDeque<Receiver<io::Result<Vec<u8>>>>,
    threads: Vec<JoinHandle<()>>,
}

impl<W: Write> ParallelGzip<W> {
    /// Begins, with as many threads as there are cores.
    ///
    /// # Errors
    /// Where the header cannot be written or no thread can be started.
    pub fn new(target: W, level: Compression) -> io::Result<Self> {
        let threads = thread::available_parallelism().map_or(1, usize::from).min(THREADS_MAX);
        Self::with_threads(target, level, threads)
    }

    fn with_threads(mut target: W, level: Compression, threads: usize) -> io::Result<Self> {
        target.write_all(&HEADER)?;
        let (jobs, waiting) = sync_channel::<Job>(threads);
        let waiting = Arc::new(Mutex::new(waiting));
        let threads = (0..threads)
            .map(|_| {
                let waiting = Arc::clone(&waiting);
                let builder = thread::Builder::new().name("ferry-gzip".into()).stack_size(STACK);
                builder.spawn(move || work(&waiting, level))
            })
            .collect::<io::Result<_>>()?;
        let block = Vec::with_capacity(BLOCK);
        Ok(Self { target, block, crc: Crc::new(), jobs: Some(jobs), deflated: VecDeque::new(), threads })
    }

    /// Ends the stream and gives the target back.
    ///
    /// # Errors
    /// Where the rest cannot be written.
    pub fn finish(mut self) -> io::Result<W> {
        self.hand_out()?;
        self.jobs = None;
        while !self.deflated.is_empty() {
            self.take_first()?;
        }
        for thread in self.threads.drain(..) {
            thread.join().map_err(|_| io::Error::other("a thread that deflates ended before its time"))?;
        }
        self.target.write_all(&END)?;
        self.target.write_all(&self.crc.sum().to_le_bytes())?;
        self.target.write_all(&self.crc.amount().to_le_bytes())?;
        Ok(self.target)
    }

    fn hand_out(&mut self) -> io::Result<()> {
        if self.block.is_empty() {
            return Ok(());
        }
        let block = std::mem::replace(&mut self.block, Vec::with_capacity(BLOCK));
        // No more than two blocks per thread: one in work, one ready.
        while self.deflated.len() >= self.threads.len() * 2 {
            self.take_first()?;
        }
        let (answer, deflated) = sync_channel(1);
        self.deflated.push_back(deflated);
        let jobs = self.jobs.as_ref().expect("jobs end with `finish` alone");
        jobs.send(Job { block, answer }).map_err(|_| io::Error::other("no thread is left that deflates"))
    }

    fn take_first(&mut self) -> io::Result<()> {
        let Some(first) = self.deflated.pop_front() else { return Ok(()) };
        let deflated =
            first.recv().map_err(|_| io::Error::other("a thread that deflates ended before its time"))?;
        self.target.write_all(&deflated?)
    }
}

impl<W: Write> Write for ParallelGzip<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(BLOCK - self.block.len());
        self.crc.update(&bytes[..count]);
        self.block.extend_from_slice(&bytes[..count]);
        if self.block.len() == BLOCK {
            self.hand_out()?;
        }
        Ok(count)
    }

    /// Ends no block: where blocks end must depend on the bytes alone.
    fn flush(&mut self) -> io::Result<()> {
        self.target.flush()
    }
}

fn work(waiting: &Mutex<Receiver<Job>>, level: Compression) {
    let mut deflate = Compress::new(level, false);
    loop {
        let job = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(Job { block, answer }) = job else { return };
        deflate.reset();
        // Whoever asked may be gone after an error; then nobody wants the block.
        let _ = answer.send(deflate_block(&mut deflate, &block));
    }
}

/// The block as deflate blocks that end on a byte and are not the last.
fn deflate_block(deflate: &mut Compress, block: &[u8]) -> io::Result<Vec<u8>> {
    let mut deflated = Vec::with_capacity(block.len() / 2 + 1024);
    loop {
        let taken = usize::try_from(deflate.total_in()).map_err(io::Error::other)?;
        let status = deflate
            .compress_vec(&block[taken..], &mut deflated, FlushCompress::Sync)
            .map_err(io::Error::other)?;
        // Room that is left means that all was written.
        if deflated.len() < deflated.capacity() && deflate.total_in() == block.len() as u64 {
            return Ok(deflated);
        }
        if status == Status::StreamEnd {
            return Err(io::Error::other("the deflate stream ended within a block"));
        }
        deflated.reserve(block.len() / 4 + 1024);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn packed(bytes: &[u8], threads: usize, piece: usize) -> Vec<u8> {
        let mut gzip = ParallelGzip::with_threads(Vec::new(), Compression::fast(), threads).unwrap();
        for piece in bytes.chunks(piece.max(1)) {
            gzip.write_all(piece).unwrap();
            gzip.flush().unwrap();
        }
        gzip.finish().unwrap()
    }

    #[test]
    fn whatever_goes_in_comes_out_and_threads_do_not_show() {
        let mut state = 1u64;
        let mut noise = |size: usize| -> Vec<u8> {
            std::iter::repeat_with(|| {
                state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                (state >> 56) as u8
            })
            .take(size)
            .collect()
        };
        for bytes in [
            Vec::new(),
            b"x".to_vec(),
            vec![0; 3 * BLOCK],
            noise(BLOCK),
            noise(BLOCK + 1),
            noise(5 * BLOCK / 2),
        ] {
            let one = packed(&bytes, 1, 70_000);
            assert_eq!(packed(&bytes, 4, 1 << 20), one);
            let mut inflated = Vec::new();
            // One member: a reader that stops after the first gets all.
            flate2::read::GzDecoder::new(one.as_slice()).read_to_end(&mut inflated).unwrap();
            assert!(inflated == bytes, "{} bytes", bytes.len());
        }
    }

    #[test]
    fn a_full_disk_is_said() {
        struct Full;
        impl Write for Full {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                if bytes.len() > 10 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(bytes.len()) }
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let mut gzip = ParallelGzip::with_threads(Full, Compression::fast(), 2).unwrap();
        let written = gzip.write_all(&vec![1; 20 * BLOCK]).and_then(|()| gzip.finish().map(drop));
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}
