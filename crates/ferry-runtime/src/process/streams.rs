//! Standard streams: descriptors given, or a terminal of the container's own devpts.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use ferry_sys::descriptor::place;
use ferry_sys::mount::{attach, clone_descriptor};
use ferry_sys::tree;
use rustix::fs::{FileType, Gid, Mode, OFlags, Uid};
use rustix::io::Errno;
use rustix::pty::OpenptFlags;
use rustix::termios::Winsize;

use crate::create::Step;
use crate::error::StepError;
use crate::request::Stdio;
use crate::rootfs::devices::{open_null, require_device};

/// `f_type` of devpts.
const DEVPTS_SUPER_MAGIC: u64 = 0x1cd1;
/// Major numbers of pseudo-terminal slaves.
const PTS_MAJORS: std::ops::RangeInclusive<u32> = 136..=143;

/// Both sides of a new terminal.
#[derive(Debug)]
pub(crate) struct Terminal {
    pub master: OwnedFd,
    pub slave: OwnedFd,
}

impl Terminal {
    /// Opens a terminal on the devpts mounted at `/dev/pts` below `root`.
    pub fn open(root: BorrowedFd<'_>, rows: u16, cols: u16) -> Result<Terminal, StepError> {
        Terminal::try_open(root, rows, cols)
            .map_err(|errno| StepError::new(Step::Console, "/dev/pts/ptmx", errno))
    }

    fn try_open(root: BorrowedFd<'_>, rows: u16, cols: u16) -> Result<Terminal, Errno> {
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NOFOLLOW;
        let master = tree::open_in_root(root, Path::new("/dev/pts/ptmx"), flags)?;
        // Whatever an image or volume put there must not get the container's output.
        if rustix::fs::fstatfs(&master)?.f_type as u64 != DEVPTS_SUPER_MAGIC {
            return Err(Errno::NODEV);
        }
        require_device(master.as_fd(), 5, 2)?;
        rustix::pty::unlockpt(&master)?;
        let slave = rustix::pty::ioctl_tiocgptpeer(
            &master,
            OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC,
        )?;
        if !PTS_MAJORS.contains(&rustix::fs::major(rustix::fs::fstat(&slave)?.st_rdev)) {
            return Err(Errno::NODEV);
        }
        if rows != 0 || cols != 0 {
            let size = Winsize { ws_row: rows, ws_col: cols, ws_xpixel: 0, ws_ypixel: 0 };
            rustix::termios::tcsetwinsize(&slave, size)?;
        }
        Ok(Terminal { master, slave })
    }

    /// Shows the terminal as `/dev/console` below `root`.
    pub fn bind_console(&self, root: BorrowedFd<'_>) -> Result<(), StepError> {
        let fail = |errno| StepError::new(Step::Console, "/dev/console", errno);
        let place =
            tree::make_file(root, Path::new("/dev/console"), Mode::from_raw_mode(0o600)).map_err(fail)?;
        let mount = clone_descriptor(self.slave.as_fd(), false).map_err(fail)?;
        attach(mount.as_fd(), place.as_fd()).map_err(fail)
    }

    /// Makes the terminal the calling session's and its three streams.
    pub fn take_over(&self) -> Result<(), StepError> {
        let fail = |errno| StepError::new(Step::Console, "controlling terminal", errno);
        rustix::process::ioctl_tiocsctty(&self.slave).map_err(fail)?;
        for number in 0..=2 {
            place(self.slave.as_fd(), number, false).map_err(fail)?;
        }
        Ok(())
    }
}

/// Puts given descriptors at 0, 1 and 2.
pub(crate) fn place_descriptors(root: BorrowedFd<'_>, stdio: &Stdio) -> Result<(), StepError> {
    let Stdio::Fds { stdin, stdout, stderr } = stdio else { return Ok(()) };
    let fail = |errno| StepError::new(Step::Console, "standard streams", errno);
    // Copies above 2 first: one of the given may be a number another is to be put at.
    let least = 3;
    let copy = |descriptor: &OwnedFd| ferry_sys::descriptor::duplicate_above(descriptor.as_fd(), least);
    let input = match stdin {
        Some(stdin) => copy(stdin),
        None => open_null(root, OFlags::RDONLY).and_then(|null| copy(&null)),
    };
    let streams = [input.map_err(fail)?, copy(stdout).map_err(fail)?, copy(stderr).map_err(fail)?];
    for (stream, number) in streams.iter().zip(0..) {
        place(stream.as_fd(), number, false).map_err(fail)?;
    }
    Ok(())
}

/// Gives the three streams to the container's user, so that it can open `/dev/stdout` and its kin.
pub(crate) fn give_to_user(uid: u32) -> Result<(), StepError> {
    for number in 0..=2u32 {
        let stream = match number {
            0 => rustix::stdio::stdin(),
            1 => rustix::stdio::stdout(),
            _ => rustix::stdio::stderr(),
        };
        let fail = |errno| StepError::new(Step::Console, format!("owner of stream {number}"), errno);
        let found = rustix::fs::fstat(stream).map_err(fail)?;
        let null = found.st_rdev == rustix::fs::makedev(1, 3);
        let character = FileType::from_raw_mode(found.st_mode) == FileType::CharacterDevice;
        if found.st_uid == uid || (character && null) {
            continue;
        }
        match rustix::fs::fchown(stream, Some(Uid::from_raw(uid)), None::<Gid>) {
            Ok(()) => {}
            // An id not mapped in the user namespace, or a read-only or foreign file system: the
            // stream works all the same, only not by name.
            Err(Errno::INVAL | Errno::PERM | Errno::ROFS) => {}
            Err(errno) => return Err(fail(errno)),
        }
    }
    Ok(())
}
