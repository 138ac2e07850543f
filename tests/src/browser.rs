//! A headless Chromium, driven by its DevTools protocol: pages as people see them and keys as they press them.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::engine::{patience, wait_until};

/// The program, as Debian installs it.
const PROGRAM: &str = "/usr/bin/chromium";

/// A browser with one page; ended on drop.
pub struct Browser {
    process: Child,
    _profile: TempDir,
    stream: TcpStream,
    asked: u64,
}

impl Browser {
    /// Starts one on an empty page; None where Chromium is not installed.
    ///
    /// # Panics
    /// Where it does not start.
    #[must_use]
    pub fn start() -> Option<Self> {
        if !Path::new(PROGRAM).exists() {
            eprintln!("SKIPPED: {PROGRAM} is not installed (package chromium)");
            return None;
        }
        let profile = tempfile::Builder::new().prefix("ferry-browser-").tempdir().expect("a folder");
        let process = Command::new(PROGRAM)
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--no-proxy-server",
            ])
            .args(["--remote-debugging-port=0", "about:blank"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromium");
        let told = profile.path().join("DevToolsActivePort");
        let port = || fs::read_to_string(&told).ok()?.lines().next()?.parse::<u16>().ok();
        wait_until("the browser listens", || port().is_some());
        let address = format!("127.0.0.1:{}", port().expect("a port"));
        let mut page = None;
        wait_until("the browser has a page", || {
            page = first_page(&address);
            page.is_some()
        });
        let stream = talk_to(&address, &page.expect("a page"));
        Some(Self { process, _profile: profile, stream, asked: 0 })
    }

    /// Calls a method of the protocol and gives its result.
    ///
    /// # Panics
    /// Where the browser refuses.
    #[track_caller]
    pub fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.asked += 1;
        let text = json!({ "id": self.asked, "method": method, "params": parameters }).to_string();
        self.stream.write_all(&frame(text.as_bytes())).expect("sent to the browser");
        loop {
            let message: Value = serde_json::from_slice(&self.receive()).expect("JSON of the browser");
            if message["id"] == self.asked {
                assert!(message["error"].is_null(), "{method}: {message}");
                return message["result"].clone();
            }
        }
    }

    /// Evaluates a script in the page.
    ///
    /// # Panics
    /// Where it throws.
    #[track_caller]
    pub fn evaluate(&mut self, script: &str) -> Value {
        let parameters = json!({ "expression": script, "returnByValue": true, "awaitPromise": true });
        let result = self.call("Runtime.evaluate", parameters);
        assert!(result["exceptionDetails"].is_null(), "{script}: {result}");
        result["result"]["value"].clone()
    }

    /// Opens a page.
    #[track_caller]
    pub fn open(&mut self, url: &str) {
        self.call("Page.navigate", json!({ "url": url }));
    }

    /// Waits until a script's value is true.
    #[track_caller]
    pub fn wait_for(&mut self, script: &str) {
        wait_until(script, || self.evaluate(script) == json!(true));
    }

    /// Presses a key.
    #[track_caller]
    pub fn press(&mut self, key: &str, code: u32) {
        let text = match key {
            "Enter" => "\r",
            key if key.len() == 1 => key,
            _ => "",
        };
        for kind in ["keyDown", "keyUp"] {
            let mut event = json!({ "type": kind, "key": key, "windowsVirtualKeyCode": code });
            if kind == "keyDown" && !text.is_empty() {
                event["text"] = json!(text);
            }
            self.call("Input.dispatchKeyEvent", event);
        }
    }

    fn receive(&mut self) -> Vec<u8> {
        let mut message = Vec::new();
        loop {
            let mut head = [0; 2];
            self.stream.read_exact(&mut head).expect("a frame of the browser");
            let length = match head[1] & 0x7f {
                126 => {
                    let mut bytes = [0; 2];
                    self.stream.read_exact(&mut bytes).expect("a length");
                    u64::from(u16::from_be_bytes(bytes))
                }
                127 => {
                    let mut bytes = [0; 8];
                    self.stream.read_exact(&mut bytes).expect("a length");
                    u64::from_be_bytes(bytes)
                }
                short => u64::from(short),
            };
            let mut piece = vec![0; usize::try_from(length).expect("a length")];
            self.stream.read_exact(&mut piece).expect("a whole frame");
            message.extend(piece);
            if head[0] & 0x80 != 0 {
                return message;
            }
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// The path of the first page's conversation.
fn first_page(address: &str) -> Option<String> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(patience())).ok()?;
    let head = format!("GET /json/list HTTP/1.1\r\nHost: {address}\r\n\r\n");
    stream.write_all(head.as_bytes()).ok()?;
    let mut answer = Vec::new();
    let mut buffer = [0; 4096];
    // The browser keeps the connection, so the end is where the JSON is whole.
    loop {
        let count = stream.read(&mut buffer).ok()?;
        answer.extend_from_slice(&buffer[..count]);
        let text = String::from_utf8_lossy(&answer).into_owned();
        let pages =
            text.split_once("\r\n\r\n").and_then(|(_, body)| serde_json::from_str::<Value>(body).ok());
        if let Some(pages) = pages {
            let page = pages.as_array()?.iter().find(|page| page["type"] == "page")?;
            let url = page["webSocketDebuggerUrl"].as_str()?;
            return Some(format!("/{}", url.splitn(4, '/').nth(3)?));
        }
        if count == 0 {
            return None;
        }
    }
}

/// Opens a web socket (RFC 6455).
fn talk_to(address: &str, path: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).expect("connected to the browser");
    stream.set_read_timeout(Some(patience())).expect("a timeout");
    let head = format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).expect("sent to the browser");
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).expect("an answer of the browser");
        answer.push(byte[0]);
    }
    assert!(answer.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&answer));
    stream
}

/// A text frame; a client's frames are masked, by zeros here, since nobody is between us.
fn frame(text: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x81];
    match text.len() {
        short @ 0..=125 => bytes.push(0x80 | short as u8),
        long @ 126..=0xffff => {
            bytes.push(0x80 | 126);
            bytes.extend((long as u16).to_be_bytes());
        }
        long => {
            bytes.push(0x80 | 127);
            bytes.extend((long as u64).to_be_bytes());
        }
    }
    bytes.extend([0; 4]);
    bytes.extend(text);
    bytes
}
