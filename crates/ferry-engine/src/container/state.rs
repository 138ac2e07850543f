//! The container state machine: pure, total, and the only way a container's status changes.
//!
//! `transition` has no catch-all arm: a new state or a new event does not compile until every pair is
//! decided. What Docker calls "starting" is no state of its own, because nothing can be asked of a container
//! between its launch and the kernel's answer; the lifecycle lock of the container covers it.

use serde::{Deserialize, Serialize};

/// Where a container stands, in Docker's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Made, never run.
    Created,
    /// Its first process runs.
    Running,
    /// Its processes are frozen.
    Paused,
    /// It ended and its restart policy will start it again.
    Restarting,
    /// Its files are being deleted.
    Removing,
    /// It ended.
    Exited,
    /// Its monitor was lost, or its removal failed half-way.
    Dead,
}

impl Status {
    /// Every status, for tables and filters.
    pub const ALL: [Self; 7] = [
        Self::Created,
        Self::Running,
        Self::Paused,
        Self::Restarting,
        Self::Removing,
        Self::Exited,
        Self::Dead,
    ];

    /// Docker's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Removing => "removing",
            Self::Exited => "exited",
            Self::Dead => "dead",
        }
    }

    /// Reads Docker's word.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }

    /// A process of the container exists (running or frozen).
    pub fn has_process(self) -> bool {
        matches!(self, Self::Running | Self::Paused)
    }
}

impl std::fmt::Display for Status {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(self.as_str())
    }
}

/// What happens to a container.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Its first process was executed.
    Start,
    /// The launch failed; nothing runs.
    StartFailed,
    /// All its processes were frozen.
    Pause,
    /// They were thawed.
    Unpause,
    /// Its first process ended and it stays down.
    Exit,
    /// Its first process ended and the restart policy will start it again.
    ExitForRestart,
    /// The wait for the next restart was given up (stop, kill, removal).
    CancelRestart,
    /// Its monitor died without leaving an exit record; whatever was left of it has been killed.
    Lose,
    /// Its removal began.
    Remove,
    /// Its removal failed.
    RemoveFailed,
}

impl Change {
    /// Every change, for tables.
    pub const ALL: [Self; 10] = [
        Self::Start,
        Self::StartFailed,
        Self::Pause,
        Self::Unpause,
        Self::Exit,
        Self::ExitForRestart,
        Self::CancelRestart,
        Self::Lose,
        Self::Remove,
        Self::RemoveFailed,
    ];
}

/// A change that cannot happen in this status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a container that is {status} cannot take the change {change:?}")]
pub struct Refused {
    /// Where the container stands.
    pub status: Status,
    /// What was asked.
    pub change: Change,
}

/// The next status, or why there is none.
pub fn transition(status: Status, change: Change) -> Result<Status, Refused> {
    let refused = Err(Refused { status, change });
    match (status, change) {
        (Status::Created, Change::Start) => Ok(Status::Running),
        (Status::Created, Change::StartFailed) => Ok(Status::Created),
        (Status::Created, Change::Remove) => Ok(Status::Removing),
        (
            Status::Created,
            Change::Pause
            | Change::Unpause
            | Change::Exit
            | Change::ExitForRestart
            | Change::CancelRestart
            | Change::Lose
            | Change::RemoveFailed,
        ) => refused,

        (Status::Running, Change::Pause) => Ok(Status::Paused),
        (Status::Running, Change::Exit) => Ok(Status::Exited),
        (Status::Running, Change::ExitForRestart) => Ok(Status::Restarting),
        (Status::Running, Change::Lose) => Ok(Status::Dead),
        (
            Status::Running,
            Change::Start
            | Change::StartFailed
            | Change::Unpause
            | Change::CancelRestart
            | Change::Remove
            | Change::RemoveFailed,
        ) => refused,

        (Status::Paused, Change::Unpause) => Ok(Status::Running),
        (Status::Paused, Change::Exit) => Ok(Status::Exited),
        (Status::Paused, Change::ExitForRestart) => Ok(Status::Restarting),
        (Status::Paused, Change::Lose) => Ok(Status::Dead),
        (
            Status::Paused,
            Change::Start
            | Change::StartFailed
            | Change::Pause
            | Change::CancelRestart
            | Change::Remove
            | Change::RemoveFailed,
        ) => refused,

        (Status::Restarting, Change::Start) => Ok(Status::Running),
        (Status::Restarting, Change::StartFailed | Change::CancelRestart) => Ok(Status::Exited),
        (
            Status::Restarting,
            Change::Pause
            | Change::Unpause
            | Change::Exit
            | Change::ExitForRestart
            | Change::Lose
            | Change::Remove
            | Change::RemoveFailed,
        ) => refused,

        (Status::Removing, Change::RemoveFailed) => Ok(Status::Dead),
        // Asked again after an engine died in the middle of it.
        (Status::Removing, Change::Remove) => Ok(Status::Removing),
        (
            Status::Removing,
            Change::Start
            | Change::StartFailed
            | Change::Pause
            | Change::Unpause
            | Change::Exit
            | Change::ExitForRestart
            | Change::CancelRestart
            | Change::Lose,
        ) => refused,

        (Status::Exited, Change::Start) => Ok(Status::Running),
        (Status::Exited, Change::StartFailed) => Ok(Status::Exited),
        // A restart policy applied by the engine at its start, to a container that ended without one.
        (Status::Exited, Change::ExitForRestart) => Ok(Status::Restarting),
        (Status::Exited, Change::Remove) => Ok(Status::Removing),
        (
            Status::Exited,
            Change::Pause
            | Change::Unpause
            | Change::Exit
            | Change::CancelRestart
            | Change::Lose
            | Change::RemoveFailed,
        ) => refused,

        (Status::Dead, Change::Start) => Ok(Status::Running),
        (Status::Dead, Change::StartFailed) => Ok(Status::Dead),
        (Status::Dead, Change::ExitForRestart) => Ok(Status::Restarting),
        (Status::Dead, Change::Remove) => Ok(Status::Removing),
        (
            Status::Dead,
            Change::Pause
            | Change::Unpause
            | Change::Exit
            | Change::CancelRestart
            | Change::Lose
            | Change::RemoveFailed,
        ) => refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows: status; columns in the order of `Change::ALL`; `-` is a refusal.
    #[test]
    fn the_whole_table() {
        let table = [
            ("created", ["running", "created", "-", "-", "-", "-", "-", "-", "removing", "-"]),
            ("running", ["-", "-", "paused", "-", "exited", "restarting", "-", "dead", "-", "-"]),
            ("paused", ["-", "-", "-", "running", "exited", "restarting", "-", "dead", "-", "-"]),
            ("restarting", ["running", "exited", "-", "-", "-", "-", "exited", "-", "-", "-"]),
            ("removing", ["-", "-", "-", "-", "-", "-", "-", "-", "removing", "dead"]),
            ("exited", ["running", "exited", "-", "-", "-", "restarting", "-", "-", "removing", "-"]),
            ("dead", ["running", "dead", "-", "-", "-", "restarting", "-", "-", "removing", "-"]),
        ];
        for (from, row) in table {
            let status = Status::parse(from).expect(from);
            for (change, expected) in Change::ALL.into_iter().zip(row) {
                let got = transition(status, change).map_or("-", Status::as_str);
                assert_eq!(got, expected, "{from} + {change:?}");
            }
        }
    }

    #[test]
    fn words_read_back() {
        for status in Status::ALL {
            assert_eq!(Status::parse(status.as_str()), Some(status));
        }
        assert_eq!(Status::parse("starting"), None);
    }

    #[test]
    fn every_status_can_be_left_for_removal() {
        for status in Status::ALL {
            let mut current = status;
            for change in [Change::Exit, Change::CancelRestart, Change::Remove] {
                current = transition(current, change).unwrap_or(current);
            }
            assert_eq!(current, Status::Removing, "{status}");
        }
    }
}
