//! Registries behind proxies, with and without TLS, with proof of who asks.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;

use ferry_tests::Engine;
use ferry_tests::faulty::{Faulty, Image};
use ferry_tests::registry::{Access, Registry, host_address};

use crate::Test;
use crate::transfer_auth::make_certificates;

/// The suite.
pub const TESTS: &[Test] = &[
    ("transfer_proxy::plain_http", plain_http),
    ("transfer_proxy::tunnels", tunnels),
    (
        "transfer_proxy::loopback_and_exceptions_are_asked_directly",
        loopback_and_exceptions_are_asked_directly,
    ),
];

/// `ann:s3cret` as a proxy is shown it.
const PROOF: &str = "proxy-authorization: Basic YW5uOnMzY3JldA==";

/// A proxy that knows one way, whatever it is asked for, and remembers the heads of requests.
pub struct Proxy {
    /// `127.0.0.1:PORT`.
    pub address: String,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Proxy {
    /// Starts one that leads to `target`.
    pub fn start(target: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let (kept, target) = (Arc::clone(&heads), target.to_owned());
        // Ends with the test's process.
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (kept, target) = (Arc::clone(&kept), target.clone());
                // A client that breaks off is none of the proxy's business.
                thread::spawn(move || serve(client, &target, &kept).ok());
            }
        });
        Self { address, heads }
    }

    /// Heads of requests so far.
    pub fn heads(&self) -> Vec<String> {
        self.heads.lock().expect("no thread panicked").clone()
    }

    /// Its address as a variable holds it, with what proves identity.
    fn variable(&self) -> String {
        format!("http://ann:s3cret@{}", self.address)
    }
}

fn serve(client: TcpStream, target: &str, kept: &Mutex<Vec<String>>) -> io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Ok(());
        }
    }
    kept.lock().expect("no thread panicked").push(head.clone());
    let mut server = TcpStream::connect(target)?;
    if head.starts_with("CONNECT ") {
        (&client).write_all(b"HTTP/1.1 200 Connected\r\n\r\n")?;
    } else {
        server.write_all(head.as_bytes())?;
    }
    let (mut to_server, mut from_server, mut to_client) = (server.try_clone()?, server, client);
    let back = thread::spawn(move || {
        io::copy(&mut from_server, &mut to_client).ok();
        to_client.shutdown(Shutdown::Both).ok();
    });
    io::copy(&mut reader, &mut to_server).ok();
    to_server.shutdown(Shutdown::Write).ok();
    back.join().ok();
    Ok(())
}

fn log_of(engine: &Engine) -> String {
    std::fs::read_to_string(engine.run_root().join("engine.log")).unwrap_or_default()
}

/// The name is known to the proxy alone.
fn plain_http() {
    let image = Image::new(401, 1000);
    let server = Faulty::start(move |request| image.answer(request));
    let proxy = Proxy::start(&server.address);
    let engine =
        Engine::start_in(&[("HTTP_PROXY", &proxy.variable())], &["--insecure-registry", "registry.test"]);
    engine.ferry(["pull", "registry.test/app:x"]).exits(0);
    let heads = proxy.heads();
    assert!(heads.iter().all(|head| head.to_lowercase().contains(&PROOF.to_lowercase())), "{heads:#?}");
    assert!(heads.iter().any(|head| head.contains("GET http://registry.test/v2/")), "{heads:#?}");
    let log = log_of(&engine);
    assert!(!log.contains("s3cret") && !log.contains("YW5uOnMzY3JldA"), "{log}");
}

fn tunnels() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (path, host): (&Path, String) = (folder.path(), host_address());
    make_certificates(path, &host);
    let (certificate, key) = (path.join("certificate.pem"), path.join("key.pem"));
    let registry = Registry::start(&Access::Tls { certificate, key, host, clients: None });
    let proxy = Proxy::start(&registry.address);
    let authority = path.join("ca.crt").display().to_string();
    let engine = Engine::start_in(
        &[("HTTPS_PROXY", &proxy.variable()), ("SSL_CERT_FILE", &authority), ("SSL_CERT_DIR", "/nowhere")],
        &[],
    );
    let archive = ferry_tests::images::archive("busybox").display().to_string();
    engine.ferry(["load", "-q", "-i", &archive]).exits(0);
    let name = format!("{}/tunnel:x", registry.address);
    engine.ferry(["tag", "busybox", &name]).exits(0);
    engine.ferry(["push", "-q", &name]).exits(0);
    let heads = proxy.heads();
    let start = format!("CONNECT {} ", registry.address);
    assert!(!heads.is_empty() && heads.iter().all(|head| head.starts_with(&start)), "{heads:#?}");
    assert!(heads.iter().all(|head| head.to_lowercase().contains(&PROOF.to_lowercase())), "{heads:#?}");
    assert!(!log_of(&engine).contains("s3cret"));
}

fn loopback_and_exceptions_are_asked_directly() {
    let image = Image::new(403, 1000);
    let server = Faulty::start(move |request| image.answer(request));
    let proxy = Proxy::start(&server.address);
    let engine = Engine::start_in(
        &[
            ("HTTP_PROXY", &proxy.variable()),
            ("HTTPS_PROXY", &proxy.variable()),
            ("NO_PROXY", ".direct.test"),
        ],
        &["--insecure-registry", "registry.direct.test"],
    );
    engine.ferry(["pull", &format!("{}/app:x", server.address)]).exits(0);
    let refused = engine.ferry(["pull", "registry.direct.test/app:x"]);
    refused.exits(1);
    assert!(!refused.stderr.contains("s3cret"), "{refused}");
    assert_eq!(proxy.heads(), Vec::<String>::new());
}
