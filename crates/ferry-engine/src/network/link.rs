//! The engine's connection to the network service in the keeper.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ferry_net::client::{Client, ClientError};
use ferry_net::plan::SandboxPlan;
use ferry_net::protocol::{Reply, Request};
use tokio::sync::oneshot;

/// How long a keeper that was replaced may take until it serves again.
const PATIENCE: Duration = Duration::from_secs(3);
const PAUSE: Duration = Duration::from_millis(20);

/// One connection, opened when it is first used and again when it broke.
pub struct ServiceLink {
    run_root: PathBuf,
    client: Mutex<Option<Client>>,
}

impl ServiceLink {
    /// A link to the service of a run root; nothing is opened yet.
    pub fn new(run_root: PathBuf) -> Self {
        Self { run_root, client: Mutex::default() }
    }

    /// Asks and waits for the answer on the calling thread.
    pub fn call_blocking(&self, request: &Request) -> Result<Reply, ClientError> {
        let start = Instant::now();
        loop {
            match self.with_client(|client| client.call(request)) {
                // Every request may be repeated: what is done already stays done.
                Err(ClientError::Connect(_) | ClientError::Channel(_)) if start.elapsed() < PATIENCE => {
                    std::thread::sleep(PAUSE);
                }
                result => return result,
            }
        }
    }

    /// Wires a container; `announced` is told its namespace before. A connection that breaks after that is an error:
    /// the next one would bring another namespace.
    pub fn attach_ahead_blocking(
        &self,
        plan: &SandboxPlan,
        announced: oneshot::Sender<String>,
    ) -> Result<Reply, ClientError> {
        let mut announced = Some(announced);
        let start = Instant::now();
        loop {
            let result = self.with_client(|client| {
                client.attach_ahead(Box::new(plan.clone()), &mut |path| {
                    // Nobody listens any more: the start was given up, and takes back what is made here.
                    let _ = announced.take().map(|announced| announced.send(path));
                })
            });
            match result {
                Err(ClientError::Connect(_) | ClientError::Channel(_))
                    if announced.is_some() && start.elapsed() < PATIENCE =>
                {
                    std::thread::sleep(PAUSE);
                }
                // A remnant of a run whose end nobody recorded.
                Err(ClientError::Refused(failure))
                    if announced.is_some() && failure.message.ends_with("is wired already") =>
                {
                    self.call_blocking(&Request::Detach { sandbox: plan.id.clone() })?;
                }
                result => return result,
            }
        }
    }

    fn with_client(
        &self,
        call: impl FnOnce(&mut Client) -> Result<Reply, ClientError>,
    ) -> Result<Reply, ClientError> {
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        let mut connected = match client.take() {
            Some(connected) => connected,
            None => Client::connect(&self.run_root)?,
        };
        let reply = call(&mut connected);
        if !matches!(reply, Err(ClientError::Channel(_))) {
            *client = Some(connected);
        }
        reply
    }

    /// Asks on a thread for blocking calls.
    pub async fn call(self: &Arc<Self>, request: Request) -> Result<Reply, ClientError> {
        let link = Arc::clone(self);
        match tokio::task::spawn_blocking(move || link.call_blocking(&request)).await {
            Ok(result) => result,
            Err(error) => Err(ClientError::Unexpected(error.to_string())),
        }
    }
}
