//! Back to a plain process: what was inherited from whoever called first goes.
//!
//! Environment, working directory and descriptors beyond the three standard ones are the keeper's to
//! clear when it executes the launcher; namespaces are the keeper's own. What cannot be reset without a
//! privilege this host withholds (a niceness below the inherited one, say) stays.

use std::io;

use rustix::fs::Mode;
use rustix::process::{Resource, Rlimit, getrlimit, setpriority_process, setrlimit, umask};
use rustix::thread::{CpuSet, sched_setaffinity};

/// What Docker's daemon has been started with for years; more makes old programs that close "all"
/// descriptors crawl.
const OPEN_FILES: u64 = 1 << 20;
/// The kernel's own default. Unlimited would switch programs to the legacy memory layout.
const STACK: u64 = 8 << 20;

/// Resets all that a child would inherit.
pub(super) fn everything_inherited() -> io::Result<()> {
    rustix::process::chdir("/")?;
    umask(Mode::from_raw_mode(0o022));
    // Leads a session already when the keeper made it so.
    let _ = rustix::process::setsid();
    rustix::process::set_parent_process_death_signal(None)?;
    ferry_sys::signal::reset()?;
    limits();
    scheduling();
    Ok(())
}

/// Soft limits become the hard ones, which only a privileged process could raise.
fn limits() {
    use Resource::{As, Core, Cpu, Data, Fsize, Locks, Memlock, Msgqueue, Nice, Nofile, Nproc, Rss, Rtprio};
    use Resource::{Rttime, Sigpending, Stack};
    let all = [
        As, Core, Cpu, Data, Fsize, Locks, Memlock, Msgqueue, Nice, Nofile, Nproc, Rss, Rtprio, Rttime,
        Sigpending, Stack,
    ];
    for resource in all {
        let maximum = getrlimit(resource).maximum;
        let capped = |cap: u64| Some(maximum.map_or(cap, |maximum| maximum.min(cap)));
        let current = match resource {
            Nofile => capped(OPEN_FILES),
            Stack => capped(STACK),
            _ => maximum,
        };
        let _ = setrlimit(resource, Rlimit { current, maximum });
    }
}

fn scheduling() {
    let mut all = CpuSet::new();
    (0..CpuSet::MAX_CPU).for_each(|cpu| all.set(cpu));
    let _ = sched_setaffinity(None, &all);
    let _ = setpriority_process(None, 0);
    let _ = std::fs::write("/proc/self/oom_score_adj", "0");
}
