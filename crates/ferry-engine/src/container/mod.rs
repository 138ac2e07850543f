//! Containers: what they are (`record`, `state`), where they are found (`registry`), and one file per verb.

pub mod attach;
pub mod create;
pub mod detach_keys;
pub mod etc;
pub mod exec;
mod forward;
pub mod health;
pub mod inspect;
pub mod list;
pub mod logging;
pub mod logs;
pub mod name;
pub mod output;
mod probe;
pub mod project;
pub mod prune;
pub mod record;
pub mod recover;
pub mod registry;
pub mod remove;
pub mod rename;
pub mod restart;
pub mod settings;
pub mod signal;
pub mod start;
pub mod state;
pub mod stats;
pub mod stop;
pub mod stuck;
pub mod supervise;
pub mod top;
pub mod update;
pub mod volumes;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ferry_store::{ContainerDir, IoError, Store};
use tokio::sync::watch;
use tokio::task::AbortHandle;

use crate::shim::ShimLink;
use attach::AttachOrder;
use exec::Execs;
use output::Output;
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
    pub lifecycle: Arc<tokio::sync::Mutex<()>>,
    /// Joining and leaving networks take turns: the end of one run and the start of the next may meet.
    pub network_turn: Arc<tokio::sync::Mutex<()>>,
    /// Its execs.
    pub execs: Execs,
    /// Who follows its log.
    pub output: Arc<Output>,
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
    /// The connection to the monitor of the run before, which may still be giving back its mount and its cgroup.
    pub last_link: Option<ShimLink>,
    /// Volumes that are mounted because it runs.
    pub holds: Vec<crate::volume::Hold>,
    /// What its writable layer takes on disk, while nobody can write to it.
    pub measured: Option<u64>,
    /// How often its files were changed from outside.
    pub writes: u64,
    /// Attachments made before the container runs.
    pub waiting_attaches: Vec<AttachOrder>,
    /// Its files are gone.
    pub removed: bool,
    /// The next start leaves its ports to the container that has them, until they are handed over.
    pub ports_come_later: bool,
    /// Somebody else decides about its removal: the end of this run does not.
    pub hold_removal: bool,
    /// The wait before the last restart by policy.
    pub last_wait: Option<Duration>,
    /// A start by policy waits for what the container needs.
    pub waits_for_others: bool,
    /// The task that waits for the next restart.
    pub restart: Option<AbortHandle>,
    /// The task that probes its health.
    pub health_task: Option<AbortHandle>,
}

/// The part of a container's state that others wait for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moment {
    /// Where it stands.
    pub status: Status,
    /// How often its first process ended under this engine.
    pub exits: u64,
    /// How often a start failed under this engine.
    pub failed_starts: u64,
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
            failed_starts: 0,
            exit_code: record.state.exit_code,
            removed: false,
            removal_error: None,
        };
        let inner = Inner {
            record,
            link: None,
            last_link: None,
            holds: Vec::new(),
            measured: None,
            writes: 0,
            waiting_attaches: Vec::new(),
            removed: false,
            ports_come_later: false,
            hold_removal: false,
            last_wait: None,
            waits_for_others: false,
            restart: None,
            health_task: None,
        };
        Arc::new(Self {
            id: inner.record.id.clone(),
            dir,
            lifecycle: Arc::default(),
            network_turn: Arc::default(),
            execs: Execs::default(),
            output: Arc::default(),
            inner: Mutex::new(inner),
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

    /// Forgets the link that another container is known by here; false where there is none of that alias.
    pub fn unlink(&self, alias: &str) -> bool {
        let mut inner = self.lock();
        let named = |link: &String| {
            let shown = link.rsplit_once(':').map_or(link.as_str(), |(_, alias)| alias);
            shown.rsplit('/').next() == Some(alias)
        };
        let mut found = false;
        let mut forget = |links: &mut Option<Vec<String>>| {
            if let Some(links) = links {
                let before = links.len();
                links.retain(|link| !named(link));
                found |= links.len() < before;
            }
        };
        let record = &mut inner.record;
        forget(&mut record.host_config.links);
        record.endpoints.values_mut().for_each(|settings| forget(&mut settings.links));
        found
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
        if ended {
            inner.measured = None;
            inner.writes += 1;
        }
        // Told under the lock: nobody sees moments in another order than the steps.
        self.changes.send_modify(|moment| {
            moment.status = next;
            moment.exit_code = exit_code;
            moment.exits += u64::from(ended);
        });
        Ok(result)
    }

    /// Tells who waits that a start failed.
    pub fn announce_failed_start(&self) {
        self.changes.send_modify(|moment| moment.failed_starts += 1);
    }

    /// Tells who waits that the container is gone, or that it could not be removed.
    pub fn announce_removal(&self, outcome: Result<(), String>) {
        self.changes.send_modify(|moment| match outcome {
            Ok(()) => moment.removed = true,
            Err(error) => moment.removal_error = Some(error),
        });
    }

    /// Stops waiting for a restart by policy; the status is the caller's to change.
    pub fn cancel_restart(&self) {
        if let Some(task) = self.lock().restart.take() {
            task.abort();
        }
    }

    /// What its writable layer takes on disk. Measured again only where somebody may have written since.
    pub fn measured(&self, measure: impl FnOnce() -> Result<u64, IoError>) -> Result<u64, IoError> {
        let before = {
            let inner = self.lock();
            let state = &inner.record.state;
            if let (Some(known), false) = (inner.measured, state.status.has_process()) {
                return Ok(known);
            }
            (!state.status.has_process()).then_some((state.generation, inner.writes))
        };
        let size = measure()?;
        let mut inner = self.lock();
        let state = &inner.record.state;
        if !state.status.has_process() && before == Some((state.generation, inner.writes)) {
            inner.measured = Some(size);
        }
        Ok(size)
    }

    /// Its files are about to change, or have changed.
    pub fn forget_measured(&self) {
        let mut inner = self.lock();
        inner.measured = None;
        inner.writes += 1;
    }

    /// Writes the record as it is now. Writers queue, and each writes the newest state.
    pub fn persist(&self, store: &Store, durable: bool) -> Result<(), IoError> {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let bytes = self.lock().record.encode();
        store.containers().write_record(&self.id, &bytes, durable)
    }

    /// Whether this container's record is to survive a power cut.
    pub fn is_durable(&self) -> bool {
        self.lock().record.durable()
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
