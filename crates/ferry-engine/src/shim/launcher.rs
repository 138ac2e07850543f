//! Asking the launcher to fork a monitor.
//!
//! One connection carries all launches; answers come in the order of the requests, so many starts can be
//! under way at once. When the launcher dies the keeper starts another, and the next launch connects anew.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use ferry_shim::protocol::{self, LaunchConfig, LauncherReply, LauncherRequest};
use ferry_sys::channel::{Channel, ChannelError};
use tokio::sync::{mpsc, oneshot};

use super::socket::{AsyncChannel, Ready};

/// How long a launch waits for a launcher that is being replaced.
const CONNECT_PATIENCE: Duration = Duration::from_secs(5);
/// Pause between attempts to connect.
const CONNECT_PAUSE: Duration = Duration::from_millis(10);
/// How long the launcher may take to fork one monitor; it takes well under a millisecond.
const ANSWER_PATIENCE: Duration = Duration::from_secs(30);

/// A monitor that could not be started.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// No launcher listens.
    #[error("connect to the launcher at {path}")]
    Connect {
        /// Its socket.
        path: PathBuf,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It went away before it answered.
    #[error("the launcher ended before it answered")]
    Gone,
    /// It did not answer in time.
    #[error("the launcher did not answer within {} s", ANSWER_PATIENCE.as_secs())]
    Silent,
    /// It answered that it could not.
    #[error("launch monitor: {0}")]
    Refused(String),
    /// Talking to it failed.
    #[error("talk to the launcher")]
    Channel(#[from] ChannelError),
}

struct Order {
    request: LauncherRequest,
    fds: Vec<OwnedFd>,
    answer: oneshot::Sender<Result<LauncherReply, LaunchError>>,
}

/// A handle to the launcher; cheap to clone.
#[derive(Clone)]
pub struct Launcher {
    orders: mpsc::UnboundedSender<Order>,
}

impl Launcher {
    /// Starts the task that talks to the launcher at this socket; it connects when first needed.
    pub fn start(path: PathBuf) -> Self {
        let (orders, receiver) = mpsc::unbounded_channel();
        tokio::spawn(serve(path, receiver));
        Self { orders }
    }

    /// Forks a monitor that gets `control` as its connection to this engine. Returns its process id.
    pub async fn launch(&self, config: LaunchConfig, control: OwnedFd) -> Result<i32, LaunchError> {
        match self.ask(LauncherRequest::Launch(Box::new(config)), vec![control]).await? {
            LauncherReply::Launched { shim_pid } => Ok(shim_pid),
            LauncherReply::Failed { message } => Err(LaunchError::Refused(message)),
            LauncherReply::Pong { .. } => Err(LaunchError::Refused("answer to another question".into())),
        }
    }

    async fn ask(&self, request: LauncherRequest, fds: Vec<OwnedFd>) -> Result<LauncherReply, LaunchError> {
        let (answer, receiver) = oneshot::channel();
        self.orders.send(Order { request, fds, answer }).map_err(|_| LaunchError::Gone)?;
        match tokio::time::timeout(ANSWER_PATIENCE, receiver).await {
            Ok(Ok(reply)) => reply,
            Ok(Err(_)) => Err(LaunchError::Gone),
            Err(_) => Err(LaunchError::Silent),
        }
    }
}

async fn serve(path: PathBuf, mut orders: mpsc::UnboundedReceiver<Order>) {
    let mut next = orders.recv().await;
    while let Some(order) = next {
        next = match connect(&path).await {
            Ok(channel) => converse(channel, order, &mut orders).await,
            Err(source) => {
                let error = LaunchError::Connect { path: path.clone(), source };
                let _ = order.answer.send(Err(error));
                orders.recv().await
            }
        };
    }
}

async fn connect(path: &std::path::Path) -> io::Result<AsyncChannel> {
    let deadline = tokio::time::Instant::now() + CONNECT_PATIENCE;
    loop {
        match Channel::connect(path) {
            Ok(channel) => return AsyncChannel::new(channel),
            Err(error) if tokio::time::Instant::now() >= deadline => return Err(error),
            Err(_) => tokio::time::sleep(CONNECT_PAUSE).await,
        }
    }
}

/// Serves orders over one connection until it breaks; returns the order that needs a new one.
async fn converse(
    mut channel: AsyncChannel,
    first: Order,
    orders: &mut mpsc::UnboundedReceiver<Order>,
) -> Option<Order> {
    let mut waiting = VecDeque::new();
    if let Err(error) = submit(&mut channel, first, &mut waiting) {
        tracing::warn!(%error, "send to the launcher");
        return orders.recv().await;
    }
    loop {
        tokio::select! {
            ready = channel.next() => {
                if let Err(error) = handle(ready, &mut waiting) {
                    tracing::warn!(%error, "the launcher's connection ended");
                    // Those that wait see their answer channel close and report the launcher gone.
                    return orders.recv().await;
                }
            }
            order = orders.recv() => {
                if let Err(error) = submit(&mut channel, order?, &mut waiting) {
                    tracing::warn!(%error, "send to the launcher");
                    return orders.recv().await;
                }
            }
        }
    }
}

type Waiting = VecDeque<oneshot::Sender<Result<LauncherReply, LaunchError>>>;

fn submit(channel: &mut AsyncChannel, order: Order, waiting: &mut Waiting) -> Result<(), ChannelError> {
    match channel.queue(&protocol::encode(&order.request), order.fds) {
        Ok(()) => {
            waiting.push_back(order.answer);
            Ok(())
        }
        Err(error @ (ChannelError::TooLarge { .. } | ChannelError::TooManyFds { .. })) => {
            let _ = order.answer.send(Err(error.into()));
            Ok(())
        }
        Err(error) => Err(error),
    }
}

fn handle(ready: Result<Ready, ChannelError>, waiting: &mut Waiting) -> Result<(), ChannelError> {
    let Ready::Frame((payload, _fds)) = ready? else { return Ok(()) };
    let reply = protocol::decode::<LauncherReply>(&payload)
        .map_err(|error| LaunchError::Refused(format!("unreadable answer: {error}")));
    if let Some(answer) = waiting.pop_front() {
        let _ = answer.send(reply);
    }
    Ok(())
}
