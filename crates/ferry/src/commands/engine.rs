//! `engine run/start/stop/status/restart/install/uninstall`: this machine's engine.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command as Process;
use std::time::Duration;

use ferry_api::Host;
use ferry_engine::RegistryOptions;
use ferry_engine::ServerTls;
use ferry_engine::registries::RegistriesError;
use ferry_keeper::client::{self, AskError};
use ferry_keeper::{KeeperOptions, ensure_running};

use crate::cli::Command;
use crate::command;
use crate::engine_process::{default_options, ensure_started, start_failure};
use crate::failure::{Failure, Outcome};
use crate::flags::NoFlags;
use crate::output;
use crate::service::{self, UNIT_PATH};
use crate::session::{Session, default_socket};

crate::flags! {
    /// Which engine.
    pub struct EngineFlags {
        data_root: Option<String> = '-' "data-root" <dir> "Where images, containers and volumes are kept (default \"/var/lib/ferry\")";
        host: Vec<String> = 'H' "host" <list> "Where the API is served (default \"unix:///run/ferry/ferry.sock\")";
        run_root: Option<String> = '-' "run-root" <dir> "Where sockets and pid files are kept (default \"/run/ferry\")";
    }
}

crate::flags! {
    /// What an engine is told about registries.
    pub struct RegistryFlags {
        config_file: Option<String> = '-' "config-file" <string> "Settings in Docker's form (default: /etc/ferry/daemon.json, else /etc/docker/daemon.json)";
        insecure_registry: Vec<String> = '-' "insecure-registry" <list> "Registries that may speak plain http or show any certificate";
        registry_mirror: Vec<String> = '-' "registry-mirror" <list> "Mirrors to ask first: URL for Docker Hub, DOMAIN=URL for any registry";
        setting: Vec<String> = '-' "setting" <list> "Settings of daemon.json: KEY=VALUE, as log-driver=local or dns=[\"9.9.9.9\"]";
        registry_timeout: Option<i64> = '-' "registry-timeout" <int> "Seconds that a registry may be silent (default 30 before an answer, 60 within one)";
    }
}

impl RegistryFlags {
    /// The same as the engine has them.
    fn options(&self) -> RegistryOptions {
        RegistryOptions {
            config_file: self.config_file.as_deref().map(absolute),
            mirrors: self.registry_mirror.clone(),
            insecure: self.insecure_registry.clone(),
            given: self.setting.clone(),
            timeout: self.registry_timeout.map(|seconds| u32::try_from(seconds).unwrap_or(0)),
        }
    }

    /// The same as arguments of an engine, checked: an engine in the background could only die of them.
    pub fn arguments(&self) -> Result<Vec<OsString>, RegistriesError> {
        let options = self.options();
        options.settings()?;
        options.build_budget()?;
        options.defaults()?;
        let mut arguments: Vec<OsString> = Vec::new();
        if let Some(path) = options.config_file {
            arguments.extend(["--config-file".into(), path.into_os_string()]);
        }
        for mirror in options.mirrors {
            arguments.extend(["--registry-mirror".into(), mirror.into()]);
        }
        for registry in options.insecure {
            arguments.extend(["--insecure-registry".into(), registry.into()]);
        }
        for setting in options.given {
            arguments.extend(["--setting".into(), setting.into()]);
        }
        if let Some(seconds) = options.timeout {
            arguments.extend(["--registry-timeout".into(), seconds.to_string().into()]);
        }
        Ok(arguments)
    }
}

crate::flags! {
    /// How an engine serves.
    pub struct ServeFlags {
        ip: String = '-' "ip" <address> "Host address of ports that are published without one (default every address)";
        names_in: String = '-' "names-in" <file> "Keep NAME.ferry.localhost of every running container in this file (usually /etc/hosts)";
        tls: bool = '-' "tls" "Use TLS on tcp:// addresses; implied by --tlsverify";
        tlscacert: String = '-' "tlscacert" <string> "Trust certs signed only by this CA (default \"~/.docker/ca.pem\")";
        tlscert: String = '-' "tlscert" <string> "Path to TLS certificate file (default \"~/.docker/cert.pem\")";
        tlskey: String = '-' "tlskey" <string> "Path to TLS key file (default \"~/.docker/key.pem\")";
        tlsverify: bool = '-' "tlsverify" "Use TLS on tcp:// addresses and let in only clients with a certificate of the CA";
        publish_by_input_policy: bool = '-' "publish-by-input-policy" "Let published ports obey the host's own firewall (ufw, firewalld): the client's address is not kept then";
    }
}

impl ServeFlags {
    /// TLS as it is served; files that are not named are where Docker keeps them. Read once to tell early what is
    /// wrong with them.
    fn tls(&self) -> Result<Option<ServerTls>, Failure> {
        if !self.tls && !self.tlsverify {
            return Ok(None);
        }
        let file = |named: &str, name: &str| match named {
            "" => crate::config_file::certificate_folder().join(name),
            named => absolute(named),
        };
        let tls = ServerTls {
            authorities: self.tlsverify.then(|| file(&self.tlscacert, "ca.pem")),
            certificate: file(&self.tlscert, "cert.pem"),
            key: file(&self.tlskey, "key.pem"),
        };
        let checked = tls.acceptor().map_err(|error| {
            Failure::from_error(&error)
                .hint("name the files with --tlscacert, --tlscert and --tlskey, or put ca.pem, cert.pem and key.pem into DOCKER_CERT_PATH")
        });
        checked.map(|_| Some(tls))
    }

    /// The same as arguments of an engine, checked.
    fn arguments(&self) -> Result<Vec<OsString>, Failure> {
        let mut arguments: Vec<OsString> = Vec::new();
        if let Some(tls) = self.tls()? {
            arguments.extend(["--tlscert".into(), tls.certificate.into_os_string()]);
            arguments.extend(["--tlskey".into(), tls.key.into_os_string()]);
            if let Some(authorities) = tls.authorities {
                arguments.extend(["--tlscacert".into(), authorities.into_os_string()]);
            }
        }
        if !self.ip.is_empty() {
            if self.ip.parse::<std::net::IpAddr>().is_err() {
                return Err(Failure::new(format!("--ip {} is not an IP address", self.ip)));
            }
            arguments.extend(["--ip".into(), self.ip.clone().into()]);
        }
        if !self.names_in.is_empty() {
            arguments.extend(["--names-in".into(), absolute(&self.names_in).into()]);
        }
        if self.publish_by_input_policy {
            arguments.push("--publish-by-input-policy".into());
        }
        Ok(arguments)
    }
}

crate::flags! {
    /// Flags of `engine stop`.
    pub struct StopFlags {
        timeout: Option<i64> = 't' "timeout" <int> "Seconds the engine may take to finish what it is doing (default 10)";
    }
}

crate::flags! {
    /// Flags of `engine install`.
    pub struct InstallFlags {
        print: bool = '-' "print" "Only print the unit, for machines whose units are kept elsewhere";
    }
}

/// The table.
pub static COMMANDS: &[Command] = &[
    command!(
        ["engine run"],
        "[OPTIONS]",
        "Run the engine in the foreground",
        None,
        (EngineFlags, (RegistryFlags, ServeFlags)),
        run
    ),
    command!(
        ["engine start"],
        "[OPTIONS]",
        "Start the engine in the background, where none runs",
        None,
        (EngineFlags, (RegistryFlags, ServeFlags)),
        start
    ),
    command!(
        ["engine stop"],
        "[OPTIONS]",
        "Stop the engine; containers go on",
        None,
        (EngineFlags, StopFlags),
        stop
    ),
    command!(
        ["engine restart"],
        "[OPTIONS]",
        "Let a new engine take over, as after an upgrade; containers go on",
        None,
        EngineFlags,
        restart
    ),
    command!(["engine status"], "[OPTIONS]", "Show the engine's processes", None, EngineFlags, status),
    command!(
        ["engine install"],
        "[OPTIONS]",
        "Add a systemd unit that starts the engine at boot",
        None,
        InstallFlags,
        install
    ),
    command!(["engine uninstall"], "", "Remove the systemd unit", None, NoFlags, uninstall),
];

/// How long an engine may take to open its ports.
const PORT_PATIENCE: Duration = Duration::from_secs(20);
/// How long the engine may take to stop when nobody says otherwise.
const STOP_SECONDS: i64 = 10;

/// What a keeper is started with for these flags.
pub fn keeper_options(flags: &EngineFlags) -> KeeperOptions {
    let mut options = default_options(&Host::Unix(default_socket()));
    if let Some(root) = &flags.data_root {
        options.data_root = absolute(root);
    }
    if let Some(root) = &flags.run_root {
        options.run_root = absolute(root);
        if flags.host.is_empty() {
            options.hosts = vec![format!("unix://{}/ferry.sock", options.run_root.display())];
        }
    }
    if !flags.host.is_empty() {
        options.hosts.clone_from(&flags.host);
        // Engines of one keeper hand the local socket to each other: there is always one.
        if options.socket_path().is_none() {
            options.hosts.push(format!("unix://{}/ferry.sock", options.run_root.display()));
        }
    }
    options
}

/// The flags, with the addresses and the data root of the settings file where the flags name none.
pub fn placed(flags: &EngineFlags, registries: &RegistryFlags) -> Result<EngineFlags, Failure> {
    let (hosts, data_root) = registries.options().places().map_err(|error| Failure::from_error(&error))?;
    let twice = |key: &str, flag: &str, file: &str| {
        Err(Failure::new(format!(
            "the following directives are specified both as a flag and in the configuration file: {key}: (from flag: {flag}, from file: {file})"
        ))
        .hint("take one of them away"))
    };
    let mut placed = flags.clone();
    if let Some(root) = data_root {
        let root = root.display().to_string();
        match &flags.data_root {
            Some(flag) if *flag != root => return twice("data-root", flag, &root),
            _ => placed.data_root = Some(root),
        }
    }
    match (flags.host.is_empty(), hosts.is_empty()) {
        (_, true) => {}
        (true, false) => placed.host = hosts.into_iter().filter(|host| host != "fd://").collect(),
        (false, false) => return twice("hosts", &flags.host.join(","), &hosts.join(",")),
    }
    Ok(placed)
}

/// What the engine itself is told.
pub fn engine_arguments((registries, serve): &(RegistryFlags, ServeFlags)) -> Result<Vec<OsString>, Failure> {
    let mut arguments = registries.arguments().map_err(|error| Failure::from_error(&error))?;
    arguments.extend(serve.arguments()?);
    Ok(arguments)
}

/// A daemon has no folder of its own to count paths from.
fn absolute(path: &str) -> PathBuf {
    std::path::absolute(path).unwrap_or_else(|_| path.into())
}

/// Runs `engine run`: usually entered before there is a command line at all; here only behind global flags.
pub async fn run(
    _session: &Session,
    (flags, given): (EngineFlags, (RegistryFlags, ServeFlags)),
    _arguments: Vec<String>,
) -> Outcome {
    let flags = placed(&flags, &given.0)?;
    let options = KeeperOptions { foreground: false, ..keeper_options(&flags) };
    let words = options.arguments().into_iter().chain(engine_arguments(&given)?);
    let error = Process::new("/proc/self/exe").args(["engine", "run"]).args(words).exec();
    Err(Failure::from(error).context("cannot start the engine"))
}

/// Runs `engine start`.
pub async fn start(
    _session: &Session,
    (flags, given): (EngineFlags, (RegistryFlags, ServeFlags)),
    _arguments: Vec<String>,
) -> Outcome {
    let flags = placed(&flags, &given.0)?;
    let mut options = keeper_options(&flags);
    options.engine_args = engine_arguments(&given)?;
    for host in &options.hosts {
        Host::parse(host).map_err(|error| Failure::from_error(&error))?;
    }
    if client::status(&options.run_root).is_err() {
        refuse_taken_ports(&options)?;
    }
    let started = match options == default_options(&Host::Unix(default_socket())) {
        true => ensure_started(&options)?,
        false => ensure_running(&options).map_err(|error| start_failure(&error))?,
    };
    if started {
        wait_for_ports(&options, given.1.tls || given.1.tlsverify).await?;
    }
    let place = options.hosts.join(" and ");
    output::line(&match started {
        true => format!("The engine runs and answers at {place}"),
        false => format!("An engine answers at {place} already"),
    })?;
    Ok(0)
}

/// An address that another program listens at is told before anything is started.
fn refuse_taken_ports(options: &KeeperOptions) -> Result<(), Failure> {
    for host in &options.hosts {
        let Ok(Host::Tcp(tcp)) = Host::parse(host) else { continue };
        let Some(address) = tcp.address() else { continue };
        if let Err(error) = std::net::TcpListener::bind(address)
            && error.kind() == std::io::ErrorKind::AddrInUse
        {
            let port = address.port();
            return Err(Failure::from(error)
                .context(&format!("the engine cannot listen at {host}"))
                .hint(format!("name another port, or see who holds this one: ss -ltnp 'sport = :{port}'")));
        }
    }
    Ok(())
}

/// The local socket listens as soon as there is a keeper, ports do when there is an engine.
async fn wait_for_ports(options: &KeeperOptions, tls: bool) -> Result<(), Failure> {
    for host in &options.hosts {
        let Ok(Host::Tcp(tcp)) = Host::parse_for(host, tls) else { continue };
        let Some(mut address) = tcp.address() else { continue };
        if address.port() == 0 {
            continue;
        }
        if address.ip().is_unspecified() {
            address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
        }
        let deadline = std::time::Instant::now() + PORT_PATIENCE;
        while let Err(error) = tokio::net::TcpStream::connect(address).await {
            if std::time::Instant::now() > deadline {
                let log = options.run_root.join("engine.log");
                return Err(Failure::from(error)
                    .context(&format!("the engine does not listen at {host}"))
                    .hint(format!("read why in {}", log.display())));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
    Ok(())
}

/// Runs `engine stop`.
pub async fn stop(
    _session: &Session,
    (flags, stop): (EngineFlags, StopFlags),
    _arguments: Vec<String>,
) -> Outcome {
    let options = keeper_options(&flags);
    let seconds = stop.timeout.unwrap_or(STOP_SECONDS).max(0) as u64;
    client::stop(&options.run_root, Duration::from_secs(seconds))
        .map_err(|error| ask_failure(&error, &options))?;
    output::line("The engine has stopped; containers go on")?;
    Ok(0)
}

/// Runs `engine restart`.
pub async fn restart(_session: &Session, flags: EngineFlags, _arguments: Vec<String>) -> Outcome {
    let options = keeper_options(&flags);
    client::restart_engine(&options.run_root).map_err(|error| ask_failure(&error, &options))?;
    output::line("A new engine takes over; calls made meanwhile wait for it")?;
    Ok(0)
}

/// Runs `engine status`; exits with 3 where none runs, as service managers do.
pub async fn status(_session: &Session, flags: EngineFlags, _arguments: Vec<String>) -> Outcome {
    let options = keeper_options(&flags);
    let status = match client::status(&options.run_root) {
        Ok(status) => status,
        Err(error @ AskError::NotRunning(_)) => return Err(ask_failure(&error, &options).code(3)),
        Err(error) => return Err(ask_failure(&error, &options)),
    };
    let pid =
        |pid: Option<i32>| pid.map_or_else(|| "not running".to_owned(), |pid| format!("running, pid {pid}"));
    let text = format!(
        "engine    {}\nkeeper    {}\nlauncher  {}\nrestarts  {}\naddress   {}\ndata      {}\nrun       {}\nlog       {}\n",
        pid(status.engine_pid),
        pid(Some(status.keeper_pid)),
        pid(status.launcher_pid),
        status.engine_restarts,
        options.hosts.join(" "),
        options.data_root.display(),
        options.run_root.display(),
        options.run_root.join("engine.log").display(),
    );
    output::write(text.as_bytes())?;
    Ok(0)
}

fn ask_failure(error: &AskError, options: &KeeperOptions) -> Failure {
    let failure = Failure::from_error(error);
    match error {
        AskError::NotRunning(_) => failure.hint(format!(
            "start it with 'ferry engine start{}'",
            match options.run_root == Path::new(ferry_keeper::DEFAULT_RUN_ROOT) {
                true => String::new(),
                false => format!(" --run-root {}", options.run_root.display()),
            }
        )),
        _ => failure,
    }
}

/// Runs `engine install`.
pub async fn install(session: &Session, flags: InstallFlags, _arguments: Vec<String>) -> Outcome {
    let program =
        std::env::current_exe().map_err(|error| Failure::from(error).context("cannot find this program"))?;
    if flags.print {
        output::write(service::unit(&program).as_bytes())?;
        return Ok(0);
    }
    if !service::systemd_runs() {
        return Err(Failure::new(
            "systemd does not run on this machine, so there is nothing to add a unit to",
        )
        .hint(format!(
            "no set-up is needed: the first command starts the engine, or '{} engine start'",
            session.called
        )));
    }
    let failed = |error: io::Error| {
        Failure::from(error)
            .context(&format!("cannot write {UNIT_PATH}"))
            .hint("run as root: sudo ferry engine install")
    };
    fs::write(UNIT_PATH, service::unit(&program)).map_err(failed)?;
    service::systemctl(&["daemon-reload"])?;
    // An engine that a command started makes way for the service's, which finds its containers running.
    let options = default_options(&Host::Unix(default_socket()));
    client::stop(&options.run_root, Duration::from_secs(STOP_SECONDS as u64)).ok();
    service::systemctl(&["enable", "--now", service::UNIT])?;
    output::line(&format!("Wrote {UNIT_PATH}; the engine runs now and at every boot"))?;
    Ok(0)
}

/// Runs `engine uninstall`.
pub async fn uninstall(_session: &Session, _flags: NoFlags, _arguments: Vec<String>) -> Outcome {
    if !Path::new(UNIT_PATH).exists() {
        output::line("There is no unit to remove")?;
        return Ok(0);
    }
    if service::systemd_runs() {
        service::systemctl(&["disable", "--now", service::UNIT])?;
    }
    fs::remove_file(UNIT_PATH).map_err(|error| {
        Failure::from(error)
            .context(&format!("cannot remove {UNIT_PATH}"))
            .hint("run as root: sudo ferry engine uninstall")
    })?;
    if service::systemd_runs() {
        service::systemctl(&["daemon-reload"])?;
    }
    output::line(&format!("Removed {UNIT_PATH}; images, containers and volumes stay"))?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roots_and_addresses() {
        let flags = EngineFlags { run_root: Some("/tmp/x/run".into()), ..Default::default() };
        let options = keeper_options(&flags);
        assert_eq!(options.hosts, ["unix:///tmp/x/run/ferry.sock"]);
        assert!(
            service::unit(Path::new("/usr/local/bin/ferry"))
                .contains("ExecStart=/usr/local/bin/ferry engine run\n")
        );
    }
}
