//! A live connection to one monitor: requests with numbered replies one way, events the other.
//!
//! The handle is cheap to clone. When the connection ends, outstanding and later requests fail with
//! `LinkError::Closed` and the event receiver ends, which is how the supervisor learns that the monitor is gone.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;

use ferry_oci::runtime::LinuxResources;
use ferry_runtime::cgroup::Stats;
use ferry_shim::protocol::{
    self, ShimEnvelope, ShimError, ShimEvent, ShimMessage, ShimReply, ShimRequest, ShimState, WindowSize,
};
use ferry_sys::channel::{Channel, ChannelError};
use tokio::sync::{mpsc, oneshot};

use super::socket::{AsyncChannel, Ready};

/// A request that got no answer, or a refusal.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The monitor is gone.
    #[error("the container's monitor is gone")]
    Closed,
    /// It refused.
    #[error(transparent)]
    Refused(#[from] ShimError),
    /// It answered something else than what was asked.
    #[error("the container's monitor gave an answer that does not fit the question")]
    Confused,
    /// It has not answered for longer than anybody waits.
    #[error("{}", silence(*monitor, *stopped))]
    Silent {
        /// Its process, where that is known.
        monitor: Option<i32>,
        /// Somebody has stopped it.
        stopped: bool,
    },
}

fn silence(monitor: Option<i32>, stopped: bool) -> String {
    match (monitor, stopped) {
        (Some(pid), true) => format!(
            "the container's monitor (process {pid}) is stopped and does not answer: `kill -CONT {pid}` lets it go on, \
             `rm -f` ends it together with its container"
        ),
        (Some(pid), false) => format!(
            "the container's monitor (process {pid}) does not answer: `rm -f` ends it together with its container"
        ),
        (None, _) => "the container's monitor does not answer".to_owned(),
    }
}

/// An answer and the descriptors that came with it.
#[derive(Debug)]
pub struct Reply {
    /// The answer.
    pub reply: ShimReply,
    /// Descriptors.
    pub fds: Vec<OwnedFd>,
}

struct Question {
    request: ShimRequest,
    fds: Vec<OwnedFd>,
    answer: Option<oneshot::Sender<Result<Reply, LinkError>>>,
}

/// A handle to a monitor.
#[derive(Clone, Debug)]
pub struct ShimLink {
    questions: mpsc::UnboundedSender<Question>,
}

impl ShimLink {
    /// Takes over a connected channel. Events arrive at the receiver.
    pub fn start(channel: Channel) -> io::Result<(Self, mpsc::UnboundedReceiver<ShimEvent>)> {
        let channel = AsyncChannel::new(channel)?;
        let (questions, receiver) = mpsc::unbounded_channel();
        let (events, event_receiver) = mpsc::unbounded_channel();
        tokio::spawn(converse(channel, receiver, events));
        Ok((Self { questions }, event_receiver))
    }

    /// Asks and waits for the answer.
    pub async fn ask(&self, request: ShimRequest, fds: Vec<OwnedFd>) -> Result<Reply, LinkError> {
        let (answer, receiver) = oneshot::channel();
        let question = Question { request, fds, answer: Some(answer) };
        self.questions.send(question).map_err(|_| LinkError::Closed)?;
        receiver.await.map_err(|_| LinkError::Closed)?
    }

    /// Asks without caring for the answer.
    pub fn tell(&self, request: ShimRequest, fds: Vec<OwnedFd>) {
        // A monitor that is gone is noticed by the supervisor, not here.
        let _ = self.questions.send(Question { request, fds, answer: None });
    }

    async fn simple(&self, request: ShimRequest) -> Result<(), LinkError> {
        match self.ask(request, Vec::new()).await?.reply {
            ShimReply::Ok => Ok(()),
            _ => Err(LinkError::Confused),
        }
    }

    /// Introduces this engine on a later connection; the answer is all the monitor knows.
    pub async fn hello(&self) -> Result<ShimState, LinkError> {
        match self.ask(ShimRequest::Hello { version: protocol::VERSION }, Vec::new()).await?.reply {
            ShimReply::State(state) => Ok(*state),
            _ => Err(LinkError::Confused),
        }
    }

    /// Sends a signal to the first process, or to one exec's.
    pub async fn signal(&self, exec_id: Option<String>, signal: i32) -> Result<(), LinkError> {
        self.simple(ShimRequest::Signal { exec_id, signal, all: false }).await
    }

    /// Sends a signal to every process of the container.
    pub async fn signal_all(&self, signal: i32) -> Result<(), LinkError> {
        self.simple(ShimRequest::Signal { exec_id: None, signal, all: true }).await
    }

    /// Freezes or thaws.
    pub async fn freeze(&self, on: bool) -> Result<(), LinkError> {
        self.simple(ShimRequest::Freeze(on)).await
    }

    /// Changes limits.
    pub async fn update(&self, resources: LinuxResources) -> Result<(), LinkError> {
        self.simple(ShimRequest::UpdateResources(Box::new(resources))).await
    }

    /// Sets a terminal's size.
    pub async fn resize(&self, exec_id: Option<String>, size: WindowSize) -> Result<(), LinkError> {
        self.simple(ShimRequest::Resize { exec_id, size }).await
    }

    /// Process ids, as the host numbers them.
    pub async fn processes(&self) -> Result<Vec<i32>, LinkError> {
        match self.ask(ShimRequest::Processes, Vec::new()).await?.reply {
            ShimReply::Processes(pids) => Ok(pids),
            _ => Err(LinkError::Confused),
        }
    }

    /// Resource usage.
    pub async fn stats(&self) -> Result<Stats, LinkError> {
        match self.ask(ShimRequest::Stats, Vec::new()).await?.reply {
            ShimReply::Stats(stats) => Ok(*stats),
            _ => Err(LinkError::Confused),
        }
    }

    /// The container's root mount.
    pub async fn rootfs(&self) -> Result<OwnedFd, LinkError> {
        let reply = self.ask(ShimRequest::Rootfs, Vec::new()).await?;
        match (reply.reply, reply.fds.into_iter().next()) {
            (ShimReply::Rootfs, Some(fd)) => Ok(fd),
            _ => Err(LinkError::Confused),
        }
    }
}

type Waiting = HashMap<u64, oneshot::Sender<Result<Reply, LinkError>>>;

async fn converse(
    mut channel: AsyncChannel,
    mut questions: mpsc::UnboundedReceiver<Question>,
    events: mpsc::UnboundedSender<ShimEvent>,
) {
    let mut waiting = Waiting::new();
    let mut seq = 0;
    loop {
        let outcome = tokio::select! {
            biased;
            ready = channel.next() => handle(ready, &mut waiting, &events),
            question = questions.recv() => match question {
                Some(question) => {
                    seq += 1;
                    submit(&mut channel, seq, question, &mut waiting)
                }
                None => return,
            },
        };
        match outcome {
            Ok(()) => {}
            Err(ChannelError::Closed) => return,
            Err(error) => {
                tracing::warn!(%error, "a monitor's connection broke");
                return;
            }
        }
    }
}

fn submit(
    channel: &mut AsyncChannel,
    seq: u64,
    question: Question,
    waiting: &mut Waiting,
) -> Result<(), ChannelError> {
    let envelope = ShimEnvelope { seq, request: question.request };
    if let Some(answer) = question.answer {
        waiting.insert(seq, answer);
    }
    channel.queue(&protocol::encode(&envelope), question.fds)
}

fn handle(
    ready: Result<Ready, ChannelError>,
    waiting: &mut Waiting,
    events: &mpsc::UnboundedSender<ShimEvent>,
) -> Result<(), ChannelError> {
    let Ready::Frame((payload, fds)) = ready? else { return Ok(()) };
    match protocol::decode_message(&payload) {
        Ok(Some(ShimMessage::Reply { seq, result })) => {
            if let Some(answer) = waiting.remove(&seq) {
                let result = result.map(|reply| Reply { reply, fds }).map_err(LinkError::from);
                let _ = answer.send(result);
            }
        }
        Ok(Some(ShimMessage::Event(event))) => {
            let _ = events.send(event);
        }
        // A newer monitor's message: skipped by the protocol's rules.
        Ok(None) => {}
        Err(error) => tracing::warn!(%error, "unreadable message of a monitor"),
    }
    Ok(())
}
