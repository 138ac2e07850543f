//! Attaching to a container: its output live, its input, and the keys that let go of it.
//!
//! Where a log is kept and there is no terminal, output is read from the log by a cursor: a slow or vanished
//! client never holds the container up. With a terminal or without a log the bytes come from the monitor
//! through a stream of bounded size.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use ferry_api::multiplex::{self, Stream};
use ferry_shim::protocol::ShimRequest;
use futures_util::future::BoxFuture;
use http::StatusCode;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};

use super::Container;
use super::detach_keys::{DetachKeys, Scan};
use super::logs::{Cursor, LogError, LogRequest, run_over};
use super::state::Status;
use crate::engine::Engine;
use crate::error::HttpStatus;
use crate::server::hijack::{Input, Output};
use crate::shim::ShimLink;

/// Bytes moved at a time.
const CHUNK: usize = 32 * 1024;

/// What a client wants to be attached to.
#[derive(Debug, Clone)]
pub struct AttachRequest {
    /// What came before, first.
    pub logs: bool,
    /// What comes.
    pub stream: bool,
    /// Feed standard input.
    pub stdin: bool,
    /// Standard output.
    pub stdout: bool,
    /// Standard error.
    pub stderr: bool,
    /// Keys that end the attachment.
    pub detach_keys: DetachKeys,
}

/// Why nothing was attached.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// It is frozen.
    #[error("container {0} is paused, unpause the container before attach")]
    Paused(String),
    /// It waits.
    #[error("container {0} is restarting, wait until the container is running")]
    Restarting(String),
    /// Its log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// No descriptors left.
    #[error("make a stream to the container's monitor")]
    Stream(#[source] io::Error),
}

impl HttpStatus for AttachError {
    fn status(&self) -> StatusCode {
        match self {
            Self::Paused(_) | Self::Restarting(_) => StatusCode::CONFLICT,
            Self::Log(error) => error.status(),
            Self::Stream(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

/// An attachment that waits for a container's monitor.
#[derive(Debug)]
pub struct AttachOrder {
    stdin: bool,
    stdout: bool,
    stderr: bool,
    stream: OwnedFd,
}

impl AttachOrder {
    /// Another one for the same client.
    pub fn try_clone(&self) -> std::io::Result<Self> {
        let &Self { stdin, stdout, stderr, ref stream } = self;
        Ok(Self { stdin, stdout, stderr, stream: stream.try_clone()? })
    }

    /// Hands the stream to the monitor.
    pub fn submit(self, link: &ShimLink) {
        let Self { stdin, stdout, stderr, stream } = self;
        link.tell(ShimRequest::Attach { exec_id: None, stdin, stdout, stderr }, vec![stream]);
    }
}

/// An attachment that is made but not yet served: from here on no output is missed.
pub struct Session {
    container: Arc<Container>,
    history: Option<Cursor>,
    live: Option<Cursor>,
    stream: Option<UnixStream>,
    forwards_output: bool,
    detach_keys: Option<DetachKeys>,
    stdin: bool,
    follows: bool,
    exits: u64,
    failed_starts: u64,
    last_word: Option<BoxFuture<'static, Vec<u8>>>,
}

impl Session {
    /// Makes the attachment.
    pub fn prepare(container: &Arc<Container>, request: &AttachRequest) -> Result<Self, AttachError> {
        match container.status() {
            Status::Paused => return Err(AttachError::Paused(container.id.clone())),
            Status::Restarting => return Err(AttachError::Restarting(container.id.clone())),
            _ => {}
        }
        let (terminal, kept, open_stdin) = {
            let inner = container.lock();
            let record = &inner.record;
            (record.config.tty, record.host_config.log_config.kind != "none", record.config.open_stdin)
        };
        let (exits, failed_starts) = {
            let watch = container.watch();
            let moment = watch.borrow();
            (moment.exits, moment.failed_starts)
        };
        let wants_output = request.stdout || request.stderr;
        let from_log = kept && !terminal;
        let mut session = Self {
            container: Arc::clone(container),
            history: None,
            live: None,
            stream: None,
            forwards_output: false,
            detach_keys: terminal.then(|| request.detach_keys.clone()),
            stdin: request.stdin && open_stdin && request.stream,
            follows: request.stream,
            exits,
            failed_starts,
            last_word: None,
        };
        session.open_logs(request, wants_output, from_log)?;
        let through_monitor = request.stream && wants_output && !from_log;
        if through_monitor || session.stdin {
            session.open_stream(request, through_monitor)?;
        }
        Ok(session)
    }

    fn open_logs(
        &mut self,
        request: &AttachRequest,
        wants_output: bool,
        from_log: bool,
    ) -> Result<(), AttachError> {
        let log = |follow, tail| LogRequest {
            stdout: request.stdout,
            stderr: request.stderr,
            follow,
            tail,
            ..LogRequest::default()
        };
        if from_log && wants_output && request.stream {
            let tail = if request.logs { None } else { Some(0) };
            self.live = Some(Cursor::open(&self.container, &log(true, tail))?);
        } else if request.logs && wants_output {
            self.history = Some(Cursor::open(&self.container, &log(false, None))?);
        }
        Ok(())
    }

    fn open_stream(&mut self, request: &AttachRequest, output: bool) -> Result<(), AttachError> {
        let (ours, theirs) = UnixStream::pair().map_err(AttachError::Stream)?;
        let theirs = theirs.into_std().map_err(AttachError::Stream)?;
        let order = AttachOrder {
            stdin: self.stdin,
            stdout: output && request.stdout,
            stderr: output && request.stderr,
            stream: theirs.into(),
        };
        self.stream = Some(ours);
        self.forwards_output = output;
        let mut inner = self.container.lock();
        match inner.link.clone() {
            Some(link) => order.submit(&link),
            None => inner.waiting_attaches.push(order),
        }
        Ok(())
    }

    /// The stream ends with a frame that tells how the run ended.
    pub fn with_last_word(self, last_word: impl Future<Output = Vec<u8>> + Send + 'static) -> Self {
        Self { last_word: Some(Box::pin(last_word)), ..self }
    }

    /// Moves bytes until the container's run is over, the client lets go, or goes away.
    pub async fn serve(mut self, engine: Arc<Engine>, input: Input, mut output: Output) {
        if let Some(mut history) = self.history.take()
            && let Err(error) = write_log(&mut history, &mut output).await
        {
            tracing::debug!(container = %self.container.id, %error, "an attached client left");
            return;
        }
        if self.follows && self.live_traffic(input, &mut output).await == Ended::Detached {
            engine.events.emit("container", "detach", &self.container.id, self.container.event_attributes());
        }
        // The container's removal waits for those who still read its log.
        self.live = None;
        if let Some(last_word) = self.last_word.take() {
            let mut frame = Vec::new();
            multiplex::encode(Stream::End, &last_word.await, &mut frame);
            let _ = output.write_all(&frame).await;
        }
        // The client may be gone already.
        let _ = output.shutdown().await;
    }

    async fn live_traffic(&mut self, input: Input, output: &mut Output) -> Ended {
        let (from_monitor, to_monitor) = match self.stream.take() {
            Some(stream) => {
                let (read, write) = stream.into_split();
                (Some(read), Some(write))
            }
            None => (None, None),
        };
        let stdin = feed_input(input, to_monitor.filter(|_| self.stdin), self.detach_keys.clone());
        tokio::pin!(stdin);
        let mut moments = self.container.watch();
        let (exits, failed_starts) = (self.exits, self.failed_starts);
        let outputs = async {
            if let Some(live) = &mut self.live {
                log_error(&live.container().id.clone(), write_log(live, output).await);
            } else if let Some(stream) = from_monitor.filter(|_| self.forwards_output) {
                let copied = copy_output(stream, output, run_over(&mut moments, exits, failed_starts)).await;
                log_error(&self.container.id, copied);
            } else {
                run_over(&mut moments, exits, failed_starts).await;
            }
        };
        tokio::pin!(outputs);
        tokio::select! {
            () = &mut outputs => Ended::Over,
            detached = &mut stdin => match detached {
                Ended::Detached => Ended::Detached,
                Ended::Over => {
                    outputs.await;
                    Ended::Over
                }
            },
        }
    }
}

fn log_error(id: &str, outcome: io::Result<()>) {
    if let Err(error) = outcome {
        tracing::debug!(container = %id, %error, "an attached client left");
    }
}

/// How one side of an attachment ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// By itself.
    Over,
    /// The client pressed the detach keys.
    Detached,
}

async fn write_log(cursor: &mut Cursor, output: &mut Output) -> io::Result<()> {
    while let Some(chunk) = cursor.next().await? {
        output.write_all(&chunk).await?;
    }
    output.flush().await
}

/// Copies what the monitor sends until it ends its side; a start that fails never opens it.
pub async fn copy_output(
    mut stream: OwnedReadHalf,
    output: &mut Output,
    over: impl Future<Output = ()>,
) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK];
    tokio::pin!(over);
    let mut run_is_over = false;
    loop {
        let read = tokio::select! {
            biased;
            read = stream.read(&mut buffer) => read?,
            () = &mut over, if !run_is_over => {
                // What is still in the stream comes first; then the monitor closes it.
                run_is_over = true;
                continue;
            }
        };
        if read == 0 {
            return output.flush().await;
        }
        output.write_all(&buffer[..read]).await?;
        output.flush().await?;
    }
}

/// Feeds the client's bytes to the monitor; the client's end of input becomes the container's.
pub async fn feed_input(mut input: Input, stream: Option<OwnedWriteHalf>, keys: Option<DetachKeys>) -> Ended {
    let Some(mut stream) = stream else {
        // Nothing to feed: the client's input is not looked at, its end means nothing.
        return std::future::pending().await;
    };
    let mut keys = keys;
    let mut buffer = vec![0; CHUNK];
    loop {
        let count = match input.read(&mut buffer).await {
            Ok(0) | Err(_) => break,
            Ok(count) => count,
        };
        let written = match &mut keys {
            None => stream.write_all(&buffer[..count]).await,
            Some(keys) => match keys.scan(&buffer[..count]) {
                Scan::Pass(bytes) => stream.write_all(&bytes).await,
                Scan::Detach => return Ended::Detached,
            },
        };
        if written.is_err() {
            // The container no longer reads; its end is told by the other direction.
            break;
        }
    }
    let _ = stream.shutdown().await;
    // Kept until the run is over: dropping it would close the other direction too.
    drop(stream);
    Ended::Over
}
