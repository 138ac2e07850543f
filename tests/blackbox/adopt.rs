//! `ferry adopt` from a real Docker: Debian's dockerd, through its socket and from its files.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use ferry_tests::Engine;
use ferry_tests::engine::{docker_client, wait_until};

use crate::Test;

/// The suite.
pub const TESTS: &[Test] = &[
    ("adopt::from_a_running_docker_and_from_its_files", from_a_running_docker_and_from_its_files),
    ("adopt::sources_that_are_none", sources_that_are_none),
];

const DOCKERD: &str = "/usr/sbin/dockerd";

/// A dockerd in namespaces of its own, so that nothing of it reaches the host.
struct Dockerd {
    process: Child,
    folder: PathBuf,
}

impl Dockerd {
    fn start(folder: &Path) -> Self {
        let at = |name: &str| folder.join(name).display().to_string();
        fs::write(folder.join("none.json"), "{}").expect("a file");
        let mut command = Command::new("unshare");
        command.args(["--net", "--mount", DOCKERD, "--bridge", "none", "--iptables=false"]);
        command.args(["--ip6tables=false", "--storage-driver", "overlay2"]);
        for (flag, name) in [
            ("--data-root", "data"),
            ("--exec-root", "exec"),
            ("--pidfile", "pid"),
            ("--config-file", "none.json"),
        ] {
            command.arg(flag).arg(at(name));
        }
        command.arg("-H").arg(format!("unix://{}", at("docker.sock")));
        let log = fs::File::create(folder.join("log")).expect("a log");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let started = Self { process: command.spawn().expect("dockerd starts"), folder: folder.to_owned() };
        wait_until("dockerd answers", || started.docker(&["version"]).is_some());
        started
    }

    fn host(&self) -> String {
        format!("unix://{}", self.folder.join("docker.sock").display())
    }

    /// What the stock client prints; None where it fails.
    fn docker(&self, words: &[&str]) -> Option<String> {
        let client = docker_client().expect("a docker client");
        let output = Command::new(client).args(["-H", &self.host()]).args(words).output().expect("it runs");
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// As people use it: an image of their own, a volume with data, a network, a container.
    fn furnish(&self) {
        let archive = ferry_tests::images::archive("busybox").display().to_string();
        let container = "create --name web --label app=shop -e A=1 -v data1:/data -v /anon --network shop --ip 10.215.0.9 -p 18080:80 --restart on-failure:3 -m 64m busybox cat /data/file";
        fs::write(self.folder.join("added"), "of the image").expect("a file");
        let added = self.folder.join("added").display().to_string();
        for line in [
            "load -qi ARCHIVE",
            "volume create --label tier=db data1",
            "network create --subnet 10.215.0.0/24 --label net=own shop",
            container,
            "cp ADDED web:/added",
            "commit -m own web own/app:1",
        ] {
            let line = line.replace("ARCHIVE", &archive).replace("ADDED", &added);
            let words: Vec<&str> = line.split(' ').collect();
            assert!(self.docker(&words).is_some(), "docker {line}");
        }
        let file = self.folder.join("data/volumes/data1/_data/file");
        fs::write(&file, "kept").expect("a file");
        std::os::unix::fs::chown(&file, Some(1234), Some(1234)).expect("an owner");
    }

    fn stop(&mut self) {
        if let Some(pid) = rustix::process::Pid::from_raw(self.process.id().cast_signed()) {
            rustix::process::kill_process(pid, rustix::process::Signal::TERM).ok();
        }
        self.process.wait().ok();
    }
}

impl Drop for Dockerd {
    fn drop(&mut self) {
        self.stop();
    }
}

/// What adopted things are in the engine.
fn check(engine: &Engine, image_id: &str) {
    engine.ferry(["images", "-q", "--no-trunc", "own/app:1"]).prints(image_id);
    engine.ferry(["run", "--rm", "own/app:1", "cat", "/added"]).prints("of the image");
    engine.ferry(["volume", "inspect", "-f", "{{.Labels}}", "data1"]).prints("map[tier:db]");
    engine.ferry(["run", "--rm", "-v", "data1:/d", "busybox", "stat", "-c", "%u", "/d/file"]).prints("1234");
    let network = "{{range .IPAM.Config}}{{.Subnet}}{{end}} {{.Labels}}";
    engine.ferry(["network", "inspect", "-f", network, "shop"]).prints("10.215.0.0/24 map[net:own]");
    let format = "{{.State.Status}} {{.HostConfig.Memory}} {{.HostConfig.RestartPolicy}} {{.Config.Labels.app}} {{len .Mounts}} {{(index .NetworkSettings.Networks \"shop\").IPAMConfig.IPv4Address}} {{.HostConfig.PortBindings}}";
    let wanted = "created 67108864 {on-failure 3} shop 2 10.215.0.9 map[80/tcp:[{ 18080}]]";
    assert_eq!(engine.inspect("web", format), wanted);
}

fn from_a_running_docker_and_from_its_files() {
    if !Path::new(DOCKERD).exists() || docker_client().is_none() {
        eprintln!("SKIPPED: adopt: no dockerd or no docker client is installed");
        return;
    }
    let folder = tempfile::tempdir().expect("a folder");
    let mut dockerd = Dockerd::start(folder.path());
    dockerd.furnish();
    let list = dockerd.docker(&["images", "-q", "--no-trunc", "own/app:1"]).expect("a list");
    let image_id = list.trim();
    let live = Engine::start();
    let told = live.ferry(["adopt", "--dry-run", &dockerd.host()]);
    told.exits(0).says("volume     data1").says("network    shop").says("container  web");
    live.ferry(["ps", "-aq"]).prints("");
    live.ferry(["adopt", &dockerd.host()]).exits(0).says("container  web");
    check(&live, image_id);
    live.ferry(["adopt", &dockerd.host()]).exits(0).says("container  web: is here already");
    drop(live);
    // The old ones are untouched, also when their engine is gone.
    let inspected = dockerd.docker(&["inspect", "-f", "{{.State.Status}}", "web"]).expect("it is there");
    assert_eq!(inspected.trim(), "created");
    dockerd.stop();
    let data = folder.path().join("data").display().to_string();
    let engine = Engine::start();
    engine.ferry(["adopt", "--only", "images,networks", &data]).exits(0).says("image      own/app:1");
    engine.ferry(["volume", "inspect", "data1"]).exits(1);
    engine.ferry(["adopt", &data]).exits(0);
    check(&engine, image_id);
    let kept = folder.path().join("data/volumes/data1/_data/file");
    assert_eq!(fs::read_to_string(kept).expect("the old file"), "kept");
}

fn sources_that_are_none() {
    let engine = Engine::start();
    let folder = tempfile::tempdir().expect("a folder");
    let empty = folder.path().display().to_string();
    engine.ferry(["adopt", &empty]).exits(1).complains("holds no images of the overlay2 driver");
    engine.ferry(["adopt", &engine.host()]).exits(1).complains("is this engine itself");
    engine.ferry(["adopt", "--only", "pods", &empty]).exits(1).complains("--only pods");
    let damaged = folder.path().join("image/overlay2/imagedb/content/sha256");
    fs::create_dir_all(&damaged).expect("folders");
    fs::write(damaged.join("ab"), "{}").expect("a file");
    fs::create_dir_all(folder.path().join("network/files")).expect("a folder");
    fs::write(folder.path().join("network/files/local-kv.db"), "no database").expect("a file");
    // What cannot be read is named, and the rest goes on.
    engine.ferry(["adopt", "--dry-run", &empty]).exits(0).complains("left out: networks: no bolt database");
}
