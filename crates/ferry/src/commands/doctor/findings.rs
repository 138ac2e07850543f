//! The judgement: from facts to findings, each with its mend.

use std::time::Duration;

use ferry_keeper::Need;

use super::machine::{Engine, Machine};
use crate::output::units;

/// The mount calls that build a container's file system are complete since then.
const OLDEST_KERNEL: (u32, u32) = (6, 1);
/// Less free than this share of a disk, or than so many bytes, is little.
const LITTLE_PERCENT: u64 = 5;
const LITTLE_BYTES: u64 = 2 << 30;
/// Fewer open files than this end with the first busy database.
const FEW_FILES: u64 = 65_536;
/// Fewer inotify instances than this end with a few development servers.
const FEW_WATCHERS: u64 = 256;
/// Controllers that limits need.
const CONTROLLERS: [&str; 4] = ["cpu", "io", "memory", "pids"];
/// Other engines, by the name of their process.
const OTHER_ENGINES: [&str; 5] = ["dockerd", "containerd", "crio", "k3s-server", "kubelet"];

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// As it should be.
    Fine,
    /// Works, with a catch.
    Doubtful,
    /// Containers do not work.
    Broken,
}

/// One thing looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub level: Level,
    pub subject: &'static str,
    pub fact: String,
    pub mend: Option<String>,
}

fn fine(subject: &'static str, fact: impl Into<String>) -> Finding {
    Finding { level: Level::Fine, subject, fact: fact.into(), mend: None }
}

fn doubtful(subject: &'static str, fact: impl Into<String>, mend: &str) -> Finding {
    Finding { level: Level::Doubtful, subject, fact: fact.into(), mend: Some(mend.to_owned()) }
}

fn broken(subject: &'static str, fact: impl Into<String>, mend: &str) -> Finding {
    Finding { level: Level::Broken, subject, fact: fact.into(), mend: Some(mend.to_owned()) }
}

/// Judges everything, in the order in which a start needs it.
pub fn examine(machine: &Machine) -> Vec<Finding> {
    vec![
        privileges(machine),
        kernel(machine),
        file_system(machine),
        cgroups(machine),
        network(machine),
        names(machine),
        disk(machine),
        limits(machine),
        watchers(machine),
        clock(machine),
        other_engines(machine),
        engine(machine),
    ]
}

fn privileges(machine: &Machine) -> Finding {
    let list = |part: fn(&Need) -> &str| machine.needs.iter().map(part).collect::<Vec<_>>().join("; ");
    let (facts, mends) = (list(|need| &need.fact), list(|need| &need.mend));
    match (machine.root, machine.needs.is_empty()) {
        (true, _) => fine("privileges", "root"),
        (false, true) => fine("privileges", "an ordinary user, in a user namespace"),
        (false, false) if machine.needs.iter().any(|need| need.vital) => broken("privileges", facts, &mends),
        (false, false) => doubtful("privileges", facts, &mends),
    }
}

fn kernel(machine: &Machine) -> Finding {
    let mut numbers =
        machine.kernel.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    let version = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    match version >= OLDEST_KERNEL {
        true => fine("kernel", &machine.kernel),
        false => doubtful(
            "kernel",
            format!(
                "{} is older than {}.{}, the oldest that is tried",
                machine.kernel, OLDEST_KERNEL.0, OLDEST_KERNEL.1
            ),
            "install your distribution's newest kernel and boot it",
        ),
    }
}

fn file_system(machine: &Machine) -> Finding {
    match machine.file_systems.lines().any(|line| line.trim_end().ends_with("overlay")) {
        true => fine("layers", "overlay"),
        false => broken("layers", "the kernel has no overlay file system", "modprobe overlay"),
    }
}

fn cgroups(machine: &Machine) -> Finding {
    let mounted = |kind: &str| machine.mounts.lines().any(|line| line.contains(&format!(" - {kind} ")));
    match (mounted("cgroup"), mounted("cgroup2")) {
        (false, false) => broken(
            "cgroups",
            "none are mounted: limits cannot be kept",
            "mount -t cgroup2 cgroup2 /sys/fs/cgroup",
        ),
        (true, true) => fine("cgroups", "version 1 and 2 (hybrid)"),
        (true, false) => fine("cgroups", "version 1"),
        (false, true) => {
            let there: Vec<&str> = machine.controllers.split_whitespace().collect();
            let missing: Vec<&str> = CONTROLLERS.into_iter().filter(|name| !there.contains(name)).collect();
            match missing.is_empty() {
                true => fine("cgroups", "version 2"),
                false => doubtful(
                    "cgroups",
                    format!("version 2 without {}: these limits have no effect", missing.join(", ")),
                    "boot with cgroup_enable=memory, or have the controllers delegated (systemd: Delegate=yes)",
                ),
            }
        }
    }
}

fn network(machine: &Machine) -> Finding {
    match machine.tracks_connections {
        true => fine("network", "nftables and connection tracking"),
        false => doubtful(
            "network",
            "connection tracking is not loaded (yet): published ports need it",
            "modprobe -a nf_tables nf_conntrack nft_chain_nat br_netfilter veth bridge",
        ),
    }
}

fn names(machine: &Machine) -> Finding {
    let servers: Vec<&str> = machine
        .resolver
        .lines()
        .filter_map(|line| line.trim().strip_prefix("nameserver"))
        .map(str::trim)
        .collect();
    match servers.is_empty() {
        false => fine("names", format!("asked of {}", servers.join(", "))),
        true => doubtful(
            "names",
            "/etc/resolv.conf names no server: containers will not find hosts outside",
            "echo 'nameserver 9.9.9.9' >> /etc/resolv.conf, or ferry run --dns ADDRESS",
        ),
    }
}

fn disk(machine: &Machine) -> Finding {
    let Some(disk) = &machine.disk else { return fine("disk", "not looked at") };
    let size = |bytes: u64| units::size(i64::try_from(bytes).unwrap_or(i64::MAX));
    let fact = format!("{} free of {} under {}", size(disk.free), size(disk.total), disk.path.display());
    let little = disk.free < LITTLE_BYTES || disk.free < disk.total / 100 * LITTLE_PERCENT;
    match (little, disk.files_free_percent < LITTLE_PERCENT) {
        (true, _) => doubtful("disk", fact, "ferry system df; ferry system prune"),
        (false, true) => doubtful("disk", format!("{fact}, and hardly any files"), "ferry system prune"),
        (false, false) => fine("disk", fact),
    }
}

fn limits(machine: &Machine) -> Finding {
    match machine.open_files {
        limit if limit < FEW_FILES => doubtful(
            "open files",
            format!("at most {limit} for one process"),
            "raise LimitNOFILE of the service, or 'ulimit -Hn' of the shell that starts the engine",
        ),
        u64::MAX => fine("open files", "unlimited"),
        limit => fine("open files", format!("up to {limit}")),
    }
}

fn watchers(machine: &Machine) -> Finding {
    match machine.watchers {
        few if few < FEW_WATCHERS => doubtful(
            "file watchers",
            format!("at most {few} for one user, all containers together"),
            "sysctl -w fs.inotify.max_user_instances=1024",
        ),
        enough => fine("file watchers", format!("up to {enough}")),
    }
}

fn clock(machine: &Machine) -> Finding {
    match machine.clock_behind > Duration::from_secs(60) {
        false => fine("clock", "plausible"),
        true => doubtful(
            "clock",
            "it is behind the time at which ferry was installed: certificates will be refused",
            "set it: timedatectl set-ntp true",
        ),
    }
}

fn other_engines(machine: &Machine) -> Finding {
    let others: Vec<&str> = OTHER_ENGINES
        .into_iter()
        .filter(|name| machine.programs.iter().any(|program| program == name))
        .collect();
    match others.is_empty() {
        true => fine("other engines", "none"),
        false => fine(
            "other engines",
            format!("{} run beside; each has its own images and ports", others.join(", ")),
        ),
    }
}

fn engine(machine: &Machine) -> Finding {
    match &machine.engine {
        Engine::Unasked => fine("engine", "not asked"),
        Engine::Silent(reason) => broken("engine", reason, "ferry engine run, to see what it says"),
        Engine::Answered { version, took, warnings, .. } => {
            let fact = format!("{version} answers in {:.1} ms", took.as_secs_f64() * 1000.0);
            match warnings.is_empty() {
                true => fine("engine", fact),
                false => doubtful("engine", format!("{fact}; {}", warnings.join("; ")), "ferry info"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::machine::Disk;
    use super::*;

    fn healthy() -> Machine {
        Machine {
            root: true,
            kernel: "6.1.0-28-amd64".into(),
            file_systems: "nodev\tproc\nnodev\toverlay\n\text4\n".into(),
            mounts: "24 1 0:1 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n".into(),
            controllers: "cpuset cpu io memory pids".into(),
            tracks_connections: true,
            resolver: "nameserver 192.0.2.1\n".into(),
            disk: Some(Disk { path: "/".into(), total: 100 << 30, free: 50 << 30, files_free_percent: 90 }),
            open_files: 1 << 20,
            watchers: 1024,
            ..Machine::default()
        }
    }

    fn lack(machine: &mut Machine, vital: bool) {
        machine.root = false;
        machine.needs = vec![Need { vital, fact: "no pasta".into(), mend: "apt install passt".into() }];
    }

    #[test]
    fn each_trouble_has_its_finding_and_mend() {
        assert!(
            examine(&healthy()).iter().all(|finding| finding.level == Level::Fine && finding.mend.is_none())
        );
        type Harm = fn(&mut Machine);
        let rows: &[(&str, Level, Harm)] = &[
            ("privileges", Level::Doubtful, |machine| lack(machine, false)),
            ("privileges", Level::Broken, |machine| lack(machine, true)),
            ("kernel", Level::Doubtful, |machine| machine.kernel = "4.19.0".into()),
            ("layers", Level::Broken, |machine| machine.file_systems = "\text4\n".into()),
            ("cgroups", Level::Broken, |machine| machine.mounts = String::new()),
            ("cgroups", Level::Doubtful, |machine| machine.controllers = "cpu io pids".into()),
            ("network", Level::Doubtful, |machine| machine.tracks_connections = false),
            ("names", Level::Doubtful, |machine| machine.resolver = "search example\n".into()),
            ("disk", Level::Doubtful, |machine| machine.disk.as_mut().unwrap().free = 1 << 30),
            ("disk", Level::Doubtful, |machine| machine.disk.as_mut().unwrap().files_free_percent = 1),
            ("open files", Level::Doubtful, |machine| machine.open_files = 1024),
            ("file watchers", Level::Doubtful, |machine| machine.watchers = 128),
            ("clock", Level::Doubtful, |machine| machine.clock_behind = Duration::from_secs(1000)),
            ("engine", Level::Broken, |machine| machine.engine = Engine::Silent("no answer".into())),
        ];
        for (subject, level, harm) in rows {
            let mut machine = healthy();
            harm(&mut machine);
            let found = examine(&machine);
            let bad: Vec<_> = found.iter().filter(|finding| finding.level != Level::Fine).collect();
            assert_eq!(bad.len(), 1, "{subject}: {bad:?}");
            assert_eq!((bad[0].subject, bad[0].level), (*subject, *level));
            assert!(bad[0].mend.is_some(), "{subject} has no mend");
        }
    }
}
