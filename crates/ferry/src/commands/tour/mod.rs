//! `tour`: a newcomer's first minutes, every step really done.

mod steps;

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command as Process, Stdio};
use std::time::{Duration, Instant};

use steps::{APP, Action, LEFT_OVER, STEPS};

use crate::cli::Command;
use crate::command;
use crate::failure::{Failure, Outcome};
use crate::flags::NoFlags;
use crate::output;
use crate::session::{Session, default_socket};

/// The table.
pub static COMMANDS: &[Command] =
    &[command!(["tour"], "", "Show the main job, step by step, for real", None, NoFlags, tour)];

/// How long a page that was just started may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
/// Longest page that is shown.
const MAX_PAGE: u64 = 64 * 1024;

/// A folder for the example's files, and for an engine of the tour's own; both end with it.
struct Workspace {
    root: PathBuf,
    has_engine: bool,
}

impl Workspace {
    fn make() -> io::Result<Self> {
        let root = std::env::temp_dir().join(format!("ferry-tour-{}", std::process::id()));
        let workspace = Self { root, has_engine: false };
        std::fs::create_dir_all(workspace.app())?;
        for (name, text) in APP {
            std::fs::write(workspace.app().join(name), text)?;
        }
        Ok(workspace)
    }

    fn app(&self) -> PathBuf {
        self.root.join("counter")
    }

    fn engine_flags(&self) -> Vec<String> {
        let at = |name: &str| self.root.join(name).display().to_string();
        vec!["--data-root".into(), at("data"), "--run-root".into(), at("run"), "--host".into(), self.host()]
    }

    fn host(&self) -> String {
        format!("unix://{}/ferry.sock", self.root.display())
    }

    fn start_engine(&mut self) -> Result<(), Failure> {
        let flags = self.engine_flags();
        let words: Vec<&str> =
            ["engine", "start"].into_iter().chain(flags.iter().map(String::as_str)).collect();
        show(1, "Start an engine (of its own, so that this tour leaves nothing behind)", &words)?;
        self.has_engine = true;
        if own_program().args(&words).stdin(Stdio::null()).status()?.success() {
            return Ok(());
        }
        let log = std::fs::read_to_string(self.root.join("run/engine.log")).unwrap_or_default();
        let last: Vec<&str> = log.lines().rev().take(5).collect();
        let mut failure = Failure::new("the engine did not start");
        failure.causes.extend(last.into_iter().rev().map(str::to_owned));
        Err(failure)
    }
}

impl Drop for Workspace {
    fn drop(&mut self) {
        if self.has_engine {
            let mut stop = own_program();
            stop.args(["engine", "stop"]).args(self.engine_flags());
            // A tour that failed half-way leaves as little as it can.
            let _ = stop.stdout(Stdio::null()).stderr(Stdio::null()).status();
        }
        let _ = std::fs::remove_dir_all(&self.root);
    }
}

fn own_program() -> Process {
    Process::new("/proc/self/exe")
}

/// Where the steps are done.
struct Guide {
    host: String,
    port: u16,
    app: PathBuf,
}

/// Runs `tour`.
pub async fn tour(session: &Session, _flags: NoFlags, _arguments: Vec<String>) -> Outcome {
    output::line("A tour of Ferry: every step below is really done.")?;
    let target = session.target()?;
    let running =
        target.named_by.is_some() || std::os::unix::net::UnixStream::connect(default_socket()).is_ok();
    let mut workspace = Workspace::make()?;
    let host = if running {
        output::line(&format!("\nAn engine runs already and answers at {}.", target.host))?;
        target.host.to_string()
    } else {
        workspace.start_engine()?;
        workspace.host()
    };
    let guide = Guide { host, port: free_port()?, app: workspace.app() };
    guide.clean();
    for (index, step) in STEPS.iter().enumerate() {
        let done = guide.step(index + 2, step.why, &step.action);
        if done.is_err() {
            guide.clean();
        }
        done?;
    }
    output::line(
        "\nThat was the main job. From here it is what you know: 'ferry --help' lists the commands.",
    )?;
    Ok(0)
}

impl Guide {
    fn step(&self, number: usize, why: &str, action: &Action) -> Result<(), Failure> {
        match action {
            Action::Ferry(words) => {
                let words = self.fill_in(words);
                show(number, why, &words)?;
                let status = self.ferry(&words).stdin(Stdio::null()).status()?;
                if !status.success() {
                    let step = format!("the step 'ferry {}' ended with {status}", words.join(" "));
                    return Err(Failure::new(step)
                        .hint("'ferry engine status' shows what runs, and where its log is"));
                }
            }
            Action::Get(path) => {
                output::line(&format!("\n{number}. {why}\n   GET http://127.0.0.1:{}{path}", self.port))?;
                output::line(get(self.port, path)?.trim_end())?;
            }
            Action::Show(name) => {
                let text = std::fs::read_to_string(self.app.join(name))?;
                output::line(&format!("\n{number}. {why}\n   $ cat {name}\n{}", text.trim_end()))?;
            }
        }
        Ok(())
    }

    fn fill_in(&self, words: &[&str]) -> Vec<String> {
        let (port, app) = (self.port.to_string(), self.app.display().to_string());
        words.iter().map(|word| word.replace("PORT", &port).replace("APP", &app)).collect()
    }

    fn ferry(&self, words: &[String]) -> Process {
        let mut command = own_program();
        command.args(words).env("FERRY_HOST", &self.host);
        command
    }

    /// Left over from a tour that was broken off; mostly there is nothing, which is no failure.
    fn clean(&self) {
        for words in LEFT_OVER {
            let mut command = self.ferry(&self.fill_in(words));
            let _ = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
        }
    }
}

/// A port that nobody listens on just now.
fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

/// A page's text from a server on this machine; one that just starts is asked again.
fn get(port: u16, path: &str) -> Result<String, Failure> {
    let start = Instant::now();
    loop {
        match try_get(port, path) {
            Ok(page) => return Ok(page),
            Err(error) if start.elapsed() > PATIENCE => {
                return Err(Failure::new(format!("http://127.0.0.1:{port}{path} does not answer: {error}")));
            }
            Err(_) => std::thread::sleep(Duration::from_millis(20)),
        }
    }
}

fn try_get(port: u16, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(MAX_PAGE).read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    match head.split(' ').nth(1) {
        Some("200") => Ok(body.to_owned()),
        _ => Err(io::Error::other(head.lines().next().unwrap_or_default().to_owned())),
    }
}

fn show(number: usize, why: &str, words: &[impl AsRef<str>]) -> Result<(), Failure> {
    let words: Vec<String> = words.iter().map(|word| quote(word.as_ref())).collect();
    Ok(output::line(&format!("\n{number}. {why}\n   $ ferry {}", words.join(" ")))?)
}

fn quote(word: &str) -> String {
    match word.contains([' ', '{', '$']) {
        true => format!("'{word}'"),
        false => word.to_owned(),
    }
}
