//! Deletes links that outlive their container: a namespace normally takes them
//! along when its last process ends, but something may keep it alive.

use std::collections::VecDeque;
use std::io;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use ferry_sys::netlink::Family;

use crate::kernel::{delete_link, find_link};
use crate::netlink::Connection;

/// How long a namespace may take to end by itself.
const GRACE: Duration = Duration::from_secs(2);
const STACK_BYTES: usize = 128 << 10;

/// What the thread is asked.
#[derive(Debug)]
enum Chore {
    /// See to it that these links are gone soon.
    Clean { due: Instant, links: Vec<String> },
    /// Do all that is left now, then drop this.
    Finish { done: Sender<()> },
}

/// The thread's address.
#[derive(Debug)]
pub(super) struct Janitor {
    chores: Sender<Chore>,
}

impl Janitor {
    pub(super) fn start() -> io::Result<Self> {
        let (chores, receiver) = channel();
        std::thread::Builder::new()
            .name("janitor".into())
            .stack_size(STACK_BYTES)
            .spawn(move || work(&receiver))?;
        Ok(Self { chores })
    }

    /// Sees to it that these links are gone soon.
    pub(super) fn clean(&self, links: Vec<String>) {
        if !links.is_empty() {
            // The thread lives as long as the process.
            let _ = self.chores.send(Chore::Clean { due: Instant::now() + GRACE, links });
        }
    }

    /// Waits until every link that was given to [`Self::clean`] is gone, because nobody is there later to do it.
    pub(super) fn finish(&self) {
        let (done, finished) = channel();
        let _ = self.chores.send(Chore::Finish { done });
        // Nothing is ever sent: the thread drops its end.
        let _ = finished.recv();
    }
}

fn work(receiver: &Receiver<Chore>) {
    let mut waiting: VecDeque<(Instant, Vec<String>)> = VecDeque::new();
    loop {
        let chore = match waiting.front() {
            Some((due, _)) => receiver.recv_timeout(due.saturating_duration_since(Instant::now())),
            None => receiver.recv().map_err(RecvTimeoutError::from),
        };
        match chore {
            Ok(Chore::Clean { due, links }) => waiting.push_back((due, links)),
            Ok(Chore::Finish { done }) => {
                waiting.drain(..).for_each(|(_, links)| delete(&links));
                drop(done);
            }
            Err(RecvTimeoutError::Timeout) => {
                waiting.pop_front().iter().for_each(|(_, links)| delete(links));
            }
            Err(RecvTimeoutError::Disconnected) => return,
        }
    }
}

fn delete(links: &[String]) {
    let result = Connection::open(Family::Route).and_then(|mut connection| {
        for link in links {
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
