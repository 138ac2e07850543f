//! The processes behind the command line: keeper, launcher, engine.
//!
//! They start each other with these words; nobody types them. Entered while the process has one thread.

use std::ffi::OsString;
use std::net::IpAddr;
use std::os::fd::{IntoRawFd as _, RawFd};
use std::path::PathBuf;

use ferry_engine::{EngineOptions, RegistryOptions, ServerTls};
use ferry_keeper::KeeperOptions;
use ferry_shim::launcher::LauncherOptions;

use crate::commands::engine::{
    EngineFlags, RegistryFlags, ServeFlags, engine_arguments, keeper_options, placed,
};
use crate::failure::Failure;
use crate::flags::{self, Order};

/// Runs the process that `word` names; None when it names none.
pub fn run(word: &str, rest: &[OsString]) -> Option<i32> {
    let result = match word {
        "runtime" => return Some(ferry_oci_cli::run("ferry", rest)),
        "keeper" => keeper(rest.to_vec()),
        "launcher" => launcher(rest),
        "engine-worker" => engine(rest),
        "engine" if rest.first().is_some_and(|verb| verb == "run") && !asks_for_help(rest) => {
            foreground(&rest[1..])
        }
        _ => return None,
    };
    Some(result.unwrap_or_else(|reason| {
        eprintln!("ferry {word}: {reason}");
        1
    }))
}

/// What `dockerd` with these words means: `ferry engine run`, or the version.
pub fn as_dockerd(words: Vec<OsString>) -> Vec<OsString> {
    match words.as_slice() {
        [word] if word == "--version" || word == "-v" => words,
        _ => ["engine", "run"].into_iter().map(OsString::from).chain(words).collect(),
    }
}

fn asks_for_help(words: &[OsString]) -> bool {
    words.iter().any(|word| word == "--help" || word == "-h")
}

/// `engine run` as people type it: the flags of the command line, in its grammar.
fn foreground(rest: &[OsString]) -> Result<i32, String> {
    let words = rest.iter().map(|word| word.to_string_lossy().into_owned()).collect();
    let (words, notes) = crate::dockerd::translate(words);
    for note in notes {
        eprintln!("note: {note}");
    }
    let parsed = flags::parse::<(EngineFlags, (RegistryFlags, ServeFlags))>(words, Order::Interspersed)
        .map_err(|error| error.to_string())?;
    if let Some(word) = parsed.arguments.first() {
        return Err(format!("unexpected argument {word:?}"));
    }
    let (flags, given) = parsed.flags;
    let engine_args = engine_arguments(&given).map_err(failure_text)?;
    let places = placed(&flags, &given.0).map_err(failure_text)?;
    let options = KeeperOptions { foreground: true, engine_args, ..keeper_options(&places) };
    ferry_keeper::run(&options).map_err(|error| error.to_string())
}

fn failure_text(failure: Failure) -> String {
    std::iter::once(failure.message).chain(failure.causes).collect::<Vec<_>>().join(": ")
}

fn keeper(rest: Vec<OsString>) -> Result<i32, String> {
    let options = KeeperOptions::parse(rest).map_err(|error| error.to_string())?;
    ferry_keeper::run(&options).map_err(|error| error.to_string())
}

fn launcher(rest: &[OsString]) -> Result<i32, String> {
    let [flag, run_root] = rest else { return Err("wants --run-root DIR".into()) };
    if flag != "--run-root" {
        return Err(format!("unknown argument {flag:?}"));
    }
    let options = LauncherOptions { run_root: PathBuf::from(run_root), listen_fd: None };
    ferry_shim::launcher::run(&options).map_err(|error| error.to_string())
}

fn engine(rest: &[OsString]) -> Result<i32, String> {
    let options = KeeperOptions::parse(rest.to_vec()).map_err(|error| error.to_string())?;
    let given = EngineArguments::parse(&options.engine_args)?;
    let mut listen_fds = Vec::new();
    let mut copies = Vec::new();
    for fd in listening_sockets()? {
        let failed = |error: std::io::Error| format!("socket {fd}: {error}");
        let socket = ferry_sys::descriptor::inherited(fd).map_err(|error| failed(error.into()))?;
        copies.push(socket.try_clone().map_err(failed)?);
        listen_fds.push(socket.into_raw_fd());
    }
    if !copies.is_empty() {
        ferry_keeper::guard_keeper(options.clone(), copies).map_err(|error| error.to_string())?;
    }
    let warnings =
        std::fs::read_to_string(options.run_root.join(ferry_keeper::ROOTLESS_WARNINGS)).unwrap_or_default();
    let options = EngineOptions {
        warnings: warnings.lines().map(str::to_owned).collect(),
        data_root: options.data_root,
        run_root: options.run_root,
        hosts: options.hosts,
        tls: given.tls.options(),
        listen_fds,
        publish_address: given.publish_address,
        publish_through_input_policy: given.publish_through_input_policy,
        names_file: given.names_file,
        registries: given.registries,
    };
    ferry_engine::run(options).map_err(|error| format!("{error:#}"))
}

/// What stands behind `--` on an engine's command line.
#[derive(Debug, Default, PartialEq, Eq)]
struct EngineArguments {
    /// `--ip ADDRESS`: where ports without an address are published.
    publish_address: Option<IpAddr>,
    /// `--publish-by-input-policy`: published ports obey the host's own firewall.
    publish_through_input_policy: bool,
    /// `--names-in FILE`: where the host reads containers' names.
    names_file: Option<PathBuf>,
    /// `--tlscert`, `--tlskey`, and `--tlscacert` where clients must show a certificate.
    tls: TlsFiles,
    /// `--config-file`, `--registry-mirror`, `--insecure-registry`, `--registry-timeout`.
    registries: RegistryOptions,
}

/// Files of TLS as they stand in an engine's arguments.
#[derive(Debug, Default, PartialEq, Eq)]
struct TlsFiles {
    authorities: Option<PathBuf>,
    certificate: Option<PathBuf>,
    key: Option<PathBuf>,
}

impl TlsFiles {
    fn options(self) -> Option<ServerTls> {
        let (certificate, key) = self.certificate.zip(self.key)?;
        Some(ServerTls { authorities: self.authorities, certificate, key })
    }
}

impl EngineArguments {
    fn parse(arguments: &[OsString]) -> Result<Self, String> {
        let mut found = Self::default();
        let mut words = arguments.iter();
        while let Some(word) = words.next() {
            let mut value = |flag: &str| match words.next().and_then(|value| value.to_str()) {
                Some(value) => Ok(value.to_owned()),
                None => Err(format!("{flag} needs a value")),
            };
            match word.to_str() {
                Some("--ip") => {
                    let text = value("--ip")?;
                    let parsed: IpAddr = text.parse().map_err(|_| format!("--ip {text} is no IP address"))?;
                    found.publish_address = (!parsed.is_unspecified()).then_some(parsed);
                }
                Some(flag @ "--names-in") => found.names_file = Some(value(flag)?.into()),
                Some(flag @ "--tlscacert") => found.tls.authorities = Some(value(flag)?.into()),
                Some(flag @ "--tlscert") => found.tls.certificate = Some(value(flag)?.into()),
                Some(flag @ "--tlskey") => found.tls.key = Some(value(flag)?.into()),
                Some("--publish-by-input-policy") => found.publish_through_input_policy = true,
                Some(flag @ "--config-file") => found.registries.config_file = Some(value(flag)?.into()),
                Some(flag @ "--registry-mirror") => found.registries.mirrors.push(value(flag)?),
                Some(flag @ "--insecure-registry") => found.registries.insecure.push(value(flag)?),
                Some(flag @ "--setting") => found.registries.given.push(value(flag)?),
                Some(flag @ "--registry-timeout") => {
                    let text = value(flag)?;
                    let seconds =
                        text.parse().map_err(|_| format!("{flag} {text} is no number of seconds"))?;
                    found.registries.timeout = Some(seconds);
                }
                _ => return Err(format!("unknown engine argument {word:?}")),
            }
        }
        Ok(found)
    }
}

/// The sockets that the keeper hands down.
fn listening_sockets() -> Result<Vec<RawFd>, String> {
    let Ok(text) = std::env::var("FERRY_LISTEN_FD") else { return Ok(Vec::new()) };
    let numbers = text.split(',').filter(|number| !number.is_empty());
    numbers
        .map(|number| number.parse().map_err(|_| format!("FERRY_LISTEN_FD={text} is no list of numbers")))
        .collect()
}
