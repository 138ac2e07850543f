//! The data of one file: shared where the file system can, else copied hole by hole.

use std::os::fd::BorrowedFd;

use rustix::fs::{SeekFrom, Stat};
use rustix::io::Errno;

/// One step of a copy inside the kernel.
const CHUNK: usize = 128 << 20;
/// One step of a copy through memory.
const BUFFER: usize = 256 << 10;

/// What was found out about this copy's two file systems.
#[derive(Default)]
pub(super) struct Contents {
    no_sharing: bool,
    no_kernel_copy: bool,
    buffer: Vec<u8>,
}

impl Contents {
    /// Copies a whole file into an empty one.
    pub fn copy(&mut self, from: BorrowedFd<'_>, to: BorrowedFd<'_>, stat: &Stat) -> Result<(), Errno> {
        let size = stat.st_size.max(0) as u64;
        if size == 0 {
            return Ok(());
        }
        if !self.no_sharing {
            match rustix::fs::ioctl_ficlone(to, from) {
                Ok(()) => return Ok(()),
                Err(Errno::OPNOTSUPP | Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::NOTTY) => {
                    self.no_sharing = true;
                }
                Err(errno) => return Err(errno),
            }
        }
        let holes = (stat.st_blocks.max(0) as u64).saturating_mul(512) < size;
        if !holes {
            return self.range(from, to, 0, size);
        }
        rustix::fs::ftruncate(to, size)?;
        let mut place = 0;
        while let Some((start, end)) = next_data(from, place)? {
            self.range(from, to, start, end)?;
            place = end;
        }
        Ok(())
    }

    /// Copies from `start` to `end`.
    fn range(&mut self, from: BorrowedFd<'_>, to: BorrowedFd<'_>, start: u64, end: u64) -> Result<(), Errno> {
        let mut place = start;
        loop {
            let wanted = (end - place).min(CHUNK as u64);
            if wanted == 0 {
                return Ok(());
            }
            let copied = self.step(from, to, place, wanted as usize)?;
            if copied == 0 {
                // It was cut short meanwhile.
                return Ok(());
            }
            place += copied as u64;
        }
    }

    fn step(
        &mut self,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        place: u64,
        wanted: usize,
    ) -> Result<usize, Errno> {
        if !self.no_kernel_copy {
            let (mut at, mut into) = (place, place);
            match rustix::fs::copy_file_range(from, Some(&mut at), to, Some(&mut into), wanted) {
                Err(Errno::XDEV | Errno::INVAL | Errno::OPNOTSUPP | Errno::NOSYS) => {
                    self.no_kernel_copy = true;
                }
                other => return other,
            }
        }
        self.buffer.resize(BUFFER, 0);
        let length = wanted.min(BUFFER);
        let read = rustix::io::pread(from, &mut self.buffer[..length], place)?;
        let mut written = 0;
        while written < read {
            written += rustix::io::pwrite(to, &self.buffer[written..read], place + written as u64)?;
        }
        Ok(read)
    }
}

/// The next stretch of data at or after a place.
fn next_data(file: BorrowedFd<'_>, place: u64) -> Result<Option<(u64, u64)>, Errno> {
    let start = match rustix::fs::seek(file, SeekFrom::Data(place)) {
        Ok(start) => start,
        Err(Errno::NXIO) => return Ok(None),
        Err(errno) => return Err(errno),
    };
    let end = rustix::fs::seek(file, SeekFrom::Hole(start))?;
    Ok((end > start).then_some((start, end)))
}
