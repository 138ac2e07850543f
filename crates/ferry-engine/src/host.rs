//! Facts about the machine, read once: kernel, processors, memory, what its cgroups can limit.

use ferry_sys::namespace::in_user_namespace;
use std::collections::BTreeMap;
use std::path::Path;

use ferry_api::system::{Commit, Info};
use serde_json::json;

/// What the engine needs to know of its host.
#[derive(Debug, Clone, Default)]
pub struct Host {
    /// Host name.
    pub name: String,
    /// Kernel release.
    pub kernel_version: String,
    /// `PRETTY_NAME` of os-release.
    pub operating_system: String,
    /// `VERSION_ID` of os-release.
    pub os_version: String,
    /// Docker's word for the architecture (`amd64`).
    pub architecture: &'static str,
    /// The kernel's word (`x86_64`).
    pub machine: String,
    /// Processors this process may use.
    pub processors: u32,
    /// Processors the machine has; affinity may keep some from this process.
    pub processors_configured: u32,
    /// Bytes of memory.
    pub memory: u64,
    /// Capabilities this process has, as a bit mask: no container can get more.
    pub capabilities: u64,
    /// Cgroup hierarchies by controller.
    pub cgroups: Cgroups,
}

/// Which cgroup version rules and which limits it has.
#[derive(Debug, Clone, Default)]
pub struct Cgroups {
    /// Pure version 2.
    pub unified: bool,
    /// Names of the controllers in force.
    pub controllers: Vec<String>,
    /// Swap is accounted.
    pub swap: bool,
    /// Whether this engine may make any: one of an ordinary user needs a part handed down to it.
    pub usable: bool,
}

impl Cgroups {
    fn read() -> Self {
        let usable = ferry_runtime::cgroup::is_available();
        if in_user_namespace() {
            return Self::of_user(usable);
        }
        let root = Path::new("/sys/fs/cgroup");
        let unified_file = std::fs::read_to_string(root.join("cgroup.controllers"));
        if let Ok(text) = unified_file {
            let controllers = text.split_whitespace().map(str::to_owned).collect();
            let swap = Path::new("/proc/self/cgroup").exists() && swap_accounted_unified(root);
            return Self { unified: true, controllers, swap, usable };
        }
        let listed = std::fs::read_to_string("/proc/cgroups").unwrap_or_default();
        let controllers =
            enabled_controllers(&listed).into_iter().filter(|name| root.join(name).is_dir()).collect();
        let swap = root.join("memory/memory.memsw.limit_in_bytes").exists();
        Self { unified: false, controllers, swap, usable }
    }

    /// What was handed down to an ordinary user.
    fn of_user(usable: bool) -> Self {
        let root = ferry_runtime::cgroup::unified_root();
        let text = root.and_then(|root| std::fs::read_to_string(root.join("cgroup.controllers")).ok());
        let controllers: Vec<String> =
            text.unwrap_or_default().split_whitespace().map(str::to_owned).collect();
        let swap = controllers.iter().any(|name| name == "memory");
        Self { unified: Path::new("/sys/fs/cgroup/cgroup.controllers").exists(), controllers, swap, usable }
    }

    /// Is this controller in force? Version 2 has pieces of version 1 under other names.
    pub fn has(&self, controller: &str) -> bool {
        let name = match (self.unified, controller) {
            (true, "blkio") => "io",
            (true, "cpuacct") => "cpu",
            (_, name) => name,
        };
        self.controllers.iter().any(|have| have == name)
    }
}

/// The root cgroup has no swap file of its own; a child with memory accounting tells. On a machine that has no
/// such child yet it is there unless it was switched off at boot (kernel documentation, `swapaccount=`).
fn swap_accounted_unified(root: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(root) else { return false };
    let accounted = entries.flatten().map(|entry| entry.path()).find(|path| path.join("memory.max").exists());
    match accounted {
        Some(child) => child.join("memory.swap.max").exists(),
        None => {
            let line = std::fs::read_to_string("/proc/cmdline").unwrap_or_default();
            !line.split_whitespace().any(|word| word == "swapaccount=0")
        }
    }
}

/// Names in `/proc/cgroups` whose last column is 1.
fn enabled_controllers(text: &str) -> Vec<String> {
    let rows = text.lines().filter(|line| !line.starts_with('#'));
    let enabled = rows.filter_map(|line| {
        let mut columns = line.split_whitespace();
        let name = columns.next()?;
        (columns.nth(2)? == "1").then(|| name.to_owned())
    });
    enabled.collect()
}

impl Host {
    /// Asks the kernel.
    pub fn read() -> Self {
        let uname = rustix::system::uname();
        let text = |value: &std::ffi::CStr| value.to_string_lossy().into_owned();
        let machine = text(uname.machine());
        let os_release = ["/etc/os-release", "/usr/lib/os-release"]
            .into_iter()
            .find_map(|path| std::fs::read_to_string(path).ok())
            .map(|text| parse_os_release(&text))
            .unwrap_or_default();
        let value = |key: &str| os_release.get(key).cloned().unwrap_or_default();
        Self {
            name: text(uname.nodename()),
            kernel_version: text(uname.release()),
            operating_system: value("PRETTY_NAME"),
            os_version: value("VERSION_ID"),
            architecture: go_architecture(std::env::consts::ARCH),
            machine,
            processors: std::thread::available_parallelism().map_or(1, |count| count.get() as u32),
            processors_configured: configured_processors(
                &std::fs::read_to_string("/sys/devices/system/cpu/present").unwrap_or_default(),
            ),
            capabilities: effective_capabilities(
                &std::fs::read_to_string("/proc/self/status").unwrap_or_default(),
            ),
            memory: memory_total(&std::fs::read_to_string("/proc/meminfo").unwrap_or_default()),
            cgroups: Cgroups::read(),
        }
    }

    /// The part of `/info` that is about the host.
    pub fn describe(&self) -> Info {
        let cgroups = &self.cgroups;
        let mut security = vec!["name=seccomp,profile=builtin".to_owned()];
        if cgroups.unified {
            security.push("name=cgroupns".into());
        }
        if in_user_namespace() {
            security.push("name=rootless".into());
        }
        Info {
            driver: "overlay2".into(),
            driver_status: vec![["Backing Filesystem".into(), "overlayfs".into()]],
            memory_limit: cgroups.has("memory"),
            swap_limit: cgroups.swap,
            cpu_cfs_period: cgroups.has("cpu"),
            cpu_cfs_quota: cgroups.has("cpu"),
            cpu_shares: cgroups.has("cpu"),
            cpu_set: cgroups.has("cpuset"),
            pids_limit: cgroups.has("pids"),
            ipv4_forwarding: std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward")
                .is_ok_and(|it| it.trim() == "1"),
            oom_kill_disable: cgroups.has("memory") && !cgroups.unified,
            n_fd: std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count() as i64),
            logging_driver: "json-file".into(),
            cgroup_driver: if cgroups.usable { "cgroupfs" } else { "none" }.into(),
            cgroup_version: if cgroups.unified { "2" } else { "1" }.into(),
            kernel_version: self.kernel_version.clone(),
            operating_system: self.operating_system.clone(),
            os_version: self.os_version.clone(),
            os_type: "linux".into(),
            architecture: self.machine.clone(),
            index_server_address: "https://index.docker.io/v1/".into(),
            ncpu: i64::from(self.processors),
            mem_total: i64::try_from(self.memory).unwrap_or(i64::MAX),
            name: self.name.clone(),
            runtimes: BTreeMap::from([("ferry".to_owned(), json!({ "path": "ferry" }))]),
            default_runtime: "ferry".into(),
            live_restore_enabled: true,
            init_binary: "ferry".into(),
            containerd_commit: Commit::default(),
            security_options: security,
            ..Info::default()
        }
    }
}

/// Go's name of an architecture.
pub fn go_architecture(rust: &'static str) -> &'static str {
    match rust {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        other => other,
    }
}

/// One more than the last number in `0-3`.
fn configured_processors(present: &str) -> u32 {
    let last = present.trim().rsplit(['-', ',']).next().and_then(|number| number.parse::<u32>().ok());
    last.map_or(1, |last| last + 1)
}

fn effective_capabilities(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0)
}

fn memory_total(meminfo: &str) -> u64 {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kilobytes = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}

fn parse_os_release(text: &str) -> BTreeMap<String, String> {
    let pairs = text.lines().filter_map(|line| line.trim().split_once('='));
    pairs.map(|(key, value)| (key.to_owned(), value.trim_matches(['"', '\'']).to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_the_host_read() {
        assert_eq!(memory_total("MemTotal:       24576000 kB\nMemFree: 1 kB\n"), 24_576_000 * 1024);
        assert_eq!(memory_total(""), 0);
        assert_eq!(
            (configured_processors("0-3\n"), configured_processors("0"), configured_processors("")),
            (4, 1, 1)
        );
        assert_eq!(effective_capabilities("Name:\tx\nCapEff:\t000001ffffffffff\n"), 0x1ff_ffff_ffff);
        let release =
            parse_os_release("PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_ID='12'\n# x\n");
        assert_eq!(release["PRETTY_NAME"], "Debian GNU/Linux 12 (bookworm)");
        assert_eq!(release["VERSION_ID"], "12");
        let cgroups = "#subsys_name\thierarchy\tnum_cgroups\tenabled\ncpu\t2\t1\t1\nmemory\t3\t1\t0\n";
        assert_eq!(enabled_controllers(cgroups), ["cpu"]);
    }
}
