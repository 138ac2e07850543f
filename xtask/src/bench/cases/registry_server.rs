//! Ferry's registry as a server, beside Debian's docker-registry: bytes in and out, many clients, many repositories.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use sha2::{Digest as _, Sha256};

use super::Case;
use crate::bench::measure::{self, Figure};
use crate::bench::peers::Field;

const PEER: &str = "docker-registry";
const REGISTRIES: [&str; 2] = ["ferry", PEER];
const MB: usize = 1_000_000;
const LARGE: usize = 256 * MB;
const PULLED: usize = 100 * MB;
const REPOSITORIES: usize = 10_000;
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
const ROUNDS: u16 = 3;

/// The cases.
pub const CASES: &[Case] = &[
    Case {
        name: "registry: upload of a blob of 256 MB",
        unit: "MB/s",
        command: "POST and PUT of /v2/app/blobs/uploads/ over one connection",
        wanted: &[(PEER, 3.0)],
        limit: None,
        measure: upload,
    },
    Case {
        name: "registry: download of a blob of 256 MB",
        unit: "MB/s",
        command: "GET of /v2/app/blobs/DIGEST over one connection",
        wanted: &[(PEER, 1.0)],
        limit: None,
        measure: |field| download(field, |_, _, seconds| Ok(LARGE as f64 / MB as f64 / seconds)),
    },
    Case {
        name: "registry: processor time of that download",
        unit: "ms",
        command: "user and system time of the registry's process",
        wanted: &[(PEER, 0.5)],
        limit: None,
        measure: |field| download(field, |pid, before, _| Ok((processor_time(pid)? - before) * 1000.0)),
    },
    Case {
        name: "registry: memory under 8 uploads and 8 downloads of 100 MB",
        unit: "MiB",
        command: "largest resident size of the registry's process",
        wanted: &[(PEER, 0.25)],
        limit: None,
        measure: memory,
    },
    Case {
        name: "registry: 200 concurrent pulls of 100 MB",
        unit: "ms",
        command: "200 connections, each with one GET of a blob of 100 MB; any error fails",
        wanted: &[],
        limit: None,
        measure: concurrent_pulls,
    },
    Case {
        name: "registry: small manifests",
        unit: "GETs/s",
        command: "GET of /v2/app/manifests/latest over 8 connections that stay open",
        wanted: &[],
        limit: Some(10_000.0),
        measure: manifests,
    },
    Case {
        name: "registry: start with 10,000 repositories",
        unit: "ms",
        command: "from exec to the first answer",
        wanted: &[],
        limit: Some(100.0),
        measure: start,
    },
];

/// One of the two with a folder of its own; ends when dropped, with its folder.
struct Server {
    child: Child,
    port: u16,
    folder: PathBuf,
}

impl Server {
    fn start(field: &Field, who: &str, port: u16) -> Result<Self> {
        let folder = field.root.join(format!("registry-server-{port}"));
        fs::create_dir_all(&folder)?;
        let server = Self { child: spawn(field, who, port, &folder)?, port, folder };
        server.wait()?;
        Ok(server)
    }

    /// Until it answers.
    fn wait(&self) -> Result<()> {
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            if begun.elapsed() > Duration::from_secs(10) {
                bail!("nothing listens on port {}", self.port);
            }
            thread::sleep(Duration::from_millis(1));
        }
        match self.connect()?.ask("GET", "/v2/", "", &[])?.status {
            200 => Ok(()),
            other => bail!("/v2/ is answered with {other}"),
        }
    }

    fn connect(&self) -> Result<Connection> {
        let stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_nodelay(true)?;
        Ok(Connection(BufReader::with_capacity(1 << 20, stream)))
    }

    /// Pushes a blob; gives its path.
    fn push(&self, bytes: &[u8], digest: &str) -> Result<String> {
        let mut connection = self.connect()?;
        let begun = connection.ask("POST", "/v2/app/blobs/uploads/", "", &[])?;
        let place = begun.location.context("no Location")?;
        let path = place.find("/v2/").map_or(place.as_str(), |at| &place[at..]).to_owned();
        let mark = if path.contains('?') { '&' } else { '?' };
        let kind = "application/octet-stream";
        let put = connection.ask("PUT", &format!("{path}{mark}digest={digest}"), kind, bytes)?;
        if put.status != 201 {
            bail!("the upload is answered with {}", put.status);
        }
        Ok(format!("/v2/app/blobs/{digest}"))
    }

    fn pull(&self, path: &str, size: usize) -> Result<()> {
        let answer = self.connect()?.ask("GET", path, "", &[])?;
        if (answer.status, answer.length) != (200, size) {
            bail!("{path} is answered with {} and {} bytes", answer.status, answer.length);
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        fs::remove_dir_all(&self.folder).ok();
    }
}

fn spawn(field: &Field, who: &str, port: u16, folder: &std::path::Path) -> Result<Child> {
    let mut command = match who {
        "ferry" => {
            let program = field.command(who, &[]);
            let mut command = Command::new(&program[0]);
            command.args(["registry", "serve", "--quiet", "--sparse", "--listen"]);
            command.arg(format!("127.0.0.1:{port}")).arg("--root").arg(folder.join("data"));
            command
        }
        _ => {
            let file = folder.join("config.yml");
            let config = format!(
                "version: 0.1\nlog: {{level: error, accesslog: {{disabled: true}}}}\nstorage: {{filesystem: {{rootdirectory: {}}}}}\n\
                 http: {{addr: 127.0.0.1:{port}}}\n",
                folder.display()
            );
            fs::write(&file, config)?;
            let mut command = Command::new(PEER);
            command.arg("serve").arg(file);
            command
        }
    };
    let silent = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    silent.spawn().with_context(|| format!("cannot start {who}'s registry"))
}

/// A connection that stays open.
struct Connection(BufReader<TcpStream>);

/// What is measured of an answer.
struct Answer {
    status: u16,
    location: Option<String>,
    length: usize,
}

impl Connection {
    /// Sends a request, and reads the answer to its end without keeping it.
    fn ask(&mut self, method: &str, path: &str, kind: &str, body: &[u8]) -> Result<Answer> {
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: {MANIFEST}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        self.0.get_mut().write_all(head.as_bytes())?;
        self.0.get_mut().write_all(body)?;
        let mut answer = Answer { status: 0, location: None, length: 0 };
        let mut line = String::new();
        while self.0.read_line(&mut line)? > 2 {
            let text = line.trim_end();
            match text.split_once(": ").map(|(name, value)| (name.to_ascii_lowercase(), value)) {
                None => answer.status = text.split(' ').nth(1).unwrap_or_default().parse()?,
                Some((name, value)) if name == "location" => answer.location = Some(value.to_owned()),
                Some((name, value)) if name == "content-length" => answer.length = value.parse()?,
                Some(_) => {}
            }
            line.clear();
        }
        let mut left = answer.length;
        while left > 0 {
            let count = self.0.fill_buf()?.len().min(left);
            if count == 0 {
                bail!("{path} broke off {left} bytes before its end");
            }
            self.0.consume(count);
            left -= count;
        }
        Ok(answer)
    }
}

/// Bytes that do not shrink, and their digest.
fn random(size: usize) -> Result<(Vec<u8>, String)> {
    let mut bytes = vec![0; size];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    let digest = format!("sha256:{}", hex::encode(Sha256::digest(&bytes)));
    Ok((bytes, digest))
}

/// Seconds of user and system time of a process so far (proc(5), `stat`; a hundredth of a second each).
fn processor_time(pid: u32) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = text.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks = |at: usize| fields.get(at).context("a short stat").and_then(|text| Ok(text.parse::<f64>()?));
    Ok((ticks(11)? + ticks(12)?) / 100.0)
}

fn upload(field: &Field) -> Result<Vec<Figure>> {
    let (bytes, digest) = random(LARGE)?;
    let mut samples = [Vec::new(), Vec::new()];
    for round in 0..ROUNDS {
        for (index, who) in REGISTRIES.into_iter().enumerate() {
            let server = Server::start(field, who, 15_100 + round * 2 + u16::try_from(index)?)?;
            let begun = Instant::now();
            server.push(&bytes, &digest)?;
            samples[index].push((LARGE / MB) as f64 / begun.elapsed().as_secs_f64());
        }
    }
    REGISTRIES.into_iter().zip(samples).map(|(who, samples)| Figure::new(who, samples)).collect()
}

/// One figure for each download, from the process, its processor time before, and the seconds it took.
fn download(field: &Field, figure: fn(u32, f64, f64) -> Result<f64>) -> Result<Vec<Figure>> {
    let (bytes, digest) = random(LARGE)?;
    let mut figures = Vec::new();
    for (port, who) in (15_110..).zip(REGISTRIES) {
        let server = Server::start(field, who, port)?;
        let path = server.push(&bytes, &digest)?;
        let (pid, mut samples) = (server.child.id(), Vec::new());
        for _ in 0..ROUNDS {
            let (before, begun) = (processor_time(pid)?, Instant::now());
            server.pull(&path, LARGE)?;
            samples.push(figure(pid, before, begun.elapsed().as_secs_f64())?);
        }
        figures.push(Figure::new(who, samples)?);
    }
    Ok(figures)
}

fn memory(field: &Field) -> Result<Vec<Figure>> {
    let (bytes, digest) = random(PULLED)?;
    let mut figures = Vec::new();
    for (port, who) in (15_120..).zip(REGISTRIES) {
        let server = Server::start(field, who, port)?;
        let path = server.push(&bytes, &digest)?;
        let work = || {
            at_once(16, |number| match number % 2 {
                0 => server.push(&bytes, &digest).map(|_| ()),
                _ => server.pull(&path, PULLED),
            })
        };
        figures.push(Figure::new(who, vec![measure::peak_mib(&[server.child.id()], work)?])?);
    }
    Ok(figures)
}

/// Does the same on many threads; the first error is the result.
fn at_once(count: usize, act: impl Fn(usize) -> Result<()> + Sync) -> Result<()> {
    thread::scope(|scope| {
        let threads: Vec<_> = (0..count)
            .map(|number| {
                scope.spawn({
                    let act = &act;
                    move || act(number)
                })
            })
            .collect();
        let results = threads.into_iter().map(|thread| match thread.join() {
            Ok(result) => result,
            Err(_) => bail!("a client panicked"),
        });
        results.collect::<Vec<_>>().into_iter().collect()
    })
}

fn concurrent_pulls(field: &Field) -> Result<Vec<Figure>> {
    let (bytes, digest) = random(PULLED)?;
    let mut figures = Vec::new();
    for (port, who) in (15_130..).zip(REGISTRIES) {
        let server = Server::start(field, who, port)?;
        let path = server.push(&bytes, &digest)?;
        let begun = Instant::now();
        at_once(200, |_| server.pull(&path, PULLED))?;
        figures.push(Figure::new(who, vec![begun.elapsed().as_secs_f64() * 1000.0])?);
    }
    Ok(figures)
}

/// Pushes a manifest of an image that has no layers.
fn push_manifest(server: &Server, connection: &mut Connection, name: &str, config: &str) -> Result<()> {
    let text = format!(
        r#"{{"schemaVersion":2,"mediaType":"{MANIFEST}","config":{{"mediaType":"application/vnd.oci.image.config.v1+json","digest":"{config}","size":2}},"layers":[]}}"#
    );
    match connection.ask("PUT", &format!("/v2/{name}/manifests/latest"), MANIFEST, text.as_bytes())?.status {
        201 => Ok(()),
        other => bail!("port {}: a manifest of {name} is answered with {other}", server.port),
    }
}

fn manifests(field: &Field) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    let config = format!("sha256:{}", hex::encode(Sha256::digest(b"{}")));
    for (port, who) in (15_140..).zip(REGISTRIES) {
        let server = Server::start(field, who, port)?;
        server.push(b"{}", &config)?;
        push_manifest(&server, &mut server.connect()?, "app", &config)?;
        let mut samples = Vec::new();
        for _ in 0..ROUNDS {
            let begun = Instant::now();
            at_once(8, |_| {
                let mut connection = server.connect()?;
                for _ in 0..2_500 {
                    if connection.ask("GET", "/v2/app/manifests/latest", "", &[])?.status != 200 {
                        bail!("a manifest is not there");
                    }
                }
                Ok(())
            })?;
            samples.push(20_000.0 / begun.elapsed().as_secs_f64());
        }
        figures.push(Figure::new(who, samples)?);
    }
    Ok(figures)
}

fn start(field: &Field) -> Result<Vec<Figure>> {
    let mut server = Server::start(field, "ferry", 15_150)?;
    let config = format!("sha256:{}", hex::encode(Sha256::digest(b"{}")));
    at_once(16, |worker| {
        let mut connection = server.connect()?;
        for number in (worker..REPOSITORIES).step_by(16) {
            push_manifest(&server, &mut connection, &format!("team{}/app{number}", number % 100), &config)?;
        }
        Ok(())
    })?;
    let mut samples = Vec::new();
    for _ in 0..7 {
        server.child.kill()?;
        server.child.wait()?;
        let begun = Instant::now();
        server.child = spawn(field, "ferry", server.port, &server.folder)?;
        server.wait()?;
        samples.push(begun.elapsed().as_secs_f64() * 1000.0);
    }
    Ok(vec![Figure::new("ferry", samples)?])
}
