//! The messages on `keeper.sock`: JSON in [`ferry_sys::channel`] frames, versioned as a shim's are.

use serde::{Deserialize, Serialize};

/// Version of these messages.
pub const VERSION: u32 = 1;
/// Name of the keeper's socket under the run root.
pub const KEEPER_SOCKET: &str = "keeper.sock";

/// Asked of the keeper.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeeperRequest {
    /// Are you alive, and which version?
    Ping,
    /// Which processes are there?
    Status,
    /// Ends engine, launcher and keeper. Containers go on under their shims. The connection closes when
    /// it is done.
    StopAll {
        /// How long the engine may take to finish what it is doing.
        timeout_ms: u64,
    },
    /// Starts the engine anew, from the program that is on disk now.
    RestartEngine,
}

/// The keeper's answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeeperReply {
    /// Answer to `Ping`.
    Pong {
        /// [`VERSION`] of the keeper.
        version: u32,
    },
    /// Answer to `Status`.
    Status(KeeperStatus),
    /// It is being done.
    Ok,
    /// The request was not understood.
    Failed {
        /// Why.
        message: String,
    },
}

/// The processes of one installation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeeperStatus {
    /// The keeper's own process id.
    pub keeper_pid: i32,
    /// The engine's, while one runs.
    pub engine_pid: Option<i32>,
    /// The launcher's, while one runs.
    pub launcher_pid: Option<i32>,
    /// How often the engine has been started anew after it had died.
    #[serde(default)]
    pub engine_restarts: u64,
}
