//! Ferry's own registry: on a loopback port, storage in a temporary folder, ended on drop; and HTTP by hand.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use crate::engine::{binary, patience, wait_until};

/// A running registry.
pub struct OwnRegistry {
    /// `127.0.0.1:PORT`.
    pub address: String,
    root: TempDir,
    flags: Vec<String>,
    variables: Vec<(String, String)>,
    process: Child,
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: Vec<u8>,
}

impl Answer {
    /// A header's value, empty where it is not there.
    #[must_use]
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(own, _)| own == name).map_or("", |(_, value)| value)
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    ///
    /// # Panics
    /// Where it is none.
    #[must_use]
    #[track_caller]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Asserts the status.
    #[track_caller]
    pub fn is(&self, status: u16) -> &Self {
        assert_eq!(self.status, status, "{:?} {}", self.headers, self.text());
        self
    }

    /// Asserts the status and the code of the error.
    #[track_caller]
    pub fn refuses(&self, status: u16, code: &str) -> &Self {
        self.is(status);
        assert_eq!(self.json()["errors"][0]["code"], code, "{}", self.text());
        self
    }
}

impl OwnRegistry {
    /// Starts one with further flags; `ROOT` in a flag is its folder.
    ///
    /// # Panics
    /// Where it does not start.
    #[must_use]
    pub fn start(flags: &[&str]) -> Self {
        let root =
            tempfile::Builder::new().prefix("ferry-own-registry-").tempdir().expect("a temporary folder");
        Self::start_in(root, flags)
    }

    /// Starts one with further flags, in this environment.
    ///
    /// # Panics
    /// Where it does not start.
    #[must_use]
    pub fn start_with(variables: &[(&str, &str)], flags: &[&str]) -> Self {
        let root =
            tempfile::Builder::new().prefix("ferry-own-registry-").tempdir().expect("a temporary folder");
        Self::begin(root, variables, flags)
    }

    /// Starts one over a folder that is there.
    ///
    /// # Panics
    /// Where it does not start.
    #[must_use]
    pub fn start_in(root: TempDir, flags: &[&str]) -> Self {
        Self::begin(root, &[], flags)
    }

    fn begin(root: TempDir, variables: &[(&str, &str)], flags: &[&str]) -> Self {
        // The port is free now; another program would have to take it within the next moments.
        let port = TcpListener::bind(("127.0.0.1", 0))
            .and_then(|socket| socket.local_addr())
            .expect("a port")
            .port();
        let address = format!("127.0.0.1:{port}");
        let flags: Vec<String> =
            flags.iter().map(|flag| flag.replace("ROOT", &root.path().to_string_lossy())).collect();
        let variables: Vec<_> =
            variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let process = spawn(&address, root.path(), &flags, &variables);
        let registry = Self { address, root, flags, variables, process };
        registry.wait();
        registry
    }

    fn wait(&self) {
        wait_until("the registry listens", || TcpStream::connect(&self.address).is_ok());
    }

    /// Its folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Ends it with SIGKILL and starts it again over the same folder and address.
    ///
    /// # Panics
    /// Where it does not start.
    pub fn kill_and_restart(&mut self) {
        self.process.kill().expect("it runs");
        self.process.wait().expect("it ends");
        self.process = spawn(&self.address, self.root.path(), &self.flags, &self.variables);
        self.wait();
    }

    /// Sends a request and reads the whole answer.
    #[must_use]
    #[track_caller]
    pub fn send(&self, method: &str, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let mut head =
            format!("{method} {target} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", self.address);
        if !headers.iter().any(|(name, _)| matches!(*name, "Content-Length" | "Transfer-Encoding")) {
            head.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        self.send_raw(method, &[head.as_bytes(), b"\r\n", body].concat())
    }

    /// Sends bytes as they are and reads the answer.
    ///
    /// # Panics
    /// Where there is none.
    #[must_use]
    #[track_caller]
    pub fn send_raw(&self, method: &str, bytes: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(&self.address).expect("connected");
        stream.set_read_timeout(Some(patience())).expect("a timeout");
        // A registry that refuses early does not read the rest; its answer is there all the same.
        let _ = stream.write_all(bytes);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        parse(method, &answer)
    }

    /// `GET`.
    #[must_use]
    #[track_caller]
    pub fn get(&self, target: &str) -> Answer {
        self.send("GET", target, &[], b"")
    }

    /// Pushes a blob in one request; gives its digest.
    #[track_caller]
    pub fn push_blob(&self, name: &str, bytes: &[u8]) -> String {
        let digest = sha256(bytes);
        self.send("POST", &format!("/v2/{name}/blobs/uploads/?digest={digest}"), &[], bytes).is(201);
        digest
    }

    /// Pushes a manifest of one config and these layers under a tag; gives its digest.
    #[track_caller]
    pub fn push_image(&self, name: &str, tag: &str, layers: &[&str], more: &str) -> String {
        let config = self.push_blob(name, b"{}");
        let manifest = image_manifest(&config, layers, more);
        let target = format!("/v2/{name}/manifests/{tag}");
        let answer = self.send("PUT", &target, &[("Content-Type", OCI_MANIFEST)], manifest.as_bytes());
        answer.is(201);
        assert_eq!(answer.header("docker-content-digest"), sha256(manifest.as_bytes()));
        sha256(manifest.as_bytes())
    }
}

impl Drop for OwnRegistry {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// The media type of image manifests.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// A manifest; `more` are further members, each with a comma in front.
#[must_use]
pub fn image_manifest(config: &str, layers: &[&str], more: &str) -> String {
    let layers: Vec<String> = layers
        .iter()
        .map(|digest| {
            format!(
                r#"{{"mediaType":"application/vnd.oci.image.layer.v1.tar","digest":"{digest}","size":1}}"#
            )
        })
        .collect();
    format!(
        r#"{{"schemaVersion":2,"mediaType":"{OCI_MANIFEST}","config":{{"mediaType":"application/vnd.test+json","digest":"{config}","size":2}},"layers":[{}]{more}}}"#,
        layers.join(",")
    )
}

/// `sha256:…` of bytes.
#[must_use]
pub fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    let hex: String = sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// `sha512:…` of bytes.
#[must_use]
pub fn sha512(bytes: &[u8]) -> String {
    use sha2::Digest as _;
    let hex: String = sha2::Sha512::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha512:{hex}")
}

fn spawn(address: &str, root: &Path, flags: &[String], variables: &[(String, String)]) -> Child {
    let log = fs::File::options().create(true).append(true).open(root.join("log")).expect("a log");
    Command::new(binary())
        .args(["registry", "serve", "--listen", address, "--root"])
        .arg(root.join("data"))
        .args(flags)
        .env("AWS_ACCESS_KEY_ID", "key")
        .env("AWS_SECRET_ACCESS_KEY", "secret")
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a log"))
        .stderr(log)
        .spawn()
        .expect("ferry")
}

#[track_caller]
fn parse(method: &str, bytes: &[u8]) -> Answer {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
    let end = end.unwrap_or_else(|| panic!("no answer to {method}: {:?}", String::from_utf8_lossy(bytes)));
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let mut lines = head.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)?.parse().ok()).expect("a status");
    let headers = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_lowercase(), value.to_owned()))
        .collect();
    Answer { status, headers, body: bytes[end + 4..].to_vec() }
}
