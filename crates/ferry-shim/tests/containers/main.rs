//! Real containers through launcher and shim, without an engine.
//!
//! Needs root, busybox and cgroups; says loudly when it is skipped. `cargo test -p ferry-shim --test
//! containers NAME` runs the cases whose name contains NAME.

mod cases;
mod host;

use std::path::PathBuf;
use std::process::ExitCode;

use ferry_shim::launcher::{LauncherOptions, run};

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let first = arguments.next().unwrap_or_default();
    if first == "launcher" {
        let run_root = PathBuf::from(arguments.next().expect("the run root"));
        let code = run(&LauncherOptions { run_root, listen_fd: None }).expect("the launcher serves");
        return ExitCode::from(code as u8);
    }
    if let Some(reason) = host::missing() {
        println!("SKIPPED: {} container cases of ferry-shim: {reason}", cases::ALL.len());
        return ExitCode::SUCCESS;
    }
    let filter = if first.starts_with('-') { String::new() } else { first };
    let mut failed = 0;
    for (name, case) in cases::ALL.iter().filter(|(name, _)| name.contains(&filter)) {
        let begin = std::time::Instant::now();
        let result = std::panic::catch_unwind(|| {
            let mut host = host::Host::new(name);
            case(&mut host);
            host.assert_clean();
        });
        let verdict = if result.is_ok() { "ok" } else { "FAILED" };
        failed += usize::from(result.is_err());
        println!("case {name} ... {verdict} ({} ms)", begin.elapsed().as_millis());
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
