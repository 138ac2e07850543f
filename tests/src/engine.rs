//! A private engine: own roots and socket in a temporary folder, ended and checked for left-overs on drop.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::host::Host;
use crate::images;
use crate::outcome::Outcome;
use crate::traces::Traces;

/// How long a condition may take to come true before a test gives up: 30 s, times `FERRY_TEST_SLOWNESS` on a
/// machine that is known to be slow, as an emulated one is.
#[must_use]
pub fn patience() -> Duration {
    let slowness = env::var("FERRY_TEST_SLOWNESS").ok().and_then(|text| text.parse().ok()).unwrap_or(1);
    Duration::from_secs(30) * slowness
}

/// A running engine with private roots.
pub struct Engine {
    root: TempDir,
    binary: PathBuf,
    /// The foreground process of [`Engine::start_on`].
    foreground: Option<Child>,
}

impl Engine {
    /// Starts an engine with no images.
    ///
    /// # Panics
    /// Where it does not start.
    #[must_use]
    #[track_caller]
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// Starts an engine with further flags of `engine start`.
    ///
    /// # Panics
    /// Where it does not start.
    #[must_use]
    #[track_caller]
    pub fn start_with(flags: &[&str]) -> Self {
        Self::start_in(&[], flags)
    }

    /// Starts an engine with further flags and variables in its environment.
    ///
    /// # Panics
    /// Where it does not start.
    #[must_use]
    #[track_caller]
    pub fn start_in(variables: &[(&str, &str)], flags: &[&str]) -> Self {
        let root = tempfile::Builder::new().prefix("ferry-test-").tempdir().expect("a temporary folder");
        let engine = Self { root, binary: binary(), foreground: None };
        let _ = engine.engine_command_with("start", variables, flags).ok();
        engine
    }

    /// Starts an engine from a copy of another binary, at a path of its own: an earlier version, which
    /// [`Self::upgrade`] replaces.
    ///
    /// # Panics
    /// Where it does not start.
    #[must_use]
    #[track_caller]
    pub fn start_copy_of(earlier: &Path) -> Self {
        let root = tempfile::Builder::new().prefix("ferry-test-").tempdir().expect("a temporary folder");
        let installed = root.path().join("ferry");
        fs::copy(earlier, &installed).expect("a copy of the binary");
        let engine = Self { root, binary: installed, foreground: None };
        let _ = engine.engine_command("start").ok();
        engine
    }

    /// Puts the binary under test in the place of the one that [`Self::start_copy_of`] installed, as a package manager
    /// does, and has the next engine started from it.
    ///
    /// # Panics
    /// Where that fails.
    #[track_caller]
    pub fn upgrade(&self) {
        let next = self.root.path().join("ferry.new");
        fs::copy(binary(), &next).expect("a copy of the binary");
        fs::rename(&next, &self.binary).expect("the binary is replaced");
        let _ = self.engine_command("restart").ok();
    }

    /// Starts an engine in the foreground of a host of its own, with options of `engine run`.
    ///
    /// # Panics
    /// Where it does not answer.
    #[must_use]
    #[track_caller]
    pub fn start_on(host: &Host, options: &[&str]) -> Self {
        let root = tempfile::Builder::new().prefix("ferry-test-").tempdir().expect("a temporary folder");
        let mut engine = Self { root, binary: binary(), foreground: None };
        let prefix = host.prefix();
        let mut command = Command::new(&prefix[0]);
        command.args(&prefix[1..]).arg(&engine.binary).args(["engine", "run", "--data-root"]);
        command.arg(engine.data_root()).arg("--run-root").arg(engine.run_root());
        command.arg("--host").arg(engine.host()).args(options);
        let log = fs::File::create(engine.root.path().join("engine.log")).expect("a log");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        engine.foreground = Some(command.spawn().expect("the engine starts"));
        wait_until("the engine answers", || engine.ferry(["version"]).code == 0);
        let archive = images::archive("busybox");
        let _ = engine.ferry(["load", "-q", "-i", &archive.to_string_lossy()]).ok();
        engine
    }

    /// Starts an engine and loads images of the factory.
    ///
    /// # Panics
    /// Where it does not start or an image does not load.
    #[must_use]
    #[track_caller]
    pub fn with_images(names: &[&str]) -> Self {
        let engine = Self::start();
        for name in names {
            let archive = images::archive(name);
            let _ = engine.ferry(["load", "-q", "-i", &archive.to_string_lossy()]).ok();
        }
        engine
    }

    /// An engine with `busybox`, which most tests need.
    #[must_use]
    #[track_caller]
    pub fn with_busybox() -> Self {
        Self::with_images(&["busybox"])
    }

    /// `ferry engine VERB` with this engine's roots.
    #[must_use]
    pub fn engine_command(&self, verb: &str) -> Outcome {
        self.engine_command_with(verb, &[], &[])
    }

    fn engine_command_with(&self, verb: &str, variables: &[(&str, &str)], flags: &[&str]) -> Outcome {
        let mut command = Command::new(&self.binary);
        command.args(["engine", verb, "--data-root"]).arg(self.data_root());
        command.arg("--run-root").arg(self.run_root()).arg("--host").arg(self.host()).args(flags);
        command.envs(variables.iter().copied());
        self.finish(command)
    }

    /// The folder that holds all of this engine's files.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.root.path()
    }

    /// The engine's data root.
    #[must_use]
    pub fn data_root(&self) -> PathBuf {
        self.root.path().join("data")
    }

    /// The engine's run root.
    #[must_use]
    pub fn run_root(&self) -> PathBuf {
        self.root.path().join("run")
    }

    /// The engine's address as `--host` takes it.
    #[must_use]
    pub fn host(&self) -> String {
        format!("unix://{}", self.root.path().join("ferry.sock").display())
    }

    /// A `ferry` command prepared for this engine, home folder inside the private root.
    pub fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(arguments);
        self.private_environment(&mut command);
        command
    }

    /// A command of the named client (`ferry` or `docker`) prepared for this engine.
    ///
    /// # Panics
    /// For any other name.
    #[must_use]
    pub fn client_command<S: AsRef<OsStr>>(
        &self,
        name: &str,
        arguments: impl IntoIterator<Item = S>,
    ) -> Command {
        let mut command = match name {
            "ferry" => Command::new(&self.binary),
            "docker" => Command::new(docker_client().expect("the docker client is installed")),
            other => panic!("no client `{other}`"),
        };
        command.args(arguments);
        self.private_environment(&mut command);
        command
    }

    /// Runs `ferry` to its end.
    #[must_use]
    pub fn ferry<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Outcome {
        self.finish(self.command(arguments))
    }

    /// Runs the stock docker client to its end.
    #[must_use]
    pub fn docker<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Outcome {
        let mut command = Command::new(docker_client().expect("the docker client is installed"));
        command.args(arguments);
        self.private_environment(&mut command);
        self.finish(command)
    }

    /// Runs the named client: `ferry` or `docker`.
    ///
    /// # Panics
    /// For any other name.
    #[must_use]
    pub fn client<S: AsRef<OsStr>>(&self, name: &str, arguments: impl IntoIterator<Item = S>) -> Outcome {
        match name {
            "ferry" => self.ferry(arguments),
            "docker" => self.docker(arguments),
            other => panic!("no client `{other}`"),
        }
    }

    /// Starts a `ferry` command and leaves it running, all streams piped.
    ///
    /// # Panics
    /// Where it cannot start.
    #[track_caller]
    pub fn spawn<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Child {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.spawn().expect("the command starts")
    }

    /// Runs `ferry` with bytes on its standard input.
    ///
    /// # Panics
    /// Where it cannot start.
    #[must_use]
    pub fn ferry_with_input<S: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = S>,
        input: &[u8],
    ) -> Outcome {
        use std::io::Write;
        let mut child = self.spawn(arguments);
        let mut stdin = child.stdin.take().expect("standard input is piped");
        let bytes = input.to_vec();
        // A command may end before it has read everything: that is its right, so the error is dropped.
        let writer = std::thread::spawn(move || stdin.write_all(&bytes).ok());
        let output = child.wait_with_output().expect("the command ends");
        writer.join().ok();
        Outcome::new("ferry (with input)".into(), &output)
    }

    /// The process id of the running engine, from `ferry engine status`.
    ///
    /// # Panics
    /// Where no engine runs.
    #[must_use]
    #[track_caller]
    pub fn pid(&self, role: &str) -> i32 {
        let file = self.run_root().join(format!("{role}.pid"));
        let text = fs::read_to_string(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        text.trim().parse().expect("a pid")
    }

    /// Kills the engine, launcher or keeper with SIGKILL and waits until another has taken its place.
    ///
    /// # Panics
    /// Where none takes its place in time.
    #[track_caller]
    pub fn kill(&self, role: &str) {
        let before = self.pid(role);
        kill_process(before);
        wait_until(&format!("a new {role}"), || {
            let file = self.run_root().join(format!("{role}.pid"));
            let now = fs::read_to_string(file).ok().and_then(|text| text.trim().parse::<i32>().ok());
            now.is_some_and(|now| now != before && process_lives(now))
        });
    }

    /// `inspect -f FORMAT NAME`.
    #[must_use]
    #[track_caller]
    pub fn inspect(&self, name: &str, format: &str) -> String {
        self.ferry(["inspect", "-f", format, name]).ok().to_owned()
    }

    /// Waits until a container's status is as wanted.
    #[track_caller]
    pub fn wait_for_status(&self, name: &str, status: &str) {
        wait_until(&format!("{name} is {status}"), || {
            self.ferry(["inspect", "-f", "{{.State.Status}}", name]).stdout.trim() == status
        });
    }

    fn private_environment(&self, command: &mut Command) {
        let home = self.root.path().join("home");
        fs::create_dir_all(&home).expect("a private home folder");
        command.env_clear().env("PATH", path_variable()).env("HOME", home);
        command.env("DOCKER_HOST", self.host()).env("LANG", "C.UTF-8").env("TERM", "xterm");
    }

    fn finish(&self, mut command: Command) -> Outcome {
        let shown = format!("{command:?}");
        let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("{shown}: {error}"));
        Outcome::new(shown, &output)
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let running = self.ferry(["ps", "-aq", "--no-trunc"]);
        let ids: Vec<&str> = running.stdout.split_whitespace().collect();
        if !ids.is_empty() {
            let _ = self.ferry(["rm", "-fv"].iter().chain(ids.iter()));
        }
        let traces = Traces::of(self);
        let stopped = self.engine_command("stop");
        if let Some(mut foreground) = self.foreground.take() {
            let _ = foreground.wait();
        }
        if stopped.code != 0 && !std::thread::panicking() {
            panic!("the engine did not stop\n{stopped}");
        }
        if stopped.code == 0 && !std::thread::panicking() {
            traces.wait_until_gone();
        }
        if env::var_os("FERRY_TEST_KEEP").is_some() {
            let kept = self.root.path().to_path_buf();
            eprintln!("kept {}", kept.display());
            self.root.disable_cleanup(true);
        }
    }
}

/// Waits until a condition holds, looking often.
///
/// # Panics
/// Where it does not come true within [`patience`].
#[track_caller]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < patience(), "waited {} s in vain: {what}", patience().as_secs());
        sleep(Duration::from_millis(5));
    }
}

/// Sends SIGKILL.
pub fn kill_process(pid: i32) {
    if let Some(pid) = rustix::process::Pid::from_raw(pid) {
        rustix::process::kill_process(pid, rustix::process::Signal::KILL).ok();
    }
}

/// Sends SIGHUP, by which daemons are asked to read their settings again.
pub fn hang_up(pid: i32) {
    if let Some(pid) = rustix::process::Pid::from_raw(pid) {
        rustix::process::kill_process(pid, rustix::process::Signal::HUP).ok();
    }
}

/// Whether a process exists and is not a zombie.
#[must_use]
pub fn process_lives(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')')
        .next()
        .is_some_and(|rest| !rest.trim_start().is_empty() && !rest.trim_start().starts_with('Z'))
}

/// The ferry binary under test: `$FERRY_BINARY`, which `cargo xtask test` sets.
///
/// # Panics
/// Where it is not set.
#[must_use]
pub fn binary() -> PathBuf {
    let path = env::var_os("FERRY_BINARY").expect("FERRY_BINARY names the binary; run: cargo xtask test");
    PathBuf::from(path)
}

/// The stock docker client, where one is installed. Ferry's own `docker` link is not one.
#[must_use]
pub fn docker_client() -> Option<PathBuf> {
    let candidates = ["/usr/local/bin/docker", "/usr/bin/docker"].map(PathBuf::from);
    candidates.into_iter().find(|path| path.is_file() && !path.is_symlink())
}

fn path_variable() -> String {
    let path = env::var("PATH").unwrap_or_default();
    format!("{path}:/usr/sbin:/sbin")
}
