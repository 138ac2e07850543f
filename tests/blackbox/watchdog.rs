//! Sees to it that a test that hangs ends: says what it hangs on, kills the commands that hang, so that the
//! test fails with their text, and ends the whole run where even that does not help.

use std::collections::BTreeMap;
use std::fs;
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
        eprintln!("HANGS: {child}; it is killed");
        kill_process(child.pid);
    }
    if longest > limit() + patience() {
        eprintln!("HANGS: killing its commands did not end the test; the run ends here");
        std::process::exit(101);
    }
}

/// A process that this one started.
struct ChildProcess {
    pid: i32,
    age: Duration,
}

impl std::fmt::Display for ChildProcess {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let read = |file: &str| fs::read_to_string(format!("/proc/{}/{file}", self.pid)).unwrap_or_default();
        let command = read("cmdline").replace('\0', " ");
        let waits = read("wchan");
        write!(out, "process {} ({}) for {} s in {waits}", self.pid, command.trim(), self.age.as_secs())
    }
}

/// Children that are older than any test should be: they belong to a test that hangs.
fn old_children() -> Vec<ChildProcess> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let children = pids.filter_map(|pid| Some(ChildProcess { pid, age: age_of_child(pid)? }));
    children.filter(|child| child.age > limit()).collect()
}

/// The age of a process, where this one is its parent (proc_pid_stat(5), fields 4 and 22).
fn age_of_child(pid: i32) -> Option<Duration> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let fields: Vec<&str> = stat.rsplit(')').next()?.split_whitespace().collect();
    let (parent, started): (u32, u64) = (fields.get(1)?.parse().ok()?, fields.get(19)?.parse().ok()?);
    let uptime = fs::read_to_string("/proc/uptime").ok()?;
    let uptime: f64 = uptime.split_whitespace().next()?.parse().ok()?;
    let ticks = rustix::param::clock_ticks_per_second();
    let started = Duration::from_millis(started * 1000 / ticks);
    (parent == std::process::id()).then(|| Duration::from_secs_f64(uptime).saturating_sub(started))
}
