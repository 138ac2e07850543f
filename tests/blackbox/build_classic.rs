//! The classic builder as scripts and SDKs use it, and what can be asked of a Dockerfile without building it.

use std::fs;
use std::path::Path;
use std::process::Command;

use ferry_tests::engine::wait_until;
use ferry_tests::http::ask;
use ferry_tests::{Engine, Outcome};

use crate::{CLIENTS, Test};

/// The suite.
pub const TESTS: &[Test] = &[
    ("build_classic::cached_settings_are_told", cached_settings_are_told),
    ("build_classic::canceled_by_another", canceled_by_another),
    ("build_classic::squash", squash),
    ("build_classic::outline_and_targets", outline_and_targets),
    ("build_classic::limits_of_steps", limits_of_steps),
    ("build_classic::dockerfile_on_standard_input", dockerfile_on_standard_input),
    ("build_classic::quiet_prints_the_id", quiet_prints_the_id),
    ("build_classic::large_contexts_take_little_memory", large_contexts_take_little_memory),
];

fn context(engine: &Engine, dockerfile: &str) -> String {
    let folder = engine.directory().join("context");
    fs::create_dir_all(&folder).expect("a folder");
    fs::write(folder.join("Dockerfile"), dockerfile).expect("a file");
    folder.display().to_string()
}

/// A build by the classic API: one line of JSON for each text.
fn classic(engine: &Engine, more: &[&str]) -> String {
    let folder = engine.directory().join("context").display().to_string();
    let archive = engine.directory().join("context.tar");
    let packed = Command::new("tar").arg("-cf").arg(&archive).args(["-C", &folder, "."]).status();
    assert!(packed.expect("tar").success());
    let query = more.join("&");
    let built = Command::new("curl")
        .args(["-s", "--unix-socket", engine.host().trim_start_matches("unix://"), "-X", "POST"])
        .args(["-H", "Content-Type: application/x-tar", "--data-binary", &format!("@{}", archive.display())])
        .arg(format!("http://engine/build?{query}"))
        .output()
        .expect("curl");
    String::from_utf8_lossy(&built.stdout).into_owned()
}

fn count(text: &str, what: &str) -> usize {
    text.matches(what).count()
}

fn cached_settings_are_told() {
    let engine = Engine::with_busybox();
    context(&engine, "FROM busybox\nENV A=b\nRUN echo hi > /x\nARG C\nCMD [\"true\"]\nLABEL x=y\n");
    assert_eq!(count(&classic(&engine, &["t=one"]), "Using cache"), 0);
    assert_eq!(count(&classic(&engine, &["t=two"]), "Using cache"), 5);
    // Images tell it too, when the engine's memory is gone.
    engine.kill("engine");
    assert_eq!(count(&classic(&engine, &["t=two"]), "Using cache"), 5);
    // What follows a step that was done anew is new.
    context(&engine, "FROM busybox\nENV A=b\nRUN echo ho > /x\nARG C\nCMD [\"true\"]\n");
    assert_eq!(count(&classic(&engine, &[]), "Using cache"), 1);
    assert_eq!(count(&classic(&engine, &["nocache=1"]), "Using cache"), 0);
    // As in Docker, named images are the only cache.
    assert_eq!(count(&classic(&engine, &["cachefrom=%5B%22nosuch%22%5D"]), "Using cache"), 0);
    assert_eq!(count(&classic(&engine, &["cachefrom=%5B%22one%22%5D"]), "Using cache"), 4);
}

fn canceled_by_another() {
    let engine = Engine::with_busybox();
    let seconds = format!("{}7", 80_000_000 + std::process::id());
    context(&engine, &format!("FROM busybox\nRUN sleep {seconds}\n"));
    let wanted = format!("sleep\0{seconds}\0");
    let runs = || {
        let processes = fs::read_dir("/proc").expect("/proc").flatten();
        let mut lines = processes.map(|entry| fs::read(entry.path().join("cmdline")).unwrap_or_default());
        lines.any(|line| line == wanted.as_bytes())
    };
    std::thread::scope(|scope| {
        let build = scope.spawn(|| classic(&engine, &["buildid=mine"]));
        wait_until("the step runs", runs);
        // A name that no build has is no mistake, and no other build's end.
        assert_eq!(ask(&engine, "POST /build/cancel?id=other", None).status, 204);
        assert!(runs());
        assert_eq!(ask(&engine, "POST /build/cancel?id=mine", None).status, 204);
        let told = build.join().expect("the build ends");
        assert!(told.contains("\"error\":\"context canceled\""), "{told}");
    });
    wait_until("the step is ended", || !runs());
    let folders = |root: &Path| fs::read_dir(root.join("containers")).map_or(0, Iterator::count);
    wait_until("nothing of it is left", || {
        folders(&engine.run_root()) == 0 && folders(&engine.data_root()) == 0
    });
}

fn squash() {
    let engine = Engine::with_busybox();
    let dockerfile = "FROM busybox\nENV A=b\nRUN mkdir /d && echo 1 > /d/one && echo 2 > /d/two\n\
                      RUN rm -r /d && mkdir /d && echo 3 > /d/three && ln /d/three /d/again && rm /bin/vi\n\
                      RUN rm -r /home && echo file > /home && echo gone > /gone\nRUN rm /gone\nCMD [\"cat\", \"/d/three\"]\n";
    let folder = context(&engine, dockerfile);
    engine.ferry(["build", "-q", "-t", "plain", &folder]).exits(0);
    let layers =
        |name: &str| engine.ferry(["image", "inspect", name, "-f", "{{len .RootFS.Layers}}"]).ok().to_owned();
    assert_eq!(layers("plain"), "5");
    let first = engine.ferry(["build", "-q", "--squash", "-t", "small", &folder]).ok().to_owned();
    assert_eq!(layers("small"), "2");
    engine.ferry(["run", "--rm", "small"]).prints("3");
    let trees = |name: &str| {
        let script = "find / -mindepth 1 -xdev ! -path '/etc/*' ! -path '/proc*' ! -path '/dev*' ! -path '/sys*' ! -path /.dockerenv \
                      -exec stat -c '%n %a %u %g %h %F %Y' {} + | sort; cat /d/three /home";
        engine.ferry(["run", "--rm", "--network", "none", name, "sh", "-c", script]).ok().to_owned()
    };
    assert_eq!(trees("small"), trees("plain"));
    // Nothing of what was removed again travels, and the layer is the same each time.
    let saved = engine.directory().join("saved.tar").display().to_string();
    engine.ferry(["save", "-o", &saved, "small"]).exits(0);
    assert_eq!(engine.ferry(["build", "-q", "--squash", "--no-cache", &folder]).ok(), first);
    let history = engine.ferry(["history", "--no-trunc", "--format", "{{.CreatedBy}} {{.Comment}}", "small"]);
    history.says("merge sha256:").says("ENV A=b");
    // Where a build only changes settings there is nothing to merge.
    let folder = context(&engine, "FROM busybox\nENV A=b\n");
    engine.ferry(["build", "-q", "--squash", "-t", "none", &folder]).exits(0);
    assert_eq!(layers("none"), layers("busybox"));
}

fn outline_and_targets() {
    let engine = Engine::start();
    let dockerfile = "# GO sets the version\nARG GO=1.22\n# base is where all begins\nFROM golang:$GO AS base\n\
                      RUN --mount=type=secret,id=token,required true\n# release is what ships\nFROM scratch AS release\n\
                      ARG LEVEL\nCOPY --from=base /a /a\n";
    let folder = context(&engine, dockerfile);
    engine.ferry(["build", "--call=targets", &folder]).prints(
        "TARGET            DESCRIPTION\nbase              is where all begins\nrelease (default) is what ships",
    );
    engine.ferry(["build", "--call=outline", "--build-arg", "LEVEL=3", &folder]).prints(
        "TARGET:      release\nDESCRIPTION: is what ships\n\nBUILD ARG   VALUE   DESCRIPTION\n\
         GO          1.22    sets the version\nLEVEL       3\n\nSECRET   REQUIRED\ntoken    true",
    );
    let json = engine.ferry(["build", "--call=outline,format=json", "--target", "base", &folder]);
    let outline: serde_json::Value = serde_json::from_str(json.ok()).expect("JSON");
    assert_eq!(outline["name"], "base");
    assert_eq!(outline["secrets"][0]["required"], true);
    assert_eq!(outline["args"].as_array().map(Vec::len), Some(1));
    let json = engine.ferry(["build", "--call=targets,format=json", &folder]);
    let targets: serde_json::Value = serde_json::from_str(json.ok()).expect("JSON");
    assert_eq!(targets["targets"][1]["base"], "scratch");
    assert_eq!(targets["targets"][0]["location"]["ranges"][0]["start"]["line"], 4);
    let json = engine.ferry(["build", "--call=check,format=json", &folder]);
    let found: serde_json::Value = serde_json::from_str(json.ok()).expect("JSON");
    assert_eq!(found["warnings"], serde_json::json!([]));
    engine.ferry(["build", "--call=outline", "--target", "bass", &folder]).exits(1).complains("base");
    engine.ferry(["build", "--call=everything", &folder]).exits(1).complains("outline and targets are");
}

fn limits_of_steps() {
    let engine = Engine::with_busybox();
    let script =
        "ulimit -n; cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu.max 2>/dev/null; df /dev/shm";
    let folder = context(&engine, &format!("FROM busybox\nRUN {script}\n"));
    for client in CLIENTS {
        let limits =
            ["build", "--no-cache", "--ulimit", "nofile=77:99", "--cpu-quota", "50000", "--shm-size", "1m"];
        let arguments = limits.into_iter().chain([folder.as_str()]);
        let built = engine.client(
            client,
            arguments.chain(match client {
                "ferry" => Some("--progress=plain"),
                _ => None,
            }),
        );
        built.exits(0);
        let told = format!("{}{}", built.stdout, built.stderr);
        assert!(told.lines().any(|line| line.trim_end().ends_with("77")), "{told}");
        assert!(told.contains("50000"), "{told}");
        assert!(told.contains("1024"), "{told}");
    }
    let built = engine.ferry(["build", "--no-cache", "--cpus", "0.25", "--progress=plain", &folder]);
    built.exits(0).complains("25000");
    engine
        .ferry(["build", "--builder", "elsewhere", &folder])
        .exits(1)
        .complains("no builder \"elsewhere\" found");
    engine.ferry(["build", "--builder", "default", &folder]).exits(0);
}

/// The most that an engine ever used, in KiB.
fn peak(engine: &Engine) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", engine.pid("engine"))).expect("a process");
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("its peak");
    line.split_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
}

fn large_contexts_take_little_memory() {
    const LIMIT_KIB: u64 = 100 * 1024;
    let engine = Engine::with_busybox();
    let folder = context(&engine, "FROM busybox\nCOPY . /context/\nRUN test -s /context/large\n");
    let large = fs::File::create(Path::new(&folder).join("large")).expect("a file");
    large.set_len(3 * LIMIT_KIB * 1024).expect("room");
    engine.ferry(["build", "-q", &folder]).exits(0);
    assert!(classic(&engine, &["nocache=1"]).contains("Successfully built"));
    assert!(peak(&engine) < LIMIT_KIB, "{} KiB", peak(&engine));
}

/// The stock client sends the folder with a Dockerfile of its own making in an archive whose last block is not filled.
fn dockerfile_on_standard_input() {
    use std::io::Write;
    use std::process::Stdio;
    let engine = Engine::with_busybox();
    let folder = context(&engine, "FROM nothing\n");
    fs::write(Path::new(&folder).join("a"), "from the folder").expect("a file");
    for client in CLIENTS {
        let mut command = engine.client_command(client, ["build", "-t", client, "-f", "-", &folder]);
        command
            .env("DOCKER_BUILDKIT", "0")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("the client starts");
        let mut input = child.stdin.take().expect("a pipe");
        input.write_all(b"FROM busybox\nCOPY a /a\nCMD [\"cat\", \"/a\"]\n").expect("it reads");
        drop(input);
        let output = child.wait_with_output().expect("it ends");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        engine.ferry(["run", "--rm", client]).prints("from the folder");
    }
}

/// Called as `docker`, where scripts take what `build -q` prints for the image's id.
fn quiet_prints_the_id() {
    use std::os::unix::process::CommandExt as _;
    let engine = Engine::with_busybox();
    let folder = context(&engine, "FROM busybox\nRUN echo told\n");
    let file = engine.directory().join("id").display().to_string();
    let ids = CLIENTS.map(|client| {
        let mut command = engine.client_command(client, ["build", "-q", "--iidfile", &file, &folder]);
        command.arg0("docker").env("DOCKER_BUILDKIT", "0");
        let built = Outcome::new(format!("{command:?}"), &command.output().expect("the client runs"));
        let id = built.ok().to_owned();
        assert_eq!(fs::read_to_string(&file).expect("the id's file").trim(), id, "{built}");
        id
    });
    assert!(ids[0].starts_with("sha256:"), "{ids:?}");
    assert_eq!(ids[0], ids[1]);
}
