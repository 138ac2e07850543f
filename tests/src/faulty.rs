//! A registry that misbehaves as told: HTTP/1.1 over plain TCP, a thread per connection, one small image.
//!
//! What it answers is up to a closure per test, which starts from the right answer ([`Image::answer`]) and spoils it.
//! Every request is remembered, so that tests see what was asked for and which proofs were shown.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;
use sha2::{Digest as _, Sha256};

const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// One request as it came, without its body.
#[derive(Debug, Clone)]
pub struct Request {
    /// `GET`, `HEAD` or another.
    pub method: String,
    /// Path with query.
    pub path: String,
    /// Headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Request {
    /// A header's value.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    /// First byte of a `Range`.
    #[must_use]
    pub fn range_start(&self) -> Option<usize> {
        let range = self.header("range")?.strip_prefix("bytes=")?;
        range.split('-').next()?.parse().ok()
    }

    /// Last byte of a `Range`, where it names one.
    #[must_use]
    pub fn range_end(&self) -> Option<usize> {
        self.header("range")?.split_once('-')?.1.parse().ok()
    }
}

/// What is sent back.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    /// Status code; 0 to close the connection without a word.
    pub status: u16,
    /// Headers; the length is added unless it stands here.
    pub headers: Vec<(String, String)>,
    /// Body.
    pub body: Vec<u8>,
    /// Close the connection after so many bytes of the body.
    pub cut_after: Option<usize>,
    /// Stop after so many bytes of the body until [`Faulty::release`].
    pub stall_after: Option<usize>,
    /// Say nothing at all until [`Faulty::release`].
    pub silent: bool,
    /// Wait so long before each [`PACE_BYTES`] of the body, as a slow network does.
    pub pace: Option<Duration>,
}

/// Bytes that a paced answer sends at once.
pub const PACE_BYTES: usize = 64 << 10;

impl Answer {
    /// A bare answer.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self { status, ..Self::default() }
    }

    /// With a header in place of any other of that name.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    /// With this body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }
}

/// An image of one layer with one file of noise.
#[derive(Debug, Clone)]
pub struct Image {
    /// The layer's blob.
    pub layer: Vec<u8>,
    /// The config.
    pub config: Vec<u8>,
    /// The manifest.
    pub manifest: Vec<u8>,
}

/// `sha256:…` of bytes.
#[must_use]
pub fn digest(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

impl Image {
    /// An image whose file has so many bytes; `seed` makes it differ from others.
    ///
    /// # Panics
    /// Never: it is made in memory.
    #[must_use]
    pub fn new(seed: u64, size: usize) -> Self {
        let mut state = seed | 1;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()
        })
        .flatten()
        .take(size)
        .collect();
        let mut archive = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(size as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, "noise", &noise[..]).expect("in memory");
        let tar = archive.into_inner().expect("in memory");
        let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
        gzip.write_all(&tar).expect("in memory");
        let layer = gzip.finish().expect("in memory");
        let config = json!({
            "architecture": "amd64", "os": "linux", "config": { "Labels": { "seed": seed.to_string() } },
            "rootfs": { "type": "layers", "diff_ids": [digest(&tar)] },
        });
        let mut image = Self { layer, config: config.to_string().into_bytes(), manifest: Vec::new() };
        image.manifest = image.describe(image.layer.len());
        image
    }

    /// A manifest that announces this size for the layer.
    #[must_use]
    pub fn describe(&self, layer_size: usize) -> Vec<u8> {
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST,
            "config": { "mediaType": "application/vnd.oci.image.config.v1+json", "digest": digest(&self.config), "size": self.config.len() },
            "layers": [{ "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip", "digest": digest(&self.layer), "size": layer_size }],
        });
        manifest.to_string().into_bytes()
    }

    /// Whether a request is for the layer.
    #[must_use]
    pub fn is_layer(&self, request: &Request) -> bool {
        request.path.ends_with(&digest(&self.layer))
    }

    /// The right answer.
    #[must_use]
    pub fn answer(&self, request: &Request) -> Answer {
        let path = request.path.as_str();
        if path == "/v2/" {
            return Answer::status(200);
        }
        if path.contains("/manifests/") {
            let answer = Answer::status(200).with("Content-Type", MANIFEST);
            return answer.with("Docker-Content-Digest", digest(&self.manifest)).body(self.manifest.clone());
        }
        let blob = [&self.layer, &self.config].into_iter().find(|blob| path.ends_with(&digest(blob)));
        let Some(blob) = blob else { return Answer::status(404) };
        match request.range_start() {
            Some(start) if start < blob.len() => {
                let end = request.range_end().map_or(blob.len() - 1, |end| end.min(blob.len() - 1));
                let range = format!("bytes {start}-{end}/{}", blob.len());
                Answer::status(206).with("Content-Range", range).body(&blob[start..=end])
            }
            _ => Answer::status(200).with("Accept-Ranges", "bytes").body(blob.clone()),
        }
    }
}

/// A running server.
pub struct Faulty {
    /// `127.0.0.1:PORT`.
    pub address: String,
    shared: Arc<Shared>,
}

type Handler = Box<dyn Fn(&Request) -> Answer + Send + Sync>;

struct Shared {
    handler: Handler,
    requests: Mutex<Vec<Request>>,
    released: AtomicBool,
    ended: AtomicBool,
}

impl Faulty {
    /// Starts a server that answers as the closure says.
    ///
    /// # Panics
    /// Where there is no free port.
    #[must_use]
    pub fn start(handler: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address").to_string();
        let shared = Arc::new(Shared {
            handler: Box::new(handler),
            requests: Mutex::default(),
            released: AtomicBool::new(false),
            ended: AtomicBool::new(false),
        });
        let serving = Arc::clone(&shared);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if serving.ended.load(Ordering::SeqCst) {
                    return;
                }
                let shared = Arc::clone(&serving);
                // A client that breaks off is none of the server's business.
                thread::spawn(move || shared.serve(stream).ok());
            }
        });
        Self { address, shared }
    }

    /// Lets stalled answers go on.
    pub fn release(&self) {
        self.shared.released.store(true, Ordering::SeqCst);
    }

    /// All requests so far.
    ///
    /// # Panics
    /// Where a handler panicked.
    #[must_use]
    pub fn requests(&self) -> Vec<Request> {
        self.shared.requests.lock().expect("no handler panicked").clone()
    }
}

impl Drop for Faulty {
    fn drop(&mut self) {
        self.release();
        self.shared.ended.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        TcpStream::connect(&self.address).ok();
    }
}

impl Shared {
    fn serve(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut first = [0];
        // A TLS greeting: this server speaks plain HTTP.
        if stream.peek(&mut first)? == 1 && first[0] == 0x16 {
            return Ok(());
        }
        let mut reader = BufReader::new(stream.try_clone()?);
        while let Some(request) = read_request(&mut reader)? {
            self.requests.lock().expect("no handler panicked").push(request.clone());
            let answer = (self.handler)(&request);
            while answer.silent && !self.released.load(Ordering::SeqCst) {
                thread::sleep(Duration::from_millis(5));
            }
            if answer.status == 0 || !self.write(&stream, &request, &answer)? {
                return Ok(());
            }
        }
        Ok(())
    }

    /// False where the connection is to be closed.
    fn write(&self, mut stream: &TcpStream, request: &Request, answer: &Answer) -> std::io::Result<bool> {
        let mut head = format!("HTTP/1.1 {} Whatever\r\n", answer.status);
        for (name, value) in &answer.headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if !answer.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-length")) {
            head.push_str(&format!("Content-Length: {}\r\n", answer.body.len()));
        }
        stream.write_all(format!("{head}\r\n").as_bytes())?;
        if request.method == "HEAD" {
            return Ok(true);
        }
        if let Some(count) = answer.cut_after {
            stream.write_all(&answer.body[..count.min(answer.body.len())])?;
            return Ok(false);
        }
        if let Some(pace) = answer.pace {
            for piece in answer.body.chunks(PACE_BYTES) {
                thread::sleep(pace);
                stream.write_all(piece)?;
            }
            return Ok(true);
        }
        let pause = answer.stall_after.unwrap_or(0).min(answer.body.len());
        stream.write_all(&answer.body[..pause])?;
        while answer.stall_after.is_some() && !self.released.load(Ordering::SeqCst) {
            thread::sleep(Duration::from_millis(5));
        }
        stream.write_all(&answer.body[pause..])?;
        Ok(true)
    }
}

fn read_request(reader: &mut BufReader<TcpStream>) -> std::io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut words = line.split_whitespace();
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let mut request =
        Request { method: method.into(), path: path.into(), headers: Vec::new(), body: Vec::new() };
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        request.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    if request.header("transfer-encoding") == Some("chunked") {
        request.body = read_chunks(reader)?;
        return Ok(Some(request));
    }
    let length = request.header("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    request.body = vec![0; length];
    reader.read_exact(&mut request.body)?;
    Ok(Some(request))
}

/// A body whose length is told piece by piece (RFC 9112, section 7.1).
fn read_chunks(reader: &mut BufReader<TcpStream>) -> std::io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let length = usize::from_str_radix(line.trim(), 16).map_err(std::io::Error::other)?;
        let start = body.len();
        body.resize(start + length, 0);
        reader.read_exact(&mut body[start..])?;
        reader.read_line(&mut String::new())?;
        if length == 0 {
            return Ok(body);
        }
    }
}
