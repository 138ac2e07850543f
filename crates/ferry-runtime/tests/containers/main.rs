//! Containers that really run: needs root and a static busybox, and says so loudly without.
//!
//! One thread, no harness: the runtime clones the calling process.

mod support;

mod basics;
mod commands;
mod failures;
mod isolation;
mod limits;

use std::path::Path;

use support::Fixture;

/// A test, and its name.
type Case = (&'static str, fn(&Fixture));

fn main() {
    let filter = std::env::args().nth(1).filter(|argument| !argument.starts_with('-'));
    let suites = [basics::CASES, commands::CASES, isolation::CASES, limits::CASES, failures::CASES];
    let cases: Vec<Case> = suites.concat();
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED {} container tests: they need root", cases.len());
        return;
    }
    let Some(busybox) =
        ["/bin/busybox", "/usr/bin/busybox"].into_iter().find(|path| Path::new(path).exists())
    else {
        println!("SKIPPED {} container tests: they need busybox-static", cases.len());
        return;
    };
    // The machine's other mounts come and go; tests compare mount tables.
    ferry_sys::namespace::unshare(ferry_sys::namespace::Namespaces::MOUNT).expect("root may");
    ferry_sys::mount::make_all_private().expect("root may");
    let fixture = Fixture::new(Path::new(busybox));
    let mut failed = Vec::new();
    for (name, case) in cases {
        if filter.as_ref().is_some_and(|filter| !name.contains(filter.as_str())) {
            continue;
        }
        let before = std::time::Instant::now();
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| case(&fixture)));
        let word = if result.is_ok() { "ok" } else { "FAILED" };
        println!("container {name} ... {word} ({:.1} ms)", before.elapsed().as_secs_f64() * 1e3);
        if result.is_err() {
            failed.push(name);
        }
    }
    support::remove_parent_cgroup();
    assert!(failed.is_empty(), "failed: {}", failed.join(", "));
}
