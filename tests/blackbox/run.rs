//! `run` and what it takes, through ferry and through the stock docker client.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;

use ferry_tests::Engine;
use ferry_tests::engine::wait_until;

use crate::{CLIENTS, Test};

/// The suite.
pub const TESTS: &[Test] = &[
    ("run::prints_and_exits_as_the_command_does", prints_and_exits_as_the_command_does),
    ("run::flags_reach_the_process", flags_reach_the_process),
    ("run::detached_prints_the_id", detached_prints_the_id),
    ("run::names_are_generated_and_unique", names_are_generated_and_unique),
    ("run::standard_input_ends", standard_input_ends),
    ("run::removes_itself", removes_itself),
    ("run::writes_the_id_file", writes_the_id_file),
    ("run::terminal", terminal),
    ("run::init_reaps", init_reaps),
    ("run::binds", binds),
    ("run::shares_namespaces_of_another", shares_namespaces_of_another),
    ("run::hundred_at_once", hundred_at_once),
    ("run::a_client_that_leaves_before_the_answer", a_client_that_leaves_before_the_answer),
    ("run::one_call_for_all", one_call_for_all),
];

fn prints_and_exits_as_the_command_does() {
    let engine = Engine::with_busybox();
    for client in CLIENTS {
        engine.client(client, ["run", "--rm", "busybox", "echo", "hello"]).exits(0).prints("hello");
        engine
            .client(client, ["run", "--rm", "busybox", "sh", "-c", "echo out; echo err >&2"])
            .prints("out")
            .complains("err");
        engine.client(client, ["run", "--rm", "busybox", "sh", "-c", "exit 7"]).exits(7);
        engine
            .client(client, ["run", "--rm", "busybox", "sh", "-c", "sh -c 'kill -9 $$'; exit $?"])
            .exits(137);
        engine
            .client(client, ["run", "--rm", "busybox", "nosuchcommand"])
            .exits(127)
            .complains("executable file not found in $PATH");
        engine.client(client, ["run", "--rm", "busybox", "/etc"]).exits(126);
        engine
            .client(client, ["run", "--rm", "busybox", "/etc/passwd"])
            .exits(126)
            .complains("permission denied");
    }
    assert_eq!(engine.ferry(["ps", "-aq"]).ok(), "", "--rm leaves nothing");
}

/// Flags of `run`, a command that shows their effect inside, and what it prints.
const EFFECTS: &[(&[&str], &str, &str)] = &[
    (&["-e", "COLOUR=blue"], "echo $COLOUR", "blue"),
    (&["-w", "/tmp"], "pwd", "/tmp"),
    (&["-w", "/made/at/start"], "pwd", "/made/at/start"),
    (&["-u", "guest"], "id -u; id -g", "405\n100"),
    (&["-u", "1234:5678"], "id -u; id -g", "1234\n5678"),
    (&["-u", "guest", "--group-add", "10", "--group-add", "nogroup"], "id -G", "100 10 65534"),
    (&["-h", "harbour"], "hostname; cat /etc/hostname", "harbour\nharbour"),
    (&["--read-only"], "touch /file 2>/dev/null || echo refused", "refused"),
    (&["--read-only", "--tmpfs", "/scratch:size=1m"], "touch /scratch/file && echo written", "written"),
    (&["--tmpfs", "/scratch:size=64k"], "df -k /scratch | awk 'END{print $2}'", "64"),
    (&["--shm-size", "1m"], "df -k /dev/shm | awk 'END{print $2}'", "1024"),
    (&["--ulimit", "nofile=100:200"], "ulimit -Sn; ulimit -Hn", "100\n200"),
    (&["--sysctl", "kernel.msgmax=4096"], "cat /proc/sys/kernel/msgmax", "4096"),
    (&["--cap-drop", "ALL"], "grep CapEff /proc/self/status | awk '{print $2}'", "0000000000000000"),
    (&[], "grep CapEff /proc/self/status | awk '{print $2}'", "00000000a80425fb"),
    (&["--cap-add", "NET_ADMIN"], "grep CapEff /proc/self/status | awk '{print $2}'", "00000000a80435fb"),
    (&[], "grep Seccomp: /proc/self/status | awk '{print $2}'", "2"),
    (&["--security-opt", "seccomp=unconfined"], "grep Seccomp: /proc/self/status | awk '{print $2}'", "0"),
    (&["--privileged"], "grep Seccomp: /proc/self/status | awk '{print $2}'", "0"),
    (&["--security-opt", "no-new-privileges"], "grep NoNewPrivs /proc/self/status | awk '{print $2}'", "1"),
    (&[], "cat /proc/kcore 2>/dev/null | head -c 1 | wc -c", "0"),
    (&[], "echo 1 2>/dev/null > /proc/sys/kernel/domainname || echo refused", "refused"),
    (&[], "ls /proc/acpi 2>/dev/null | wc -l", "0"),
    (&["--device", "/dev/null:/dev/void"], "echo x > /dev/void && echo written", "written"),
    (&["--entrypoint", "echo"], "-c", "-c sh -c"),
    (&["--network", "none"], "ls /sys/class/net", "lo"),
    (
        &["--pids-limit", "77"],
        "cat /sys/fs/cgroup/pids/pids.max 2>/dev/null || cat /sys/fs/cgroup/pids.max",
        "77",
    ),
    (&["-e", "A=1", "-e", "A=2"], "echo $A", "2"),
    (&[], "echo $HOME $PATH", "/root /usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
    (&[], "umask", "0022"),
    (&[], "ls -l /dev/fd /dev/stdin | awk '{print $NF}'", "/proc/self/fd\n/proc/self/fd/0"),
];

fn flags_reach_the_process() {
    let engine = Engine::with_busybox();
    // Without root there is no cgroup to count in unless one is handed down.
    let counts = rustix::process::geteuid().is_root();
    for (flags, script, expected) in EFFECTS.iter().filter(|it| counts || it.0[..] != ["--pids-limit", "77"])
    {
        for client in CLIENTS {
            let mut arguments = vec!["run", "--rm"];
            arguments.extend(*flags);
            if *flags == ["--entrypoint", "echo"] {
                arguments.extend(["busybox", "-c", "sh", "-c"]);
            } else {
                arguments.extend(["busybox", "sh", "-c", script]);
            }
            engine.client(client, arguments).exits(0).prints(expected);
        }
    }
}

fn detached_prints_the_id() {
    let engine = Engine::with_busybox();
    for client in CLIENTS {
        let name = format!("sleeper-{client}");
        let id =
            engine.client(client, ["run", "-d", "--name", &name, "busybox", "sleep", "1000"]).ok().to_owned();
        assert_eq!(id.len(), 64, "{id}");
        assert_eq!(engine.inspect(&id[..12], "{{.Name}} {{.State.Running}}"), format!("/{name} true"));
        engine.client(client, ["stop", "-t", "0", &name]).exits(0).prints(&name);
        engine.client(client, ["rm", &name]).exits(0).prints(&name);
    }
}

fn names_are_generated_and_unique() {
    let engine = Engine::with_busybox();
    engine.ferry(["create", "busybox", "true"]).exits(0);
    let name = engine.ferry(["ps", "-a", "--format", "{{.Names}}"]).ok().to_owned();
    assert!(
        name.split_once('_').is_some_and(|(left, right)| !left.is_empty() && !right.is_empty()),
        "{name}"
    );
    engine.ferry(["create", "--name", "twin", "busybox", "true"]).exits(0);
    for client in CLIENTS {
        engine
            .client(client, ["create", "--name", "twin", "busybox", "true"])
            .exits(1)
            .complains("The container name \"/twin\" is already in use by container");
    }
    engine.ferry(["create", "--name", "-bad-", "busybox"]).exits(1).complains("-bad-");
}

fn standard_input_ends() {
    let engine = Engine::with_busybox();
    engine
        .ferry_with_input(["run", "--rm", "-i", "busybox", "wc", "-c"], &[b'x'; 300_000])
        .exits(0)
        .prints("300000");
    engine.ferry(["run", "--rm", "-i", "busybox", "cat"]).exits(0).prints("");
    engine
        .ferry_with_input(["run", "--rm", "-i", "busybox", "head", "-c", "3"], b"abcdefgh")
        .exits(0)
        .prints("abc");
}

fn removes_itself() {
    let engine = Engine::with_busybox();
    for client in CLIENTS {
        engine.client(client, ["run", "-d", "--rm", "--name", "brief", "busybox", "sleep", "0.2"]).exits(0);
        wait_until("the container is gone", || engine.ferry(["inspect", "brief"]).code != 0);
        engine.client(client, ["run", "--rm", "--restart", "always", "busybox", "true"]).exits(125);
    }
}

fn writes_the_id_file() {
    let engine = Engine::with_busybox();
    for client in CLIENTS {
        let file = engine.directory().join(format!("cid-{client}"));
        let path = file.to_string_lossy().into_owned();
        let id = engine.client(client, ["run", "-d", "--cidfile", &path, "busybox", "true"]).ok().to_owned();
        assert_eq!(std::fs::read_to_string(&file).expect("the id file"), id);
        engine
            .client(client, ["run", "-d", "--cidfile", &path, "busybox", "true"])
            .exits(125)
            .complains(&path);
    }
}

fn terminal() {
    let engine = Engine::with_busybox();
    // script(1) lends a terminal to the client.
    let command = engine.command(["run", "--rm", "-it", "busybox", "sh", "-c", "tty; stty size; exit 3"]);
    let line: Vec<String> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| format!("'{}'", word.to_string_lossy()))
        .collect();
    let mut script = std::process::Command::new("script");
    script.args(["-qec", &format!("stty rows 33 cols 101; {}", line.join(" ")), "/dev/null"]);
    script.envs(command.get_envs().filter_map(|(key, value)| Some((key, value?))));
    let output = script.output().expect("script(1) of util-linux");
    let outcome = ferry_tests::Outcome::new("script run -it".into(), &output);
    outcome.exits(3).says("/dev/pts/0").says("33 101");
    engine.ferry(["run", "-it", "busybox", "true"]).exits(1).complains("TTY");
}

fn init_reaps() {
    let engine = Engine::with_busybox();
    for client in CLIENTS {
        let outcome = engine.client(
            client,
            [
                "run",
                "--rm",
                "--init",
                "busybox",
                "sh",
                "-c",
                "(sleep 0.1 &) ; sleep 0.5; ps -o stat,args | grep -c '^Z'; exit 5",
            ],
        );
        outcome.exits(5).prints("0");
        engine.client(client, ["run", "--rm", "--init", "busybox", "nosuch"]).exits(127);
    }
}

fn binds() {
    let engine = Engine::with_busybox();
    let folder = engine.directory().join("shared folder");
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(folder.join("file"), "from the host").expect("a file");
    for client in CLIENTS {
        let volume = format!("{}:/data", folder.display());
        engine
            .client(client, ["run", "--rm", "-v", &volume, "busybox", "cat", "/data/file"])
            .exits(0)
            .prints("from the host");
        let made = format!("echo {client} > /data/{client}");
        engine.client(client, ["run", "--rm", "-v", &volume, "busybox", "sh", "-c", &made]).exits(0);
        assert_eq!(
            std::fs::read_to_string(folder.join(client)).expect("written inside"),
            format!("{client}\n")
        );
        let read_only = format!("{volume}:ro");
        engine
            .client(client, ["run", "--rm", "-v", &read_only, "busybox", "touch", "/data/more"])
            .exits(1)
            .complains("Read-only file system");
    }
}

fn shares_namespaces_of_another() {
    let engine = Engine::with_busybox();
    engine
        .ferry([
            "run",
            "-d",
            "--name",
            "host",
            "--network",
            "none",
            "--ipc",
            "shareable",
            "busybox",
            "sleep",
            "1000",
        ])
        .exits(0);
    let link = |kind: &str| {
        engine.ferry(["exec", "host", "readlink", &format!("/proc/self/ns/{kind}")]).ok().to_owned()
    };
    for (flag, kind) in [("--network", "net"), ("--pid", "pid"), ("--ipc", "ipc")] {
        for client in CLIENTS {
            let path = format!("/proc/self/ns/{kind}");
            engine
                .client(client, ["run", "--rm", flag, "container:host", "busybox", "readlink", &path])
                .prints(&link(kind));
        }
    }
    let host = std::fs::read_link("/proc/self/ns/net").expect("a link").display().to_string();
    engine
        .ferry(["run", "--rm", "--network", "host", "busybox", "readlink", "/proc/self/ns/net"])
        .prints(&host);
    engine
        .ferry(["run", "--rm", "--network", "container:nobody", "busybox", "true"])
        .exits(125)
        .complains("nobody");
}

fn hundred_at_once() {
    let engine = Engine::with_busybox();
    let failures: Vec<String> = std::thread::scope(|scope| {
        let runs: Vec<_> = (0..100)
            .map(|index| {
                let engine = &engine;
                scope.spawn(move || {
                    let word = format!("number {index}");
                    let outcome =
                        engine.ferry(["run", "--rm", "--network", "none", "busybox", "echo", &word]);
                    (outcome.code != 0 || outcome.stdout.trim() != word).then(|| outcome.to_string())
                })
            })
            .collect();
        runs.into_iter().filter_map(|run| run.join().expect("no panic")).collect()
    });
    assert!(failures.is_empty(), "{} of 100 failed; the first:\n{}", failures.len(), failures[0]);
    assert_eq!(engine.ferry(["ps", "-aq"]).ok(), "");
}

/// A connection on which `POST /ferry/run` was asked for.
fn ask_for_run(engine: &Engine, body: &str) -> UnixStream {
    let mut stream = UnixStream::connect(engine.directory().join("ferry.sock")).expect("it listens");
    let head = format!(
        "POST /ferry/run?stdout=1&stderr=1 HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n\
         Connection: Upgrade\r\nUpgrade: tcp\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(head.as_bytes()).expect("the engine reads");
    stream
}

fn a_client_that_leaves_before_the_answer() {
    let engine = Engine::with_busybox();
    let body = r#"{"Image":"busybox","Cmd":["sleep","1000"],"HostConfig":{"AutoRemove":true}}"#;
    drop(ask_for_run(&engine, body));
    // It may have been gone before anything was made.
    engine.ferry(["run", "--rm", "busybox", "true"]).exits(0);
    wait_until("nothing runs on that nobody knows of", || engine.ferry(["ps", "-aq"]).ok().is_empty());
}

fn one_call_for_all() {
    let engine = Engine::with_busybox();
    for (body, wanted) in [
        (r#"{"Image":"busybox","Cmd":["sh","-c","echo out; exit 3"]}"#, [r#""StatusCode":3"#, "out\n"]),
        (r#"{"Image":"busybox","Cmd":["nope"]}"#, ["StartError", "executable file not found"]),
        (r#"{"Image":"nope"}"#, ["404", "No such image: nope:latest"]),
        (r#"{"Image":"busybox","Tty":true}"#, ["400", "a container with a terminal"]),
    ] {
        let mut stream = ask_for_run(&engine, body);
        stream.shutdown(std::net::Shutdown::Write).expect("a half is closed");
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("an answer");
        let answer = String::from_utf8_lossy(&answer);
        for word in wanted {
            assert!(answer.contains(word), "{body}: {answer}");
        }
    }
}
