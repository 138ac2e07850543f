//! Exec sessions: further processes in the container, each with streams of its own.
//!
//! Owns the list of sessions, its limits and what is remembered of ended ones.

use std::collections::VecDeque;
use std::os::fd::OwnedFd;

use crate::protocol::{ExecState, MAX_ENDED_EXECS, MAX_RUNNING_EXECS, ShimError, error_code};

use super::streams::Streams;

/// One exec session that runs, or whose output is not all delivered yet.
#[derive(Debug)]
pub struct Session {
    /// Names it in the poll set.
    pub key: u64,
    /// The engine's name for it.
    pub exec_id: String,
    /// Process id on the host.
    pub pid: i32,
    /// Immune to reuse of the id.
    pub pidfd: OwnedFd,
    /// Its streams.
    pub streams: Streams,
    /// Set once it has ended.
    pub exit_code: Option<i32>,
}

/// All sessions of a container.
#[derive(Debug, Default)]
pub struct Sessions {
    live: Vec<Session>,
    ended: VecDeque<ExecState>,
    next_key: u64,
}

impl Sessions {
    /// Whether one more may be started under this name.
    pub fn admit(&self, exec_id: &str) -> Result<(), ShimError> {
        let conflict = |message: String| ShimError { code: error_code::CONFLICT, message };
        let taken = self.live.iter().any(|session| session.exec_id == exec_id)
            || self.ended.iter().any(|state| state.exec_id == exec_id);
        if taken {
            return Err(conflict(format!("exec session {exec_id} exists already")));
        }
        let running = self.live.iter().filter(|session| session.exit_code.is_none()).count();
        if running >= MAX_RUNNING_EXECS {
            return Err(conflict(format!("{running} exec sessions are running in this container")));
        }
        Ok(())
    }

    /// Adds a started one.
    pub fn add(&mut self, exec_id: String, pid: i32, pidfd: OwnedFd, streams: Streams) {
        let key = self.next_key;
        self.next_key += 1;
        self.live.push(Session { key, exec_id, pid, pidfd, streams, exit_code: None });
    }

    /// The live session with this name.
    pub fn get(&mut self, exec_id: &str) -> Result<&mut Session, ShimError> {
        let ended = self.ended.iter().any(|state| state.exec_id == exec_id);
        self.live.iter_mut().find(|session| session.exec_id == exec_id).ok_or_else(|| {
            if ended {
                let message = format!("exec session {exec_id} has ended");
                ShimError { code: error_code::NOT_RUNNING, message }
            } else {
                let message = format!("no exec session {exec_id}");
                ShimError { code: error_code::NOT_FOUND, message }
            }
        })
    }

    /// The live session with this key.
    pub fn by_key(&mut self, key: u64) -> Option<&mut Session> {
        self.live.iter_mut().find(|session| session.key == key)
    }

    /// The running session of this process.
    pub fn by_pid(&mut self, pid: i32) -> Option<&mut Session> {
        self.live.iter_mut().find(|session| session.pid == pid && session.exit_code.is_none())
    }

    /// The live ones.
    pub fn iter(&self) -> impl Iterator<Item = &Session> {
        self.live.iter()
    }

    /// The live ones, to be changed.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Session> {
        self.live.iter_mut()
    }

    /// Moves those that are over in every respect to the remembered ones. Output that nobody came for is
    /// given up once there is too much of it.
    pub fn retire(&mut self) {
        let unclaimed =
            |session: &&mut Session| session.exit_code.is_some() && !session.streams.has_clients();
        let surplus = self.live.iter_mut().filter(unclaimed).count().saturating_sub(MAX_ENDED_EXECS);
        for session in self.live.iter_mut().filter(unclaimed).take(surplus) {
            session.streams.end_all(None);
        }
        let over = |session: &Session| {
            session.exit_code.is_some() && session.streams.is_drained() && !session.streams.has_clients()
        };
        for index in (0..self.live.len()).rev() {
            if over(&self.live[index]) {
                let session = self.live.remove(index);
                self.ended.push_back(session.state());
                if self.ended.len() > MAX_ENDED_EXECS {
                    self.ended.pop_front();
                }
            }
        }
    }

    /// What `Hello` tells.
    pub fn states(&self) -> Vec<ExecState> {
        self.ended.iter().cloned().chain(self.live.iter().map(Session::state)).collect()
    }
}

impl Session {
    fn state(&self) -> ExecState {
        let running = self.exit_code.is_none();
        ExecState { exec_id: self.exec_id.clone(), pid: self.pid, running, exit_code: self.exit_code }
    }
}
