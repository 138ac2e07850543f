//! The facts: what `/proc`, `/sys`, the disk and the engine tell.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use ferry_api::Call;
use rustix::process::{Resource, getrlimit};
use serde_json::Value;

use crate::session::Session;

/// An engine that takes longer to answer is told about.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is known of the machine. Texts are empty and numbers zero where nothing could be read.
#[derive(Debug, Default, Clone)]
pub struct Machine {
    pub root: bool,
    /// What is missing for containers of a user who is not root.
    pub needs: Vec<ferry_keeper::Need>,
    /// `uname -r`.
    pub kernel: String,
    /// `/proc/filesystems`.
    pub file_systems: String,
    /// `/proc/self/mountinfo`.
    pub mounts: String,
    /// `cgroup.controllers` of version 2.
    pub controllers: String,
    /// Whether the kernel tracks connections, which published ports need.
    pub tracks_connections: bool,
    /// `/etc/resolv.conf`.
    pub resolver: String,
    /// Names of programs that run.
    pub programs: Vec<String>,
    pub disk: Option<Disk>,
    pub open_files: u64,
    pub watchers: u64,
    /// How far this program's file lies in the future.
    pub clock_behind: Duration,
    pub engine: Engine,
}

/// The disk under the data root.
#[derive(Debug, Clone)]
pub struct Disk {
    pub path: PathBuf,
    pub total: u64,
    pub free: u64,
    pub files_free_percent: u64,
}

/// What came of asking the engine.
#[derive(Debug, Default, Clone)]
pub enum Engine {
    #[default]
    Unasked,
    Answered {
        version: String,
        took: Duration,
        data_root: String,
        warnings: Vec<String>,
    },
    Silent(String),
}

/// Asks the engine what it says of itself; starts it where a command would.
pub async fn ask_engine(session: &Session) -> Engine {
    let begun = Instant::now();
    match tokio::time::timeout(PATIENCE, info(session)).await {
        Ok(Ok(info)) => {
            let text = |key: &str| info[key].as_str().unwrap_or_default().to_owned();
            let warnings = info["Warnings"].as_array().into_iter().flatten().filter_map(Value::as_str);
            Engine::Answered {
                version: text("ServerVersion"),
                took: begun.elapsed(),
                data_root: text("DockerRootDir"),
                warnings: warnings.map(str::to_owned).collect(),
            }
        }
        Ok(Err(reason)) => Engine::Silent(reason),
        Err(_) => Engine::Silent(format!("no answer within {} s", PATIENCE.as_secs())),
    }
}

async fn info(session: &Session) -> Result<Value, String> {
    let client = session.engine().await.map_err(|failure| failure.message)?;
    let answer = client.call(Call::get("/info")).await.map_err(|error| error.to_string())?;
    answer.json().await.map_err(|error| error.to_string())
}

/// Looks around.
pub fn look(engine: Engine) -> Machine {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let number = |path: &str| read(path).trim().parse().ok();
    let data_root = match &engine {
        Engine::Answered { data_root, .. } if !data_root.is_empty() => PathBuf::from(data_root),
        _ => PathBuf::from("/var/lib/ferry"),
    };
    Machine {
        root: rustix::process::geteuid().is_root(),
        needs: match rustix::process::geteuid().is_root() {
            true => Vec::new(),
            false => ferry_keeper::missing_for_users(),
        },
        kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
        file_systems: read("/proc/filesystems"),
        mounts: read("/proc/self/mountinfo"),
        controllers: read("/sys/fs/cgroup/cgroup.controllers"),
        tracks_connections: Path::new("/proc/sys/net/netfilter/nf_conntrack_max").exists(),
        resolver: read("/etc/resolv.conf"),
        programs: programs(),
        disk: disk(data_root),
        open_files: getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX),
        watchers: number("/proc/sys/fs/inotify/max_user_instances").unwrap_or_default(),
        clock_behind: clock_behind(),
        engine,
    }
}

fn programs() -> Vec<String> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| fs::read_to_string(entry.path().join("comm")).ok());
    let mut names: Vec<String> = names.map(|name| name.trim().to_owned()).collect();
    names.sort();
    names.dedup();
    names
}

/// The file system that holds the folder, or will hold it.
fn disk(mut path: PathBuf) -> Option<Disk> {
    while !path.exists() {
        path = path.parent()?.to_owned();
    }
    let stat = rustix::fs::statvfs(&path).ok()?;
    let files_free_percent = (stat.f_favail * 100).checked_div(stat.f_files).unwrap_or(100);
    let (total, free) = (stat.f_blocks * stat.f_frsize, stat.f_bavail * stat.f_frsize);
    Some(Disk { path, total, free, files_free_percent })
}

/// Nothing can have been installed in the future.
fn clock_behind() -> Duration {
    let written = fs::metadata("/proc/self/exe").and_then(|file| file.modified());
    let ahead = written.ok().and_then(|written| written.duration_since(SystemTime::now()).ok());
    ahead.unwrap_or_default()
}
