//! PyPI's `moto` in the place of an S3 service: real requests over HTTP, objects in its memory; ended on drop.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use crate::engine::patience;
use crate::images::cache;

/// One request at a time, so that a condition and the change it guards are one step, as with S3 itself. Ends when
/// nobody holds its standard input any longer.
const PROGRAM: &str = "
import os, sys, threading
from werkzeug.serving import make_server
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
app = DomainDispatcherApplication(create_backend_app)
lock = threading.Lock()
def one_by_one(environ, start):
    with lock:
        return app(environ, start)
server = make_server('127.0.0.1', 0, one_by_one, threaded=True, request_handler=MotoRequestHandler)
threading.Thread(target=lambda: (sys.stdin.read(), os._exit(0)), daemon=True).start()
print(server.port, flush=True)
server.serve_forever()
";

/// Who asks; the signature is not looked at.
const KEY: &str =
    "AWS4-HMAC-SHA256 Credential=key/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=none";

/// A running service with a bucket named `images`.
pub struct Moto {
    /// `http://127.0.0.1:PORT`.
    pub url: String,
    address: String,
    process: Child,
}

impl Moto {
    /// Starts one; None where it is not installed.
    ///
    /// # Panics
    /// Where it does not start.
    #[must_use]
    pub fn start() -> Option<Self> {
        let python = cache().join("moto/bin/python");
        if !python.exists() {
            eprintln!("SKIPPED: moto is not in {} ('cargo xtask test' brings it)", cache().display());
            return None;
        }
        let mut process = Command::new(python)
            .args(["-c", PROGRAM])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("python");
        let mut line = String::new();
        BufReader::new(process.stdout.take().expect("piped")).read_line(&mut line).expect("a port");
        let address = format!("127.0.0.1:{}", line.trim());
        let moto = Self { url: format!("http://{address}"), address, process };
        assert_eq!(moto.send("PUT", "/images", b"").0, 200);
        Some(moto)
    }

    /// Flags of a registry that keeps everything here.
    #[must_use]
    pub fn flags(&self) -> [&str; 4] {
        ["--s3-bucket", "images", "--s3-endpoint", &self.url]
    }

    /// Sends a request; gives status and body.
    ///
    /// # Panics
    /// Where there is no answer.
    #[must_use]
    pub fn send(&self, method: &str, target: &str, body: &[u8]) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).expect("connected");
        stream.set_read_timeout(Some(patience())).expect("a timeout");
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nAuthorization: {KEY}\r\nContent-Length: {}\r\n\r\n",
            self.address,
            body.len()
        );
        stream.write_all(&[head.as_bytes(), body].concat()).expect("sent");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("an answer");
        let text = String::from_utf8_lossy(&answer).into_owned();
        let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        (status, text.split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default())
    }

    /// Keys of all objects that begin so.
    #[must_use]
    pub fn keys(&self, prefix: &str) -> Vec<String> {
        let (_, text) = self.send("GET", &format!("/images?list-type=2&prefix={prefix}"), b"");
        text.split("<Key>").skip(1).filter_map(|rest| Some(rest.split_once("</Key>")?.0.to_owned())).collect()
    }
}

impl Drop for Moto {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}
