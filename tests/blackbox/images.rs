//! Images in and out: load, save, import, tag, remove, list, history, through both clients and against skopeo.

use std::fs;
use std::process::Command;

use ferry_tests::engine::wait_until;
use ferry_tests::{Engine, images};

use crate::{CLIENTS, Test};

/// The suite.
pub const TESTS: &[Test] = &[
    ("images::load_list_tag_remove", load_list_tag_remove),
    ("images::save_and_load_again", save_and_load_again),
    ("images::loads_what_skopeo_writes", loads_what_skopeo_writes),
    ("images::import_with_changes", import_with_changes),
    ("images::history_and_inspect", history_and_inspect),
    ("images::in_use_is_not_removed", in_use_is_not_removed),
    ("images::truncated_and_lying_archives", truncated_and_lying_archives),
    ("images::embedded_hello", embedded_hello),
    ("images::debian_runs", debian_runs),
    ("images::tree", tree),
];

/// Names of the images other than the one that is built in.
fn loaded(engine: &Engine) -> String {
    let names = engine.ferry(["images", "--format", "{{.Repository}}:{{.Tag}}"]).ok().to_owned();
    names.lines().filter(|name| *name != "localhost/hello:latest").collect::<Vec<_>>().join(" ")
}

fn load_list_tag_remove() {
    let engine = Engine::start();
    let archive = images::archive("busybox").display().to_string();
    for client in CLIENTS {
        engine.client(client, ["load", "-i", &archive]).exits(0).says("Loaded image: busybox:latest");
        let head = engine.client(client, ["images"]).ok().lines().next().unwrap_or_default().to_owned();
        let columns: Vec<&str> = head.split("  ").map(str::trim).filter(|word| !word.is_empty()).collect();
        assert_eq!(columns, ["REPOSITORY", "TAG", "IMAGE ID", "CREATED", "SIZE"]);
        engine.client(client, ["tag", "busybox", "example.com:5000/team/box:v1"]).exits(0);
        engine
            .client(client, ["images", "--format", "{{.Repository}}:{{.Tag}}", "example.com:5000/team/box"])
            .prints("example.com:5000/team/box:v1");
        engine.client(client, ["rmi", "busybox"]).exits(0).says("Untagged: busybox:latest");
        engine
            .client(client, ["run", "--rm", "example.com:5000/team/box:v1", "echo", "still"])
            .prints("still");
        engine
            .client(client, ["image", "rm", "example.com:5000/team/box:v1"])
            .exits(0)
            .says("Deleted: sha256:");
        assert_eq!(loaded(&engine), "");
        engine.client(client, ["rmi", "nosuch"]).exits(1).complains("No such image: nosuch");
    }
}

fn save_and_load_again() {
    let engine = Engine::with_busybox();
    for client in CLIENTS {
        let file = engine.directory().join(format!("{client}.tar")).display().to_string();
        let id = engine.client(client, ["images", "-q", "--no-trunc", "busybox"]).ok().to_owned();
        engine.client(client, ["save", "-o", &file, "busybox"]).exits(0);
        engine.client(client, ["rmi", "busybox"]).exits(0);
        engine.client(client, ["load", "-i", &file]).exits(0);
        assert_eq!(engine.client(client, ["images", "-q", "--no-trunc", "busybox"]).ok(), id);
        engine.client(client, ["run", "--rm", "busybox", "true"]).exits(0);
        let listing = Command::new("skopeo")
            .args(["inspect", &format!("docker-archive:{file}")])
            .output()
            .expect("skopeo");
        assert!(listing.status.success(), "{}", String::from_utf8_lossy(&listing.stderr));
    }
}

fn loads_what_skopeo_writes() {
    let engine = Engine::start();
    let source = format!("docker-archive:{}", images::archive("busybox").display());
    for (kind, extra) in [("docker-archive", ":one:1"), ("oci-archive", ":two:2")] {
        let file = engine.directory().join(format!("{kind}.tar"));
        let target = format!("{kind}:{}{extra}", file.display());
        let copy = Command::new("skopeo")
            .args(["copy", "--insecure-policy", &source, &target])
            .output()
            .expect("skopeo");
        assert!(copy.status.success(), "{}", String::from_utf8_lossy(&copy.stderr));
        let packed = engine.directory().join(format!("{kind}.tar.gz"));
        let gzip = Command::new("sh")
            .args([
                "-c",
                &format!(
                    "gzip -c '{}' > '{}'; zstd -q '{}'",
                    file.display(),
                    packed.display(),
                    file.display()
                ),
            ])
            .status()
            .expect("gzip and zstd");
        assert!(gzip.success());
        for ending in ["tar", "tar.gz", "tar.zst"] {
            let file = engine.directory().join(format!("{kind}.{ending}")).display().to_string();
            let loaded = engine.ferry(["load", "-q", "-i", &file]).ok().to_owned();
            let name = loaded.rsplit(": ").next().unwrap_or_default().to_owned();
            let reference = if name.len() == 64 { name[..12].to_owned() } else { name };
            engine.ferry(["run", "--rm", &reference, "echo", ending]).exits(0).prints(ending);
        }
    }
}

fn import_with_changes() {
    let engine = Engine::start();
    let root = engine.directory().join("tree");
    fs::create_dir_all(root.join("bin")).expect("folders");
    fs::copy("/bin/busybox", root.join("bin/sh")).expect("busybox");
    let tar = engine.directory().join("tree.tar").display().to_string();
    let packed = Command::new("tar").args(["-cf", &tar, "-C"]).arg(&root).arg(".").status().expect("tar");
    assert!(packed.success());
    for client in CLIENTS {
        let changes = ["-c", "CMD [\"sh\", \"-c\", \"echo $WORD\"]", "--change", "ENV WORD=imported"];
        let mut arguments = vec!["import"];
        arguments.extend(changes);
        arguments.extend(["-m", "by hand", &tar, "tree:new"]);
        assert!(engine.client(client, arguments).ok().starts_with("sha256:"));
        engine.client(client, ["run", "--rm", "tree:new"]).prints("imported");
        engine.client(client, ["history", "--format", "{{.Comment}}", "tree:new"]).says("by hand");
        engine.client(client, ["rmi", "tree:new"]).exits(0);
    }
}

fn history_and_inspect() {
    let engine = Engine::with_busybox();
    for client in CLIENTS {
        engine.client(client, ["history", "busybox"]).exits(0).says("IMAGE").says("CREATED BY");
        engine.client(client, ["inspect", "-f", "{{.Config.Cmd}} {{.Os}}", "busybox"]).prints("[sh] linux");
        engine.client(client, ["image", "inspect", "-f", "{{len .RootFS.Layers}}", "busybox"]).prints("1");
        engine.client(client, ["image", "inspect", "nosuch"]).exits(1).complains("No such image: nosuch");
    }
}

fn in_use_is_not_removed() {
    let engine = Engine::with_busybox();
    engine.ferry(["run", "-d", "--name", "user", "busybox", "sleep", "1000"]).exits(0);
    for client in CLIENTS {
        engine.client(client, ["rmi", "busybox"]).exits(1).complains("conflict");
    }
    engine.ferry(["rm", "-f", "user"]).exits(0);
    engine.ferry(["create", "--name", "user", "busybox"]).exits(0);
    engine.ferry(["rmi", "busybox"]).exits(1).complains("conflict");
    engine.ferry(["rmi", "-f", "busybox"]).exits(0);
    engine.ferry(["start", "user"]).exits(0);
}

fn truncated_and_lying_archives() {
    let engine = Engine::start();
    let whole = fs::read(images::archive("busybox")).expect("the archive");
    let write = |name: &str, bytes: &[u8]| {
        let path = engine.directory().join(name);
        fs::write(&path, bytes).expect("written");
        path.display().to_string()
    };
    let mut flipped = whole.clone();
    let middle = flipped.len() / 2;
    flipped[middle] ^= 0xff;
    for (name, bytes) in [
        ("half.tar", &whole[..whole.len() / 2]),
        ("flipped.tar", &flipped[..]),
        ("empty.tar", &[][..]),
        ("text.tar", b"this is no archive\n"),
        ("zeros.tar", &[0; 4096]),
    ] {
        let outcome = engine.ferry(["load", "-i", &write(name, bytes)]);
        outcome.exits(1);
        assert!(outcome.stderr.lines().count() <= 4 && !outcome.stderr.contains("panicked"), "{outcome}");
        assert_eq!(loaded(&engine), "");
    }
    // The answer does not wait for the sweeping.
    wait_until("nothing half-made is left", || {
        let folders = ["ingest", "tmp"].map(|folder| fs::read_dir(engine.data_root().join(folder)));
        folders.into_iter().flatten().flatten().next().is_none()
    });
    engine.ferry(["load", "-i", "/nonexistent.tar"]).exits(1).complains("/nonexistent.tar");
}

fn embedded_hello() {
    let engine = Engine::start();
    engine.ferry(["run", "--rm", "localhost/hello"]).exits(0).says("ferry");
    engine.docker(["run", "--rm", "localhost/hello"]).exits(0);
    engine.ferry(["run", "-d", "--name", "web", "localhost/hello", "web"]).exits(0);
    assert_eq!(engine.inspect("web", "{{.State.Running}}"), "true");
    wait_until("it listens", || engine.ferry(["logs", "web"]).stdout.contains("listening"));
    engine.ferry(["stop", "-t", "2", "web"]).exits(0);
    assert_ne!(engine.inspect("web", "{{.State.ExitCode}}"), "137", "it obeys SIGTERM");
}

fn debian_runs() {
    let engine = Engine::with_images(&["debian"]);
    for client in CLIENTS {
        engine
            .client(client, ["run", "--rm", "debian:bookworm", "cat", "/etc/debian_version"])
            .exits(0)
            .says("12");
        engine.client(client, ["run", "--rm", "debian:bookworm", "dpkg", "--version"]).exits(0);
        engine
            .client(client, ["run", "--rm", "-u", "nobody", "debian:bookworm", "id", "-un"])
            .prints("nobody");
    }
}

/// A text without what only colours it.
fn plain(text: &str) -> String {
    let parts = text.split("\u{1b}[").enumerate();
    parts
        .map(|(at, part)| if at == 0 { part } else { part.split_once('m').map_or(part, |(_, rest)| rest) })
        .collect()
}

fn tree() {
    let engine = Engine::with_busybox();
    engine.ferry(["tag", "busybox", "reg.example:5000/team/busy:v1"]).exits(0);
    engine.ferry(["create", "--name", "user", "busybox", "true"]).exits(0);
    engine.ferry(["commit", "user", "unused:one"]).exits(0);
    engine.ferry(["commit", "user"]).exits(0);
    for words in
        [&["images", "--tree"][..], &["image", "ls", "--tree", "-a"], &["images", "--tree", "busybox"]]
    {
        let (docker, ferry) = (engine.docker(words), engine.ferry(words));
        assert_eq!(plain(docker.ok()), plain(ferry.ok()), "{words:?}");
        ferry.says("└─ linux/");
    }
    engine.ferry(["images", "--tree", "-q"]).exits(1).complains("--quiet is not yet supported with --tree");
}
