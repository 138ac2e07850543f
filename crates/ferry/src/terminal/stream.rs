//! The two-way stream of an attach or an exec, connected to our own streams.

use std::io::{self, Write as _};

use ferry_api::Hijacked;
use ferry_api::client::ClientError;
use ferry_api::multiplex::{Splitter, Stream};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::input::read_stdin;
use super::{DetachKeys, RawMode};
use crate::failure::Failure;

/// Bytes read from the engine at once.
const CHUNK: usize = 64 * 1024;

/// What is connected.
pub struct Streams {
    /// Send our stdin.
    pub stdin: bool,
    /// The process has a terminal: its output is not framed, and ours is in raw mode.
    pub tty: bool,
    /// Keys that end the connection, with a terminal.
    pub detach_keys: DetachKeys,
}

/// How the connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// The engine closed it: the process has ended, or will not write any more.
    Closed,
    /// The same, and the engine said how: the payload of [`Stream::End`].
    Told(Vec<u8>),
    /// The detach keys were typed.
    Detached,
    /// A signal told us to end; only with a terminal, where signals are not passed on.
    Signalled(i32),
}

/// Copies both ways until the engine closes the stream or the detach keys are typed.
pub async fn connect(stream: Hijacked, streams: Streams) -> Result<Ended, Failure> {
    let raw = match streams.tty && streams.stdin {
        true => Some(RawMode::enter()?),
        false => None,
    };
    let Hijacked { mut reader, mut writer, .. } = stream;
    let input = if streams.stdin { Some(read_stdin()) } else { None };
    let mut output = Output::new(streams.tty);
    let copy_out = async {
        let mut buffer = vec![0; CHUNK];
        loop {
            let count = match reader.read(&mut buffer).await {
                Ok(count) => count,
                // The engine may drop a stream whose process has ended without a last word.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => 0,
                Err(error) => return Err(Failure::from(ClientError::Stream(error))),
            };
            if count == 0 {
                let last_word = std::mem::take(&mut output.last_word);
                return Ok(if last_word.is_empty() { Ended::Closed } else { Ended::Told(last_word) });
            }
            output.write(&buffer[..count])?;
        }
    };
    let copy_in = async {
        let keys = streams.tty.then_some(streams.detach_keys);
        match input {
            Some(input) => copy_input(input, &mut writer, keys).await,
            None => std::future::pending().await,
        }
    };
    let ended = tokio::select! {
        ended = copy_out => ended,
        ended = copy_in => Ok(ended),
        number = ending_signal(), if raw.is_some() => Ok(Ended::Signalled(number)),
    };
    drop(raw);
    ended
}

/// Sends the input; at its end closes our side and waits for ever, as the output decides when it is over.
async fn copy_input(
    mut input: mpsc::Receiver<Vec<u8>>,
    writer: &mut (impl tokio::io::AsyncWrite + Unpin),
    mut keys: Option<DetachKeys>,
) -> Ended {
    while let Some(bytes) = input.recv().await {
        let (bytes, detached) = match &mut keys {
            Some(keys) => keys.filter(&bytes),
            None => (bytes, false),
        };
        if writer.write_all(&bytes).await.is_err() {
            break;
        }
        if detached {
            return Ended::Detached;
        }
    }
    let _ = writer.shutdown().await;
    std::future::pending().await
}

/// A signal that asks us to end.
async fn ending_signal() -> i32 {
    let (Ok(mut terminate), Ok(mut hang_up)) =
        (signal(SignalKind::terminate()), signal(SignalKind::hangup()))
    else {
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => 15,
        _ = hang_up.recv() => 1,
    }
}

/// Our stdout and stderr as the other end of a stream.
struct Output {
    tty: bool,
    splitter: Splitter,
    /// Neighbouring frames of one stream, which go out together: a log has a frame per line.
    pending: Vec<u8>,
    /// What the engine said of the end.
    last_word: Vec<u8>,
}

impl Output {
    fn new(tty: bool) -> Output {
        Output { tty, splitter: Splitter::default(), pending: Vec::new(), last_word: Vec::new() }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        if self.tty {
            return Ok(crate::output::write(bytes)?);
        }
        let Output { splitter, pending, last_word, .. } = self;
        let mut last = Stream::Stdout;
        let mut result = Ok(());
        let split = splitter.feed(bytes, |stream, piece| {
            if stream == Stream::End {
                last_word.extend_from_slice(piece);
                return;
            }
            if stream != last && result.is_ok() {
                result = send(last, pending);
                last = stream;
            }
            pending.extend_from_slice(piece);
        });
        result?;
        send(last, pending)?;
        split.map_err(|error| Failure::from_error(&error))
    }
}

/// Writes out what is pending for a stream.
fn send(stream: Stream, pending: &mut Vec<u8>) -> Result<(), Failure> {
    match stream {
        _ if pending.is_empty() => {}
        Stream::Stdin | Stream::Stdout | Stream::End => crate::output::write(pending)?,
        Stream::Stderr => io::stderr().write_all(pending)?,
        Stream::SystemError => {
            let text = String::from_utf8_lossy(pending).trim_end().to_owned();
            return Err(Failure::new(format!("error from daemon in stream: {text}")));
        }
    }
    pending.clear();
    Ok(())
}

/// Copies framed or plain output of an ordinary answer (`logs`) to our streams.
pub async fn copy_response(mut response: ferry_api::client::Response, tty: bool) -> Result<(), Failure> {
    let mut output = Output::new(tty);
    while let Some(chunk) = response.chunk().await? {
        output.write(&chunk)?;
    }
    Ok(())
}
