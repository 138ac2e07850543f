//! Machines that lack something: no cgroups, no overlay, no privileges; and the unit for service managers.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use ferry_tests::engine::{binary, wait_until};
use ferry_tests::{Outcome, images};

use crate::Test;

/// The suite.
pub const TESTS: &[Test] = &[
    ("machine::without_cgroups", without_cgroups),
    ("machine::without_overlay", without_overlay),
    ("machine::without_privileges", without_privileges),
    ("machine::service_unit", service_unit),
];

/// An engine in a mount namespace that a script has prepared, and what is asked of it there.
struct Machine {
    root: tempfile::TempDir,
}

impl Machine {
    fn new() -> Self {
        Self { root: tempfile::Builder::new().prefix("ferry-machine-").tempdir().expect("a folder") }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// Runs a script after `prepare`; both find `$ROOT`, `$FERRY`, `$ENGINE` (options that name the engine)
    /// and `$IMAGE` (an archive).
    fn script(&self, prepare: &str, script: &str) -> Outcome {
        let root = self.root.path().display();
        let image = images::archive("busybox");
        let text = format!(
            "ROOT={root}; FERRY={}; IMAGE={}; export DOCKER_HOST=unix://$ROOT/ferry.sock
             ENGINE=\"--data-root $ROOT/data --run-root $ROOT/run --host $DOCKER_HOST\"
             set -e; {prepare}; set +e
             {script}",
            binary().display(),
            image.display()
        );
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", &text]).stdin(Stdio::null());
        command.env("HOME", self.path("home"));
        let output = command.output().expect("unshare runs");
        Outcome::new(text, &output)
    }
}

/// One line that says what is wrong, and one that says what to do.
fn says_plainly(outcome: &Outcome, error: &str, hint: &str) {
    let lines: Vec<&str> = outcome.stderr.lines().collect();
    let errors: Vec<&&str> = lines.iter().filter(|line| line.starts_with("error: ")).collect();
    assert!(errors.len() == 1 && errors[0].contains(error), "{outcome}");
    assert!(lines.iter().any(|line| line.starts_with("hint: ") && line.contains(hint)), "{outcome}");
}

const RUN: &str = "$FERRY engine start $ENGINE >&2; $FERRY load -q -i $IMAGE >&2
    $FERRY run --name box --network none busybox true; echo code $?
    $FERRY ps -a --format '{{.Names}} {{.State}}'; $FERRY rm -f box >&2
    $FERRY engine stop $ENGINE >&2";

fn without_cgroups() {
    for prepare in
        ["umount -R /sys/fs/cgroup; mount -t tmpfs none /sys/fs/cgroup", "umount -R /sys/fs/cgroup"]
    {
        let machine = Machine::new();
        let outcome = machine.script(prepare, RUN);
        outcome.says("code 125").says("box created");
        says_plainly(&outcome, "no cgroup hierarchy is mounted under /sys/fs/cgroup", "mount -t cgroup2");
    }
}

fn without_overlay() {
    let machine = Machine::new();
    // An overlay cannot be the upper layer of an overlay.
    let prepare = "mkdir $ROOT/lower $ROOT/space $ROOT/data; mount -t tmpfs none $ROOT/space
        mkdir $ROOT/space/upper $ROOT/space/work
        mount -t overlay -o lowerdir=$ROOT/lower,upperdir=$ROOT/space/upper,workdir=$ROOT/space/work none $ROOT/data";
    let outcome = machine.script(prepare, RUN);
    outcome.says("code 125").says("box created");
    says_plainly(&outcome, "not supported as upperdir", "--data-root DIR");
}

fn without_privileges() {
    let machine = Machine::new();
    // Somebody who may read the program and write to the roots, and nothing else: root whose power was limited, and
    // an ordinary user where there are no user namespaces for one.
    let prepare = "cp $FERRY $ROOT/ferry; chmod 755 $ROOT/ferry; chmod 777 $ROOT";
    let limited = "setpriv --bounding-set -sys_admin --inh-caps -sys_admin $ROOT/ferry engine start $ENGINE";
    // Who is in a chroot gets none from the kernel.
    let no_namespaces =
        "mkdir -p $ROOT/proc $ROOT/dev $ROOT$ROOT; chmod 777 $ROOT$ROOT; mount -t proc proc $ROOT/proc
         mount --bind /dev $ROOT/dev; chroot --userspec 65533:65533 $ROOT /ferry engine start $ENGINE";
    for (start, reason, mend) in [
        (
            limited,
            "the engine needs the privileges of root: this process lacks CAP_SYS_ADMIN",
            "--privileged",
        ),
        (no_namespaces, "cannot make a user namespace", "ferry doctor"),
    ] {
        let outcome = machine.script(prepare, &format!("{start}; echo code $?; ls $ROOT"));
        outcome.says("code 1").complains("error: cannot start the engine").complains(reason);
        outcome.complains("hint: ").complains(mend);
        assert!(
            !machine.path("ferry.sock").exists() && !machine.path("data").exists(),
            "nothing is half-made"
        );
    }
}

fn service_unit() {
    if !PathBuf::from("/usr/bin/systemd-analyze").exists() {
        eprintln!("SKIPPED: machine::service_unit: no systemd is installed");
        return;
    }
    let machine = Machine::new();
    let printed = Command::new(binary()).args(["engine", "install", "--print"]).output().expect("ferry runs");
    let unit = Outcome::new("engine install --print".into(), &printed);
    // The parts that keep containers alive over a stop of the unit, and systemd's hands off their cgroups.
    unit.says("KillMode=process").says("Delegate=yes").says("engine run");
    let folder = machine.path("etc/systemd/system");
    fs::create_dir_all(&folder).expect("a folder");
    let path = folder.join("ferry.service");
    fs::write(&path, &unit.stdout).expect("a file");
    let verified = Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&path).output();
    let verified = Outcome::new("systemd-analyze verify".into(), &verified.expect("it runs"));
    verified.exits(0);
    assert!(!verified.stderr.contains("ferry.service"), "{verified}");
    let root = format!("--root={}", machine.root.path().display());
    for (verb, linked) in [("enable", true), ("disable", false)] {
        let outcome = Command::new("systemctl").args([&root, verb, "ferry.service"]).output();
        Outcome::new(format!("systemctl {verb}"), &outcome.expect("it runs")).exits(0);
        let link = folder.join("multi-user.target.wants/ferry.service");
        assert_eq!(link.symlink_metadata().is_ok(), linked, "{verb}");
    }
    service_runs(&machine, &unit.stdout);
}

/// Runs what the unit runs as a service manager would: in the foreground until SIGTERM, which ends the main
/// process alone; the next one finds the containers running.
fn service_runs(machine: &Machine, unit: &str) {
    let command = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).expect("a command");
    let engine = format!(
        "--data-root {0}/data --run-root {0}/run --host unix://{0}/ferry.sock",
        machine.root.path().display()
    );
    let host = format!("unix://{}", machine.path("ferry.sock").display());
    let ferry = |line: &str| {
        let output = Command::new(binary()).args(["--host", &host]).args(line.split_whitespace()).output();
        Outcome::new(line.into(), &output.expect("ferry runs"))
    };
    let mut pids = Vec::new();
    for round in 0..2 {
        let words: Vec<&str> = command.split_whitespace().chain(engine.split_whitespace()).collect();
        let mut service = Command::new(words[0]);
        let log = fs::File::create(machine.path("service.log")).expect("a file");
        let mut service =
            service.args(&words[1..]).stdin(Stdio::null()).stderr(log).spawn().expect("it starts");
        wait_until("the service answers", || ferry("version").code == 0);
        if round == 0 {
            ferry(&format!("load -q -i {}", images::archive("busybox").display())).exits(0);
            ferry("run -d --name box --network none busybox sleep 1000").exits(0);
        }
        pids.push(ferry("inspect -f {{.State.Status}}-{{.State.Pid}} box").ok().to_owned());
        if round == 1 {
            ferry("rm -f box").exits(0);
        }
        let pid = rustix::process::Pid::from_child(&service);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it lives");
        assert!(service.wait().expect("a child").success(), "it ends well when it is told to");
    }
    assert!(pids[0] == pids[1] && pids[0].starts_with("running-"), "{pids:?}");
}
