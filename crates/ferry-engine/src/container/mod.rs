//! Containers: what they are (`record`, `state`), where they are found (`registry`), and one file per verb.

pub mod name;
pub mod record;
pub mod recover;
pub mod registry;
pub mod state;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ferry_store::{ContainerDir, IoError, Store};
use tokio::sync::watch;

use crate::shim::ShimLink;
use record::Record;
use state::{Change, Refused, Status, transition};

/// One container. Locks: `lifecycle` is held across the slow steps of start, restart, removal and other
/// verbs that must not mix; `inner` only for moments, never across an await.
pub struct Container {
    /// Its full id.
    pub id: String,
    /// Its paths.
    pub dir: ContainerDir,
    /// One lifecycle verb at a time. Kill, stop, wait, logs and inspect do not take it.
    pub lifecycle: tokio::sync::Mutex<()>,
    inner: Mutex<Inner>,
    writing: Mutex<()>,
    changes: watch::Sender<Moment>,
}

/// What is known of a container now.
pub struct Inner {
    /// What is on disk.
    pub record: Record,
    /// The connection to its monitor while it runs.
    pub link: Option<ShimLink>,
}

/// The part of a container's state that others wait for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// Where it stands.
    pub status: Status,
    /// How often its first process ended under this engine.
    pub exits: u64,
    /// Last exit code.
    pub exit_code: i32,
    /// It is gone.
    pub removed: bool,
    /// Why its removal failed.
    pub removal_error: Option<String>,
}

impl Container {
    /// A container in memory; nothing is written.
    pub fn new(record: Record, dir: ContainerDir) -> Arc<Self> {
        let moment = Moment {
            status: record.state.status,
            exits: 0,
            exit_code: record.state.exit_code,
            removed: false,
            removal_error: None,
        };
        Arc::new(Self {
            id: record.id.clone(),
            dir,
            lifecycle: tokio::sync::Mutex::new(()),
            inner: Mutex::new(Inner { record, link: None }),
            writing: Mutex::new(()),
            changes: watch::Sender::new(moment),
        })
    }

    /// Looks at or changes what is known; for moments only.
    pub fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where it stands.
    pub fn status(&self) -> Status {
        self.lock().record.state.status
    }

    /// Its name, without the slash.
    pub fn name(&self) -> String {
        self.lock().record.name.clone()
    }

    /// The connection to its monitor, when it runs.
    pub fn link(&self) -> Option<ShimLink> {
        self.lock().link.clone()
    }

    /// A copy of its record.
    pub fn record(&self) -> Record {
        self.lock().record.clone()
    }

    /// Follows its changes; the current moment counts as seen.
    pub fn watch(&self) -> watch::Receiver<Moment> {
        self.changes.subscribe()
    }

    /// Takes one step of the state machine, changing the record along with it, and tells who waits.
    pub fn change<R>(&self, change: Change, edit: impl FnOnce(&mut Inner) -> R) -> Result<R, Refused> {
        let mut inner = self.lock();
        let next = transition(inner.record.state.status, change)?;
        inner.record.state.status = next;
        let result = edit(&mut inner);
        let exit_code = inner.record.state.exit_code;
        let ended = matches!(change, Change::Exit | Change::ExitForRestart | Change::Lose);
        // Told under the lock: nobody sees moments in another order than the steps.
        self.changes.send_modify(|moment| {
            moment.status = next;
            moment.exit_code = exit_code;
            moment.exits += u64::from(ended);
        });
        Ok(result)
    }

    /// Tells who waits that the container is gone, or that it could not be removed.
    pub fn announce_removal(&self, outcome: Result<(), String>) {
        self.changes.send_modify(|moment| match outcome {
            Ok(()) => moment.removed = true,
            Err(error) => moment.removal_error = Some(error),
        });
    }

    /// Writes the record as it is now. Writers queue, and each writes the newest state.
    pub fn persist(&self, store: &Store, durable: bool) -> Result<(), IoError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = self.lock().record.encode();
        store.containers().write_record(&self.id, &bytes, durable)
    }

    /// What an event says about this container.
    pub fn event_attributes(&self) -> BTreeMap<String, String> {
        let inner = self.lock();
        let record = &inner.record;
        let mut attributes = record.config.labels.clone().unwrap_or_default();
        attributes.insert("image".into(), record.config.image.clone());
        attributes.insert("name".into(), record.name.clone());
        attributes
    }
}
