//! A container's files from outside: what is mounted into it, while it runs and after.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::process::Command;

use ferry_tests::Engine;
use ferry_tests::engine::wait_until;

use crate::{CLIENTS, Test};

/// The suite.
pub const TESTS: &[Test] = &[
    ("data::files_that_are_mounted_come_along", files_that_are_mounted_come_along),
    ("data::copies_of_anything", copies_of_anything),
    ("data::copies_take_and_give_tars", copies_take_and_give_tars),
    ("data::commits_with_and_without_a_pause", commits_with_and_without_a_pause),
    ("data::sizes_are_kept_in_the_list", sizes_are_kept_in_the_list),
    ("data::links_that_change_meanwhile_lead_nowhere", links_that_change_meanwhile_lead_nowhere),
    ("data::links_that_change_under_a_copy_up_lead_nowhere", links_that_change_under_a_copy_up_lead_nowhere),
    ("data::links_that_change_under_a_tree_lead_nowhere", links_that_change_under_a_tree_lead_nowhere),
];

/// `/etc/hosts` and its kin, a tmpfs and a volume, of a running container.
fn files_that_are_mounted_come_along() {
    let engine = Engine::with_busybox();
    let script = "echo memory > /mem/file; echo kept > /vol/file; touch /ready; sleep 1000";
    let words = ["run", "-d", "--name", "box", "--hostname", "inner", "--tmpfs", "/mem", "-v", "/vol"];
    engine.ferry(words.iter().chain(&["busybox", "sh", "-c", script])).exits(0);
    wait_until("the container is ready", || engine.ferry(["exec", "box", "test", "-e", "/ready"]).code == 0);
    for (client, running) in [("ferry", true), ("docker", true), ("ferry", false), ("docker", false)] {
        if !running {
            let _ = engine.ferry(["kill", "box"]);
            engine.wait_for_status("box", "exited");
        }
        let got = |path: &str| {
            let to = engine.directory().join(format!("{client}-{running}"));
            let _ = fs::remove_file(&to);
            engine.client(client, ["cp", &format!("box:{path}"), &to.display().to_string()]).exits(0);
            fs::read_to_string(&to).unwrap()
        };
        assert_eq!(got("/etc/hostname"), "inner\n", "{client}, running: {running}");
        assert!(got("/etc/hosts").contains("localhost"));
        assert_eq!(got("/vol/file"), "kept\n");
        if running {
            assert_eq!(got("/mem/file"), "memory\n");
            let file = engine.directory().join("in");
            fs::write(&file, "from outside").unwrap();
            engine.client(client, ["cp", &file.display().to_string(), "box:/mem/in"]).exits(0);
            engine.ferry(["exec", "box", "cat", "/mem/in"]).prints("from outside");
        }
        let tree = engine.directory().join(format!("etc-{client}-{running}"));
        engine.client(client, ["cp", "box:/etc", &tree.display().to_string()]).exits(0);
        assert_eq!(fs::read_to_string(tree.join("hostname")).unwrap(), "inner\n");
        let tar = engine.directory().join(format!("{client}-{running}.tar"));
        engine.client(client, ["export", "-o", &tar.display().to_string(), "box"]).exits(0);
        let listed = Command::new("tar").arg("-xOf").arg(&tar).arg("etc/hostname").output().unwrap();
        assert_eq!(String::from_utf8_lossy(&listed.stdout), "inner\n");
        let names = Command::new("tar").arg("-tf").arg(&tar).output().unwrap();
        let names = String::from_utf8_lossy(&names.stdout).into_owned();
        assert!(names.lines().any(|name| name == "ready") && !names.contains("vol/file"), "no volumes");
        assert!(!names.lines().any(|name| name.starts_with("proc/") && name != "proc/"), "no /proc");
    }
}

/// Odd names, pipes, sockets, devices, holes and many files, into a container and out again.
fn copies_of_anything() {
    let engine = Engine::with_busybox();
    let script = "mkdir -p /odd && cd /odd && mkfifo pipe && mknod null c 1 3 && echo x > '-n \"quoted\" $name' \
        && mkdir -p many && dd if=/dev/zero of=hole bs=1 count=1 seek=50M 2>/dev/null && touch \"$(printf 'new\\nline')\" \
        && i=0 && while [ $i -lt 3000 ]; do : > many/$i; i=$((i+1)); done && ln many/1 many/twin";
    engine.ferry(["run", "--name", "odd", "busybox", "sh", "-c", script]).exits(0);
    for client in CLIENTS {
        let out = engine.directory().join(format!("odd-{client}"));
        engine.client(client, ["cp", "-a", "odd:/odd", &out.display().to_string()]).exits(0);
        let stat = |name: &str| fs::symlink_metadata(out.join(name)).unwrap();
        assert!(stat("pipe").file_type().is_fifo() && stat("null").file_type().is_char_device(), "{client}");
        assert_eq!(fs::read_to_string(out.join("-n \"quoted\" $name")).unwrap(), "x\n");
        assert_eq!(stat("hole").len(), (50 << 20) + 1);
        assert!(stat("new\nline").is_file());
        assert_eq!(fs::read_dir(out.join("many")).unwrap().count(), 3001);
        assert_eq!(stat("many/twin").ino(), stat("many/1").ino(), "{client}");
        let back = format!("odd:/back-{client}");
        engine.client(client, ["cp", "-a", &out.display().to_string(), &back]).exits(0);
        let again = engine.directory().join(format!("again-{client}"));
        engine.client(client, ["cp", &back, &again.display().to_string()]).exits(0);
        assert_eq!(fs::read_dir(again.join("many")).unwrap().count(), 3001);
        assert!(fs::symlink_metadata(again.join("pipe")).unwrap().file_type().is_fifo());
    }
}

/// `-` is a tar, on the way in and on the way out; `-q` says nothing.
fn copies_take_and_give_tars() {
    let engine = Engine::with_busybox();
    let script = "mkdir -p /from/sub /to; echo text > /from/sub/file; chown -R 5:6 /from; sleep 1000";
    engine.ferry(["run", "-d", "--name", "box", "busybox", "sh", "-c", script]).exits(0);
    wait_until("it is ready", || engine.ferry(["exec", "box", "test", "-e", "/from/sub/file"]).code == 0);
    for client in CLIENTS {
        let tar = engine.directory().join(format!("{client}.tar"));
        let given = engine.client_command(client, ["cp", "box:/from", "-"]).output().unwrap();
        assert!(given.status.success());
        fs::write(&tar, &given.stdout).unwrap();
        let listed = Command::new("tar").args(["--numeric-owner", "-tvf"]).arg(&tar).output().unwrap();
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        assert!(
            listed.lines().any(|line| line.contains("5/6") && line.ends_with("from/sub/file")),
            "{listed}"
        );
        let place = format!("box:/to/{client}");
        engine.ferry(["exec", "box", "mkdir", &format!("/to/{client}")]).exits(0);
        for words in [&["cp", "-q", "-"][..], &["cp", "-a", "-"]] {
            let mut command = engine.client_command(client, words.iter().chain(&[place.as_str()]));
            let taken = command.stdin(fs::File::open(&tar).unwrap()).output().unwrap();
            assert!(taken.status.success(), "{}", String::from_utf8_lossy(&taken.stderr));
            assert_eq!(String::from_utf8_lossy(&taken.stderr), "", "{client}");
            let file = format!("/to/{client}/from/sub/file");
            engine.ferry(["exec", "box", "stat", "-c", "%u:%g", &file]).prints("5:6");
        }
        // With -a, a container that has a user of its own gets files of that user.
        engine.ferry(["create", "--name", "own", "-u", "7:8", "busybox", "true"]).exits(0);
        let file = engine.directory().join("plain");
        fs::write(&file, "").unwrap();
        engine.client(client, ["cp", "-a", &file.display().to_string(), "own:/plain"]).exits(0);
        let id = engine.inspect("own", "{{.Id}}");
        let inside = engine.data_root().join("containers").join(id).join("upper/plain");
        let stat = fs::metadata(&inside).unwrap();
        assert_eq!((stat.uid(), stat.gid()), (7, 8), "{client}");
        engine.ferry(["rm", "own"]).exits(0);
        let mut nowhere = engine.client_command(client, ["cp", "-", "box:/nowhere"]);
        let refused = nowhere.stdin(fs::File::open(&tar).unwrap()).output().unwrap();
        let words = match client {
            "ferry" => "Could not find the file /nowhere",
            _ => "destination \"box:/nowhere\" must be a directory",
        };
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(said.contains(words) && refused.status.code() == Some(1), "{client}: {said}");
    }
}

/// A commit freezes who writes; without that the container goes on, and the image is what was there.
fn commits_with_and_without_a_pause() {
    let engine = Engine::with_busybox();
    let script = "while true; do date > /now; done";
    engine.ferry(["run", "-d", "--name", "box", "busybox", "sh", "-c", script]).exits(0);
    wait_until("it writes", || engine.ferry(["exec", "box", "test", "-e", "/now"]).code == 0);
    for client in CLIENTS {
        for words in [&["commit"][..], &["commit", "--pause=false"]] {
            engine.client(client, words.iter().chain(&["box", "made:1"])).exits(0).says("sha256:");
            engine.client(client, ["run", "--rm", "made:1", "test", "-e", "/now"]).exits(0);
            assert_eq!(engine.inspect("box", "{{.State.Status}}"), "running", "{client}");
            engine.client(client, ["rmi", "made:1"]).exits(0);
        }
    }
}

fn sizes_are_kept_in_the_list() {
    let engine = Engine::with_busybox();
    let script = "dd if=/dev/zero of=/f bs=1000 count=5000 2>/dev/null; ln /f /g";
    engine.ferry(["run", "--name", "five", "busybox", "sh", "-c", script]).exits(0);
    for client in CLIENTS {
        engine.client(client, ["ps", "-as", "--format", "{{.Size}}"]).exits(0).says("5MB (virtual ");
    }
}

/// A container swaps a directory and a link to the host's `/etc` as fast as it can, while files are copied
/// both ways and a subpath is mounted: nothing of the host's is read or written.
fn links_that_change_meanwhile_lead_nowhere() {
    let engine = Engine::with_busybox();
    let outside = engine.directory().join("outside");
    fs::create_dir_all(&outside).unwrap();
    fs::write(outside.join("secret"), "the host's").unwrap();
    let host = outside.display();
    let script = format!(
        "mkdir -p /d/real {host}; echo container > /d/real/secret; echo container > {host}/secret; cp -r /d/real /vol/real; \
         cd /vol; ln -s {host} link; ln -s {host} /d/link; touch /ready; \
         while true; do mv /d/real /d/x; mv /d/link /d/real; mv /d/real /d/link; mv /d/x /d/real; \
         mv real x; mv link real; mv real link; mv x real; done"
    );
    engine.ferry(["run", "-d", "--name", "swap", "-v", "vol:/vol", "busybox", "sh", "-c", &script]).exits(0);
    wait_until("it swaps", || engine.ferry(["exec", "swap", "test", "-e", "/ready"]).code == 0);
    let file = engine.directory().join("planted");
    fs::write(&file, "planted").unwrap();
    let got = engine.directory().join("got");
    for round in 0..40 {
        let client = CLIENTS[round % 2];
        let _ = fs::remove_file(&got);
        let _ = engine.client(client, ["cp", "swap:/d/real/secret", &got.display().to_string()]);
        if let Ok(text) = fs::read_to_string(&got) {
            assert_eq!(text, "container\n", "round {round}");
        }
        let _ = engine.client(client, ["cp", &file.display().to_string(), "swap:/d/real/planted"]);
        let mount = "type=volume,source=vol,target=/in,volume-subpath=real";
        let seen = engine.client(client, ["run", "--rm", "--mount", mount, "busybox", "cat", "/in/secret"]);
        assert!(seen.code != 0 || seen.stdout == "container\n", "round {round}: {seen}");
    }
    assert!(!outside.join("planted").exists());
    assert_eq!(fs::read_to_string(outside.join("secret")).unwrap(), "the host's");
    engine.ferry(["rm", "-f", "swap"]).exits(0);
    engine.ferry(["volume", "rm", "vol"]).exits(0);
}

/// A container swaps folders and links in a volume that is a folder of the host, while other containers fill
/// it from their image: nothing is written, linked or changed outside.
fn links_that_change_under_a_copy_up_lead_nowhere() {
    let engine = Engine::with_busybox();
    let make = "mkdir -p /srv/d; cd /srv/d; i=0; while [ $i -lt 40 ]; do echo image > f$i; ln f$i l$i; mkfifo p$i; \
                i=$((i+1)); done";
    engine.ferry(["run", "--name", "maker", "busybox", "sh", "-c", make]).exits(0);
    engine.ferry(["commit", "maker", "filled:1"]).exits(0);
    let (folder, outside) = (engine.directory().join("folder"), engine.directory().join("outside"));
    fs::create_dir(&folder).unwrap();
    fs::create_dir(&outside).unwrap();
    for number in 0..40 {
        fs::write(outside.join(format!("f{number}")), "host").unwrap();
    }
    let device = format!("device={}", folder.display());
    engine.ferry(["volume", "create", "-o", "type=none", "-o", "o=bind", "-o", &device, "shared"]).exits(0);
    let script = format!(
        "cd /v; ln -s {host} /tmp/link; while true; do rm -rf d x; ln -s {host} x; mv x d 2>/dev/null; rm -f d; \
         mkdir -p d; mv d y 2>/dev/null; ln -s {host} d; rm -f d; mv y d 2>/dev/null; rm -rf y d d/x; done",
        host = outside.display()
    );
    let bind = "shared:/v";
    engine.ferry(["run", "-d", "--name", "swap", "-v", bind, "busybox", "sh", "-c", &script]).exits(0);
    for round in 0..30 {
        // Whether it comes to anything is chance.
        let _ = engine.client(CLIENTS[round % 2], ["run", "--rm", "-v", "shared:/srv", "filled:1", "true"]);
    }
    engine.ferry(["rm", "-f", "swap"]).exits(0);
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 40, "nothing is made outside");
    for entry in fs::read_dir(&outside).unwrap() {
        let path = entry.unwrap().path();
        let stat = fs::metadata(&path).unwrap();
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), stat.nlink()), ("host", 1), "{path:?}");
    }
}

/// A tree with pipes and folders goes into a container that puts links to the host's files in their place.
fn links_that_change_under_a_tree_lead_nowhere() {
    let engine = Engine::with_busybox();
    let outside = engine.directory().join("outside");
    fs::create_dir(&outside).unwrap();
    let secret = outside.join("secret");
    fs::write(&secret, "the host's").unwrap();
    let tree = engine.directory().join("tree");
    fs::create_dir(&tree).unwrap();
    for number in 0..30 {
        let mode = rustix::fs::Mode::from_raw_mode(0o777);
        rustix::fs::mkfifoat(rustix::fs::CWD, tree.join(format!("p{number}")), mode).unwrap();
        fs::create_dir(tree.join(format!("d{number}"))).unwrap();
        fs::write(tree.join(format!("d{number}/file")), "planted").unwrap();
    }
    fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let script = format!(
        "mkdir /t; ln -s {secret} /l; while true; do for i in 3 7 11 15 19 23 27; do for n in p$i d$i; do \
         rm -rf /t/$n; cp -P /l /t/$n 2>/dev/null; rm -f /t/$n; ln -s {outside} /t/$n 2>/dev/null; rm -f /t/$n; \
         done; done; done",
        secret = secret.display(),
        outside = outside.display()
    );
    engine.ferry(["run", "-d", "--name", "swap", "busybox", "sh", "-c", &script]).exits(0);
    for round in 0..20 {
        let from = format!("{}/.", tree.display());
        let _ = engine.client(CLIENTS[round % 2], ["cp", "-a", &from, "swap:/t"]);
    }
    engine.ferry(["rm", "-f", "swap"]).exits(0);
    assert_eq!(fs::read_to_string(&secret).unwrap(), "the host's");
    assert_eq!(fs::metadata(&secret).unwrap().mode() & 0o7777, 0o600);
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
}
