//! Engines of ordinary users: no privileges, ids of their own, namespaces that go when nothing needs them.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use ferry_tests::engine::{binary, kill_process, process_lives, wait_until};
use ferry_tests::{Outcome, images};

use crate::Test;

/// The suite.
pub const TESTS: &[Test] = &[
    ("rootless::hello", hello),
    ("rootless::commands_as_for_root", commands_as_for_root),
    ("rootless::networks_and_ports", networks_and_ports),
    ("rootless::engine_and_keeper_are_killed", engine_and_keeper_are_killed),
    ("rootless::one_id_only", one_id_only),
    ("rootless::a_cgroup_handed_down", a_cgroup_handed_down),
];

/// Whether a set-id or network program of the distribution is there.
fn has(program: &str) -> bool {
    Path::new("/usr/bin").join(program).exists()
}

/// A user made for one test, with a home folder and a copy of ferry that the user may run.
pub struct User {
    name: String,
    uid: u32,
    root: tempfile::TempDir,
    /// The cgroup that the user's commands begin in.
    cgroup: Option<PathBuf>,
}

impl User {
    /// Makes the user, with subordinate ids as the distribution gives them.
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let root = tempfile::Builder::new().prefix("ferry-user-").tempdir().expect("a folder");
        let name = format!("ferry-t{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let home = root.path().join("home");
        let mut added = Outcome::new(String::new(), &useradd(&name, &home));
        // Another test may hold the lock on the files of users just now.
        wait_until("a user", || {
            if added.code != 0 {
                added = Outcome::new(String::new(), &useradd(&name, &home));
            }
            added.code == 0
        });
        let id = Command::new("id").args(["-u", &name]).output().expect("id runs");
        let uid = String::from_utf8_lossy(&id.stdout).trim().parse().expect("a number");
        fs::copy(binary(), root.path().join("ferry")).expect("a copy");
        for path in [root.path(), &root.path().join("ferry")] {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("permissions");
        }
        // Where udev runs, it gives everybody this device.
        let _ = fs::set_permissions("/dev/net/tun", fs::Permissions::from_mode(0o666));
        User { name, uid, root, cgroup: None }
    }

    /// The folder that holds all that is this user's.
    pub fn directory(&self) -> &Path {
        self.root.path()
    }

    /// The user's number.
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// The home folder.
    pub fn home(&self) -> PathBuf {
        self.root.path().join("home")
    }

    fn run_root(&self) -> PathBuf {
        self.home().join(".local/state/ferry")
    }

    /// A script as this user would type it after `su - USER`; `$F` is ferry and `$IMAGE` an archive of busybox.
    pub fn script(&self, text: &str) -> Outcome {
        let image = self.root.path().join("busybox.tar");
        if !image.exists() {
            fs::copy(images::archive("busybox"), &image).expect("a copy");
            fs::set_permissions(&image, fs::Permissions::from_mode(0o644)).expect("permissions");
        }
        let join = self.cgroup.as_ref().map(|cgroup| format!("echo $$ > {}/cgroup.procs;", cgroup.display()));
        let (ferry, image) = (self.root.path().join("ferry"), image);
        let script = format!("F={}; IMAGE={}; cd; {text}", ferry.display(), image.display());
        let mut command = Command::new("sh");
        let switch = format!("{} exec su - {} -c \"$0\"", join.unwrap_or_default(), self.name);
        command.args(["-c", &switch, &script]).stdin(Stdio::null());
        Outcome::new(text.to_owned(), &command.output().expect("su runs"))
    }

    /// Processes that are this user's.
    fn processes(&self) -> Vec<String> {
        let entries = fs::read_dir("/proc").expect("procfs").flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
        let own = |pid: &i32| {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            status.lines().any(|line| {
                line.strip_prefix("Uid:").and_then(|ids| ids.split_whitespace().next()?.parse().ok())
                    == Some(self.uid)
            }) && !status.contains("State:\tZ")
        };
        pids.filter(own)
            .map(|pid| fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default())
            .collect()
    }

    fn pid(&self, role: &str) -> i32 {
        let text = fs::read_to_string(self.run_root().join(format!("{role}.pid"))).expect("a pid file");
        text.trim().parse().expect("a number")
    }
}

fn useradd(name: &str, home: &Path) -> std::process::Output {
    let mut command = Command::new("/usr/sbin/useradd");
    command.args(["--create-home", "--shell", "/bin/sh", "--home-dir"]).arg(home).arg(name);
    command.output().expect("useradd runs")
}

impl Drop for User {
    fn drop(&mut self) {
        // Whatever a failed test left: by user id, which nobody else has.
        let _ = self.script("$F ps -aq | xargs -r $F rm -f; $F engine stop");
        let _ = Command::new("pkill").args(["-KILL", "-U", &self.uid.to_string()]).status();
        let removed =
            || Command::new("/usr/sbin/userdel").arg(&self.name).output().is_ok_and(|it| it.status.success());
        let _ = removed() || {
            std::thread::yield_now();
            removed()
        };
        if let Some(cgroup) = &self.cgroup {
            for name in ["ferry-engine", "ferry", ""] {
                let _ = fs::remove_dir(cgroup.join(name));
            }
        }
    }
}

fn hello() {
    let user = User::new();
    user.script("$F run --rm localhost/hello").exits(0).says("Hello from Ferry!");
    let info = user.script("$F info");
    info.exits(0).says("rootless").says(&format!("{}/.local/share/ferry", user.home().display()));
    let doctor = user.script("$F doctor");
    match (has("newuidmap"), has("pasta")) {
        (true, true) => doctor.says("an ordinary user, in a user namespace"),
        (false, _) => doctor.says("apt install uidmap"),
        (true, false) => doctor.says("apt install passt"),
    };
    assert!(user.processes().iter().any(|command| command.starts_with("ferry anchor")));
    user.script("$F engine stop").exits(0);
    wait_until("nothing to run for the user any more", || user.processes().is_empty());
    // What they wrote is the user's, and goes like any file.
    user.script("rm -rf .local && ls -A .local 2>&1").says("No such file");
}

fn commands_as_for_root() {
    let user = User::new();
    user.script("$F load -q -i $IMAGE").exits(0);
    if has("newuidmap") {
        let ids = "touch /f; chown 33:44 /f; stat -c %u:%g /f; rm -rf /home; mkdir /home; ls /home | wc -l";
        user.script(&format!("$F run --rm busybox sh -c '{ids}'")).prints("33:44\n0");
        user.script("$F run --rm -u 33 busybox id -u").prints("33");
    }
    user.script("$F run -d --name box busybox sleep 1000").exits(0);
    user.script("echo text | $F exec -i box cat; $F exec box sh -c 'exit 7'").exits(7).says("text");
    user.script("$F top box").says("sleep 1000");
    user.script("$F cp box:/etc/passwd p && head -c 4 p").prints("root");
    let write = "$F run --rm -v $PWD/shared:/s -v kept:/k busybox sh -c 'touch /s/made /k/kept'";
    user.script(&format!("mkdir shared; {write}; stat -c %U shared/made")).prints(&user.name);
    user.script("$F run --rm -v kept:/k busybox ls /k").prints("kept");
    user.script("$F kill box && $F wait box && $F rm box").exits(0).says("137");
    let dockerfile = "printf 'FROM busybox\\nRUN touch /x && chown 33 /x\\nUSER 33\\n' > Dockerfile";
    if has("newuidmap") {
        user.script(&format!("{dockerfile}; $F build -q -t made . >&2 && $F run --rm made stat -c %u /x"))
            .prints("33");
    }
    // Limits cannot be kept without a cgroup, which is said; pause has nothing to work with.
    user.script("$F run --rm -m 64m busybox true").exits(0).complains("Limitation discarded");
    user.script("$F run -d --name still busybox sleep 1000; $F pause still")
        .complains("no cgroup of its own");
}

fn networks_and_ports() {
    let user = User::new();
    user.script("$F load -q -i $IMAGE").exits(0);
    user.script(
        "$F network create net && $F run -d --name web --network net -p 127.0.0.1::80 localhost/hello web",
    )
    .exits(0);
    user.script("$F run --rm --network net busybox wget -qO- http://web").says("Hello from Ferry");
    let port = user.script("$F port web 80");
    let address = port.ok().to_owned();
    // From the host, as root and as another user would.
    let page = Command::new("curl").args(["-sS", "-m", "60", &format!("http://{address}")]).output();
    let page = Outcome::new("curl".into(), &page.expect("curl runs"));
    page.exits(0).says("Hello from Ferry");
    let taken = user.script(&format!("$F run -d -p {address}:80 localhost/hello web"));
    taken.complains("port is already allocated");
    let compose = "services:\n  a: {image: busybox, command: wget -qO- http://b, depends_on: [b]}\n  b: {image: localhost/hello, command: web}\n";
    fs::write(user.home().join("compose.yaml"), compose).expect("a file");
    user.script("$F compose up -d && $F compose wait a; $F compose logs a").says("Hello from Ferry");
    user.script("$F compose down && $F rm -f web && $F network rm net").exits(0);
    if has("pasta") {
        let route = user.script("$F run --rm --network host busybox ip route");
        route.says("default");
    }
}

fn engine_and_keeper_are_killed() {
    let user = User::new();
    user.script("$F load -q -i $IMAGE; $F run -d --name box busybox sleep 1000").exits(0);
    let namespace = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/user")).expect("a namespace");
    let before = namespace(user.pid("engine"));
    let victims = [user.pid("keeper"), user.pid("engine")];
    victims.into_iter().for_each(kill_process);
    wait_until("both to be gone", || victims.iter().all(|pid| !process_lives(*pid)));
    // A command starts them anew, in the same namespaces.
    user.script("$F exec box echo alive").prints("alive");
    assert_eq!(namespace(user.pid("engine")), before);
    // Containers go on without an engine, and the next one finds them.
    user.script("$F engine stop; $F ps --format '{{.Names}} {{.State}}'").says("box running");
    assert_eq!(namespace(user.pid("engine")), before);
    user.script("$F rm -f box && $F engine stop").exits(0);
    wait_until("nothing to run for the user any more", || user.processes().is_empty());
}

fn one_id_only() {
    let user = User::new();
    for file in ["/etc/subuid", "/etc/subgid"] {
        // Each user's line is its own; another test may be changing the file, so the tool with the lock does it.
        let kind = if file.ends_with("subuid") { "--del-subuids" } else { "--del-subgids" };
        wait_until("the ids to go", || {
            let text = fs::read_to_string(file).unwrap_or_default();
            let line = text.lines().find_map(|line| line.strip_prefix(&format!("{}:", user.name)));
            let Some((first, count)) = line.and_then(|line| line.split_once(':')) else { return true };
            let (first, count): (u64, u64) = (first.parse().expect("an id"), count.parse().expect("a count"));
            let range = format!("{first}-{}", first + count - 1);
            let _ = Command::new("/usr/sbin/usermod").args([kind, &range, &user.name]).output();
            false
        });
    }
    user.script("$F run --rm localhost/hello").exits(0).says("Hello from Ferry!");
    user.script("$F info").complains("Containers have one user id only");
    if has("newuidmap") {
        user.script("$F doctor")
            .says("no subordinate ids")
            .says(&format!("usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {}", user.name));
    }
}

fn a_cgroup_handed_down() {
    let mut user = User::new();
    let root = ["/sys/fs/cgroup/unified", "/sys/fs/cgroup"]
        .map(PathBuf::from)
        .into_iter()
        .find(|path| path.join("cgroup.controllers").exists())
        .expect("a version 2 hierarchy");
    let cgroup = root.join(&user.name);
    fs::create_dir(&cgroup).expect("a cgroup");
    for file in ["", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"] {
        std::os::unix::fs::chown(cgroup.join(file), Some(user.uid), None).expect("its owner");
    }
    user.cgroup = Some(cgroup.clone());
    user.script("$F load -q -i $IMAGE; $F run -d --name box busybox sleep 1000").exits(0);
    let id = user.script("$F inspect -f '{{.Id}}' box").ok().to_owned();
    let own = cgroup.join("ferry").join(&id);
    assert!(own.join("cgroup.procs").exists(), "{}", own.display());
    user.script("$F pause box && $F inspect -f '{{.State.Status}}' box").says("paused");
    assert_eq!(fs::read_to_string(own.join("cgroup.freeze")).expect("a state").trim(), "1");
    user.script("$F unpause box && $F exec box echo alive").says("alive");
    user.script("$F rm -f box && $F engine stop").exits(0);
    wait_until("the container's cgroup to go", || !own.exists());
    wait_until("nothing to run for the user any more", || user.processes().is_empty());
}
