//! Deletes links that outlive their container: a namespace normally takes them
//! along when its last process ends, but something may keep it alive.

use std::io;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use ferry_sys::netlink::Family;

use crate::kernel::{delete_link, find_link};
use crate::netlink::Connection;

/// How long a namespace may take to end by itself.
const GRACE: Duration = Duration::from_secs(2);
const STACK_BYTES: usize = 128 << 10;

/// The thread's address.
#[derive(Debug)]
pub(super) struct Janitor {
    doomed: Sender<(Instant, Vec<String>)>,
}

impl Janitor {
    pub(super) fn start() -> io::Result<Self> {
        let (doomed, receiver) = channel();
        std::thread::Builder::new()
            .name("janitor".into())
            .stack_size(STACK_BYTES)
            .spawn(move || work(&receiver))?;
        Ok(Self { doomed })
    }

    /// Sees to it that these links are gone soon.
    pub(super) fn clean(&self, links: Vec<String>) {
        if !links.is_empty() {
            // The thread lives as long as the process.
            let _ = self.doomed.send((Instant::now() + GRACE, links));
        }
    }
}

fn work(receiver: &Receiver<(Instant, Vec<String>)>) {
    while let Ok((due, links)) = receiver.recv() {
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let result = Connection::open(Family::Route).and_then(|mut connection| {
            for link in &links {
                if find_link(&mut connection, link)?.is_some() {
                    delete_link(&mut connection, link)?;
                }
            }
            Ok(())
        });
        if let Err(error) = result {
            tracing::warn!(%error, "cannot remove a container's link");
        }
    }
}
