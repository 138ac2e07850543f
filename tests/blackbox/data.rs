//! A container's files and volumes from outside: cp, diff, export, commit, volumes, disk usage, through both
//! clients.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::process::Command;

use ferry_tests::Engine;

use crate::{CLIENTS, Test};

/// The suite.
pub const TESTS: &[Test] = &[
    ("data::volumes_live_and_are_guarded", volumes_live_and_are_guarded),
    ("data::new_volumes_are_filled_from_the_image", new_volumes_are_filled_from_the_image),
    ("data::volumes_outlive_containers_and_engines", volumes_outlive_containers_and_engines),
    ("data::prune_takes_what_nobody_named", prune_takes_what_nobody_named),
    ("data::copies_follow_dockers_rules", copies_follow_dockers_rules),
    ("data::copies_stay_inside", copies_stay_inside),
    ("data::diff_and_commit_see_only_changes", diff_and_commit_see_only_changes),
    ("data::export_imports_again", export_imports_again),
    ("data::disk_usage_is_what_du_says", disk_usage_is_what_du_says),
];

fn volumes_live_and_are_guarded() {
    let engine = Engine::with_busybox();
    for client in CLIENTS {
        engine.client(client, ["volume", "create", "--label", "tier=db", "pgdata"]).prints("pgdata");
        engine.client(client, ["volume", "create", "pgdata"]).prints("pgdata");
        engine.client(client, ["volume", "ls", "-q", "-f", "label=tier=db"]).prints("pgdata");
        engine.client(client, ["volume", "ls", "-q", "-f", "label=tier=web"]).prints("");
        engine
            .client(client, ["volume", "inspect", "-f", "{{.Driver}} {{.Scope}} {{.Labels.tier}}", "pgdata"])
            .prints("local local db");
        engine.client(client, ["create", "--name", "user", "-v", "pgdata:/data", "busybox", "true"]).exits(0);
        engine.client(client, ["volume", "rm", "pgdata"]).exits(1).complains("volume is in use - [");
        engine.client(client, ["volume", "ls", "-q", "-f", "dangling=true"]).prints("");
        engine.client(client, ["rm", "-v", "user"]).exits(0);
        engine.client(client, ["volume", "rm", "pgdata"]).prints("pgdata");
        engine.client(client, ["volume", "rm", "pgdata"]).exits(1).complains("no such volume");
        engine
            .client(client, ["volume", "create", "bad/name"])
            .exits(1)
            .complains("includes invalid characters");
    }
}

/// Copy-up: owners, modes and links come along, once, and only into an empty volume.
fn new_volumes_are_filled_from_the_image() {
    let engine = Engine::with_busybox();
    let script = "mkdir -p /srv/deep && echo first > /srv/deep/file && chown 7:8 /srv/deep && chmod 2750 /srv/deep \
                  && ln -s deep /srv/link && chmod 1777 /srv";
    engine.ferry(["run", "--name", "maker", "busybox", "sh", "-c", script]).exits(0);
    engine.ferry(["commit", "-c", "VOLUME /srv", "maker", "filled"]).exits(0);
    for client in CLIENTS {
        let volume = format!("{client}-srv:/srv");
        let look = "stat -c '%a %u:%g' /srv /srv/deep; readlink /srv/link; cat /srv/link/file";
        engine
            .client(client, ["run", "--rm", "-v", &volume, "filled", "sh", "-c", look])
            .prints("1777 0:0\n2750 7:8\ndeep\nfirst");
        let change = "rm /srv/deep/file; echo second > /srv/mine";
        engine.client(client, ["run", "--rm", "-v", &volume, "filled", "sh", "-c", change]).exits(0);
        engine
            .client(client, ["run", "--rm", "-v", &volume, "filled", "ls", "/srv", "/srv/deep"])
            .prints("/srv:\ndeep\nlink\nmine\n\n/srv/deep:");
        // The image's own VOLUME makes an anonymous one, which goes with --rm.
        engine.client(client, ["run", "--rm", "filled", "cat", "/srv/deep/file"]).prints("first");
        engine.client(client, ["volume", "ls", "-q"]).says(&format!("{client}-srv"));
    }
    let left = engine.ferry(["volume", "ls", "-q"]).ok().lines().count();
    assert_eq!(left, CLIENTS.len(), "anonymous volumes are gone");
}

fn volumes_outlive_containers_and_engines() {
    let engine = Engine::with_busybox();
    engine.ferry(["run", "--rm", "-v", "kept:/data", "busybox", "sh", "-c", "echo saved > /data/f"]).exits(0);
    engine.kill("engine");
    engine.ferry(["run", "--rm", "-v", "kept:/data:ro", "busybox", "cat", "/data/f"]).prints("saved");
    engine
        .ferry(["run", "--rm", "-v", "kept:/data:ro", "busybox", "touch", "/data/g"])
        .exits(1)
        .complains("Read-only file system");
}

fn prune_takes_what_nobody_named() {
    let engine = Engine::with_busybox();
    for client in CLIENTS {
        engine.client(client, ["volume", "create", "named"]).exits(0);
        engine.client(client, ["create", "--name", "anonymous", "-v", "/data", "busybox", "true"]).exits(0);
        engine.client(client, ["volume", "prune", "-f"]).exits(0).says("Total reclaimed space: 0B");
        engine.client(client, ["rm", "anonymous"]).exits(0);
        engine.client(client, ["volume", "prune", "-f"]).exits(0).says("Deleted Volumes:");
        engine.client(client, ["volume", "ls", "-q"]).prints("named");
        engine.client(client, ["volume", "prune", "-a", "-f"]).exits(0).says("named");
        engine.client(client, ["volume", "ls", "-q"]).prints("");
    }
}

fn copies_follow_dockers_rules() {
    let engine = Engine::with_busybox();
    for (client, running) in CLIENTS.iter().flat_map(|client| [(*client, false), (*client, true)]) {
        let directory = engine.directory().join(format!("{client}-{running}"));
        fs::create_dir_all(directory.join("tree/sub")).unwrap();
        fs::write(directory.join("tree/sub/file"), "content").unwrap();
        symlink("sub/file", directory.join("tree/link")).unwrap();
        let path = |name: &str| directory.join(name).display().to_string();
        let wait = if running { "sleep 1000" } else { "true" };
        let script = format!("echo inside > /tmp/file; ln -s /tmp/file /tmp/link; {wait}");
        let name = format!("c-{client}-{running}");
        engine
            .client(client, ["run", "-d", "--name", &name, "-v", "/vol", "busybox", "sh", "-c", &script])
            .exits(0);
        engine.wait_for_status(&name, if running { "running" } else { "exited" });
        let place = |path: &str| format!("{name}:{path}");

        engine.client(client, ["cp", &place("/tmp/file"), &path("file")]).exits(0);
        assert_eq!(fs::read_to_string(path("file")).unwrap(), "inside\n");
        engine.client(client, ["cp", &place("/tmp/link"), &path("link")]).exits(0);
        assert_eq!(fs::read_link(path("link")).unwrap().to_str(), Some("/tmp/file"));
        engine.client(client, ["cp", "-L", &place("/tmp/link"), &path("followed")]).exits(0);
        assert_eq!(fs::read_to_string(path("followed")).unwrap(), "inside\n");

        // A directory into one that is there, into a new one, and its contents alone.
        engine.client(client, ["cp", &path("tree"), &place("/tmp")]).exits(0);
        engine.client(client, ["cp", &path("tree"), &place("/tmp/renamed")]).exits(0);
        engine.client(client, ["cp", &path("tree/."), &place("/vol")]).exits(0);
        for inside in ["/tmp/tree", "/tmp/renamed", "/vol"] {
            let back = path(&format!("back{}", inside.replace('/', "-")));
            engine.client(client, ["cp", &place(inside), &back]).exits(0);
            assert_eq!(fs::read_to_string(format!("{back}/sub/file")).unwrap(), "content", "{inside}");
            assert_eq!(fs::read_link(format!("{back}/link")).unwrap().to_str(), Some("sub/file"));
        }
        engine
            .client(client, ["cp", &place("/nope"), &path("x")])
            .exits(1)
            .complains("Could not find the file /nope");
        engine
            .client(client, ["cp", &path("file"), &place("/nope/x/y")])
            .exits(1)
            .complains("Could not find the file");
        engine.client(client, ["rm", "-f", "-v", &name]).exits(0);
    }
}

/// Links that a container plants lead inside it, whichever way files go.
fn copies_stay_inside() {
    let engine = Engine::with_busybox();
    let outside = engine.directory().join("outside");
    fs::create_dir_all(&outside).unwrap();
    let host = outside.display();
    let climb = format!("{}{host}", "../".repeat(30));
    let script =
        format!("ln -s {host} /abs; ln -s {climb} /rel; mkdir -p {host}; echo container > {host}/secret");
    fs::write(outside.join("secret"), "host").unwrap();
    engine.ferry(["run", "--name", "trap", "busybox", "sh", "-c", &script]).exits(0);
    let file = engine.directory().join("file");
    fs::write(&file, "planted").unwrap();
    for (client, link) in CLIENTS.iter().flat_map(|client| [(*client, "/abs"), (*client, "/rel")]) {
        let got = engine.directory().join("got").display().to_string();
        engine.client(client, ["cp", &format!("trap:{link}/secret"), &got]).exits(0);
        assert_eq!(fs::read_to_string(&got).unwrap(), "container\n", "{link}");
        engine.client(client, ["cp", &file.display().to_string(), &format!("trap:{link}/planted")]).exits(0);
        assert!(!outside.join("planted").exists(), "{link}");
    }
    assert_eq!(fs::read_to_string(outside.join("secret")).unwrap(), "host");
}

fn diff_and_commit_see_only_changes() {
    let engine = Engine::with_busybox();
    for client in CLIENTS {
        engine.client(client, ["run", "--name", "same", "busybox", "true"]).exits(0);
        engine.client(client, ["diff", "same"]).prints("");
        let script = "echo x > /tmp/new; rm /etc/group; mkdir /made; chmod 700 /made";
        engine.client(client, ["run", "--name", "changed", "busybox", "sh", "-c", script]).exits(0);
        engine
            .client(client, ["diff", "changed"])
            .prints("C /etc\nD /etc/group\nA /made\nC /tmp\nA /tmp/new");
        let committed = engine.client(
            client,
            [
                "commit",
                "-m",
                "why",
                "-a",
                "who",
                "-c",
                "CMD [\"ls\", \"/etc/group\"]",
                "changed",
                "committed:1",
            ],
        );
        committed.exits(0).says("sha256:");
        engine.client(client, ["run", "--rm", "committed:1"]).exits(1).complains("No such file");
        engine.client(client, ["run", "--rm", "committed:1", "stat", "-c", "%a", "/made"]).prints("700");
        engine
            .client(
                client,
                ["image", "inspect", "-f", "{{.Comment}} {{.Author}} {{json .Config.Cmd}}", "committed:1"],
            )
            .prints("why who [\"ls\",\"/etc/group\"]");
        engine.client(client, ["rm", "same", "changed"]).exits(0);
        engine.client(client, ["rmi", "committed:1"]).exits(0);
    }
}

fn export_imports_again() {
    let engine = Engine::with_busybox();
    engine
        .ferry(["run", "--name", "source", "busybox", "sh", "-c", "echo kept > /marker; chown 5:6 /marker"])
        .exits(0);
    for client in CLIENTS {
        let file = engine.directory().join(format!("{client}.tar")).display().to_string();
        engine.client(client, ["export", "-o", &file, "source"]).exits(0);
        if client == "ferry" {
            // What is no file is written to, not replaced.
            let device = engine.directory().join("nothing");
            let made = Command::new("mknod").arg(&device).args(["c", "1", "3"]).status().expect("mknod runs");
            assert!(made.success());
            engine.ferry(["export", "-o", &device.display().to_string(), "source"]).exits(0);
            let kind = fs::metadata(&device).expect("it is there").file_type();
            assert!(std::os::unix::fs::FileTypeExt::is_char_device(&kind));
        }
        engine.client(client, ["import", "-c", "CMD [\"sh\"]", &file, "imported:1"]).exits(0);
        engine
            .client(client, ["run", "--rm", "imported:1", "stat", "-c", "%n %u:%g", "/marker"])
            .prints("/marker 5:6");
        engine.client(client, ["rmi", "imported:1"]).exits(0);
    }
}

fn disk_usage_is_what_du_says() {
    let engine = Engine::with_busybox();
    let script = "dd if=/dev/urandom of=/blob bs=1M count=3; ln /blob /blob2; dd if=/dev/zero of=/hole bs=1 count=1 seek=100M";
    engine.ferry(["run", "--name", "writer", "busybox", "sh", "-c", script]).exits(0);
    engine
        .ferry([
            "run",
            "--rm",
            "-v",
            "vol:/v",
            "busybox",
            "sh",
            "-c",
            "dd if=/dev/urandom of=/v/f bs=1M count=2",
        ])
        .exits(0);
    let id = engine.inspect("writer", "{{.Id}}");
    let upper = engine.data_root().join("containers").join(id).join("upper");
    let written = du(&upper);
    assert!(written < 4 << 20 && fs::metadata(upper.join("hole")).unwrap().size() > 100 << 20);
    for client in CLIENTS {
        let lines =
            engine.client(client, ["system", "df", "--format", "{{.Type}}={{.Size}}"]).ok().to_owned();
        let shown = |kind: &str| {
            let line = lines.lines().find(|line| line.starts_with(kind)).unwrap_or_default();
            line.split_once('=').unwrap_or_default().1.to_owned()
        };
        let expected = format!("{}.", written / 1_000_000);
        assert!(shown("Containers").starts_with(&expected), "{lines}: du says {written}");
        assert!(shown("Local Volumes").starts_with("2."), "{lines}");
    }
    let volume = du(&engine.data_root().join("volumes/vol/_data"));
    let each =
        "{{range .Volumes}}{{.Name}}={{.Size}};{{end}}{{range .Containers}}{{.Names}}={{.Size}};{{end}}";
    for client in CLIENTS {
        let shown = engine.client(client, ["system", "df", "-v", "--format", each]).ok().to_owned();
        let expected = format!("vol={};writer={};", megabytes(volume, 3), megabytes(du(&upper), 2));
        assert_eq!(shown, expected, "{client}");
        let table = engine.client(client, ["system", "df", "-v"]);
        table.exits(0).says("Local Volumes space usage:").says(&megabytes(volume, 3));
    }
}

/// What `du` says of a folder, in bytes.
fn du(folder: &std::path::Path) -> u64 {
    let output = Command::new("du").args(["-s", "-B1"]).arg(folder).output().unwrap();
    String::from_utf8_lossy(&output.stdout).split_whitespace().next().unwrap().parse().unwrap()
}

/// A size between 1 and 10 MB as Docker writes it.
fn megabytes(bytes: u64, digits: usize) -> String {
    let text = format!("{:.digits$}", bytes as f64 / 1e6);
    format!("{}MB", text.trim_end_matches('0').trim_end_matches('.'))
}
