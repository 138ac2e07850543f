//! The streams of one process: the container's first one or an exec session's.
//!
//! Owns the shim's ends of stdin, stdout, stderr or the terminal, and the attached clients. Where the
//! output is logged a slow client never holds the process back; where it is not, a client's full buffer
//! stops the reading, and with it in the end the process, as a terminal would.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use ferry_runtime::Stdio;
use rustix::buffer::spare_capacity;
use rustix::event::PollFlags;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, fcntl_setpipe_size, pipe_with};

use super::attachment::{Attachment, StdinRead, Wants};
use super::stdin::Stdin;
use crate::log::Stream;
use crate::log::writer::LogWriter;
use crate::poll::PollSet;
use crate::protocol::WindowSize;

/// Output pipes are enlarged to this: the largest an unprivileged process may ask for by default.
const PIPE_SIZE: usize = 1 << 20;
/// Pieces below this may be a dialogue.
const SMALL_PIECE: usize = 2048;
/// One read of a logged stream.
const LOGGED_READ: usize = 256 * 1024;
/// One read of a stream that goes to clients only.
const ATTACHED_READ: usize = 64 * 1024;

/// What becomes of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OutputPolicy {
    /// Written to the log; slow clients are dropped.
    Logged,
    /// Written to the log, but clients hold it back: a terminal.
    LoggedWithBackPressure,
    /// For clients; dropped while there are none.
    Attached,
    /// For clients; waits for the first one.
    Held,
}

/// Which descriptor of a process's streams is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamToken {
    /// An output pipe, or the terminal as standard output.
    Output(Stream),
    /// The pipe to stdin takes bytes, or nobody reads it any more.
    Stdin,
    /// A client.
    Attachment(u64),
}

/// The streams of one process.
#[derive(Debug)]
pub struct Streams {
    terminal: bool,
    policy: OutputPolicy,
    stdin: Stdin,
    /// A client's end of stdin ends the process's stdin.
    stdin_once: bool,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    console: Option<OwnedFd>,
    /// The terminal is still to come: clients that attach before it miss nothing.
    awaits_console: bool,
    attachments: Vec<Attachment>,
    next_attachment: u64,
    /// The output pipes hold [`PIPE_SIZE`].
    roomy: bool,
}

impl Streams {
    /// Streams for a process to be started, and its ends of them.
    pub fn new(
        terminal: Option<WindowSize>,
        open_stdin: bool,
        stdin_once: bool,
        policy: OutputPolicy,
    ) -> io::Result<(Streams, Stdio)> {
        let mut streams = Streams::empty(terminal.is_some(), stdin_once, policy);
        if let Some(size) = terminal {
            return Ok((streams, Stdio::Terminal { rows: size.rows, cols: size.cols }));
        }
        let stdin = if open_stdin {
            let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
            set_nonblocking(&write)?;
            streams.stdin = Stdin::new(write);
            Some(read)
        } else {
            None
        };
        let (ours, stdout, stdout_roomy) = output_pipe()?;
        streams.stdout = Some(ours);
        let (ours, stderr, stderr_roomy) = output_pipe()?;
        streams.stderr = Some(ours);
        streams.roomy = stdout_roomy && stderr_roomy;
        Ok((streams, Stdio::Fds { stdin, stdout, stderr }))
    }

    /// No streams at all: output goes to `/dev/null`.
    pub fn discarded() -> io::Result<(Streams, Stdio)> {
        let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
        let stdio = Stdio::Fds { stdin: None, stdout: null.try_clone()?, stderr: null };
        Ok((Streams::empty(false, false, OutputPolicy::Attached), stdio))
    }

    fn empty(terminal: bool, stdin_once: bool, policy: OutputPolicy) -> Streams {
        Streams {
            terminal,
            policy,
            stdin: Stdin::default(),
            stdin_once,
            stdout: None,
            stderr: None,
            console: None,
            awaits_console: terminal,
            attachments: Vec::new(),
            next_attachment: 0,
            roomy: false,
        }
    }

    /// The terminal's master side, once the process runs.
    pub fn set_console(&mut self, console: OwnedFd, open_stdin: bool) -> io::Result<()> {
        set_nonblocking(&console)?;
        if open_stdin {
            self.stdin = Stdin::new(console.try_clone()?);
        }
        self.console = Some(console);
        self.awaits_console = false;
        Ok(())
    }

    /// Attaches a client.
    pub fn attach(&mut self, socket: OwnedFd, wants: Wants) {
        let id = self.next_attachment;
        self.next_attachment += 1;
        let attachment = Attachment::new(id, socket, wants, !self.terminal);
        if wants.stdin || !self.is_drained() {
            self.attachments.push(attachment);
        }
    }

    /// Changes the terminal's size; false when there is none.
    pub fn resize(&self, size: WindowSize) -> io::Result<bool> {
        let Some(console) = &self.console else { return Ok(false) };
        let size =
            rustix::termios::Winsize { ws_row: size.rows, ws_col: size.cols, ws_xpixel: 0, ws_ypixel: 0 };
        rustix::termios::tcsetwinsize(console, size)?;
        Ok(true)
    }

    /// Ends stdin after what is queued. A terminal has no such end: it gets its end-of-file character.
    pub fn close_stdin(&mut self) {
        if self.terminal {
            self.stdin.feed(|queue| queue.push(END_OF_TRANSMISSION));
        } else {
            self.stdin.close();
        }
    }

    /// True once no output can come any more.
    pub fn is_drained(&self) -> bool {
        self.stdout.is_none() && self.stderr.is_none() && self.console.is_none() && !self.awaits_console
    }

    /// True while a client has not received everything.
    pub fn has_pending_clients(&self) -> bool {
        self.attachments.iter().any(Attachment::has_pending)
    }

    /// Whether clients are attached.
    pub fn has_clients(&self) -> bool {
        !self.attachments.is_empty()
    }

    /// Adds what matters now to a poll set.
    pub fn register<'fd, T: Copy>(&'fd self, set: &mut PollSet<'fd, T>, token: impl Fn(StreamToken) -> T) {
        if self.wants_output() {
            self.register_output(set, |stream| token(StreamToken::Output(stream)));
        }
        self.register_clients(set, token);
    }

    /// Adds stdin and the clients to a poll set.
    pub fn register_clients<'fd, T: Copy>(
        &'fd self,
        set: &mut PollSet<'fd, T>,
        token: impl Fn(StreamToken) -> T,
    ) {
        // A console without waiting bytes is watched as output only: it hangs up when no process has it
        // open, which says nothing about stdin.
        if let Some((fd, waiting)) = self.stdin.poll_fd()
            && (waiting || !self.terminal)
        {
            let flags = if waiting { PollFlags::OUT } else { PollFlags::empty() };
            set.add(token(StreamToken::Stdin), fd, flags);
        }
        for attachment in &self.attachments {
            let mut flags = PollFlags::empty();
            if attachment.has_pending() {
                flags |= PollFlags::OUT;
            }
            if attachment.feeds_stdin() && self.stdin.has_room() {
                flags |= PollFlags::IN;
            }
            // Its hang-up would be reported over and over while its last bytes have no room yet.
            if attachment.feeds_stdin() && flags.is_empty() {
                continue;
            }
            set.add(token(StreamToken::Attachment(attachment.id)), attachment.socket(), flags);
        }
    }

    /// Adds only the outputs to a poll set.
    pub fn register_output<'fd, T: Copy>(&'fd self, set: &mut PollSet<'fd, T>, token: impl Fn(Stream) -> T) {
        for (stream, fd) in self.outputs() {
            set.add(token(stream), fd.as_fd(), PollFlags::IN);
        }
    }

    /// Handles a ready stdin or client. Output is read by [`Streams::read_output`].
    pub fn handle(&mut self, token: StreamToken, ready: PollFlags) {
        match token {
            StreamToken::Output(_) => {}
            StreamToken::Stdin if ready.contains(PollFlags::ERR) => self.stdin.abandon(),
            StreamToken::Stdin => self.stdin.flush(),
            StreamToken::Attachment(id) => self.handle_client(id, ready),
        }
    }

    /// Reads one piece of an output stream and passes it on; how much it was. 0 means nothing now or
    /// the end, which [`Streams::is_drained`] tells.
    pub fn read_output(
        &mut self,
        stream: Stream,
        scratch: &mut Vec<u8>,
        log: Option<&mut LogWriter>,
    ) -> usize {
        scratch.clear();
        let wanted = if log.is_some() { LOGGED_READ } else { ATTACHED_READ };
        scratch.reserve_exact(wanted);
        let slot = match (stream, &self.console) {
            (Stream::Stdout, Some(_)) => &mut self.console,
            (Stream::Stdout, None) => &mut self.stdout,
            (Stream::Stderr, _) => &mut self.stderr,
        };
        let Some(fd) = slot else { return 0 };
        match rustix::io::read(&*fd, spare_capacity(scratch)) {
            Ok(0) => self.end(stream, log),
            Ok(count) => {
                if let Some(log) = log {
                    log.write(stream, scratch);
                }
                self.distribute(stream, scratch);
                return count;
            }
            Err(Errno::AGAIN | Errno::INTR) => {}
            // A terminal's master answers EIO once nobody has the other side open.
            Err(_) => self.end(stream, log),
        }
        0
    }

    /// Reads everything that is there, clients' buffers notwithstanding: the process has ended, so what
    /// is left is bounded by the pipes.
    pub fn drain(&mut self, scratch: &mut Vec<u8>, mut log: Option<&mut LogWriter>) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            while self.read_output(stream, scratch, log.as_deref_mut()) > 0 {}
        }
    }

    /// Stops waiting for output that somebody else still could write, and ends clients.
    pub fn end_all(&mut self, mut log: Option<&mut LogWriter>) {
        for stream in [Stream::Stdout, Stream::Stderr] {
            self.end(stream, log.as_deref_mut());
        }
        self.stdin.abandon();
    }

    /// Drops clients who have received everything, after the end of output.
    pub fn release_clients(&mut self) {
        if self.is_drained() {
            self.attachments.retain(|attachment| {
                let keep = attachment.has_pending();
                if !keep {
                    // A client that is gone already needs no goodbye.
                    let _ = attachment.end_output();
                }
                keep
            });
        }
    }

    /// Drops clients, received or not.
    pub fn drop_clients(&mut self) {
        self.attachments.clear();
    }

    fn outputs(&self) -> impl Iterator<Item = (Stream, &OwnedFd)> {
        let console = self.console.iter().map(|fd| (Stream::Stdout, fd));
        let stdout = self.stdout.iter().map(|fd| (Stream::Stdout, fd));
        let stderr = self.stderr.iter().map(|fd| (Stream::Stderr, fd));
        console.chain(stdout).chain(stderr)
    }

    /// Whether output may be read now.
    pub fn wants_output(&self) -> bool {
        match self.policy {
            OutputPolicy::Logged => true,
            OutputPolicy::Held if !self.attachments.iter().any(Attachment::wants_output) => false,
            OutputPolicy::LoggedWithBackPressure | OutputPolicy::Attached | OutputPolicy::Held => {
                !self.attachments.iter().any(Attachment::is_full)
            }
        }
    }

    /// Whether a piece of this size is worth waiting for more: too large to be a person's dialogue, too small
    /// to have been the last of much.
    pub fn may_pile_up(&self, count: usize) -> bool {
        self.roomy && (SMALL_PIECE..LOGGED_READ).contains(&count)
    }

    fn distribute(&mut self, stream: Stream, bytes: &[u8]) {
        let drop_slow = self.policy == OutputPolicy::Logged;
        self.attachments.retain_mut(|attachment| {
            if attachment.push(stream, bytes).is_err() || (drop_slow && attachment.is_full()) {
                attachment.stop_output();
            }
            attachment.feeds_stdin() || attachment.wants_output()
        });
    }

    fn end(&mut self, stream: Stream, log: Option<&mut LogWriter>) {
        if let Some(log) = log {
            log.flush_unfinished(stream, true);
        }
        match stream {
            Stream::Stdout => {
                (self.stdout, self.console) = (None, None);
                self.awaits_console = false;
            }
            Stream::Stderr => self.stderr = None,
        }
    }

    fn handle_client(&mut self, id: u64, ready: PollFlags) {
        let Some(index) = self.attachments.iter().position(|attachment| attachment.id == id) else { return };
        let attachment = &mut self.attachments[index];
        let hung_up = ready.intersects(PollFlags::HUP | PollFlags::ERR);
        if (ready.contains(PollFlags::OUT) && attachment.flush().is_err()) || hung_up {
            attachment.stop_output();
        }
        let mut ended = false;
        if ready.contains(PollFlags::IN) {
            let read = if self.stdin.is_open() {
                self.stdin.feed(|queue| attachment.read_stdin(queue))
            } else {
                attachment.read_stdin(&mut Vec::new())
            };
            ended = read == StdinRead::End;
        }
        if !attachment.feeds_stdin() && !attachment.wants_output() {
            self.attachments.remove(index);
        }
        if ended {
            self.end_of_client_stdin();
        }
    }

    /// As Docker: only where stdin is for one client, and never on a terminal.
    fn end_of_client_stdin(&mut self) {
        if self.stdin_once && !self.terminal {
            self.stdin.close();
        }
    }
}

/// What Control-D sends.
const END_OF_TRANSMISSION: u8 = 4;

/// Our non-blocking end and the process's end of a pipe, and whether it could be enlarged.
fn output_pipe() -> io::Result<(OwnedFd, OwnedFd, bool)> {
    let (read, write) = pipe_with(PipeFlags::CLOEXEC)?;
    set_nonblocking(&read)?;
    // Refused where the user's share of pipe memory is used up; a small pipe works, only slower.
    let roomy = fcntl_setpipe_size(&read, PIPE_SIZE).is_ok();
    Ok((read, write, roomy))
}

fn set_nonblocking(fd: &OwnedFd) -> io::Result<()> {
    let flags = rustix::fs::fcntl_getfl(fd)?;
    Ok(rustix::fs::fcntl_setfl(fd, flags | OFlags::NONBLOCK)?)
}
