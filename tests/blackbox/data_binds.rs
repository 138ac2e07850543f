//! Mounts with all their options, over both clients and over the API itself.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

use ferry_tests::Engine;
use ferry_tests::engine::{patience, wait_until};
use serde_json::{Value, json};

use crate::{CLIENTS, Test};

/// The suite.
pub const TESTS: &[Test] = &[
    ("data::binds_with_what_is_mounted_below", binds_with_what_is_mounted_below),
    ("data::binds_pass_mounts_on", binds_pass_mounts_on),
    ("data::mounts_over_the_api", mounts_over_the_api),
];

/// A folder with memory mounted on it, shared with other mount namespaces, and memory below that.
struct Folder {
    place: PathBuf,
}

fn mount(arguments: &[&str], place: &Path) {
    assert!(Command::new("mount").args(arguments).arg(place).status().unwrap().success());
}

impl Folder {
    fn new(place: PathBuf) -> Folder {
        fs::create_dir(&place).unwrap();
        let folder = Folder { place };
        mount(&["-t", "tmpfs", "tmpfs"], &folder.place);
        mount(&["--make-private"], &folder.place);
        mount(&["--make-shared"], &folder.place);
        folder.below("sub");
        folder
    }

    /// Mounts memory below.
    fn below(&self, name: &str) {
        let place = self.place.join(name);
        fs::create_dir(&place).unwrap();
        mount(&["-t", "tmpfs", "tmpfs"], &place);
        fs::write(place.join("inner"), "inner").unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = Command::new("umount").args(["-R", "-l"]).arg(&self.place).status();
    }
}

fn binds_with_what_is_mounted_below() {
    let engine = Engine::with_busybox();
    let folder = Folder::new(engine.directory().join("host"));
    let host = folder.place.display();
    for client in CLIENTS {
        let run = |options: &str, script: &str| {
            let mount = format!("type=bind,src={host},dst=/b{options}");
            engine.client(client, ["run", "--rm", "--mount", &mount, "busybox", "sh", "-c", script])
        };
        let seen = "ls /b/sub";
        let write = "touch /b/x 2>/dev/null && echo above; touch /b/sub/x 2>/dev/null && echo below; \
                     rm -f /b/x /b/sub/x 2>/dev/null; true";
        run("", seen).prints("inner");
        run("", write).prints("above\nbelow");
        run(",bind-recursive=enabled", seen).prints("inner");
        run(",bind-recursive=disabled", seen).prints("");
        run(",bind-nonrecursive", seen).prints("");
        // Read-only means all of it, unless that is asked for.
        run(",readonly", write).prints("");
        run(",readonly,bind-recursive=enabled", write).prints("");
        run(",readonly,bind-recursive=writable", write).prints("below");
        run(",readonly,bind-recursive=readonly,bind-propagation=rprivate", write).prints("");
        run(",bind-recursive=readonly,bind-propagation=rprivate", "true").exits(125);
        run(",readonly,bind-recursive=readonly", "true").exits(125);
        run(",bind-recursive=sometimes", "true").exits(125);
        for consistency in ["consistent", "cached", "delegated", "default"] {
            run(&format!(",consistency={consistency}"), seen).prints("inner");
        }
        let short = |mode: &str, script: &str| {
            let bind = format!("{host}:/b{mode}");
            engine.client(client, ["run", "--rm", "-v", &bind, "busybox", "sh", "-c", script])
        };
        short("", write).prints("above\nbelow");
        short(":ro", write).prints("");
        short(":rw,z", write).prints("above\nbelow");
        short(":cached", seen).prints("inner");
        let volume_option = format!("type=bind,src={host},dst=/b,volume-nocopy");
        engine.client(client, ["run", "--rm", "--mount", &volume_option, "busybox", "true"]).exits(125);
    }
}

/// Every kind of propagation is what the container's own table of mounts says, and does what it is for.
fn binds_pass_mounts_on() {
    let engine = Engine::with_busybox();
    let folder = Folder::new(engine.directory().join("host"));
    let host = folder.place.display();
    let kinds = [
        ("private", "none"),
        ("rprivate", "none"),
        ("slave", "master"),
        ("rslave", "master"),
        ("shared", "shared"),
        ("rshared", "shared"),
    ];
    for (client, (kind, expected)) in CLIENTS.iter().flat_map(|client| kinds.map(|kind| (client, kind))) {
        let look = "line=$(grep ' /b ' /proc/self/mountinfo); case $line in *shared:*) echo shared;; \
                    *master:*) echo master;; *) echo none;; esac";
        let mount = format!("type=bind,src={host},dst=/b,bind-propagation={kind}");
        engine
            .client(client, ["run", "--rm", "--mount", &mount, "busybox", "sh", "-c", look])
            .prints(expected);
        let short = format!("{host}:/b:{kind}");
        engine.client(client, ["run", "--rm", "-v", &short, "busybox", "sh", "-c", look]).prints(expected);
    }
    // What the host mounts later is seen where that is asked for, and only there.
    for (name, kind) in [("follower", "rslave"), ("alone", "rprivate")] {
        let bind = format!("{host}:/b:{kind}");
        engine.ferry(["run", "-d", "--name", name, "-v", &bind, "busybox", "sleep", "1000"]).exits(0);
    }
    folder.below("later");
    wait_until("the mount is passed on", || {
        engine.ferry(["exec", "follower", "cat", "/b/later/inner"]).stdout == "inner"
    });
    engine.ferry(["exec", "alone", "ls", "/b/later"]).prints("");
    let private = engine.directory().join("private");
    fs::create_dir(&private).unwrap();
    mount(&["-t", "tmpfs", "tmpfs"], &private);
    mount(&["--make-private"], &private);
    let run = |client: &str, kind: &str| {
        let bind = format!("{}:/b:{kind}", private.display());
        engine.client(client, ["run", "--rm", "-v", &bind, "busybox", "true"])
    };
    let mut said = Vec::new();
    for client in CLIENTS {
        for (kind, wanted) in [
            ("shared", "shared"),
            ("rshared", "shared"),
            ("slave", "shared or slave"),
            ("rslave", "shared or slave"),
        ] {
            said.push((run(client, kind), format!("but it is not a {wanted} mount")));
        }
        for kind in ["private", "rprivate"] {
            assert_eq!(run(client, kind).code, 0, "{kind} asks for nothing");
        }
    }
    assert!(Command::new("umount").arg(&private).status().unwrap().success());
    for (refused, words) in said {
        assert_eq!(refused.code, 125, "{refused}");
        refused.complains(&words).complains(&format!("is mounted on {}", private.display()));
    }
}

/// One request to the API; gives the status and the answer.
fn ask(engine: &Engine, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let mut stream = UnixStream::connect(engine.directory().join("ferry.sock")).unwrap();
    stream.set_read_timeout(Some(patience())).unwrap();
    let body = body.to_string();
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n").unwrap();
    write!(stream, "Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let json = body.lines().find_map(|line| serde_json::from_str(line).ok()).unwrap_or(Value::Null);
    (status, json)
}

/// Runs a script with mounts as the API has them; gives what it printed.
fn run_with(engine: &Engine, mounts: Value, script: &str) -> Result<String, String> {
    let body = json!({
        "Image": "busybox",
        "Cmd": ["sh", "-c", script],
        "HostConfig": { "Mounts": mounts },
    });
    let (status, answer) = ask(engine, "POST", "/v1.47/containers/create", &body);
    if status != 201 {
        return Err(answer["message"].as_str().unwrap_or_default().to_owned());
    }
    let id = answer["Id"].as_str().unwrap().to_owned();
    let started = engine.ferry(["start", "-a", &id]);
    engine.ferry(["rm", "-fv", &id]).exits(0);
    Ok(format!("{}{}", started.stdout, started.stderr))
}

fn mounts_over_the_api() {
    let engine = Engine::with_busybox();
    let folder = Folder::new(engine.directory().join("host"));
    let host = folder.place.display().to_string();
    let run = |mount: Value, script: &str| run_with(&engine, json!([mount]), script);
    let printed = |mount: Value, script: &str| run(mount, script).unwrap();
    let bind = |options: Value, read_only: bool| {
        json!({ "Type": "bind", "Source": host, "Target": "/b", "ReadOnly": read_only, "Consistency": "cached",
            "BindOptions": options })
    };
    let write = "touch /b/x 2>/dev/null && echo above; touch /b/sub/x 2>/dev/null && echo below; \
                 rm -f /b/x /b/sub/x 2>/dev/null; true";
    assert_eq!(printed(bind(json!({}), false), write), "above\nbelow\n");
    assert_eq!(printed(bind(json!(null), true), write), "");
    assert_eq!(printed(bind(json!({ "NonRecursive": true }), false), "ls /b/sub"), "");
    assert_eq!(printed(bind(json!({ "ReadOnlyNonRecursive": true }), true), write), "below\n");
    let forced = json!({ "ReadOnlyForceRecursive": true, "Propagation": "rprivate" });
    assert_eq!(printed(bind(forced, true), write), "");
    let missing = engine.directory().join("made/deep");
    let at = |options: Value| json!({ "Type": "bind", "Source": missing.display().to_string(), "Target": "/b", "BindOptions": options });
    assert!(run(at(json!({})), "true").unwrap_err().contains("bind source path does not exist"));
    assert_eq!(printed(at(json!({ "CreateMountpoint": true })), "touch /b/file; ls /b"), "file\n");
    assert!(missing.join("file").exists());

    let memory = json!({ "Type": "tmpfs", "Target": "/t",
        "TmpfsOptions": { "SizeBytes": 1 << 20, "Mode": 0o1750, "Options": [["noexec"], ["uid", "5"]] } });
    let look = "stat -c '%a %u' /t; df -k /t | tail -n 1 | awk '{print $2}'; grep ' /t ' /proc/mounts | grep -c noexec";
    assert_eq!(printed(memory, look), "1750 5\n1024\n1\n");

    let volume = json!({ "Type": "volume", "Source": "vol", "Target": "/etc", "VolumeOptions": {
        "NoCopy": true, "Labels": { "tier": "db" },
        "DriverConfig": { "Name": "local", "Options": { "type": "tmpfs", "device": "tmpfs", "o": "size=2m" } } } });
    assert_eq!(
        printed(volume, "ls /etc/group 2>/dev/null; df -k /etc | tail -n 1 | awk '{print $2}'"),
        "2048\n"
    );
    engine.ferry(["volume", "inspect", "-f", "{{.Labels.tier}} {{.Options.o}}", "vol"]).prints("db size=2m");
    engine
        .ferry(["run", "--rm", "-v", "parts:/p", "busybox", "sh", "-c", "mkdir /p/a; echo in > /p/a/f"])
        .exits(0);
    let part =
        json!({ "Type": "volume", "Source": "parts", "Target": "/p", "VolumeOptions": { "Subpath": "a" } });
    assert_eq!(printed(part, "cat /p/f"), "in\n");

    let image =
        json!({ "Type": "image", "Source": "busybox", "Target": "/i", "ImageOptions": { "Subpath": "etc" } });
    assert_eq!(printed(image, "ls /i/group; touch /i/x 2>/dev/null || echo refused"), "/i/group\nrefused\n");

    for (mount, words) in [
        (json!({ "Type": "bind", "Source": "relative", "Target": "/b" }), "mount path must be absolute"),
        (json!({ "Type": "bind", "Source": host, "Target": "b" }), "mount path must be absolute"),
        (json!({ "Type": "bind", "Source": "", "Target": "/b" }), "must not be empty"),
        (json!({ "Type": "odd", "Source": host, "Target": "/b" }), "mount type unknown"),
        (json!({ "Type": "tmpfs", "Source": host, "Target": "/b" }), "Source"),
        (bind(json!({ "Propagation": "odd" }), false), "invalid propagation mode"),
    ] {
        let refused = run(mount.clone(), "true").unwrap_err();
        assert!(refused.contains(words), "{mount}: {refused}");
    }
}
