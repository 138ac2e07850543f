//! What an engine leaves on the machine after it has stopped: nothing. Looked for in the kernel's own lists, by
//! what tells this engine's things from those of the engines of other tests: its folder and its containers' ids.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use crate::engine::{Engine, patience};

/// Files that outlive an engine: for which interfaces the host was made to forward packets, which a later one must
/// know.
const KEPT: &[&str] = &["network/forwarding.json"];

/// What to look for when an engine has stopped.
pub struct Traces {
    root: PathBuf,
    data_root: PathBuf,
    run_root: PathBuf,
    /// Its containers, also those that are gone, as far as it remembers them.
    containers: BTreeSet<String>,
    /// Its bridges and what hangs on them.
    links: BTreeSet<String>,
}

impl Traces {
    /// Asks a running engine what it has made.
    #[must_use]
    pub fn of(engine: &Engine) -> Self {
        let events = ["events", "--since", "1", "--until", "0s", "--filter", "type=container"];
        let created =
            engine.ferry(events.iter().chain(&["--filter", "event=create", "--format", "{{.Actor.ID}}"]));
        let containers = created.stdout.split_whitespace().map(str::to_owned).collect();
        let mut links = BTreeSet::new();
        for entry in fs::read_dir(engine.run_root().join("network/networks")).into_iter().flatten().flatten()
        {
            let text = fs::read_to_string(entry.path()).unwrap_or_default();
            let plan: serde_json::Value = serde_json::from_str(&text).unwrap_or_default();
            let Some(bridge) = find_bridge(&plan) else { continue };
            let ports = Path::new("/sys/class/net").join(&bridge).join("brif");
            let ports = fs::read_dir(ports).into_iter().flatten().flatten();
            links.extend(ports.map(|port| port.file_name().to_string_lossy().into_owned()));
            links.insert(bridge);
        }
        Self {
            root: engine.directory().to_path_buf(),
            data_root: engine.data_root(),
            run_root: engine.run_root(),
            containers,
            links,
        }
    }

    /// Waits until nothing is left.
    ///
    /// # Panics
    /// With a list of what is still there when patience is over.
    pub fn wait_until_gone(&self) {
        let start = Instant::now();
        loop {
            let left = self.left();
            if left.is_empty() {
                return;
            }
            assert!(
                start.elapsed() < patience(),
                "the engine of {} has stopped and left behind:\n  {}",
                self.root.display(),
                left.join("\n  ")
            );
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }

    /// One line for each thing that is still there.
    fn left(&self) -> Vec<String> {
        let mut left = self.processes();
        left.extend(self.mounts());
        left.extend(self.cgroups());
        left.extend(self.network());
        left.extend(self.files());
        left
    }

    /// Keeper, engine and launcher name the run root on their command lines, monitors their container.
    fn processes(&self) -> Vec<String> {
        let root = self.root.to_string_lossy().into_owned();
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let Ok(line) = fs::read(entry.path().join("cmdline")) else { continue };
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            let monitor = line.strip_prefix("ferry-shim ").map(|rest| rest.trim().to_owned());
            let of_ours = monitor
                .is_some_and(|id| !id.is_empty() && self.containers.iter().any(|it| it.starts_with(&id)));
            let by_root = line.contains(&root)
                && ["keeper", "engine", "launcher"].iter().any(|role| line.contains(role));
            let zombie = fs::read_to_string(entry.path().join("stat")).is_ok_and(|stat| {
                stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z'))
            });
            if (of_ours || by_root) && !zombie {
                found.push(format!("process {name}: {}", line.trim()));
            }
        }
        found
    }

    fn mounts(&self) -> Vec<String> {
        let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let root = self.root.to_string_lossy().into_owned();
        table.lines().filter(|line| line.contains(&root)).map(|line| format!("mount: {line}")).collect()
    }

    fn cgroups(&self) -> Vec<String> {
        let hierarchies =
            fs::read_dir("/sys/fs/cgroup").into_iter().flatten().flatten().map(|entry| entry.path());
        let roots: Vec<PathBuf> = hierarchies.chain([PathBuf::from("/sys/fs/cgroup")]).collect();
        let mut found = Vec::new();
        for id in &self.containers {
            let places = roots.iter().map(|root| root.join("ferry").join(id));
            found.extend(
                places.filter(|path| path.exists()).map(|path| format!("cgroup: {}", path.display())),
            );
        }
        found
    }

    /// Links and the nftables table. What lived in a host of a test's own goes with that host.
    fn network(&self) -> Vec<String> {
        let there = |name: &&String| Path::new("/sys/class/net").join(name).exists();
        let mut found: Vec<String> =
            self.links.iter().filter(there).map(|name| format!("link: {name}")).collect();
        let table = table_name(&self.data_root);
        let tables = Command::new("nft").args(["list", "tables"]).output();
        let tables =
            tables.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
        if tables.lines().any(|line| line.ends_with(&format!(" {table}"))) {
            found.push(format!("nftables table: {table}"));
        }
        found
    }

    /// Sockets, pid files and records; tests put files of their own beside them.
    fn files(&self) -> Vec<String> {
        let mut found = Vec::new();
        walk(&self.run_root, &mut |path| {
            let name = path.strip_prefix(&self.run_root).unwrap_or(path).to_string_lossy().into_owned();
            let of_ours = [".sock", ".pid", ".owner"].iter().any(|ending| name.ends_with(ending))
                || name.starts_with("network/");
            if of_ours && !path.is_dir() && !KEPT.contains(&name.as_str()) {
                found.push(format!("file in the run root: {name}"));
            }
        });
        found
    }
}

/// The bridge of a network's record, wherever it stands in it.
fn find_bridge(value: &serde_json::Value) -> Option<String> {
    match value {
        serde_json::Value::Object(fields) => fields.iter().find_map(|(name, value)| match value {
            serde_json::Value::String(text) if name == "bridge" => Some(text.clone()),
            other => find_bridge(other),
        }),
        _ => None,
    }
}

/// The name of an engine's nftables table: `ferry-` and the FNV-1a digest of its data root.
fn table_name(data_root: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    let step = |hash: u32, byte: &u8| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    format!("ferry-{:08x}", data_root.as_os_str().as_bytes().iter().fold(0x811c_9dc5, step))
}

fn walk(folder: &Path, visit: &mut dyn FnMut(&Path)) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        visit(&path);
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            walk(&path, visit);
        }
    }
}
