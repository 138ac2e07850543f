//! What a keeper is started with, and the same as command-line arguments.
//!
//! Owns both directions of the translation, so that the processes which start each other cannot
//! disagree. Never reads the environment.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// The engine's socket where nobody names another.
pub const DEFAULT_HOST: &str = "unix:///run/ferry/ferry.sock";
/// Where images and containers are kept.
pub const DEFAULT_DATA_ROOT: &str = "/var/lib/ferry";
/// Where sockets are kept.
pub const DEFAULT_RUN_ROOT: &str = "/run/ferry";

/// What a keeper is started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeeperOptions {
    /// Where images, containers and volumes are kept.
    pub data_root: PathBuf,
    /// Where sockets and pid files are kept.
    pub run_root: PathBuf,
    /// Where the API is served: `unix://PATH` or `tcp://ADDRESS:PORT`.
    pub hosts: Vec<String>,
    /// Further arguments for `ferry engine-worker`.
    pub engine_args: Vec<OsString>,
    /// Stay with the caller's terminal, session and environment instead of becoming a daemon.
    pub foreground: bool,
    /// Take over from a dead keeper: the listening sockets come as a frame on standard input.
    pub adopt: bool,
}

impl Default for KeeperOptions {
    fn default() -> Self {
        KeeperOptions {
            data_root: DEFAULT_DATA_ROOT.into(),
            run_root: DEFAULT_RUN_ROOT.into(),
            hosts: vec![DEFAULT_HOST.into()],
            engine_args: Vec::new(),
            foreground: false,
            adopt: false,
        }
    }
}

/// An argument that is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// An unknown flag.
    #[error("unknown argument {0:?}")]
    Unknown(OsString),
    /// A flag without its value.
    #[error("{0} needs a value")]
    NoValue(&'static str),
    /// A host that is no text.
    #[error("host {0:?} is not valid UTF-8")]
    Host(OsString),
}

impl KeeperOptions {
    /// Parses what follows the command word of `ferry keeper` and `ferry engine-worker`. What follows `--`
    /// goes to the engine.
    pub fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<KeeperOptions, OptionsError> {
        let mut options = KeeperOptions { hosts: Vec::new(), ..KeeperOptions::default() };
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let mut value = |flag| arguments.next().ok_or(OptionsError::NoValue(flag));
            match argument.to_str() {
                Some("--data-root") => options.data_root = value("--data-root")?.into(),
                Some("--run-root") => options.run_root = value("--run-root")?.into(),
                Some("--host") => {
                    options.hosts.push(value("--host")?.into_string().map_err(OptionsError::Host)?);
                }
                Some("--foreground") => options.foreground = true,
                Some("--adopt") => options.adopt = true,
                Some("--") => {
                    options.engine_args = arguments.collect();
                    break;
                }
                _ => return Err(OptionsError::Unknown(argument)),
            }
        }
        if options.hosts.is_empty() {
            options.hosts.push(DEFAULT_HOST.into());
        }
        Ok(options)
    }

    /// Arguments that [`KeeperOptions::parse`] turns back into these options.
    pub fn arguments(&self) -> Vec<OsString> {
        let mut arguments = self.common_arguments();
        arguments.extend(self.foreground.then(|| "--foreground".into()));
        arguments.extend(self.adopt.then(|| "--adopt".into()));
        self.with_engine_args(arguments)
    }

    /// Arguments of the engine's process.
    pub(crate) fn worker_arguments(&self) -> Vec<OsString> {
        self.with_engine_args(self.common_arguments())
    }

    /// The first unix socket among the hosts.
    pub fn socket_path(&self) -> Option<&Path> {
        self.hosts.iter().find_map(|host| host.strip_prefix("unix://")).map(Path::new)
    }

    fn common_arguments(&self) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = Vec::new();
        let mut flag = |name: &str, value: &OsStr| arguments.extend([name.into(), value.to_owned()]);
        flag("--data-root", self.data_root.as_os_str());
        flag("--run-root", self.run_root.as_os_str());
        for host in &self.hosts {
            flag("--host", host.as_ref());
        }
        arguments
    }

    fn with_engine_args(&self, mut arguments: Vec<OsString>) -> Vec<OsString> {
        if !self.engine_args.is_empty() {
            arguments.push("--".into());
            arguments.extend(self.engine_args.iter().cloned());
        }
        arguments
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_survive_a_round_trip() {
        let options = KeeperOptions {
            data_root: "/d d".into(),
            run_root: "/r".into(),
            hosts: vec!["unix:///a.sock".into(), "tcp://127.0.0.1:2375".into()],
            engine_args: vec!["--debug".into(), "--".into()],
            foreground: true,
            adopt: true,
        };
        assert_eq!(KeeperOptions::parse(options.arguments()), Ok(options));
        assert_eq!(KeeperOptions::parse([]), Ok(KeeperOptions::default()));
    }

    #[test]
    fn wrong_arguments_are_named() {
        for (arguments, error) in [
            (vec!["--dataroot"], "unknown argument \"--dataroot\""),
            (vec!["--run-root"], "--run-root needs a value"),
        ] {
            let result = KeeperOptions::parse(arguments.into_iter().map(OsString::from));
            assert_eq!(result.unwrap_err().to_string(), error);
        }
    }
}
