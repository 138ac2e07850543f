//! The engine's connection to the network service in the keeper.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ferry_net::client::{Client, ClientError};
use ferry_net::protocol::{Reply, Request};

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
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        let start = Instant::now();
        loop {
            let connected = match client.take() {
                Some(connected) => Ok(connected),
                None => Client::connect(&self.run_root),
            };
            let result = connected.and_then(|mut connected| {
                let reply = connected.call(request);
                if !matches!(reply, Err(ClientError::Channel(_))) {
                    *client = Some(connected);
                }
                reply
            });
            match result {
                // Every request may be repeated: what is done already stays done.
                Err(ClientError::Connect(_) | ClientError::Channel(_)) if start.elapsed() < PATIENCE => {
                    std::thread::sleep(PAUSE);
                }
                result => return result,
            }
        }
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
