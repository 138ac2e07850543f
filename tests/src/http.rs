//! A client as bare as can be: it writes what it is told and reads what comes, so that nothing an engine sends is hidden.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use serde_json::Value;

use crate::engine::{Engine, patience};
use crate::schema;

/// An answer.
pub struct Answer {
    /// Its status.
    pub status: u16,
    /// Its head, as it came.
    pub head: String,
    /// Its body, without chunks.
    pub body: Vec<u8>,
}

impl Answer {
    /// The body as JSON.
    ///
    /// # Panics
    /// Where it is none.
    #[must_use]
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }

    /// The body as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// A connection to the engine's socket.
///
/// # Panics
/// Where nobody listens.
#[must_use]
#[track_caller]
pub fn connect(engine: &Engine) -> UnixStream {
    let host = engine.host();
    let stream = UnixStream::connect(host.trim_start_matches("unix://")).expect("the engine listens");
    stream.set_read_timeout(Some(patience())).expect("a timeout");
    stream
}

/// Asks with headers (`Name: value` lines) and a JSON body, and reads to the end.
///
/// # Panics
/// Where the answer is no HTTP, or does not fit the schema of the Engine API.
#[must_use]
#[track_caller]
pub fn ask_with(engine: &Engine, request: &str, headers: &[&str], body: Option<&Value>) -> Answer {
    let mut stream = connect(engine);
    let headers = [headers, &["Connection: close"]].concat();
    send(&mut stream, request, &headers, body);
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("an answer");
    let answer = parse(&bytes);
    // Docker's Python SDK is answered with what it reads beside what the version has.
    let plain = !headers.iter().any(|header| header.starts_with("User-Agent: docker-sdk-python"));
    schema::must_fit(request, answer.status, &answer.head, &answer.body, plain);
    answer
}

/// Asks `METHOD PATH`, with a body where there is one.
///
/// # Panics
/// Where the answer is no HTTP.
#[must_use]
#[track_caller]
pub fn ask(engine: &Engine, request: &str, body: Option<&Value>) -> Answer {
    ask_with(engine, request, &[], body)
}

/// Writes a request and leaves the answer to the caller.
///
/// # Panics
/// Where the engine hangs up.
#[track_caller]
pub fn send(stream: &mut UnixStream, request: &str, headers: &[&str], body: Option<&Value>) {
    let body = body.map(Value::to_string).unwrap_or_default();
    let mut text = format!("{request} HTTP/1.1\r\nHost: docker\r\n");
    for header in headers {
        text.push_str(header);
        text.push_str("\r\n");
    }
    if !body.is_empty() || request.starts_with("POST") {
        text.push_str(&format!("Content-Type: application/json\r\nContent-Length: {}\r\n", body.len()));
    }
    stream.write_all(format!("{text}\r\n{body}").as_bytes()).expect("the engine reads");
}

/// Everything up to the end of what an attached client gets.
///
/// # Panics
/// Where the stream breaks.
#[must_use]
#[track_caller]
pub fn rest(stream: &mut UnixStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("the rest of the stream");
    bytes
}

/// What one look at the socket gives, after a pause in which the engine may send more.
///
/// # Panics
/// Where nothing comes.
#[must_use]
#[track_caller]
pub fn first_read(stream: &mut UnixStream) -> Vec<u8> {
    // The other side has to run into the unread head; there is no other sign of it from here.
    std::thread::sleep(Duration::from_millis(300));
    let mut bytes = vec![0; 64 * 1024];
    let count = stream.read(&mut bytes).expect("the head of the answer");
    bytes.truncate(count);
    bytes
}

#[track_caller]
fn parse(bytes: &[u8]) -> Answer {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    let raw = &bytes[end + 4..];
    let chunked = head.to_lowercase().contains("transfer-encoding: chunked");
    let body = if chunked { dechunk(raw) } else { raw.to_vec() };
    Answer { status, head, body }
}

fn dechunk(mut raw: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = raw.windows(2).position(|two| two == b"\r\n") {
        let size =
            std::str::from_utf8(&raw[..end]).ok().and_then(|hex| usize::from_str_radix(hex.trim(), 16).ok());
        let Some(size) = size.filter(|size| *size > 0 && raw.len() >= end + 2 + size) else { break };
        body.extend_from_slice(&raw[end + 2..end + 2 + size]);
        raw = raw.get(end + 4 + size..).unwrap_or_default();
    }
    body
}
