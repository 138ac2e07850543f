//! The suite's scenarios as an ordinary user meets them: this same program, run by a user made for it who has no
//! privilege at all, with engines that this user starts.
//!
//! Of each area every scenario runs, but for those that a list below leaves out with its reason; so whatever is added
//! to an area applies to ordinary users too, until somebody says why not. Areas that are about the host itself (its
//! cgroups, firewall, devices, services) are not here, nor is what [`crate::rootless`] looks at from outside.
//!
//! `cargo xtask test as_user::` runs these alone.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use ferry_tests::{Outcome, images};

use crate::Test;
use crate::rootless::User;

/// The suite.
pub const TESTS: &[Test] = &[
    ("as_user::run", run),
    ("as_user::lifecycle", lifecycle),
    ("as_user::images", images_),
    ("as_user::build", build),
    ("as_user::build_steps", build_steps),
    ("as_user::data", data),
    ("as_user::networks", networks),
    ("as_user::compose", compose),
];

/// Scenarios that are left out, and why.
type LeftOut<'a> = &'a [(&'a str, &'a str)];

fn run() {
    let left_out: LeftOut<'_> = &[(
        "run::shares_namespaces_of_another",
        "the host's network is pasta's end of it: rootless::networks_and_ports",
    )];
    all_but(crate::run::TESTS, left_out);
}

fn lifecycle() {
    let left_out: LeftOut<'_> = &[
        ("lifecycle::pause_and_unpause", "it takes a cgroup: rootless::a_cgroup_handed_down"),
        ("lifecycle::restart_waits_for_the_run_before", "it moves a process of the host's into a cgroup"),
    ];
    all_but(crate::lifecycle::TESTS, left_out);
}

fn images_() {
    all_but(crate::images::TESTS, &[]);
}

fn build() {
    all_but(crate::build::TESTS, &[("build::corpus", "its Dockerfiles lie where the user may not read")]);
}

fn build_steps() {
    let callers = "build_steps::contexts_are_read_with_the_callers_rights";
    all_but(crate::build_steps::TESTS, &[(callers, "it calls as another user")]);
}

fn data() {
    all_but(crate::data::TESTS, &[("data::export_imports_again", "it makes a device node on the host")]);
}

fn networks() {
    let left_out: LeftOut<'_> = &[
        ("network::published_ports_answer", "a bridge's address is in the user's namespace, not the host's"),
        ("network::rounds_leave_nothing", "it makes a host of its own"),
    ];
    all_but(crate::network::TESTS, left_out);
}

fn compose() {
    all_but(crate::compose::TESTS, &[]);
}

/// Images that the scenarios load.
const IMAGES: &[&str] = &["busybox", "alpine", "debian", "hello-world", "python", "redis"];

/// Runs a suite but for what is left out, all of it even where some fails.
fn all_but(suite: &[Test], left_out: LeftOut<'_>) {
    for (name, _) in left_out {
        assert!(suite.iter().any(|(test, _)| test == name), "{name} is left out of a suite that has it not");
    }
    let tester = Tester::new();
    let chosen = suite.iter().filter(|(test, _)| !left_out.iter().any(|(name, _)| name == test));
    let failed: Vec<String> = chosen.filter_map(|(test, _)| tester.failure(test)).collect();
    assert!(failed.is_empty(), "as an ordinary user {} failed:\n{}", failed.len(), failed.join("\n"));
}

/// A user with a copy of this program and of what it needs, all readable by that user.
struct Tester {
    user: User,
    group: u32,
    program: PathBuf,
}

impl Tester {
    fn new() -> Tester {
        let user = User::new();
        let program = user.directory().join("blackbox");
        fs::copy(std::env::current_exe().expect("it runs"), &program).expect("a copy");
        let cache = user.directory().join("cache/images");
        fs::create_dir_all(&cache).expect("a folder");
        for name in IMAGES {
            let archive = images::cache().join("images").join(format!("{name}.tar"));
            let place = cache.join(format!("{name}.tar"));
            // Another name of the same file where that is possible: some are large.
            if archive.exists() && fs::hard_link(&archive, &place).is_err() {
                fs::copy(&archive, &place).expect("a copy");
            }
        }
        let temporary = user.directory().join("tmp");
        fs::create_dir(&temporary).expect("a folder");
        let group = user.script("id -g").ok().parse().expect("a number");
        std::os::unix::fs::chown(&temporary, Some(user.uid()), Some(group)).expect("its owner");
        Tester { user, group, program }
    }

    /// What a scenario printed where it failed.
    fn failure(&self, test: &str) -> Option<String> {
        let folder = self.user.directory();
        let mut command = Command::new(&self.program);
        // Without privileges every scenario is one that is ignored unless asked for.
        command.args(["--ignored", "--exact", test, "--test-threads=1"]);
        command.env_clear().env("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin");
        command.env("HOME", self.user.home()).env("TMPDIR", folder.join("tmp")).env("LANG", "C.UTF-8");
        command.env("FERRY_BINARY", folder.join("ferry")).env("FERRY_CACHE_DIR", folder.join("cache"));
        if let Some(slowness) = std::env::var_os("FERRY_TEST_SLOWNESS") {
            command.env("FERRY_TEST_SLOWNESS", slowness);
        }
        // A process of that user's and no other group, as after a login.
        command.uid(self.user.uid()).gid(self.group).current_dir(self.user.home());
        let output = command.stdin(Stdio::null()).output().expect("the program runs");
        let outcome = Outcome::new(test.to_owned(), &output);
        let passed = outcome.code == 0 && outcome.stdout.contains("1 passed");
        (!passed).then(|| outcome.to_string())
    }
}
