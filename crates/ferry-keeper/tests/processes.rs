//! Keeper, launcher and a small engine as real processes: who dies is replaced, clients never notice.
//!
//! The engine here answers every connection with its process id and guards its keeper, as the real one.

use std::ffi::OsString;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use ferry_keeper::{KeeperOptions, client, ensure_running, guard_keeper};
use ferry_shim::client::LauncherClient;
use ferry_shim::launcher::LauncherOptions;
use ferry_shim::protocol::{LauncherReply, LauncherRequest, VERSION};

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let command = arguments.next().unwrap_or_default();
    let code = match command.to_str() {
        Some("keeper") => match ferry_keeper::run(&KeeperOptions::parse(arguments).unwrap()) {
            Ok(code) => code,
            Err(error) => {
                eprintln!("ferry keeper: {error}");
                1
            }
        },
        Some("engine-worker") => serve(&KeeperOptions::parse(arguments).unwrap()),
        Some("launcher") => ferry_shim::launcher::run(&LauncherOptions::parse(arguments).unwrap()).unwrap(),
        _ => run_cases(command),
    };
    ExitCode::from(code as u8)
}

fn serve(options: &KeeperOptions) -> i32 {
    let number = std::env::var("FERRY_LISTEN_FD").unwrap().parse().unwrap();
    let listener: OwnedFd = ferry_sys::descriptor::inherited(number).unwrap();
    guard_keeper(options.clone(), vec![listener.try_clone().unwrap()]).unwrap();
    for stream in UnixListener::from(listener).incoming() {
        use std::io::Write;
        // A client that left while it waited needs no answer.
        let _ = stream.unwrap().write_all(std::process::id().to_string().as_bytes());
    }
    0
}

type Case = fn(&KeeperOptions);

const CASES: &[(&str, Case)] = &[
    ("start-and-stop", start_and_stop),
    ("parallel-starts", parallel_starts),
    ("killed-engine", killed_engine),
    ("killed-launcher", killed_launcher),
    ("killed-keeper", killed_keeper),
    ("all-killed", all_killed),
    ("clear-errors", clear_errors),
];

fn run_cases(filter: OsString) -> i32 {
    let filter = filter.into_string().unwrap();
    let filter = if filter.starts_with('-') { "" } else { &filter };
    let mut failed = 0;
    for (name, case) in CASES.iter().filter(|(name, _)| name.contains(filter)) {
        let root = std::env::temp_dir().join(format!("ferry-keeper-{name}-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&root);
        let options = KeeperOptions {
            data_root: root.join("data"),
            run_root: root.join("run"),
            hosts: vec![format!("unix://{}/api.sock", root.display())],
            ..KeeperOptions::default()
        };
        let result = std::panic::catch_unwind(|| case(&options));
        let _ = client::stop(&options.run_root, Duration::from_secs(1));
        if result.is_err() {
            eprintln!("{}", std::fs::read_to_string(options.run_root.join("engine.log")).unwrap_or_default());
        }
        println!("case {name} ... {}", if result.is_ok() { "ok" } else { "FAILED" });
        failed += i32::from(result.is_err());
        let _ = std::fs::remove_dir_all(&root);
    }
    i32::from(failed > 0)
}

/// The process id of the engine that answers. Connecting is never refused.
fn ask(options: &KeeperOptions) -> i32 {
    try_ask(options).expect("never refused")
}

/// The same where every process may have been killed. 0 from an engine that died while it answered.
fn try_ask(options: &KeeperOptions) -> Option<i32> {
    let mut stream = UnixStream::connect(options.socket_path().unwrap()).ok()?;
    let mut text = String::new();
    let _ = stream.read_to_string(&mut text);
    Some(text.parse().unwrap_or(0))
}

fn answers(options: &KeeperOptions) -> bool {
    try_ask(options).is_some_and(|pid| pid != 0)
}

fn pid(options: &KeeperOptions, role: &str) -> i32 {
    let text = std::fs::read_to_string(options.run_root.join(format!("{role}.pid"))).unwrap_or_default();
    text.trim().parse().unwrap_or(0)
}

fn kill(pid: i32) {
    ferry_sys::signal::kill(pid, 9).unwrap();
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn lives(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(')').next().is_some_and(|rest| !rest.trim().is_empty() && !rest.trim().starts_with('Z'))
}

fn start_and_stop(options: &KeeperOptions) {
    assert!(ensure_running(options).unwrap());
    assert!(!ensure_running(options).unwrap());
    let engine = ask(options);
    wait_until("all are there", || {
        client::status(&options.run_root).is_ok_and(|status| status.launcher_pid.is_some())
    });
    let status = client::status(&options.run_root).unwrap();
    assert_eq!(status.engine_pid, Some(engine));
    assert_eq!(status.keeper_pid, pid(options, "keeper"));
    assert_eq!(status.launcher_pid, Some(pid(options, "launcher")));
    let own = std::fs::read_link(format!("/proc/{}/exe", pid(options, "launcher"))).unwrap();
    assert!(own.to_string_lossy().contains("memfd:ferry"), "the launcher runs from {}", own.display());

    client::stop(&options.run_root, Duration::from_secs(5)).unwrap();
    assert!(!lives(engine) && !lives(status.launcher_pid.unwrap()));
    assert!(!options.socket_path().unwrap().exists());
    wait_until("the keeper ended", || !lives(status.keeper_pid));
    assert!(ensure_running(options).unwrap(), "and it starts again");
}

fn parallel_starts(options: &KeeperOptions) {
    let starts: Vec<_> = (0..8)
        .map(|_| {
            let options = options.clone();
            std::thread::spawn(move || {
                ensure_running(&options).unwrap();
                ask(&options)
            })
        })
        .collect();
    let answers: Vec<i32> = starts.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert!(answers.iter().all(|answer| *answer == answers[0] && *answer != 0), "{answers:?}");
}

fn killed_engine(options: &KeeperOptions) {
    ensure_running(options).unwrap();
    let mut last = ask(options);
    for _ in 0..3 {
        kill(last);
        wait_until("a new engine answers", || {
            let now = ask(options);
            let new = now != 0 && now != last;
            last = if new { now } else { last };
            new
        });
    }
    assert_eq!(client::status(&options.run_root).unwrap().engine_restarts, 3);
    client::restart_engine(&options.run_root).unwrap();
    wait_until("restarted on request", || ![0, last].contains(&ask(options)));
}

fn killed_launcher(options: &KeeperOptions) {
    ensure_running(options).unwrap();
    wait_until("a launcher answers", || launcher_answers(&options.run_root));
    let first = pid(options, "launcher");
    kill(first);
    wait_until("a new launcher", || pid(options, "launcher") != first && launcher_answers(&options.run_root));
}

fn launcher_answers(run_root: &Path) -> bool {
    LauncherClient::connect(run_root)
        .and_then(|mut client| client.call(&LauncherRequest::Ping, &[]))
        .is_ok_and(|reply| reply == LauncherReply::Pong { version: VERSION })
}

fn killed_keeper(options: &KeeperOptions) {
    ensure_running(options).unwrap();
    wait_until("a launcher answers", || launcher_answers(&options.run_root));
    let (engine, launcher) = (ask(options), pid(options, "launcher"));
    for _ in 0..2 {
        let keeper = pid(options, "keeper");
        kill(keeper);
        assert_eq!(ask(options), engine, "the engine does not care");
        wait_until("a new keeper", || {
            pid(options, "keeper") != keeper && client::status(&options.run_root).is_ok()
        });
        let status = client::status(&options.run_root).unwrap();
        assert_eq!((status.engine_pid, status.launcher_pid), (Some(engine), Some(launcher)));
    }
    kill(engine);
    wait_until("the adopter restarts the engine", || ![0, engine].contains(&ask(options)));
    kill(launcher);
    wait_until("and the launcher", || {
        pid(options, "launcher") != launcher && launcher_answers(&options.run_root)
    });
}

/// In every order, so that one is killed while it replaces another.
fn all_killed(options: &KeeperOptions) {
    ensure_running(options).unwrap();
    let roles = ["engine", "keeper", "launcher"];
    for order in [[0, 1, 2], [1, 0, 2], [2, 1, 0], [0, 2, 1]] {
        wait_until("all live", || roles.iter().all(|role| lives(pid(options, role))) && answers(options));
        let pids = order.map(|index| pid(options, roles[index]));
        pids.iter().for_each(|pid| kill(*pid));
        wait_until("somebody answers", || ensure_running(options).is_ok() && answers(options));
        wait_until("the keeper knows who", || {
            let status = client::status(&options.run_root).ok();
            let known = status.is_some_and(|status| {
                status.engine_pid.is_some()
                    && status.engine_pid == try_ask(options)
                    && status.launcher_pid.is_some_and(lives)
            });
            known && launcher_answers(&options.run_root)
        });
    }
}

fn clear_errors(options: &KeeperOptions) {
    std::fs::create_dir_all(options.socket_path().unwrap()).unwrap();
    let error = ensure_running(options).unwrap_err().to_string();
    assert!(error.contains("exists and is not a socket"), "{error}");
    let tcp = KeeperOptions { hosts: vec!["tcp://127.0.0.1:1".into()], ..options.clone() };
    assert!(ensure_running(&tcp).is_err());
}
