//! Containers from create to rm: states, listing, logs, exec, attach, wait, through both clients.

use std::path::Path;
use std::process::Command;

use ferry_tests::Engine;
use ferry_tests::engine::wait_until;

use crate::{CLIENTS, Test};

/// The suite.
pub const TESTS: &[Test] = &[
    ("lifecycle::create_start_stop_rm", create_start_stop_rm),
    ("lifecycle::stop_signals_and_exit_codes", stop_signals_and_exit_codes),
    ("lifecycle::pause_and_unpause", pause_and_unpause),
    ("lifecycle::kill_sends_the_signal", kill_sends_the_signal),
    ("lifecycle::restart_keeps_the_files", restart_keeps_the_files),
    ("lifecycle::restart_waits_for_the_run_before", restart_waits_for_the_run_before),
    ("lifecycle::restart_with_rm", restart_with_rm),
    ("lifecycle::rename", rename),
    ("lifecycle::wait_gives_exit_codes", wait_gives_exit_codes),
    ("lifecycle::exec", exec),
    ("lifecycle::logs", logs),
    ("lifecycle::logs_rotate_by_default", logs_rotate_by_default),
    ("lifecycle::ps_lists_and_filters", ps_lists_and_filters),
    ("lifecycle::inspect_templates", inspect_templates),
    ("lifecycle::restart_policies", restart_policies),
    ("lifecycle::attach_prints_what_comes", attach_prints_what_comes),
];

fn create_start_stop_rm() {
    let engine = Engine::with_busybox();
    for client in CLIENTS {
        let id =
            engine.client(client, ["create", "--name", "box", "busybox", "sleep", "1000"]).ok().to_owned();
        assert_eq!(engine.inspect("box", "{{.State.Status}} {{.State.Pid}}"), "created 0");
        engine.client(client, ["start", "box"]).exits(0).prints("box");
        engine.client(client, ["start", "box"]).exits(0);
        assert_eq!(engine.inspect("box", "{{.State.Status}}"), "running");
        engine.client(client, ["rm", "box"]).exits(1).complains("running");
        engine.client(client, ["stop", "-t", "1", &id[..8]]).exits(0).prints(&id[..8]);
        assert_eq!(engine.inspect("box", "{{.State.Status}} {{.State.ExitCode}}"), "exited 137");
        engine.client(client, ["container", "rm", "box"]).exits(0).prints("box");
        engine.client(client, ["rm", "box"]).exits(1).complains("No such container: box");
        engine.client(client, ["start", "box"]).exits(1).complains("No such container: box");
    }
}

fn stop_signals_and_exit_codes() {
    let engine = Engine::with_busybox();
    let trap = "trap 'echo asked; exit 3' TERM; trap 'exit 4' USR1; echo ready; while :; do sleep 0.05; done";
    let wait_for_trap = |name: &str| {
        wait_until("the trap is set", || engine.ferry(["logs", name]).stdout.contains("ready"));
    };
    for client in CLIENTS {
        engine.client(client, ["run", "-d", "--name", "polite", "busybox", "sh", "-c", trap]).exits(0);
        wait_for_trap("polite");
        engine.client(client, ["stop", "polite"]).exits(0);
        assert_eq!(engine.inspect("polite", "{{.State.ExitCode}}"), "3");
        engine.client(client, ["logs", "polite"]).prints("ready\nasked");
        engine
            .client(
                client,
                ["run", "-d", "--stop-signal", "USR1", "--name", "other", "busybox", "sh", "-c", trap],
            )
            .exits(0);
        wait_for_trap("other");
        engine.client(client, ["stop", "other"]).exits(0);
        assert_eq!(engine.inspect("other", "{{.State.ExitCode}}"), "4");
        engine.client(client, ["rm", "polite", "other"]).exits(0);
    }
}

fn pause_and_unpause() {
    let engine = Engine::with_busybox();
    for client in CLIENTS {
        engine.client(client, ["run", "-d", "--name", "box", "busybox", "sleep", "1000"]).exits(0);
        engine.client(client, ["pause", "box"]).exits(0).prints("box");
        assert_eq!(engine.inspect("box", "{{.State.Status}} {{.State.Paused}}"), "paused true");
        engine.client(client, ["exec", "box", "true"]).exits(1).complains("paused");
        engine.client(client, ["pause", "box"]).exits(1).complains("already paused");
        engine.client(client, ["unpause", "box"]).exits(0);
        engine.client(client, ["exec", "box", "true"]).exits(0);
        engine.client(client, ["unpause", "box"]).exits(1).complains("not paused");
        engine.client(client, ["rm", "-f", "box"]).exits(0);
    }
}

fn kill_sends_the_signal() {
    let engine = Engine::with_busybox();
    for client in CLIENTS {
        let script = "trap 'echo got it' HUP; echo ready; while :; do sleep 0.05; done";
        engine.client(client, ["run", "-d", "--name", "box", "busybox", "sh", "-c", script]).exits(0);
        wait_until("it is ready", || engine.ferry(["logs", "box"]).stdout.contains("ready"));
        engine.client(client, ["kill", "-s", "HUP", "box"]).exits(0);
        wait_until("the signal arrives", || engine.ferry(["logs", "box"]).stdout.contains("got it"));
        engine.client(client, ["kill", "box"]).exits(0);
        engine.wait_for_status("box", "exited");
        assert_eq!(engine.inspect("box", "{{.State.ExitCode}}"), "137");
        engine.client(client, ["kill", "box"]).exits(1).complains("is not running");
        engine.client(client, ["rm", "box"]).exits(0);
    }
}

fn restart_keeps_the_files() {
    let engine = Engine::with_busybox();
    let script = "cat /kept 2>/dev/null; echo kept >> /kept; sleep 1000";
    engine.ferry(["run", "-d", "--name", "box", "busybox", "sh", "-c", script]).exits(0);
    wait_until("it has written", || engine.ferry(["exec", "box", "cat", "/kept"]).code == 0);
    engine.ferry(["restart", "-t", "0", "box"]).exits(0);
    wait_until("it reads what it wrote", || engine.ferry(["logs", "box"]).stdout == "kept\n");
}

/// The next run takes the cgroup and the writable layer of the one before under the same names, so it must
/// not begin while the monitor before is still giving them back: here a stranger keeps the cgroup busy.
fn restart_waits_for_the_run_before() {
    let hierarchy = Path::new("/sys/fs/cgroup/freezer");
    if !hierarchy.join("tasks").exists() {
        // In a version 2 hierarchy the stranger would be killed with the container.
        return;
    }
    let engine = Engine::with_busybox();
    let id = engine.ferry(["run", "-d", "--name", "box", "busybox", "sleep", "1000"]).ok().to_owned();
    let mut stranger = Command::new("sleep").arg("2").spawn().expect("sleep runs");
    let tasks = hierarchy.join("ferry").join(&id).join("tasks");
    std::fs::write(&tasks, stranger.id().to_string()).expect("root may move a process");
    engine.ferry(["restart", "-t", "0", "box"]).exits(0);
    assert!(
        stranger.try_wait().expect("a child").is_some(),
        "the new run began while the old one was ending"
    );
    engine.ferry(["exec", "box", "true"]).exits(0);
    assert!(tasks.exists(), "the new run has its cgroup");
    for _ in 0..10 {
        engine.ferry(["restart", "-t", "0", "box"]).exits(0);
    }
}

/// A container that goes at its end may be written to before its start, and be restarted.
fn restart_with_rm() {
    let engine = Engine::with_busybox();
    for client in CLIENTS {
        let file = engine.directory().join("greeting");
        std::fs::write(&file, "hello").expect("a file");
        engine.client(client, ["create", "--rm", "--name", "box", "busybox", "sleep", "1000"]).exits(0);
        engine.client(client, ["cp", &file.to_string_lossy(), "box:/greeting"]).exits(0);
        engine.client(client, ["start", "box"]).exits(0);
        for _ in 0..2 {
            engine.client(client, ["exec", "box", "cat", "/greeting"]).prints("hello");
            engine.client(client, ["restart", "-t", "0", "box"]).exits(0);
        }
        engine.client(client, ["stop", "-t", "0", "box"]).exits(0);
        wait_until("it is gone", || engine.ferry(["ps", "-aq"]).stdout.is_empty());
    }
}

fn rename() {
    let engine = Engine::with_busybox();
    for client in CLIENTS {
        engine.client(client, ["create", "--name", "before", "busybox"]).exits(0);
        engine.client(client, ["rename", "before", "after"]).exits(0);
        assert_eq!(engine.inspect("after", "{{.Name}}"), "/after");
        engine.client(client, ["inspect", "before"]).exits(1);
        engine.client(client, ["rm", "after"]).exits(0);
    }
}

fn wait_gives_exit_codes() {
    let engine = Engine::with_busybox();
    for client in CLIENTS {
        engine
            .client(client, ["run", "-d", "--name", "box", "busybox", "sh", "-c", "sleep 0.3; exit 42"])
            .exits(0);
        engine.client(client, ["wait", "box"]).exits(0).prints("42");
        engine.client(client, ["wait", "box"]).exits(0).prints("42");
        engine.client(client, ["rm", "box"]).exits(0);
    }
}

fn exec() {
    let engine = Engine::with_busybox();
    engine.ferry(["run", "-d", "--name", "box", "-e", "INNER=yes", "busybox", "sleep", "1000"]).exits(0);
    for client in CLIENTS {
        engine.client(client, ["exec", "box", "sh", "-c", "echo $INNER"]).prints("yes");
        engine.client(client, ["exec", "-e", "TEST=sammy", "box", "sh", "-c", "echo $TEST"]).prints("sammy");
        engine.client(client, ["exec", "--user", "guest", "box", "id", "-un"]).prints("guest");
        engine.client(client, ["exec", "-w", "/tmp", "box", "pwd"]).prints("/tmp");
        engine.client(client, ["exec", "box", "sh", "-c", "exit 9"]).exits(9);
        // The stock client prints what came over the hijacked stream on standard output.
        let missing = engine.client(client, ["exec", "box", "nosuch"]);
        missing.exits(127);
        let said = format!("{}{}", missing.stdout, missing.stderr);
        assert!(said.contains("executable file not found in $PATH"), "{missing}");
        engine.client(client, ["exec", "box", "/etc"]).exits(126);
        engine
            .client(client, ["exec", "box", "sh", "-c", "echo out; echo err >&2"])
            .prints("out")
            .complains("err");
        engine
            .client(client, ["exec", "-d", "box", "sh", "-c", &format!("echo done > /{client}")])
            .exits(0)
            .prints("");
        wait_until("the detached exec has run", || {
            engine.ferry(["exec", "box", "cat", &format!("/{client}")]).code == 0
        });
        engine.client(client, ["exec", "box", "grep", "Seccomp:", "/proc/self/status"]).says("2");
        engine
            .client(client, ["exec", "--privileged", "box", "grep", "CapEff", "/proc/self/status"])
            .exits(0);
        engine.client(client, ["exec", "nobody", "true"]).exits(1).complains("No such container: nobody");
    }
    engine.ferry_with_input(["exec", "-i", "box", "wc", "-c"], &[b'y'; 200_000]).prints("200000");
    engine.ferry(["stop", "-t", "0", "box"]).exits(0);
    engine.ferry(["exec", "box", "true"]).exits(1).complains("is not running");
}

fn logs() {
    let engine = Engine::with_busybox();
    let script = "for i in 1 2 3 4 5; do echo line $i; done; echo problem >&2";
    engine.ferry(["run", "--name", "box", "busybox", "sh", "-c", script]).exits(0);
    for client in CLIENTS {
        engine
            .client(client, ["logs", "box"])
            .prints("line 1\nline 2\nline 3\nline 4\nline 5")
            .complains("problem");
        engine.client(client, ["logs", "--tail", "2", "box"]).exits(0);
        engine.client(client, ["logs", "-n", "0", "box"]).prints("");
        let stamped = engine.client(client, ["logs", "-t", "box"]);
        let first = stamped.stdout.lines().next().unwrap_or_default().to_owned();
        assert!(first.ends_with("Z line 1") && first.starts_with("20"), "{first}");
        engine.client(client, ["logs", "--since", "2000-01-01T00:00:00Z", "box"]).says("line 1");
        engine.client(client, ["logs", "--until", "2000-01-01T00:00:00Z", "box"]).prints("");
        engine.client(client, ["logs", "box", "--tail", "1"]).exits(0);
        engine.client(client, ["logs", "nobody"]).exits(1).complains("No such container: nobody");
    }
    let follow = "for i in 1 2 3; do echo step $i; sleep 0.2; done";
    engine.ferry(["run", "-d", "--name", "slow", "busybox", "sh", "-c", follow]).exits(0);
    for client in CLIENTS {
        engine.client(client, ["logs", "-f", "slow"]).prints("step 1\nstep 2\nstep 3");
    }
    engine
        .ferry(["run", "--log-driver", "none", "--name", "quiet", "busybox", "echo", "shown"])
        .prints("shown");
    engine.ferry(["logs", "quiet"]).exits(1).complains("does not support reading");
}

fn logs_rotate_by_default() {
    let engine = Engine::with_busybox();
    let script = "yes 0123456789012345678901234567890123456789 | head -c 30000000; echo end";
    // Detached: while a client reads along, files that it has not read yet are kept besides.
    engine.ferry(["run", "-d", "--name", "box", "busybox", "sh", "-c", script]).exits(0);
    engine.ferry(["wait", "box"]).prints("0");
    let log = std::path::PathBuf::from(engine.inspect("box", "{{.LogPath}}"));
    let size =
        |suffix: &str| std::fs::metadata(format!("{}{suffix}", log.display())).map(|data| data.len()).ok();
    for suffix in ["", ".1", ".2"] {
        let size = size(suffix).unwrap_or_else(|| panic!("{}{suffix} is missing", log.display()));
        assert!(size <= 10_000_000 + 2_000_000, "{suffix} has {size} bytes");
    }
    assert_eq!(size(".3"), None);
    assert!(engine.ferry(["logs", "--tail", "1", "box"]).ok().ends_with("end"));
}

fn ps_lists_and_filters() {
    let engine = Engine::with_busybox();
    engine.ferry(["run", "-d", "--name", "up", "-l", "tier=web", "busybox", "sleep", "1000"]).exits(0);
    engine.ferry(["run", "--name", "down", "busybox", "sh", "-c", "exit 3"]).exits(3);
    for client in CLIENTS {
        let table = engine.client(client, ["ps", "-a"]).ok().to_owned();
        let head: Vec<&str> = table
            .lines()
            .next()
            .unwrap_or_default()
            .split("  ")
            .filter(|word| !word.is_empty())
            .map(str::trim)
            .collect();
        assert_eq!(head, ["CONTAINER ID", "IMAGE", "COMMAND", "CREATED", "STATUS", "PORTS", "NAMES"]);
        assert!(table.contains("\"sleep 1000\""), "{table}");
        let names = |arguments: &[&str]| {
            let all: Vec<&str> =
                ["ps", "--format", "{{.Names}}"].into_iter().chain(arguments.iter().copied()).collect();
            engine.client(client, all).ok().to_owned()
        };
        assert_eq!(names(&[]), "up");
        assert_eq!(names(&["-a"]), "down\nup");
        assert_eq!(names(&["-a", "-f", "status=exited"]), "down");
        assert_eq!(names(&["-a", "-f", "exited=3"]), "down");
        assert_eq!(names(&["-a", "-f", "label=tier=web"]), "up");
        assert_eq!(names(&["-a", "-f", "name=dow"]), "down");
        assert_eq!(names(&["-a", "-f", "ancestor=busybox"]), "down\nup");
        assert_eq!(names(&["-n", "1"]), "down");
        engine.client(client, ["ps", "-a", "-f", "nonsense=1"]).exits(1).complains("invalid filter");
        let status =
            engine.client(client, ["ps", "-a", "-f", "name=down", "--format", "{{.Status}}"]).ok().to_owned();
        assert!(status.starts_with("Exited (3) ") && status.ends_with(" ago"), "{status}");
    }
}

fn inspect_templates() {
    let engine = Engine::with_busybox();
    engine
        .ferry(["create", "--name", "box", "-e", "A=1", "-l", "b=2", "-l", "a=1", "busybox", "echo", "x y"])
        .exits(0);
    for (template, expected) in [
        ("{{.Config.Image}}", "busybox"),
        ("{{json .Config.Cmd}}", r#"["echo","x y"]"#),
        ("{{.Config.Cmd}}", "[echo x y]"),
        ("{{.Config.Labels}}", "map[a:1 b:2]"),
        ("{{range $k, $v := .Config.Labels}}{{$k}}={{$v}};{{end}}", "a=1;b=2;"),
        ("{{index .Config.Labels \"b\"}}", "2"),
        ("{{if .State.Running}}up{{else}}down{{end}}", "down"),
        ("{{len .Config.Cmd}}", "2"),
        ("{{join .Config.Cmd \",\"}}", "echo,x y"),
        ("{{printf \"%s-%d\" .Name .RestartCount}}", "/box-0"),
        ("{{.HostConfig.Memory}}", "0"),
        ("{{.HostConfig.RestartPolicy.Name}}", "no"),
    ] {
        for client in CLIENTS {
            engine.client(client, ["inspect", "-f", template, "box"]).exits(0).prints(expected);
        }
    }
    engine.ferry(["inspect", "-f", "{{.Nope}}", "box"]).exits(1).complains("Nope");
}

fn restart_policies() {
    let engine = Engine::with_busybox();
    engine
        .ferry(["run", "-d", "--name", "limited", "--restart", "on-failure:2", "busybox", "false"])
        .exits(0);
    wait_until("it gave up", || {
        engine.inspect("limited", "{{.RestartCount}} {{.State.Status}}") == "2 exited"
    });
    engine
        .ferry(["run", "-d", "--name", "always", "--restart", "always", "busybox", "sh", "-c", "sleep 0.1"])
        .exits(0);
    wait_until("it came back", || {
        engine.inspect("always", "{{.RestartCount}}").parse::<u32>().is_ok_and(|count| count >= 2)
    });
    engine.ferry(["stop", "-t", "0", "always"]).exits(0);
    assert_eq!(engine.inspect("always", "{{.State.Status}}"), "exited");
}

fn attach_prints_what_comes() {
    let engine = Engine::with_busybox();
    for client in CLIENTS {
        // A name for each: the events of the other's would be taken for its own.
        let name = &*format!("by-{client}");
        let script = "until test -e /go; do sleep 0.1; done; echo late; exit 6";
        engine.client(client, ["run", "-d", "--name", name, "busybox", "sh", "-c", script]).exits(0);
        std::thread::scope(|scope| {
            let attached = scope.spawn(|| engine.client(client, ["attach", name]));
            let events = ["events", "--since", "1h", "--until", "0s", "--filter", "event=attach"];
            let named = format!("name={name}");
            wait_until("somebody is attached", || engine.ferry(events).stdout.contains(&named));
            engine.ferry(["exec", name, "touch", "/go"]).exits(0);
            attached.join().expect("a client that ends").exits(6).prints("late");
        });
        engine.client(client, ["attach", name]).exits(1).complains("stopped container");
        engine.client(client, ["rm", name]).exits(0);
    }
    engine.ferry(["create", "--name", "box", "busybox", "echo", "attached start"]).exits(0);
    engine.ferry(["start", "-a", "box"]).exits(0).prints("attached start");
}
