//! What one run of the command line works with: the engine's client, the configuration file, the name it
//! was called by.

use std::cell::OnceCell;
use std::path::PathBuf;

use ferry_api::{Client, Host, TlsOptions};
use rustix::fs::Access;

use crate::cli::Globals;
use crate::commands::context::store::Store;
use crate::config_file::ConfigFile;
use crate::engine_process;
use crate::failure::Failure;

/// The engine's socket when nobody names another.
pub const DEFAULT_SOCKET: &str = "/run/ferry/ferry.sock";

/// One run of the command line.
pub struct Session {
    /// `ferry` or `docker`.
    pub called: &'static str,
    /// Print Docker's texts where scripts read them.
    pub docker_texts: bool,
    /// The words that named the command: `container ls`.
    pub path: String,
    globals: Globals,
    client: OnceCell<Client>,
    config: OnceCell<ConfigFile>,
}

/// Where the engine is, and who said so.
pub struct Target {
    /// The address.
    pub host: Host,
    /// What named it; None for the default, the only one where an engine is started.
    pub named_by: Option<String>,
    /// TLS at a TCP address.
    pub tls: Option<TlsOptions>,
}

impl Session {
    /// A session of the program `called`.
    pub fn new(called: &'static str, docker_texts: bool) -> Session {
        Session {
            called,
            docker_texts,
            path: String::new(),
            globals: Globals::default(),
            client: OnceCell::new(),
            config: OnceCell::new(),
        }
    }

    /// Takes the flags before the command.
    pub fn set_globals(&mut self, globals: Globals) {
        self.globals = globals;
    }

    /// A client of the engine; starts one where nothing answers at the default socket.
    pub async fn engine(&self) -> Result<&Client, Failure> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let target = self.target()?;
        let client = engine_process::reach(target).await?;
        if let Some(version) = environment("DOCKER_API_VERSION") {
            client.set_version(version.trim_start_matches('v'));
        }
        client.set_headers(self.config().headers()?);
        Ok(self.client.get_or_init(|| client))
    }

    /// Where the engine is.
    pub fn target(&self) -> Result<Target, Failure> {
        let tls = self.tls();
        let parse = |text: &str, source: String| {
            let host = Host::parse_for(text, tls.is_some()).map_err(|error| {
                Failure::from_error(&error)
                    .hint(format!("{source} names it; 'unix:///run/ferry/ferry.sock' is a usable address"))
            })?;
            let tls = tls.clone().filter(|_| matches!(host, Host::Tcp(_)));
            Ok(Target { host, named_by: Some(source), tls })
        };
        if let [host] = self.globals.host.as_slice() {
            return parse(host, "--host".into());
        }
        if self.globals.host.len() > 1 {
            return Err(Failure::new("specify only one --host"));
        }
        for name in ["FERRY_HOST", "DOCKER_HOST"] {
            if self.globals.context.is_none()
                && let Some(host) = environment(name)
            {
                return parse(&host, name.into());
            }
        }
        let config = self.config();
        let context = self.globals.context.clone().or_else(|| environment("DOCKER_CONTEXT"));
        let context = context.unwrap_or_else(|| config.current_context.clone());
        if context.is_empty() || context == "default" {
            return Ok(Target { host: Host::Unix(default_socket()), named_by: None, tls: None });
        }
        let store = Store::new(&config.directory);
        if !store.has(&context) {
            return Err(Failure::new(format!("context {context:?} does not exist"))
                .hint("choose one of 'docker context ls', or unset DOCKER_CONTEXT"));
        }
        self.context_target(&store, &context)
    }

    /// Where a context says that the engine is; its certificates count unless flags name others.
    fn context_target(&self, store: &Store, name: &str) -> Result<Target, Failure> {
        let context = store.load(name)?;
        if context.host.is_empty() {
            return Ok(Target { host: Host::Unix(default_socket()), named_by: None, tls: None });
        }
        let folder = store.tls_folder(name).join("docker");
        let file = |name: &str| Some(folder.join(name)).filter(|path| path.exists());
        let own = (context.skip_tls_verify || !context.tls.is_empty()).then(|| TlsOptions {
            authorities: file("ca.pem"),
            certificate: file("cert.pem").zip(file("key.pem")),
            verify: !context.skip_tls_verify,
            any_name: self.globals.skip_hostname_check,
        });
        let tls = self.tls().or(own);
        let host = Host::parse_for(&context.host, tls.is_some()).map_err(|error| {
            Failure::from_error(&error).hint(format!("'context update {name} --docker host=...' mends it"))
        })?;
        let tls = tls.filter(|_| matches!(host, Host::Tcp(_)));
        Ok(Target { host, named_by: Some(format!("the context {name:?}")), tls })
    }

    /// The context that `--context` names.
    pub fn asked_context(&self) -> Option<&str> {
        self.globals.context.as_deref()
    }

    /// The address that `--host` names.
    pub fn asked_host(&self) -> Option<&str> {
        self.globals.host.first().map(String::as_str)
    }

    /// TLS as flags and environment ask for it. Files that nobody named count only where they are there.
    fn tls(&self) -> Option<TlsOptions> {
        let globals = &self.globals;
        let verify = globals.tlsverify || environment("DOCKER_TLS_VERIFY").is_some();
        if !verify && !globals.tls && environment("DOCKER_TLS").is_none() {
            return None;
        }
        let folder = crate::config_file::certificate_folder();
        let file = |named: &Option<String>, name: &str| match named {
            Some(path) => Some(PathBuf::from(path)).filter(|_| !path.is_empty()),
            None => Some(folder.join(name)).filter(|path| path.exists()),
        };
        Some(TlsOptions {
            authorities: file(&globals.tlscacert, "ca.pem"),
            certificate: file(&globals.tlscert, "cert.pem").zip(file(&globals.tlskey, "key.pem")),
            verify,
            any_name: globals.skip_hostname_check,
        })
    }

    /// The client's configuration file, read at first use.
    pub fn config(&self) -> &ConfigFile {
        self.config.get_or_init(|| ConfigFile::load(self.globals.config.as_deref()))
    }
}

/// A variable of the environment that is set and not empty.
pub fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// The default socket: the machine's engine where we may talk to it, else one of this user.
pub fn default_socket() -> PathBuf {
    let machine = PathBuf::from(DEFAULT_SOCKET);
    if rustix::process::geteuid().is_root()
        || rustix::fs::access(&machine, Access::READ_OK | Access::WRITE_OK).is_ok()
    {
        return machine;
    }
    user_run_folder().join("ferry/ferry.sock")
}

/// Where sockets of this user lie: `XDG_RUNTIME_DIR`, also where a login by other means (`su`) did not set it; else
/// a folder that only this user may enter.
fn user_run_folder() -> PathBuf {
    let of_session = PathBuf::from(format!("/run/user/{}", rustix::process::geteuid().as_raw()));
    let state = || {
        let home = environment("HOME").unwrap_or_else(|| "/".into());
        environment("XDG_STATE_HOME").map_or_else(|| PathBuf::from(home).join(".local/state"), PathBuf::from)
    };
    environment("XDG_RUNTIME_DIR")
        .map(PathBuf::from)
        .or_else(|| Some(of_session).filter(|path| path.is_dir()))
        .unwrap_or_else(state)
}
