//! Steps of builds: as images, with their mounts, with what the linter says of them, and done again.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};

use ferry_tests::engine::wait_until;
use ferry_tests::{Engine, Outcome};

use crate::{CLIENTS, Test};

/// The suite.
pub const TESTS: &[Test] = &[
    ("build_steps::steps_are_images", steps_are_images),
    ("build_steps::mounts", mounts),
    ("build_steps::cache_mount_begins_with_a_stage", cache_mount_begins_with_a_stage),
    ("build_steps::parallel_builds_share_caches", parallel_builds_share_caches),
    ("build_steps::agent_is_mounted", agent_is_mounted),
    ("build_steps::check_prints_as_docker", check_prints_as_docker),
    ("build_steps::warnings_can_fail_builds", warnings_can_fail_builds),
    ("build_steps::contexts_are_read_with_the_callers_rights", contexts_are_read_with_the_callers_rights),
    ("build_steps::unchanged_files_are_shared", unchanged_files_are_shared),
    ("build_steps::broken_cache_is_a_miss", broken_cache_is_a_miss),
    ("build_steps::places_of_dockerfiles", places_of_dockerfiles),
    ("build_steps::networks", networks),
];

fn context(engine: &Engine, dockerfile: &str) -> PathBuf {
    let folder = engine.directory().join("context");
    fs::create_dir_all(&folder).expect("a folder");
    fs::write(folder.join("Dockerfile"), dockerfile).expect("a file");
    folder
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// The word behind the first place of some text.
fn word_after<'a>(text: &'a str, before: &str) -> &'a str {
    let found = text.split_once(before).unwrap_or_else(|| panic!("{before:?} is not in {text}"));
    found.1.split_whitespace().next().expect("a word")
}

fn steps_are_images() {
    let engine = Engine::with_busybox();
    let dockerfile = "FROM busybox\nRUN echo one > /one\nENV A=b\nRUN echo two > /two && rm /one\n";
    let folder = text(&context(&engine, dockerfile));
    wait_until("the embedded image", || engine.ferry(["image", "inspect", "localhost/hello"]).code == 0);
    let before = engine.ferry(["images", "-aq"]).ok().lines().count();
    let built = engine.ferry(["build", "--progress=plain", &folder]);
    built.exits(0);
    assert_eq!(engine.ferry(["images", "-aq"]).ok().lines().count(), before + 1, "steps are not listed");
    let first = word_after(&built.stderr, " image ");
    engine.ferry(["run", "--rm", first, "cat", "/one"]).prints("one");
    assert_eq!(
        engine.ferry(["image", "inspect", first, "-f", "{{.Config.Env}}"]).ok().matches("A=b").count(),
        0
    );
    // The classic builder's ids are those of images too, and a build out of the cache tells them again.
    let classic = engine.docker(["build", &folder]);
    let steps: Vec<&str> = classic.ok().lines().filter_map(|line| line.strip_prefix(" ---> ")).collect();
    let environment = steps.iter().filter(|step| **step != "Using cache").nth(2).expect("a third step");
    engine.docker(["run", "--rm", environment, "sh", "-c", "cat /one; echo $A"]).prints("one\nb");
    engine.ferry(["run", "--rm", "0123456789ab", "true"]).exits(125);
}

fn mounts() {
    let engine = Engine::with_busybox();
    let dockerfile = "\
FROM busybox AS tools
RUN mkdir /t && echo tool > /t/tool
FROM busybox
RUN --mount=type=tmpfs,target=/m,size=1m df -k /m | tail -1 | awk '{print $2}' > /size; ! head -c 2m /dev/zero > /m/f
RUN --mount=from=tools,source=/t,target=/w,rw cat /w/tool >> /bound; echo more > /w/new; cat /w/new >> /bound
RUN --mount=from=tools,source=/t,target=/r ! touch /r/x
RUN --mount=from=tools,source=/t/tool,target=/file cat /file >> /bound
RUN --mount=type=secret,id=token,env=TOKEN,required --mount=type=secret,id=token,target=/run/it,mode=0440,uid=5,gid=6 \\
    echo $TOKEN | md5sum > /sum; stat -c '%a %u %g' /run/it > /owner
RUN --mount=type=secret,id=missing ! test -e /run/secrets/missing
RUN --mount=type=cache,id=shared,target=/one echo kept > /one/kept
RUN --mount=type=cache,id=shared,target=/two,ro cat /two/kept >> /bound; ! touch /two/x
RUN --mount=type=cache,target=/p,sharing=private test ! -e /p/x && touch /p/x
RUN --mount=type=cache,target=/p,sharing=private test -e /p/x
RUN test ! -e /w && test ! -e /two/kept
";
    let folder = text(&context(&engine, dockerfile));
    let secret = engine.directory().join("secret");
    fs::write(&secret, "s3cret").expect("a file");
    let flag = format!("id=token,src={}", text(&secret));
    engine.ferry(["build", "-t", "m", "--secret", &flag, &folder]).exits(0);
    engine
        .ferry(["run", "--rm", "m", "cat", "/size", "/bound", "/owner"])
        .prints("1024\ntool\nmore\ntool\nkept\n440 5 6");
    let sum = engine.ferry(["run", "--rm", "busybox", "sh", "-c", "echo s3cret | md5sum"]);
    engine.ferry(["run", "--rm", "m", "cat", "/sum"]).prints(sum.ok());
    for (option, complaint) in [
        ("type=cache,target=/c,env=X", "env"),
        ("type=cache,target=/c,sharing=some", "sharing"),
        ("type=moon,target=/c", "moon"),
        ("type=secret,id=absent,required", "absent"),
        ("type=bind,target=/c,size=5", "size"),
    ] {
        context(&engine, &format!("FROM busybox\nRUN --mount={option} true\n"));
        engine.ferry(["build", &folder]).exits(1).complains(complaint);
    }
}

/// What a stage has at the place is what an empty cache begins with.
fn cache_mount_begins_with_a_stage() {
    let engine = Engine::with_busybox();
    let dockerfile = |number: u32| {
        format!(
            "FROM busybox AS seed\nRUN mkdir -p /s/sub && echo seed > /s/sub/f\nFROM busybox\n\
             RUN --mount=type=cache,id=c,target=/c,from=seed,source=/s/sub cat /c/f > /f{number} && echo {number} >> /c/f\n\
             CMD cat /f{number}\n"
        )
    };
    let folder = text(&context(&engine, &dockerfile(1)));
    engine.ferry(["build", "-t", "c", &folder]).exits(0);
    engine.ferry(["run", "--rm", "c"]).prints("seed");
    context(&engine, &dockerfile(2));
    engine.ferry(["build", "-t", "c", &folder]).exits(0);
    engine.ferry(["run", "--rm", "c"]).prints("seed\n1");
}

fn parallel_builds_share_caches() {
    let engine = Engine::with_busybox();
    let build = |number: u32| {
        let folder = engine.directory().join(format!("parallel{number}"));
        fs::create_dir_all(&folder).expect("a folder");
        let dockerfile = format!(
            "FROM busybox\nRUN --mount=type=cache,target=/c,sharing=locked echo {number} && touch /c/n && \
             n=$(cat /c/n) && sleep 0.2 && echo $((n + 1)) > /c/n\n"
        );
        fs::write(folder.join("Dockerfile"), dockerfile).expect("a file");
        let outcome = engine.ferry(["build", "-q", &text(&folder)]);
        outcome.exits(0);
    };
    std::thread::scope(|scope| {
        for number in 0..4 {
            scope.spawn(move || build(number));
        }
    });
    let folder =
        text(&context(&engine, "FROM busybox\nRUN --mount=type=cache,target=/c cat /c/n > /n\nCMD cat /n\n"));
    engine.ferry(["build", "-q", "-t", "n", &folder]).exits(0);
    engine.ferry(["run", "--rm", "n"]).prints("4");
}

fn agent_is_mounted() {
    let engine = Engine::with_busybox();
    let socket = engine.directory().join("agent");
    let _agent = std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
    let folder = text(&context(
        &engine,
        "FROM busybox\nRUN --mount=type=ssh test -S $SSH_AUTH_SOCK\nRUN --mount=type=ssh,id=other,target=/a test -S /a\n\
         RUN test -z \"$SSH_AUTH_SOCK\"\n",
    ));
    let flags = [format!("default={}", text(&socket)), format!("other={}", text(&socket))];
    engine.ferry(["build", "--ssh", &flags[0], "--ssh", &flags[1], &folder]).exits(0);
    context(&engine, "FROM busybox\nRUN --mount=type=ssh,required true\n");
    engine.ferry(["build", &folder]).exits(1).complains("ssh");
}

fn check_prints_as_docker() {
    let engine = Engine::with_busybox();
    let folder =
        text(&context(&engine, "FROM busybox\nRUN true\nMAINTAINER me\nEXPOSE 80\nCMD echo hello\n"));
    let outcome = engine.ferry(["build", "--check", &folder]);
    outcome.exits(1).says("Check complete, 2 warnings have been found!").says(
        "\nWARNING: MaintainerDeprecated - https://docs.docker.com/go/dockerfile/rule/maintainer-deprecated/\n",
    );
    outcome.says(
        "Dockerfile:5\n--------------------\n   3 |     MAINTAINER me\n   4 |     EXPOSE 80\n   5 | >>> CMD echo hello\n   6 |     \n--------------------\n",
    );
    context(&engine, "# check=skip=all\nFROM busybox\nCMD echo hello\n");
    engine.ferry(["build", "--check", &folder]).exits(0).says("Check complete, no warnings found.");
}

fn warnings_can_fail_builds() {
    let engine = Engine::with_busybox();
    let folder = text(&context(&engine, "FROM busybox\nCMD echo hello\n"));
    let built = engine.ferry(["build", &folder]);
    built.exits(0).complains("1 warning found").complains(" - JSONArgsRecommended: ").complains("(line 2)");
    engine
        .ferry(["build", "--build-arg", "BUILDKIT_DOCKERFILE_CHECK=error=true", &folder])
        .exits(1)
        .complains("lint violation found for rules: JSONArgsRecommended");
    context(&engine, "# check=error=true\nFROM busybox\nMAINTAINER me\n");
    engine.ferry(["build", &folder]).exits(1).complains("MaintainerDeprecated");
    context(&engine, "# check=skip=MaintainerDeprecated;error=true\nFROM busybox\nMAINTAINER me\n");
    let silent = engine.ferry(["build", &folder]);
    silent.exits(0);
    assert!(!silent.stderr.contains("warning"), "{silent}");
}

/// Runs ferry as a user without any rights.
fn as_nobody(engine: &Engine, binary: &Path, arguments: &[&str]) -> Outcome {
    let mut command = std::process::Command::new(binary);
    command.arg("--host").arg(engine.host()).args(arguments).env("HOME", "/nonexistent");
    command.current_dir("/").uid(65_534).gid(65_534);
    let output = command.output().expect("ferry runs");
    Outcome::new(format!("{command:?}"), &output)
}

fn contexts_are_read_with_the_callers_rights() {
    let engine = Engine::with_busybox();
    let folder = context(&engine, "FROM busybox\nCOPY . /d\n");
    let mode = |path: &Path, mode: u32| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("permissions");
    };
    let (binary, secret) = (engine.directory().join("ferry"), folder.join("secret"));
    fs::copy(ferry_tests::engine::binary(), &binary).expect("a copy");
    fs::write(&secret, "for root alone").expect("a file");
    for open in [engine.directory(), &folder, &binary] {
        mode(open, 0o755);
    }
    let socket = engine.host().trim_start_matches("unix://").to_owned();
    mode(Path::new(&socket).parent().expect("a folder"), 0o755);
    mode(Path::new(&socket), 0o666);
    mode(&secret, 0o600);
    let name = text(&folder);
    // Root may, and what root's build knows of the file helps nobody else.
    engine.ferry(["build", "-q", &name]).exits(0);
    let refused = as_nobody(&engine, &binary, &["build", &name]);
    refused.exits(1).complains("secret").complains("ermission denied");
    // Nor by a link that leads to it, nor by a folder that only root may search.
    fs::write(folder.join(".dockerignore"), "secret\n").expect("a file");
    as_nobody(&engine, &binary, &["build", "-q", &name]).exits(0);
    let locked = folder.join("locked");
    fs::create_dir(&locked).expect("a folder");
    fs::write(locked.join("f"), "f").expect("a file");
    mode(&locked, 0o700);
    as_nobody(&engine, &binary, &["build", "-q", &name]).exits(1).complains("ermission denied");
    fs::write(folder.join("Dockerfile"), "FROM busybox\nCOPY locked/f /f\n").expect("a file");
    as_nobody(&engine, &binary, &["build", "-q", &name]).exits(1).complains("ermission denied");
    mode(&locked, 0o755);
    as_nobody(&engine, &binary, &["build", "-q", &name]).exits(0);
    let agent = engine.directory().join("agent");
    let _listener = std::os::unix::net::UnixListener::bind(&agent).expect("a socket");
    mode(&agent, 0o600);
    let flag = format!("default={}", text(&agent));
    as_nobody(&engine, &binary, &["build", "-q", "--ssh", &flag, &name])
        .exits(1)
        .complains("cannot use the ssh agent");
}

/// The one file of this name in all layers, with each of its inodes.
fn inodes(engine: &Engine, name: &str) -> Vec<u64> {
    let layers = fs::read_dir(engine.data_root().join("layers/sha256")).expect("layers").flatten();
    let mut found: Vec<u64> = layers
        .filter_map(|layer| Some(fs::metadata(layer.path().join("fs/d").join(name)).ok()?.ino()))
        .collect();
    found.sort_unstable();
    found
}

/// Of a copy that is done again for one changed file the others are not written anew; the image is the same as
/// one that was never built before.
fn unchanged_files_are_shared() {
    let engine = Engine::with_busybox();
    let folder = context(&engine, "FROM busybox\nRUN mkdir /d && echo base > /d/over\nCOPY . /d\n");
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(5000);
    let write = |name: &str, bytes: &str| {
        let path = folder.join(name);
        fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
        fs::write(&path, bytes).expect("a file");
        fs::File::options().write(true).open(&path).expect("the file").set_modified(old).expect("a time");
    };
    for name in ["same", "sub/deep/same", "over", "changed"] {
        write(name, &format!("first {name}\n"));
    }
    // Files are remembered once they are older than the clock's tick.
    std::thread::sleep(std::time::Duration::from_millis(100));
    let name = text(&folder);
    engine.ferry(["build", "-q", &name]).exits(0);
    // The same size and time: only what is in it differs.
    write("changed", "other changed\n");
    std::thread::sleep(std::time::Duration::from_millis(100));
    let id = engine.ferry(["build", "-q", "-t", "r", &name]).ok().to_owned();
    let shown = "cat /d/same /d/sub/deep/same /d/over /d/changed; stat -c %Y /d/sub/deep";
    let listed = engine.ferry(["run", "--rm", "r", "sh", "-c", shown]);
    assert!(
        listed.ok().starts_with("first same\nfirst sub/deep/same\nfirst over\nother changed\n"),
        "{listed}"
    );
    for name in ["same", "sub/deep/same", "over"] {
        let inodes = inodes(&engine, name);
        let shared = inodes.windows(2).any(|pair| pair[0] == pair[1]);
        assert!(shared, "{name}: {inodes:?}");
    }
    let changed = inodes(&engine, "changed");
    assert!(changed.len() == 2 && changed[0] != changed[1], "{changed:?}");
    let other = Engine::with_busybox();
    assert_eq!(other.ferry(["build", "-q", &name]).ok(), id);
    // What one image's container writes is not seen in another's.
    engine.ferry(["run", "--rm", "r", "sh", "-c", "echo x >> /d/same; chmod 700 /d/over"]).exits(0);
    engine.ferry(["run", "--rm", "r", "sh", "-c", shown]).prints(listed.ok());
}

fn broken_cache_is_a_miss() {
    let engine = Engine::with_busybox();
    let dockerfile = "FROM busybox AS a\nRUN echo one > /one\nRUN echo two > /two\nFROM busybox\nCOPY --from=a /two /two\n";
    let folder = text(&context(&engine, dockerfile));
    engine.ferry(["build", "-q", "-t", "b", &folder]).exits(0);
    let layers = engine.data_root().join("layers/sha256");
    let broken =
        fs::read_dir(&layers).expect("layers").flatten().find(|layer| layer.path().join("fs/one").exists());
    fs::remove_dir_all(broken.expect("the layer of the first step").path()).expect("it goes");
    engine.kill("engine");
    engine.ferry(["build", "-q", "-t", "b", &folder]).exits(0);
    engine.ferry(["build", "-q", "--no-cache-filter", "a", "-t", "b", &folder]).exits(0);
    engine.ferry(["run", "--rm", "b", "cat", "/two"]).prints("two");
}

fn places_of_dockerfiles() {
    let engine = Engine::with_busybox();
    let folder = context(&engine, "FROM busybox\n");
    engine.ferry(["build", &text(&folder.join("none"))]).exits(1).complains("not found");
    let file = text(&folder.join("Dockerfile"));
    engine.ferry(["build", &file]).exits(1).complains(&format!("build -f {file}"));
    engine.ferry(["build", ""]).exits(1).complains("empty");
    engine.ferry(["build", &text(&folder), "--tag", "after", "-q"]).exits(0);
    engine.ferry(["image", "inspect", "after"]).exits(0);
}

/// Steps are connected to what `--network` names: none, the host's, one of the engine's, or a container's.
fn networks() {
    let engine = Engine::with_busybox();
    engine.ferry(["network", "create", "inner"]).exits(0);
    let serve = "mkdir /w && echo served > /w/page && exec httpd -f -h /w";
    engine.ferry(["run", "-d", "--name", "web", "--network", "inner", "busybox", "sh", "-c", serve]).exits(0);
    let folder = text(&context(
        &engine,
        "FROM busybox\nRUN for i in $(seq 50); do wget -qO /page http://web/page && exit 0; sleep 0.1; done; exit 1\n",
    ));
    for client in CLIENTS {
        engine.client(client, ["build", "--no-cache", "--network", "inner", "-t", "w", &folder]).exits(0);
        engine.client(client, ["run", "--rm", "w", "cat", "/page"]).prints("served");
    }
    context(&engine, "FROM busybox\nRUN wget -qO /page http://127.0.0.1/page\n");
    engine.ferry(["build", "--no-cache", "--network", "container:web", &folder]).exits(0);
    context(&engine, "FROM busybox\nRUN test \"$(ls /sys/class/net)\" = lo\n");
    engine.ferry(["build", "--network", "none", &folder]).exits(0);
    context(&engine, "FROM busybox\nRUN true\n");
    engine.ferry(["build", "--network", "nowhere", &folder]).exits(1).complains("nowhere");
}
