//! Mounts with options: driver options of volumes, and everything that `-v` and `--mount` take.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

use ferry_tests::Engine;
use ferry_tests::engine::wait_until;

use crate::{CLIENTS, Test};

/// The suite.
pub const TESTS: &[Test] = &[
    ("data::volumes_of_memory_and_of_folders", volumes_of_memory_and_of_folders),
    ("data::volumes_that_cannot_be_mounted_say_why", volumes_that_cannot_be_mounted_say_why),
    ("data::mounted_volumes_outlive_the_engine", mounted_volumes_outlive_the_engine),
    ("data::parts_of_volumes", parts_of_volumes),
    ("data::mounts_from_others_and_of_images", mounts_from_others_and_of_images),
    ("data::binds_with_options", binds_with_options),
    ("data::memory_with_size_and_mode", memory_with_size_and_mode),
    ("data::mistyped_sources", mistyped_sources),
    ("data::files_that_stay_yours", files_that_stay_yours),
    ("data::volume_filters", volume_filters),
];

/// How many mounts the host has below a folder.
fn mounts_below(engine: &Engine) -> usize {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let root = engine.data_root().join("volumes").display().to_string();
    table.lines().filter(|line| line.contains(&root)).count()
}

fn volumes_of_memory_and_of_folders() {
    let engine = Engine::with_busybox();
    let folder = engine.directory().join("folder");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("mine"), "host").unwrap();
    for client in CLIENTS {
        let memory =
            ["volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=size=4m,mode=750", "mem"];
        engine.client(client, memory).prints("mem");
        let look = "stat -c %a /m; grep -o ' /m tmpfs .*size=4096k' /proc/mounts | wc -l; echo x > /m/f";
        engine.client(client, ["run", "--rm", "-v", "mem:/m", "busybox", "sh", "-c", look]).prints("750\n1");
        assert_eq!(mounts_below(&engine), 0, "unmounted after the last container");
        // Memory goes with its last user; while one runs, another sees the same.
        engine
            .client(client, ["run", "-d", "--name", "first", "-v", "mem:/m", "busybox", "sleep", "1000"])
            .exits(0);
        engine.client(client, ["exec", "first", "sh", "-c", "ls /m; echo shared > /m/f"]).prints("");
        engine.client(client, ["run", "--rm", "-v", "mem:/m", "busybox", "cat", "/m/f"]).prints("shared");
        assert_eq!(mounts_below(&engine), 1, "still mounted for the first");
        engine.client(client, ["rm", "-f", "first"]).exits(0);
        engine.client(client, ["volume", "rm", "mem"]).exits(0);

        let device = format!("device={}", folder.display());
        engine
            .client(client, ["volume", "create", "-o", "type=none", "-o", "o=bind", "-o", &device, "dir"])
            .exits(0);
        engine.client(client, ["run", "--rm", "-v", "dir:/d", "busybox", "cat", "/d/mine"]).prints("host");
        engine.client(client, ["create", "--name", "still", "-v", "dir:/d", "busybox", "true"]).exits(0);
        let got = engine.directory().join("got");
        engine.client(client, ["cp", "still:/d/mine", &got.display().to_string()]).exits(0);
        assert_eq!(fs::read_to_string(&got).unwrap(), "host");
        engine.client(client, ["rm", "still"]).exits(0);
        engine.client(client, ["volume", "rm", "dir"]).exits(0);
        assert!(folder.join("mine").exists(), "the folder is the host's");
        assert_eq!(mounts_below(&engine), 0);
    }
}

fn volumes_that_cannot_be_mounted_say_why() {
    let engine = Engine::with_busybox();
    for client in CLIENTS {
        let create = |name: &str, options: &[&str]| {
            let mut words = vec!["volume", "create"];
            options.iter().for_each(|option| words.extend(["-o", option]));
            words.push(name);
            engine.client(client, words)
        };
        create("bad", &["type=tmpfs"]).exits(1).complains("missing required option: \"device\"");
        create("bad", &["colour=red"]).exits(1).complains("invalid option: \"colour\"");
        create("bad", &["size=1g"]).exits(1).complains("quota size requested but no quota support");
        create("gone", &["type=none", "o=bind", "device=/no/such/folder"]).exits(0);
        // The clients make different exit codes of the same words.
        let refused = engine.client(client, ["run", "--rm", "-v", "gone:/g", "busybox", "true"]);
        assert!(matches!(refused.code, 125 | 127), "{refused}");
        refused.complains("failed to mount local volume: mount /no/such/folder:");
        let kernel = fs::read_to_string("/proc/filesystems").unwrap();
        if !kernel.lines().any(|line| line.ends_with("\tnfs4")) {
            create("share", &["type=nfs4", "o=addr=127.0.0.1,rw", "device=:/export"]).exits(0);
            engine
                .client(client, ["run", "--rm", "-v", "share:/g", "busybox", "true"])
                .exits(125)
                .complains("this kernel has no file system \"nfs4\"");
            engine.client(client, ["volume", "rm", "share"]).exits(0);
            // The server is looked up before the kernel is asked, as its name is nothing to the kernel.
            let options = ["type=nfs4", "o=addr=localhost,nfsvers=4.2,soft,ro", "device=:/export/data"];
            create("share", &options).exits(0);
            engine
                .client(client, ["run", "--rm", "-v", "share:/g", "busybox", "true"])
                .exits(125)
                .complains("failed to mount local volume: mount :/export/data:")
                .complains("options \"addr=localhost,nfsvers=4.2,soft,ro\"");
            engine.client(client, ["volume", "rm", "share"]).exits(0);
        }
        engine
            .client(client, ["volume", "update", "--availability", "pause", "gone"])
            .exits(1)
            .complains("can only update cluster volumes");
        engine.client(client, ["volume", "rm", "gone"]).exits(0);
        engine.ferry(["ps", "-aq"]).prints("");
    }
}

fn mounted_volumes_outlive_the_engine() {
    let engine = Engine::with_busybox();
    engine.ferry(["volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "mem"]).exits(0);
    engine.ferry(["run", "-d", "--name", "user", "-v", "mem:/m", "busybox", "sleep", "1000"]).exits(0);
    engine.ferry(["exec", "user", "sh", "-c", "echo kept > /m/f"]).exits(0);
    engine.kill("engine");
    engine.ferry(["run", "--rm", "-v", "mem:/m", "busybox", "cat", "/m/f"]).prints("kept");
    assert_eq!(mounts_below(&engine), 1);
    engine.ferry(["rm", "-f", "user"]).exits(0);
    wait_until("the new engine knows who was the last", || mounts_below(&engine) == 0);
}

fn parts_of_volumes() {
    let engine = Engine::with_busybox();
    let fill = "mkdir -p /v/a/b /v/c; echo deep > /v/a/b/file; ln -s / /v/root; ln -s a/b /v/short";
    engine.ferry(["run", "--rm", "-v", "vol:/v", "busybox", "sh", "-c", fill]).exits(0);
    for client in CLIENTS {
        let run = |mount: &str, script: &str| {
            engine.client(client, ["run", "--rm", "--mount", mount, "busybox", "sh", "-c", script])
        };
        let part = |subpath: &str| format!("type=volume,src=vol,dst=/p,volume-subpath={subpath}");
        run(&part("a/b"), "cat /p/file").prints("deep");
        run(&part("short"), "cat /p/file").prints("deep");
        run(&part("a/b/file"), "cat /p").prints("deep");
        run(&part("root"), "ls /p").exits(125);
        run(&part("nope"), "ls /p").exits(127).complains("no such file or directory");
        run(&part("../x"), "ls /p").exits(125).complains("subpath");
        let read_only = format!("{},readonly", part("a"));
        run(&read_only, "touch /p/new").exits(1).complains("Read-only file system");
        // The image has files at the place: not copied.
        run("type=volume,src=bare,dst=/etc,volume-nocopy", "ls /etc/group").exits(1);
        run("type=volume,src=labelled,dst=/x,volume-label=tier=db", "true").exits(0);
        engine.client(client, ["volume", "inspect", "-f", "{{.Labels.tier}}", "labelled"]).prints("db");
        let memory = "type=volume,dst=/m,volume-driver=local,volume-opt=type=tmpfs,volume-opt=device=tmpfs";
        run(memory, "grep -c ' /m tmpfs' /proc/mounts").prints("1");
        engine.client(client, ["volume", "rm", "bare", "labelled"]).exits(0);
    }
}

fn mounts_from_others_and_of_images() {
    let engine = Engine::with_busybox();
    engine
        .ferry(["run", "--name", "maker", "busybox", "sh", "-c", "mkdir /pack; echo one > /pack/file"])
        .exits(0);
    engine.ferry(["commit", "maker", "pack:1"]).exits(0);
    for client in CLIENTS {
        engine
            .client(client, ["create", "--name", "holder", "-v", "/shared", "-v", "named:/n:ro", "busybox"])
            .exits(0);
        let from = |word: &str, script: &str| {
            engine.client(client, ["run", "--rm", "--volumes-from", word, "busybox", "sh", "-c", script])
        };
        from("holder", "echo data > /shared/f; touch /n/x").exits(1).complains("Read-only");
        from("holder", "cat /shared/f").prints("data");
        from("holder:ro", "cat /shared/f; touch /shared/g").exits(1).complains("Read-only");
        from("holder:xx", "true").exits(125);
        engine.client(client, ["rm", "-v", "holder"]).exits(0);
        engine.client(client, ["volume", "ls", "-q"]).prints("named");
        engine.client(client, ["volume", "rm", "named"]).exits(0);
        let image = |mount: &str, script: &str| {
            engine.client(client, ["run", "--rm", "--mount", mount, "busybox", "sh", "-c", script])
        };
        image("type=image,src=pack:1,dst=/i", "cat /i/pack/file; ls /i/bin/sh").prints("one\n/i/bin/sh");
        image("type=image,src=pack:1,dst=/i", "touch /i/new").exits(1).complains("Read-only");
        image("type=image,src=pack:1,dst=/i,image-subpath=pack", "cat /i/file").prints("one");
        image("type=image,src=pack:1,dst=/i,image-subpath=pack/file", "cat /i").prints("one");
        image("type=image,src=nope:1,dst=/i", "true").exits(125);
    }
    // What a container has mounted stays, as its own image does.
    engine
        .ferry([
            "create",
            "--name",
            "user",
            "--mount",
            "type=image,src=pack:1,dst=/i",
            "busybox",
            "cat",
            "/i/pack/file",
        ])
        .exits(0);
    engine.ferry(["rm", "maker"]).exits(0);
    engine.ferry(["rmi", "pack:1"]).exits(1).complains("is using its referenced image");
    engine.kill("engine");
    engine.ferry(["start", "-a", "user"]).prints("one");
}

fn binds_with_options() {
    let engine = Engine::with_busybox();
    let folder = engine.directory().join("host");
    fs::create_dir_all(folder.join("sub")).unwrap();
    let host = folder.display();
    for client in CLIENTS {
        let run = |mount: &str, script: &str| {
            engine.client(client, ["run", "--rm", "--mount", mount, "busybox", "sh", "-c", script])
        };
        run(&format!("type=bind,src={host},dst=/b"), "echo x > /b/new; rm /b/new").exits(0);
        run(&format!("type=bind,src={host},dst=/b,readonly"), "touch /b/new").exits(1).complains("Read-only");
        run(&format!("type=bind,src={host}/no,dst=/b"), "true")
            .exits(125)
            .complains("bind source path does not exist");
        let propagation = |kind: &str, optional: &str| {
            let shown = format!("grep ' /b ' /proc/self/mountinfo | grep -c '{optional}'");
            run(&format!("type=bind,src={host},dst=/b,bind-propagation={kind}"), &shown)
        };
        if host_shares(&folder) {
            propagation("rslave", "master:\\|shared:").exits(0);
        } else {
            propagation("rslave", "master:").exits(125).complains("not a shared or slave mount");
        }
        propagation("rprivate", "master:\\|shared:").prints("0");
        run(&format!("type=bind,src={host},dst=/b,bind-propagation=odd"), "true").exits(125);
        run(&format!("type=bind,src={host},dst=/b,bind-recursive=disabled"), "ls /b").prints("sub");
    }
    let made = folder.join("made");
    let words = format!("type=bind,src={},dst=/b,bind-create-src", made.display());
    engine.ferry(["run", "--rm", "--mount", &words, "busybox", "touch", "/b/file"]).exits(0);
    assert!(made.join("file").exists());
}

/// Whether the host's mount that a folder is on passes mounts on, or gets them from another.
fn host_shares(folder: &std::path::Path) -> bool {
    let output =
        std::process::Command::new("findmnt").args(["-no", "PROPAGATION", "-T"]).arg(folder).output();
    output.is_ok_and(|output| {
        let kinds = String::from_utf8_lossy(&output.stdout).into_owned();
        kinds.contains("shared") || kinds.contains("slave")
    })
}

fn memory_with_size_and_mode() {
    let engine = Engine::with_busybox();
    for client in CLIENTS {
        let look = "stat -c %a /t; df -k /t | tail -n 1 | awk '{print $2}'";
        engine
            .client(
                client,
                [
                    "run",
                    "--rm",
                    "--mount",
                    "type=tmpfs,dst=/t,tmpfs-size=2m,tmpfs-mode=1770",
                    "busybox",
                    "sh",
                    "-c",
                    look,
                ],
            )
            .prints("1770\n2048");
        engine
            .client(client, ["run", "--rm", "--tmpfs", "/t:size=1m,mode=700", "busybox", "sh", "-c", look])
            .prints("700\n1024");
    }
}

/// People are told of a mistyped path; scripts that speak the API get the folder that Docker makes.
fn mistyped_sources() {
    let engine = Engine::with_busybox();
    let typo = engine.directory().join("tpyo/data");
    let bind = format!("{}:/d", typo.display());
    engine
        .ferry(["run", "--rm", "-v", &bind, "busybox", "true"])
        .exits(125)
        .complains("does not exist")
        .complains("hint:");
    assert!(!typo.exists());
    engine.docker(["run", "--rm", "-v", &bind, "busybox", "true"]).exits(0);
    assert!(typo.is_dir());
}

/// `idmap`: what the container's root writes belongs to the caller, and what the caller has is root's there.
fn files_that_stay_yours() {
    let engine = Engine::with_busybox();
    let folder = engine.directory().join("mine");
    fs::create_dir_all(&folder).unwrap();
    fs::set_permissions(engine.directory(), fs::Permissions::from_mode(0o755)).unwrap();
    chown(&folder, Some(1234), Some(1235)).unwrap();
    fs::write(folder.join("file"), "x").unwrap();
    chown(folder.join("file"), Some(1234), Some(1235)).unwrap();
    let bind = format!("{}:/w:idmap", folder.display());
    let script = "stat -c '%u:%g' /w/file; touch /w/made";
    let socket = engine.host().trim_start_matches("unix://").to_owned();
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o666)).unwrap();
    for (binary, client) in
        [(ferry_tests::engine::binary(), "ferry"), ("/usr/local/bin/docker".into(), "docker")]
    {
        // The programs lie where only root may look: another user gets a copy.
        let program = engine.directory().join(client);
        fs::copy(&binary, &program).unwrap();
        let mut command = std::process::Command::new("setpriv");
        command.args(["--reuid=1234", "--regid=1235", "--clear-groups"]).arg(&program);
        command.args(["run", "--rm", "-v", &bind, "busybox", "sh", "-c", script]);
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("HOME", "/nonexistent")
            .env("DOCKER_HOST", engine.host());
        let output = command.output().unwrap();
        let said =
            format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if said.contains("mapped ids") {
            assert!(said.contains("may not be able"), "a clear error: {said}");
            eprintln!("SKIPPED: the file system of {} has no idmapped mounts", folder.display());
            return;
        }
        assert_eq!(said.trim(), "0:0", "{client}");
        let made = fs::metadata(folder.join("made")).unwrap();
        assert_eq!((made.uid(), made.gid()), (1234, 1235), "{client}");
        fs::remove_file(folder.join("made")).unwrap();
    }
}

fn volume_filters() {
    let engine = Engine::with_busybox();
    engine.ferry(["volume", "create", "--label", "a=1", "--label", "b", "one"]).exits(0);
    engine.ferry(["volume", "create", "--label", "a=2", "two"]).exits(0);
    engine.ferry(["create", "--name", "user", "-v", "one:/x", "busybox"]).exits(0);
    for client in CLIENTS {
        let list = |filter: &str| engine.client(client, ["volume", "ls", "-q", "--filter", filter]);
        for (filter, expected) in [
            ("label=a", "one\ntwo"),
            ("label=a=2", "two"),
            ("label=b", "one"),
            ("name=w", "two"),
            ("driver=local", "one\ntwo"),
            ("driver=other", ""),
            ("dangling=true", "two"),
            ("dangling=false", "one"),
        ] {
            list(filter).prints(expected);
        }
        list("colour=red").exits(1).complains("invalid filter");
        engine
            .client(client, ["volume", "ls", "--format", "{{.Name}} {{.Driver}} {{.Label \"a\"}}"])
            .prints("one local 1\ntwo local 2");
        engine
            .client(client, ["ps", "-a", "--filter", "volume=one", "--format", "{{.Names}}"])
            .prints("user");
        let kept = engine.client(client, ["volume", "prune", "-af", "--filter", "label!=a=2"]);
        kept.exits(0).says("Total reclaimed space: 0B");
    }
}
