//! Both clients against one engine: the same command line gives the same output and exit code. And what a
//! client keeps for itself: contexts, ways to the engine, manual pages.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use ferry_tests::{Engine, Outcome};

use crate::{CLIENTS, Test};

/// The suite.
pub const TESTS: &[Test] = &[
    ("clients::answer_alike", answer_alike),
    ("clients::contexts", contexts),
    ("clients::through_ssh", through_ssh),
    ("clients::daemon_settings", daemon_settings),
    ("clients::manual_pages", manual_pages),
    ("clients::completions", completions),
    ("clients::what_is_not_there_says_so", what_is_not_there_says_so),
];

/// Command lines that both clients answer byte by byte alike.
const LINES: &str = include_str!("clients_lines.txt");
/// Words like "3 seconds ago" change between two calls.
const ATTEMPTS: usize = 4;

/// Something of every kind, and containers in every state.
fn furnish(engine: &Engine) {
    engine.ferry(["tag", "busybox", "reg.example:5000/team/busy:v1"]).exits(0);
    engine.ferry(["volume", "create", "--label", "a=b", "vol1"]).exits(0);
    engine.ferry(["volume", "create", "vol2"]).exits(0);
    engine.ferry(["network", "create", "--label", "k=v", "net1"]).exits(0);
    let web = "run -d --name web -l app=web -l tier=front -p 127.0.0.1::80 -v vol1:/data --network net1 busybox sleep 1000";
    engine.ferry(web.split(' ')).exits(0);
    engine
        .ferry(["run", "--name", "gone", "busybox", "sh", "-c", "echo hello; echo err >&2; exit 3"])
        .exits(3);
    engine.ferry(["create", "--name", "made", "busybox", "sh", "-c", "echo 'a very long command'"]).exits(0);
    engine.ferry(["run", "-d", "--name", "paused", "busybox", "sleep", "1000"]).exits(0);
    engine.ferry(["pause", "paused"]).exits(0);
}

fn answer_alike() {
    let engine = Engine::with_busybox();
    furnish(&engine);
    let mut wrong = Vec::new();
    for line in LINES.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let words = shell_words(line);
        let ask = |client: &str| {
            let mut command = engine.client_command(client, &words);
            // The answers of one version of the API, whichever the client prefers.
            command.env("DOCKER_API_VERSION", "1.48");
            let output = command.output().expect("the client runs");
            (String::from_utf8_lossy(&output.stdout).into_owned(), output.status.code())
        };
        let mut answers = (ask("ferry"), ask("docker"));
        for _ in 1..ATTEMPTS {
            if answers.0 == answers.1 {
                break;
            }
            answers = (ask("ferry"), ask("docker"));
        }
        let (ferry, docker) = answers;
        if ferry != docker {
            wrong.push(format!(
                "{line}\n  docker {:?}\n{}  ferry {:?}\n{}",
                docker.1, docker.0, ferry.1, ferry.0
            ));
        }
    }
    assert!(wrong.is_empty(), "{} lines differ:\n{}", wrong.len(), wrong.join("\n"));
}

/// Words of a line; `'...'` is one.
fn shell_words(line: &str) -> Vec<String> {
    let pieces = line.split('\'').enumerate();
    let mut words: Vec<String> = Vec::new();
    for (index, piece) in pieces {
        match index % 2 {
            0 => words.extend(piece.split(' ').filter(|word| !word.is_empty()).map(str::to_owned)),
            _ => words.push(piece.to_owned()),
        }
    }
    words
}

/// A client with its own configuration folder and no address from outside.
fn client(engine: &Engine, client: &str, home: &str, words: &[&str]) -> Outcome {
    let mut command = engine.client_command(client, words);
    command.env_remove("DOCKER_HOST").env_remove("FERRY_HOST").env("DOCKER_CONFIG", home);
    let output = command.output().expect("the client runs");
    Outcome::new(format!("{command:?}"), &output)
}

/// Each client makes contexts that the other uses.
fn contexts() {
    let engine = Engine::with_busybox();
    let home = engine.directory().join("home").display().to_string();
    let endpoint = format!("host={}", engine.host());
    for (maker, user) in [("ferry", "docker"), ("docker", "ferry")] {
        let run = |name: &str, words: &[&str]| client(&engine, name, &home, words);
        let name = format!("of-{maker}");
        let create = ["context", "create", "--description", "a lab", "--docker", &endpoint, &name];
        run(maker, &create).exits(0).prints(&name).complains("Successfully created context");
        run(user, &["--context", &name, "ps", "-aq"]).exits(0).prints("");
        run(user, &["context", "use", &name]).exits(0);
        for client in CLIENTS {
            run(client, &["context", "show"]).exits(0).prints(&name);
            run(client, &["images", "-q"]).exits(0);
        }
        let seen = ["context", "inspect", &name];
        assert_eq!(run("ferry", &seen).ok(), run("docker", &seen).ok());
        let list = ["context", "ls", "--format", "{{.Name}} {{.Current}} {{.Description}} {{.Error}}"];
        assert_eq!(run("ferry", &list).ok(), run("docker", &list).ok());
        let file = engine.directory().join(format!("{name}.tar")).display().to_string();
        run(maker, &["context", "export", &name, &file]).exits(0);
        let copy = format!("copy-{maker}");
        run(user, &["context", "import", &copy, &file]).exits(0).prints(&copy);
        let format = "{{.Endpoints.docker.Host}} {{.Metadata.Description}}";
        run("ferry", &["context", "inspect", "-f", format, &copy]).exits(0).says(&engine.host());
        run(user, &["context", "update", "--description", "else", &copy]).exits(0);
        run("ferry", &["context", "inspect", "-f", "{{.Metadata.Description}}", &copy])
            .exits(0)
            .prints("else");
        run(user, &["context", "rm", &name]).exits(1).complains("is in use");
        run(user, &["context", "rm", "-f", &name]).exits(0).prints(&name);
        run(maker, &["context", "rm", &copy]).exits(0).prints(&copy);
        run(maker, &["context", "use", "nope"]).exits(1).complains("context not found");
    }
}

/// `-H ssh://`: a program named ssh stands in for a network; what it is asked is what Docker's client asks.
fn through_ssh() {
    let engine = Engine::with_busybox();
    let folder = engine.directory().join("bin");
    fs::create_dir_all(&folder).expect("a folder");
    let ssh = folder.join("ssh");
    let asked = folder.join("asked");
    let script = format!(
        "#!/bin/sh\necho \"$@\" >> {asked}\nfor last; do :; done\n\
         PATH={folder}:$PATH DOCKER_HOST={host} FERRY_HOST={host} exec sh -c \"$last\"\n",
        asked = asked.display(),
        folder = folder.display(),
        host = engine.host(),
    );
    fs::write(&ssh, script).expect("a script");
    fs::set_permissions(&ssh, fs::Permissions::from_mode(0o755)).expect("its mode");
    std::os::unix::fs::symlink(ferry_tests::engine::binary(), folder.join("ferry")).expect("a link");
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap_or_default());
    let run = |words: &[&str]| {
        let mut command = engine.client_command("ferry", words);
        command.env("PATH", &path).env("DOCKER_HOST", "ssh://ann@machine.example:2222");
        command.env_remove("FERRY_HOST");
        let output = command.output().expect("the client runs");
        Outcome::new(format!("{command:?}"), &output)
    };
    run(&["run", "--rm", "busybox", "echo", "far away"]).exits(0).prints("far away");
    run(&["run", "--rm", "busybox", "false"]).exits(1);
    let asked = fs::read_to_string(asked).expect("what ssh was asked");
    let first = asked.lines().next().unwrap_or_default();
    assert!(first.contains("-l ann -p 2222 -- machine.example"), "{first}");
    fs::remove_file(&ssh).expect("the script is there");
    let mut command = engine.client_command("ferry", ["-H", "ssh://machine.example", "ps"]);
    let output = command.env("PATH", &folder).output().expect("the client runs");
    Outcome::new("ps without ssh".into(), &output).exits(1).complains("'ssh' is not installed");
}

fn manual_pages() {
    let engine = Engine::start();
    let folder = engine.directory().join("man");
    engine.ferry(["man", &folder.display().to_string()]).exits(0);
    let run = fs::read_to_string(folder.join("ferry-run.1")).expect("a page");
    assert!(run.contains("Create and run a new container") && run.contains("\\-\\-env\\-file"), "{run}");
    for page in ["ferry.1", "ferry-container-ls.1", "ferry-context-create.1"] {
        assert!(folder.join(page).exists(), "{page}");
    }
}

fn completions() {
    let engine = Engine::start();
    for (shell, word) in
        [("bash", "complete -F _ferry ferry"), ("zsh", "#compdef ferry"), ("fish", "-l env-file")]
    {
        engine.ferry(["completion", shell]).exits(0).says(word);
    }
    engine.ferry(["completion", "tcsh"]).exits(1).complains("unsupported shell");
}

fn what_is_not_there_says_so() {
    let engine = Engine::with_busybox();
    for client in CLIENTS {
        engine.client(client, ["swarm", "leave"]).exits(1);
        engine.client(client, ["node", "ls"]).exits(1).complains("not a swarm manager");
        engine.client(client, ["plugin", "ls", "-q"]).exits(0).prints("");
    }
    engine.ferry(["trust", "sign", "x"]).exits(1).complains("digest");
    engine
        .ferry(["run", "--rm", "--use-api-socket", "busybox", "test", "-S", "/var/run/docker.sock"])
        .exits(0);
}

/// Unit files and settings written for Docker's daemon: known ones are taken, misspelt ones refused.
fn daemon_settings() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("daemon.json");
    let path = file.display().to_string();
    fs::write(&file, r#"{"live-restore": true, "log-driver": "local", "registry-mirrors": []}"#)
        .expect("a file");
    let engine = Engine::start_with(&["--config-file", &path]);
    // The local socket answers before the engine behind it is there.
    engine.ferry(["ps"]).exits(0);
    let log = fs::read_to_string(engine.run_root().join("engine.log")).expect("the engine's log");
    assert!(log.contains("`live-restore` has no effect: containers outlive this engine always"), "{log}");
    fs::write(&file, r#"{"userns-remap": "default"}"#).expect("a file");
    engine
        .ferry(["engine", "start", "--config-file", &path])
        .exits(1)
        .complains("`userns-remap` cannot be had: users of containers are not mapped");
    fs::write(&file, r#"{"registry-mirror": []}"#).expect("a file");
    engine
        .ferry(["engine", "start", "--config-file", &path])
        .exits(1)
        .complains("did you mean `registry-mirrors`?");
    let dockerd = folder.path().join("dockerd");
    std::os::unix::fs::symlink(ferry_tests::engine::binary(), &dockerd).expect("a link");
    let mut command = std::process::Command::new(&dockerd);
    command.args(["--storage-driver", "overlay2", "--iptables=false", "-H", "fd://", "--frobnicate"]);
    let output = command.output().expect("it runs");
    let outcome = Outcome::new("dockerd --frobnicate".into(), &output);
    outcome
        .exits(1)
        .complains("--storage-driver overlay2 has no effect: layers are kept by overlayfs")
        .complains("unknown flag: --frobnicate");
}
