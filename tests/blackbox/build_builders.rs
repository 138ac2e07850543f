//! `builder` and `buildx`: the commands about the cache and about builders, of which there is one.

use std::fs;

use ferry_tests::Engine;

use crate::Test;

/// The suite.
pub const TESTS: &[Test] = &[
    ("build_builders::what_the_cache_holds", what_the_cache_holds),
    ("build_builders::there_is_one", there_is_one),
    ("build_builders::resources_in_one_flag", resources_in_one_flag),
];

fn context(engine: &Engine, dockerfile: &str) -> String {
    let folder = engine.directory().join("context");
    fs::create_dir_all(&folder).expect("a folder");
    fs::write(folder.join("Dockerfile"), dockerfile).expect("a file");
    folder.display().to_string()
}

fn what_the_cache_holds() {
    let engine = Engine::with_busybox();
    let folder = context(
        &engine,
        "FROM busybox AS a\nRUN head -c 3000000 /dev/zero > /big\nFROM busybox\nCOPY --from=a /bin/busybox /b\n",
    );
    engine.ferry(["buildx", "build", "-q", &folder]).exits(0);
    engine.ferry(["buildx", "du"]).exits(0).says("head -c").says("Reclaimable:").says("Total:");
    let only = ["builder", "du", "--filter", "description=no such step"];
    let none = engine.ferry(only);
    assert!(!none.ok().contains("head -c") && none.stdout.contains("Total:\t\t0B"), "{none}");
    let full = engine.ferry(["builder", "du", "--verbose"]);
    full.exits(0).says("Usage count:").says("Last used:").says("Type:\t\tregular");
    let ids = engine.ferry(["builder", "du", "--format", "{{.ID}} {{.Type}}"]);
    let id = ids.ok().split_whitespace().next().expect("a record").to_owned();
    engine.ferry(["builder", "du", "--filter", &format!("id={id}"), "--format", "{{.ID}}"]).prints(&id);
    engine.ferry(["builder", "du", "--filter", "colour=red"]).exits(1).complains("invalid filter \"colour\"");
    // So much may stay that nothing goes; a disk that cannot be that free loses all.
    let stays = ["builder", "prune", "-f", "--max-used-space", "100gb"];
    engine.ferry(stays).exits(0).says("Total:\t0B");
    let goes = ["buildx", "prune", "-af", "--verbose", "--min-free-space", "9000000gb"];
    engine.ferry(goes).exits(0).says("Usage count:");
    let left = engine.ferry(["builder", "du"]);
    assert!(!left.ok().contains("head -c"), "{left}");
}

fn there_is_one() {
    let engine = Engine::start();
    engine.ferry(["buildx", "ls"]).exits(0).says("default*").says("running").says("linux/");
    engine.ferry(["builder", "ls", "--format", "{{.Name}}"]).exits(0).says("default");
    engine.ferry(["buildx", "inspect", "--bootstrap"]).exits(0).says("Status:           running");
    engine.ferry(["buildx", "version"]).exits(0).says("ferry ");
    engine.ferry(["buildx", "use", "default"]).exits(0);
    engine.ferry(["buildx", "use", "other"]).exits(1).complains("no builder \"other\" found");
    engine.ferry(["buildx", "inspect", "other"]).exits(1).complains("no builder \"other\" found");
    let create = engine.ferry(["buildx", "create", "--use", "--name", "other"]);
    create.exits(1).complains("there are no builders beside the engine itself").complains("--platform");
}

fn resources_in_one_flag() {
    let engine = Engine::with_busybox();
    let script = "cat /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/cpu.max 2>/dev/null; true";
    let folder = context(&engine, &format!("FROM busybox\nRUN {script}\n"));
    let limits = ["build", "--progress=plain", "--resource", "cpu-quota=50000,memory=1g", &folder];
    engine.ferry(limits).exits(0).complains("50000");
    engine.ferry(["build", "--resource", "speed=9", &folder]).exits(1).complains("no resource \"speed\"");
    engine.ferry(["build", "--resource", "memory=x", &folder]).exits(1).complains("invalid size");
}
