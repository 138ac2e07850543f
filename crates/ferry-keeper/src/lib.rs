//! The small process that outlives engines: holds the API socket and starts the next engine.
//!
//! Owns the listening API socket, the pid files and the two processes `ferry engine-worker` and `ferry
//! launcher`. Never knows a container or an image.
//!
//! ```text
//! run root/keeper.lock  held by the living keeper
//! run root/keeper.sock  Ping, Status, StopAll, RestartEngine
//! run root/{keeper,engine,launcher}.pid
//! run root/engine.log   what daemons say
//! ```
//! The engine gets the numbers of its listening sockets in `FERRY_LISTEN_FD`, separated by commas.
//! Start reading at [`run`].

mod keeper;
mod listen;

mod child;
mod daemon;
mod log;
mod notify;
mod pidfile;
mod rootless;

pub mod client;
mod guard;
mod options;
pub mod protocol;

pub use client::{EnsureError, ensure_running};
pub use guard::guard_keeper;
pub use keeper::{KeeperError, run};
pub use listen::ListenError;
pub use options::{DEFAULT_DATA_ROOT, DEFAULT_HOST, DEFAULT_RUN_ROOT, KeeperOptions, OptionsError};
pub use rootless::{Need, RootlessError, WARNINGS as ROOTLESS_WARNINGS, missing as missing_for_users};
