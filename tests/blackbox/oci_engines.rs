//! Other engines with ferry in runc's place: podman, containerd and dockerd from Debian's packages, each with folders
//! and sockets of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use ferry_tests::Engine;
use ferry_tests::Outcome;
use ferry_tests::bundle::{Bundle, installed};
use ferry_tests::engine::wait_until;

use crate::Test;

/// The suite.
pub const TESTS: &[Test] = &[
    ("oci_engines::podman", podman),
    ("oci_engines::containerd", containerd),
    ("oci_engines::dockerd", dockerd),
    ("oci_engines::their_archives_load", their_archives_load),
];

/// The root file system of a bundle as an archive.
fn archive(bundle: &Bundle) -> PathBuf {
    let path = bundle.path("root.tar");
    let mut archive = tar::Builder::new(fs::File::create(&path).expect("a file"));
    archive.follow_symlinks(false);
    archive.append_dir_all(".", bundle.path("rootfs")).expect("packed");
    archive.finish().expect("packed");
    path
}

fn call(program: &Path, options: &[String], words: &str) -> Outcome {
    let mut command = Command::new("timeout");
    command.arg("120").arg(program).args(options).stdin(Stdio::null());
    // Words of one call; what is in quotes is one.
    let mut quoted = words.split('\'');
    while let Some(plain) = quoted.next() {
        command.args(plain.split_whitespace());
        if let Some(whole) = quoted.next() {
            command.arg(whole);
        }
    }
    Outcome::new(format!("{} {words}", program.display()), &command.output().expect("it runs"))
}

/// Options of podman with all of its folders in the bundle's.
fn podman_options(bundle: &Bundle) -> [String; 16] {
    let folder = |name: &str| bundle.path(name).display().to_string();
    [
        "--root",
        &folder("podman"),
        "--runroot",
        &folder("podman-run"),
        "--tmpdir",
        &folder("podman-tmp"),
        "--network-config-dir",
        &folder("podman-net"),
        "--cgroup-manager",
        "cgroupfs",
        "--storage-driver",
        "vfs",
        "--events-backend",
        "none",
        "--runtime",
        &folder("runc"),
    ]
    .map(str::to_owned)
}

fn podman() {
    let Some(program) = installed("podman") else { return };
    let bundle = Bundle::new();
    let options = podman_options(&bundle);
    let podman = |words: &str| call(&program, &options, words);
    let _ = podman(&format!("import {} base", archive(&bundle).display())).ok();
    podman("run --rm --network none base sh -c 'id -u; exit 7'").exits(7).prints("0");
    podman("run --rm --network none base nope").exits(127).complains("executable file not found in $PATH");
    let _ = podman("run -d --network none --name one --memory 64m base sleep 1000").ok();
    podman("exec one sh -c 'echo inside; exit 3'").exits(3).prints("inside");
    podman("exec -t one tty").exits(0).says("/dev/pts/0");
    let _ = podman("pause one").ok();
    podman("ps -a --format {{.Status}}").exits(0).says("Paused");
    let _ = podman("unpause one").ok();
    podman("inspect -f {{.OCIRuntime}} one").exits(0).says("runc");
    let _ = podman("kill one").ok();
    podman("wait one").exits(0).prints("137");
    let _ = podman("rm -f one").ok();
    podman("ps -aq").exits(0).prints("");
}

/// A daemon of the test's, ended with it.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        if let Some(pid) = rustix::process::Pid::from_raw(self.0.id() as i32) {
            rustix::process::kill_process(pid, rustix::process::Signal::TERM).ok();
        }
        self.0.wait().ok();
    }
}

fn daemon(bundle: &Bundle, program: &Path, arguments: &[String]) -> Daemon {
    let log = fs::File::create(bundle.path("daemon.log")).expect("a file");
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(log.try_clone().expect("a copy")).stderr(log);
    command.env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin");
    Daemon(command.spawn().expect("it starts"))
}

fn containerd() {
    let (Some(program), Some(client)) = (installed("containerd"), installed("ctr")) else { return };
    let bundle = Bundle::new();
    let folder = |name: &str| bundle.path(name).display().to_string();
    let config = format!(
        "version = 2\nroot = \"{}\"\nstate = \"{}\"\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]\n\
         [grpc]\naddress = \"{}\"\n[ttrpc]\naddress = \"{}\"\n",
        folder("containerd"),
        folder("containerd-run"),
        folder("c.sock"),
        folder("t.sock")
    );
    fs::write(bundle.path("containerd.toml"), config).expect("written");
    let _daemon = daemon(&bundle, &program, &["-c".to_owned(), folder("containerd.toml")]);
    let options = ["-a".to_owned(), folder("c.sock"), "-n".to_owned(), bundle.id()];
    let ctr = |words: &str| call(&client, &options, words);
    wait_until("containerd answers", || ctr("version").code == 0);
    let (root, runc) = (folder("rootfs"), folder("runc"));
    let (one, two) = (bundle.id(), bundle.id());
    let run = |options: &str, rest: &str| {
        ctr(&format!("run {options} --rootfs --runc-binary {runc} {root} {rest}"))
    };
    run("--rm", &format!("{one} /bin/sh -c 'echo from a task; exit 4'")).exits(4).prints("from a task");
    let _ = run("-d", &format!("{two} /bin/sleep 1000")).ok();
    ctr(&format!("task exec --exec-id e {two} /bin/echo inside")).exits(0).prints("inside");
    let _ = ctr(&format!("task pause {two}")).ok();
    ctr("task ls").exits(0).says("PAUSED");
    let _ = ctr(&format!("task resume {two}")).ok();
    let _ = ctr(&format!("task kill -s KILL {two}")).ok();
    wait_until("it has stopped", || ctr("task ls").stdout.contains("STOPPED"));
    ctr(&format!("task rm {two}"));
    let _ = ctr(&format!("container rm {two}")).ok();
    ctr("task ls -q").exits(0).prints("");
    // containerd leaves its namespace's folder in every hierarchy, whatever the runtime.
    let hierarchies = fs::read_dir("/sys/fs/cgroup").expect("cgroups are mounted");
    let roots = hierarchies.flatten().map(|entry| entry.path()).chain([PathBuf::from("/sys/fs/cgroup")]);
    for root in roots {
        fs::remove_dir(root.join(&options[3])).ok();
    }
}

/// A dockerd with all of its folders in the bundle's, and the options of a client of it.
fn start_dockerd(bundle: &Bundle) -> Option<(Daemon, Vec<String>)> {
    let program = installed("dockerd")?;
    let folder = |name: &str| bundle.path(name).display().to_string();
    fs::write(bundle.path("daemon.json"), "{}").expect("written");
    let host = format!("unix://{}", folder("d.sock"));
    let arguments = [
        "--data-root",
        &folder("docker"),
        "--exec-root",
        &folder("docker-run"),
        "--pidfile",
        &folder("docker.pid"),
        "--config-file",
        &folder("daemon.json"),
        "-H",
        &host,
        "--bridge",
        "none",
        "--iptables=false",
        "--ip6tables=false",
        "--storage-driver",
        "vfs",
        "--add-runtime",
        &format!("ferry={}", folder("runc")),
    ]
    .map(str::to_owned);
    let daemon = daemon(bundle, &program, &arguments);
    let options = vec!["-H".to_owned(), host];
    let client = installed("docker")?;
    wait_until("dockerd answers", || call(&client, &options, "version").code == 0);
    Some((daemon, options))
}

fn dockerd() {
    let Some(client) = installed("docker") else { return };
    let bundle = Bundle::new();
    let Some((_daemon, options)) = start_dockerd(&bundle) else { return };
    let docker = |words: &str| call(&client, &options, words);
    let _ = docker(&format!("import {} base", archive(&bundle).display())).ok();
    let run = |rest: &str| docker(&format!("run --runtime ferry --network none {rest}"));
    let first = run("--rm base sh -c 'grep Seccomp: /proc/self/status; exit 5'");
    first.exits(5).prints("Seccomp:\t2");
    run("--rm base nope").exits(127).complains("executable file not found in $PATH");
    run("--rm --user 1000:1000 --cap-drop ALL base id").exits(0).says("uid=1000 gid=1000");
    let _ = run("-d --name one -m 64m base sleep 1000").ok();
    docker("exec one sh -c 'echo inside; exit 3'").exits(3).prints("inside");
    docker("exec one nope").exits(126);
    let _ = docker("pause one").ok();
    docker("ps --format {{.Status}}").exits(0).says("Paused");
    let _ = docker("unpause one").ok();
    let _ = docker("update -m 80m one").ok();
    docker("top one").exits(0).says("sleep 1000");
    docker("inspect -f {{.HostConfig.Runtime}} one").exits(0).prints("ferry");
    let _ = docker("kill one").ok();
    docker("wait one").exits(0).prints("137");
    let _ = docker("start one").ok();
    let _ = docker("rm -f one").ok();
    docker("ps -aq").exits(0).prints("");
    // Ferry's own command line makes the calls one by one where the engine is not Ferry's.
    let ferry = |rest: &str| call(&ferry_tests::engine::binary(), &options, rest);
    ferry("run --rm --runtime ferry --network none base sh -c 'echo out; exit 3'").exits(3).prints("out");
    ferry("run -d --name two --runtime ferry --network none base sleep 1000").exits(0);
    ferry("run --rm --runtime ferry --network none base nope").exits(127);
    ferry("rm -f two").exits(0);
}

/// What podman and Debian's docker save, ferry loads, with name, configuration and tree.
fn their_archives_load() {
    let engine = Engine::start();
    let bundle = Bundle::new();
    let check = |file: &Path, name: &str| {
        engine.ferry(["load", "-q", "-i", &file.display().to_string()]).exits(0).says(name);
        engine.ferry(["run", "--rm", "--network", "none", name]).exits(0).prints("from its configuration");
        engine.ferry(["rmi", name]).exits(0);
    };
    let import = |name: &str| {
        let tar = archive(&bundle).display().to_string();
        format!("import -c 'CMD [\"echo\",\"from its configuration\"]' {tar} {name}")
    };
    if let Some(podman) = installed("podman") {
        let options = podman_options(&bundle);
        call(&podman, &options, &import("localhost/theirs:1")).exits(0);
        for format in ["docker-archive", "oci-archive"] {
            let file = bundle.path(format);
            let line = format!("save -q --format {format} -o {} localhost/theirs:1", file.display());
            call(&podman, &options, &line).exits(0);
            check(&file, "localhost/theirs:1");
        }
    }
    let started = start_dockerd(&bundle);
    if let (Some(docker), Some((_daemon, options))) = (installed("docker"), started) {
        call(&docker, &options, &import("theirs:2")).exits(0);
        let file = bundle.path("docker.tar");
        call(&docker, &options, &format!("save -o {} theirs:2", file.display())).exits(0);
        check(&file, "theirs:2");
    }
}
