//! Debian's docker-registry as a peer: on a loopback port of its own, storage in a temporary folder, ended on drop.

use std::fs;
use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::engine::wait_until;

/// A running registry.
pub struct Registry {
    /// `127.0.0.1:PORT`.
    pub address: String,
    root: TempDir,
    process: Child,
}

/// Who may use a registry.
pub enum Access {
    /// Everybody.
    Open,
    /// One user, by Basic authentication.
    User {
        /// Name.
        name: &'static str,
        /// Password.
        password: &'static str,
    },
    /// Everybody, over TLS with this certificate and key in PEM.
    Tls {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
        /// The host's address to listen on.
        host: String,
        /// The authority that must have signed the certificates of who comes; absent: anybody may come.
        clients: Option<PathBuf>,
    },
}

impl Registry {
    /// Starts a registry.
    ///
    /// # Panics
    /// Where it does not start.
    #[must_use]
    pub fn start(access: &Access) -> Self {
        let root = tempfile::Builder::new().prefix("ferry-registry-").tempdir().expect("a temporary folder");
        let host = match access {
            Access::Tls { host, .. } => host.as_str(),
            _ => "127.0.0.1",
        };
        // The port is free now; another program would have to take it within the next moments.
        let port =
            TcpListener::bind((host, 0)).and_then(|socket| socket.local_addr()).expect("a port").port();
        let address = format!("{host}:{port}");
        let tls = match access {
            Access::Tls { certificate, key, clients, .. } => {
                let clients = clients.as_ref().map(|path| format!(", clientcas: ['{}']", path.display()));
                let (certificate, key) = (certificate.display(), key.display());
                let clients = clients.unwrap_or_default();
                format!(", tls: {{certificate: '{certificate}', key: '{key}'{clients}}}")
            }
            _ => String::new(),
        };
        let mut config = format!(
            "version: 0.1\nlog: {{level: error}}\nstorage:\n  filesystem: {{rootdirectory: {0}/data}}\n  delete: {{enabled: true}}\nhttp: {{addr: '{address}'{tls}}}\n",
            root.path().display()
        );
        if let Access::User { name, password } = access {
            let file = root.path().join("htpasswd");
            fs::write(&file, htpasswd(name, password)).expect("a password file");
            config.push_str(&format!("auth:\n  htpasswd: {{realm: test, path: {}}}\n", file.display()));
        }
        let path = root.path().join("config.yml");
        fs::write(&path, config).expect("a config");
        let process = Command::new("docker-registry")
            .arg("serve")
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("docker-registry is installed");
        let registry = Self { address, root, process };
        wait_until("the registry listens", || TcpStream::connect(&registry.address).is_ok());
        registry
    }

    /// The folder where it keeps its blobs.
    #[must_use]
    pub fn storage(&self) -> PathBuf {
        self.root.path().join("data")
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// An address of this machine that is no loopback one: the one from which it would speak to the world.
///
/// # Panics
/// Where it has none.
#[must_use]
pub fn host_address() -> String {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").expect("a socket");
    // Nothing is sent; the kernel only chooses the way.
    socket.connect("192.0.2.1:9").expect("this machine has a default route");
    socket.local_addr().expect("an address").ip().to_string()
}

/// A line of an htpasswd file with a bcrypt hash, made by Apache's tool.
fn htpasswd(name: &str, password: &str) -> Vec<u8> {
    let mut child = Command::new("htpasswd")
        .args(["-niB", name])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("htpasswd of apache2-utils");
    child.stdin.take().expect("piped").write_all(password.as_bytes()).expect("written");
    child.wait_with_output().expect("it ends").stdout
}
