//! Sees to it that a test that hangs ends: says what it hangs on, kills the commands that hang, so that the
//! test fails with their text, and ends the whole run where even that does not help. Ends what failed tests
//! left behind, too: whoever reads our output waits until everybody who may write to it is gone.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use ferry_tests::engine::{kill_process, patience};

/// The tests under way and since when.
static UNDER_WAY: Mutex<BTreeMap<&'static str, Instant>> = Mutex::new(BTreeMap::new());

/// A test that takes longer than this is named with its time when it has ended.
const SLOW: Duration = Duration::from_secs(30);

/// Ten times as long as one condition may take: no test that works needs as much.
fn limit() -> Duration {
    patience() * 10
}

/// Starts looking.
pub fn start() {
    thread::spawn(|| {
        loop {
            thread::sleep(Duration::from_secs(5));
            look();
        }
    });
}

/// Runs a test under the watchdog's eyes.
pub fn watched(name: &'static str, test: impl FnOnce()) {
    let begun = Instant::now();
    UNDER_WAY.lock().expect("no test panics while it holds this").insert(name, begun);
    let _entry = Entry(name);
    test();
    if begun.elapsed() > SLOW {
        eprintln!("slow: {name} took {} s", begun.elapsed().as_secs());
    }
}

/// Takes the entry out again, also when the test panics.
struct Entry(&'static str);

impl Drop for Entry {
    fn drop(&mut self) {
        UNDER_WAY.lock().expect("no test panics while it holds this").remove(self.0);
    }
}

fn look() {
    let late: Vec<(&str, Duration)> = UNDER_WAY
        .lock()
        .expect("no test panics while it holds this")
        .iter()
        .map(|(name, begun)| (*name, begun.elapsed()))
        .filter(|(_, taken)| *taken > limit())
        .collect();
    for (name, taken) in &late {
        eprintln!("HANGS: {name} for {} s", taken.as_secs());
    }
    let Some(longest) = late.iter().map(|(_, taken)| *taken).max() else { return };
    for child in old_children() {
        eprintln!("HANGS: {}, for {} s; it is killed", Shown(child.pid), child.age.as_secs());
        kill_process(child.pid);
    }
    if longest > limit() + patience() {
        eprintln!("HANGS: killing its commands did not end the test; the run ends here");
        end_what_is_left();
        std::process::exit(101);
    }
}

/// Kills processes that still have this one's output streams, its ancestors aside.
pub fn end_what_is_left() {
    let own: Vec<_> = outputs("self").collect();
    let ancestors = ancestors();
    for pid in processes().filter(|pid| !ancestors.contains(pid)) {
        if outputs(&pid.to_string()).any(|output| own.contains(&output)) {
            eprintln!("LEFT BEHIND: {}; it is killed", Shown(pid));
            kill_process(pid);
        }
    }
}

/// The pipes that are a process's standard output and error.
fn outputs(process: &str) -> impl Iterator<Item = PathBuf> {
    let links = [1, 2].map(|number| fs::read_link(format!("/proc/{process}/fd/{number}")));
    links.into_iter().flatten().filter(|link| link.to_string_lossy().starts_with("pipe:"))
}

/// This process and all it descends from.
fn ancestors() -> Vec<i32> {
    let mut all = vec![i32::try_from(std::process::id()).expect("process ids are small")];
    while let Some(parent) =
        all.last().and_then(|pid| stat(*pid)).map(|stat| stat.parent).filter(|pid| *pid > 0)
    {
        all.push(parent);
    }
    all
}

fn processes() -> impl Iterator<Item = i32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// What proc_pid_stat(5) tells in fields 4 and 22.
struct Stat {
    parent: i32,
    /// Clock ticks after boot.
    started: u64,
}

fn stat(pid: i32) -> Option<Stat> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
    Some(Stat { parent: fields.get(1)?.parse().ok()?, started: fields.get(19)?.parse().ok()? })
}

/// A process, for people.
struct Shown(i32);

impl std::fmt::Display for Shown {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let read = |file: &str| fs::read_to_string(format!("/proc/{}/{file}", self.0)).unwrap_or_default();
        write!(
            out,
            "process {} ({}), in {}",
            self.0,
            read("cmdline").replace('\0', " ").trim(),
            read("wchan")
        )
    }
}

/// A process that this one started.
struct ChildProcess {
    pid: i32,
    age: Duration,
}

/// Children that are older than any test should be: they belong to a test that hangs.
fn old_children() -> impl Iterator<Item = ChildProcess> {
    let children = processes().filter_map(|pid| Some(ChildProcess { pid, age: age_of_child(pid)? }));
    children.filter(|child| child.age > limit())
}

/// The age of a process, where this one is its parent.
fn age_of_child(pid: i32) -> Option<Duration> {
    let stat = stat(pid)?;
    let uptime = fs::read_to_string("/proc/uptime").ok()?;
    let uptime: f64 = uptime.split_whitespace().next()?.parse().ok()?;
    let started = Duration::from_millis(stat.started * 1000 / rustix::param::clock_ticks_per_second());
    (u32::try_from(stat.parent) == Ok(std::process::id()))
        .then(|| Duration::from_secs_f64(uptime).saturating_sub(started))
}
