//! What a container must not see or do, and what it must.

use serde_json::json;

use crate::Case;
use crate::support::Fixture;

pub const CASES: &[Case] = &[
    ("privileges_are_dockers", privileges_are_dockers),
    ("nothing_of_the_host_is_open", nothing_of_the_host_is_open),
    ("kernel_interfaces_are_closed", kernel_interfaces_are_closed),
    ("devices", devices),
    ("mounts_of_every_kind", mounts_of_every_kind),
    ("places_behind_links_stay_inside", places_behind_links_stay_inside),
    ("proc_behind_a_link_is_refused", proc_behind_a_link_is_refused),
    ("readonly_root", readonly_root),
    ("sysctls", sysctls),
    ("host_mounts_are_untouched", host_mounts_are_untouched),
    ("user_namespace", user_namespace),
    ("cgroup_namespace", cgroup_namespace),
    ("privileged", privileged),
    ("host_namespaces", host_namespaces),
    ("propagation", propagation),
    ("recursive_readonly", recursive_readonly),
    ("directory_as_root", directory_as_root),
    ("keyring_is_own", keyring_is_own),
];

fn privileges_are_dockers(fixture: &Fixture) {
    let outcome = fixture.run_plain(&["grep", "-E", "^(Cap|NoNewPrivs|Seccomp:)", "/proc/self/status"]);
    assert_eq!(
        outcome.stdout,
        "CapInh:\t0000000000000000\nCapPrm:\t00000000a80425fb\nCapEff:\t00000000a80425fb\n\
         CapBnd:\t00000000a80425fb\nCapAmb:\t0000000000000000\nNoNewPrivs:\t0\nSeccomp:\t2\n"
    );
    let outcome = fixture
        .run(&["grep", "NoNewPrivs", "/proc/self/status"], |spec| {
            spec["process"]["noNewPrivileges"] = json!(true)
        })
        .expect("it starts");
    assert_eq!(outcome.stdout, "NoNewPrivs:\t1\n");
    let outcome = fixture.run_plain(&["unshare", "-m", "true"]);
    assert!(outcome.stderr.contains("Operation not permitted"), "{outcome:?}");
}

fn nothing_of_the_host_is_open(fixture: &Fixture) {
    let outcome = fixture.run_plain(&["ls", "/proc/self/fd"]);
    // The fourth is the directory being listed.
    assert_eq!(outcome.stdout, "0\n1\n2\n3\n");
    let outcome = fixture.run_plain(&["sh", "-c", "cat /proc/self/mountinfo | wc -l; ls -a /"]);
    assert!(!outcome.stdout.contains("lower"), "{outcome:?}");
}

fn kernel_interfaces_are_closed(fixture: &Fixture) {
    let script = "
        for file in /proc/kcore /proc/keys /proc/timer_list /proc/interrupts; do
            test -e $file && wc -c <$file
        done
        ls /proc/scsi /sys/firmware 2>/dev/null | grep -v ':' | grep -c .
        for file in /proc/sys/kernel/hostname /proc/sysrq-trigger /proc/irq/default_smp_affinity /sys/kernel/uevent_helper; do
            (echo x >$file) 2>/dev/null && echo BREACH $file
        done
        for file in /sys/x /proc/bus/x /sys/fs/cgroup/x /sys/fs/cgroup/memory/x /proc/acpi/x /sys/firmware/x; do
            touch $file 2>/dev/null && echo BREACH $file
        done
        ls /sys/fs/cgroup >/dev/null && echo end
    ";
    let outcome = fixture.run_plain(&["sh", "-c", script]);
    let (sizes, last) = outcome.stdout.trim_end().rsplit_once('\n').expect("several lines");
    assert_eq!(last, "end", "{outcome:?}");
    assert!(sizes.lines().all(|size| size == "0"), "{outcome:?}");
}

fn devices(fixture: &Fixture) {
    let script = "
        ls /dev; stat -c '%t:%T %a' /dev/null /dev/zero /dev/full /dev/random /dev/urandom /dev/tty;
        head -c 4 /dev/zero | wc -c; (echo x >/dev/full) 2>&1; readlink /dev/ptmx; readlink /dev/fd;
        mknod /tmp/disk b 254 0 && head -c 1 /tmp/disk 2>&1; mknod /tmp/null c 1 3 && echo x >/tmp/null && echo written;
        echo data >/dev/shm/file && cat /dev/shm/file
    ";
    let outcome = fixture.run_plain(&["sh", "-c", script]);
    for expected in [
        "fd\nfull\nmqueue\nnull\nptmx\npts\nrandom\nshm\nstderr\nstdin\nstdout\ntty\nurandom\nzero\n",
        "1:3 666\n1:5 666\n1:7 666\n1:8 666\n1:9 666\n5:0 666\n4\n",
        "No space left on device",
        "pts/ptmx\n/proc/self/fd\n",
        "Operation not permitted",
        "written\ndata\n",
    ] {
        assert!(outcome.stdout.replace("core\n", "").contains(expected), "{expected:?}: {}", outcome.stdout);
    }
}

fn mounts_of_every_kind(fixture: &Fixture) {
    let source = fixture.path().join("volume");
    std::fs::create_dir_all(source.join("sub")).expect("a directory");
    std::fs::write(source.join("file"), "content\n").expect("a file");
    let script = "
        cat /data/file /etc/one-file; echo new >/data/made; (echo x >/ro/file) 2>&1; ls /tmpfs; echo t >/tmpfs/t;
        grep -E ' (/data|/ro|/tmpfs) ' /proc/self/mounts | cut -d' ' -f2,3,4 | sort
    ";
    let outcome = fixture
        .run(&["sh", "-c", &script.replace("| cut -d' ' -f2,3,4 | sort", "")], |spec| {
            let mounts = spec["mounts"].as_array_mut().expect("a list");
            let volume = source.to_string_lossy();
            mounts.push(json!({"destination": "/data", "type": "bind", "source": volume, "options": ["rbind", "rprivate"]}));
            mounts.push(json!({"destination": "/ro", "type": "bind", "source": volume, "options": ["rbind", "ro", "nosuid"]}));
            mounts.push(json!({"destination": "/etc/one-file", "type": "bind", "source": format!("{volume}/file"), "options": ["bind"]}));
            mounts.push(json!({"destination": "/tmpfs", "type": "tmpfs", "source": "tmpfs", "options": ["noexec", "nosuid", "size=1m", "mode=1777"]}));
        })
        .expect("it starts");
    assert!(outcome.stdout.starts_with("content\ncontent\n"), "{outcome:?}");
    assert!(outcome.stdout.contains("Read-only file system"), "{outcome:?}");
    assert!(outcome.stdout.contains(" /ro ") && outcome.stdout.contains("ro,nosuid"), "{outcome:?}");
    assert!(outcome.stdout.contains("tmpfs /tmpfs tmpfs rw,nosuid,noexec"), "{outcome:?}");
    assert_eq!(std::fs::read_to_string(source.join("made")).expect("made"), "new\n");
}

fn places_behind_links_stay_inside(fixture: &Fixture) {
    use std::os::unix::fs::symlink;
    let _ = symlink("/etc/../../../../../../escaped/deep", fixture.lower().join("link"));
    let _ = symlink("../run/resolve/stub.conf", fixture.lower().join("etc/resolv.conf"));
    let source = fixture.path().join("volume-file");
    std::fs::write(&source, "mounted\n").expect("a file");
    let outcome = fixture
        .run(&["sh", "-c", "cat /escaped/deep/x /link/x /etc/resolv.conf /run/resolve/stub.conf"], |spec| {
            let mounts = spec["mounts"].as_array_mut().expect("a list");
            mounts.push(json!({"destination": "/link/x", "source": source, "options": ["bind"]}));
            mounts.push(json!({"destination": "/etc/resolv.conf", "source": source, "options": ["bind"]}));
        })
        .expect("it starts");
    assert_eq!(outcome.stdout, "mounted\nmounted\nmounted\nmounted\n", "{outcome:?}");
    assert!(!std::path::Path::new("/escaped").exists());
}

fn proc_behind_a_link_is_refused(fixture: &Fixture) {
    let other = Fixture::new(std::path::Path::new("/bin/busybox"));
    std::os::unix::fs::symlink("/tmp", other.lower().join("proc")).expect("a link");
    let error = other.run(&["true"], |_| {}).expect_err("it is refused");
    assert_eq!(error.to_string(), "cannot mount proc to /proc: too many levels of symbolic links");
    let error = fixture
        .run(&["true"], |spec| {
            let mounts = spec["mounts"].as_array_mut().expect("a list");
            mounts.push(json!({"destination": "/tmp/../proc/sys", "source": "/tmp", "options": ["bind"]}));
        })
        .expect_err("it is refused");
    assert!(error.to_string().ends_with("cannot be mounted because it is inside /proc"), "{error}");
}

fn readonly_root(fixture: &Fixture) {
    let outcome = fixture
        .run(&["sh", "-c", "touch /x 2>&1; touch /dev/shm/y /dev/z && echo writable"], |spec| {
            spec["root"]["readonly"] = json!(true);
        })
        .expect("it starts");
    assert!(
        outcome.stdout.contains("Read-only file system") && outcome.stdout.contains("writable"),
        "{outcome:?}"
    );
}

fn sysctls(fixture: &Fixture) {
    let run = |key: &str, value: &str| {
        let path = format!("/proc/sys/{}", key.replace('.', "/"));
        fixture.run(&["cat", &path], |spec| spec["linux"]["sysctl"] = json!({key: value}))
    };
    assert_eq!(run("net.ipv4.ip_forward", "1").expect("it starts").stdout, "1\n");
    assert_eq!(run("kernel.shm_rmid_forced", "1").expect("it starts").stdout, "1\n");
    for (key, message) in [
        ("vm.swappiness", "not a parameter of a namespace: it would change the host"),
        ("kernel.panic", "not a parameter of a namespace: it would change the host"),
    ] {
        assert!(run(key, "1").expect_err("refused").to_string().ends_with(message));
    }
    let error = run("net.ipv4.no_such_thing", "1").expect_err("refused").to_string();
    assert_eq!(error, "cannot set sysctl net.ipv4.no_such_thing to \"1\": no such file or directory");
}

fn host_mounts_are_untouched(fixture: &Fixture) {
    let before = std::fs::read_to_string("/proc/self/mountinfo").expect("readable");
    let outcome = fixture.run_plain(&["mount"]);
    assert!(outcome.stdout.lines().count() < 40, "{outcome:?}");
    assert_eq!(std::fs::read_to_string("/proc/self/mountinfo").expect("readable"), before);
}

fn user_namespace(fixture: &Fixture) {
    use std::os::fd::AsFd;
    use std::os::unix::fs::{PermissionsExt, chown};
    // Everybody may enter the directories above; the writable layer belongs to the mapped root.
    std::fs::set_permissions(fixture.path(), std::fs::Permissions::from_mode(0o755)).expect("a mode");
    let (request, output) = fixture.request(&["sleep", "1000"], |spec| {
        spec["linux"]["namespaces"].as_array_mut().expect("a list").push(json!({"type": "user"}));
        spec["linux"]["sysctl"] = json!({});
        let map = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
        spec["linux"]["uidMappings"] = map.clone();
        spec["linux"]["gidMappings"] = map;
    });
    if let ferry_runtime::Rootfs::Overlay { upper, work, .. } = &request.rootfs {
        chown(upper, Some(100_000), Some(100_000)).expect("root may");
        chown(work, Some(100_000), Some(100_000)).expect("root may");
    }
    let container = ferry_runtime::run(request).expect("it starts");
    let map = std::fs::read_to_string(format!("/proc/{}/uid_map", container.pid)).expect("readable");
    assert_eq!(map.split_whitespace().collect::<Vec<_>>(), ["0", "100000", "65536"]);

    let script =
        "id -u; touch /made && stat -c %u /made; head -c 2 /dev/zero | wc -c; echo >/dev/null && echo null";
    let (stdio, exec_output) = crate::support::pipes();
    let started = ferry_runtime::exec(ferry_runtime::ExecRequest {
        pid: container.pid,
        pidfd: container.pidfd.as_fd(),
        process: crate::support::process(&["sh", "-c", script], |_| {}),
        stdio,
        cgroup: container.cgroup.as_ref(),
        seccomp: None,
        linux: None,
        described: ferry_runtime::hooks::Described::default(),
        preserved: Vec::new(),
        faults: None,
    });
    let outcome = crate::support::finish(started.expect("it starts"), exec_output);
    assert_eq!(outcome.stdout, "0\n0\n2\nnull\n", "{outcome:?}");
    crate::support::release(container, output);
}

fn cgroup_namespace(fixture: &Fixture) {
    let script = "sed 's/.*://' /proc/self/cgroup | grep -v '^/$'; ls /sys/fs/cgroup | wc -l; \
                  cat /sys/fs/cgroup/cgroup.procs /sys/fs/cgroup/memory/cgroup.procs 2>/dev/null | head -1";
    let outcome = fixture
        .run(&["sh", "-c", script], |spec| {
            spec["linux"]["namespaces"].as_array_mut().expect("a list").push(json!({"type": "cgroup"}));
        })
        .expect("it starts");
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    assert_eq!(lines.len(), 2, "every path is the root of its namespace: {outcome:?}");
    assert_eq!(lines[1], "1", "{outcome:?}");
}

fn privileged(fixture: &Fixture) {
    let script = "grep -E 'CapEff|Seccomp:' /proc/self/status; mount -t tmpfs t /tmp && echo mounted; \
                  head -c 1 /dev/disk | wc -c; test -w /proc/sys/kernel/hostname && echo open";
    let (mut request, output) = fixture.request(&["sh", "-c", script], |spec| {
        let all: Vec<&str> =
            ferry_runtime::capability::all().into_iter().map(ferry_runtime::capability::name).collect();
        spec["process"]["capabilities"] = json!({"bounding": all, "effective": all, "permitted": all});
        spec["linux"]["maskedPaths"] = json!([]);
        spec["linux"]["readonlyPaths"] = json!([]);
        spec["linux"]["resources"]["devices"] = json!([{"allow": true, "access": "rwm"}]);
        spec["linux"]["devices"] =
            json!([{"path": "/dev/disk", "type": "c", "major": 1, "minor": 5, "fileMode": 0o600}]);
    });
    request.seccomp = None;
    let outcome = crate::support::finish(ferry_runtime::run(request).expect("it starts"), output);
    assert!(outcome.stdout.contains("Seccomp:\t0\nmounted\n1\nopen\n"), "{outcome:?}");
    let known = ferry_sys::capability::permitted().expect("readable");
    assert!(outcome.stdout.contains(&format!("CapEff:\t{known:016x}")), "{known:x} {outcome:?}");
}

fn host_namespaces(fixture: &Fixture) {
    let own = std::process::id();
    let outcome = fixture
        .run(
            &["sh", "-c", &format!("hostname; test -d /proc/{own} && echo seen; ls /sys/class/net | wc -l")],
            |spec| {
                spec["hostname"] = json!(null);
                spec["linux"]["sysctl"] = json!({});
                spec["linux"]["namespaces"] = json!([{"type": "mount"}]);
            },
        )
        .expect("it starts");
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    assert!(outcome.stdout.starts_with(&format!("{name}\nseen\n")), "{outcome:?}");
    let error = fixture
        .run(&["true"], |spec| spec["linux"]["namespaces"] = json!([{"type": "mount"}, {"type": "network"}]))
        .expect_err("it is refused");
    assert_eq!(error.to_string(), "invalid hostname \"box\": cannot be set without a private UTS namespace");
}

/// Makes a tmpfs at a directory of the fixture in the given propagation.
fn mounted(fixture: &Fixture, name: &str, propagation: &str) -> std::path::PathBuf {
    let path = fixture.path().join(name);
    std::fs::create_dir_all(&path).expect("a directory");
    let run = |arguments: &[&str]| {
        let status = std::process::Command::new("mount").args(arguments).status().expect("mount is there");
        assert!(status.success(), "{arguments:?}");
    };
    let text = path.to_string_lossy();
    run(&["-t", "tmpfs", "tmpfs", &text]);
    run(&[propagation, &text]);
    std::fs::create_dir_all(path.join("sub")).expect("a directory");
    path
}

fn unmount(path: &std::path::Path) {
    let _ = rustix::mount::unmount(path, rustix::mount::UnmountFlags::DETACH);
}

fn propagation(fixture: &Fixture) {
    let volume = mounted(fixture, "shared", "--make-shared");
    let sub = volume.join("sub");
    for (option, expected) in [("rprivate", "no\n"), ("rslave", "yes\n"), ("rshared", "yes\n")] {
        let (request, output) = fixture.request(
            &["sh", "-c", "while ! test -e /go/go; do sleep 0.01; done; test -e /data/sub/file && echo yes || echo no"],
            |spec| {
                let mounts = spec["mounts"].as_array_mut().expect("a list");
                mounts.push(json!({"destination": "/data", "source": volume, "options": ["rbind", option]}));
                mounts.push(json!({"destination": "/go", "source": fixture.path().join("lower/tmp"), "options": ["rbind"]}));
            },
        );
        let process = ferry_runtime::run(request).expect("it starts");
        let inner = mounted(fixture, "shared/sub", "--make-private");
        std::fs::write(inner.join("file"), "").expect("a file");
        let go = fixture.lower().join("tmp/go");
        std::fs::write(&go, "").expect("a file");
        let outcome = crate::support::finish(process, output);
        std::fs::remove_file(go).expect("removable");
        unmount(&sub);
        assert_eq!(outcome.stdout, expected, "{option}");
    }
    unmount(&volume);
}

fn recursive_readonly(fixture: &Fixture) {
    let volume = mounted(fixture, "nested", "--make-private");
    let inner = mounted(fixture, "nested/sub", "--make-private");
    for (option, expected) in [("ro", "inner\n"), ("rro", "")] {
        let outcome = fixture
            .run(
                &[
                    "sh",
                    "-c",
                    "touch /data/x 2>/dev/null && echo outer; touch /data/sub/x 2>/dev/null && echo inner",
                ],
                |spec| {
                    let mounts = spec["mounts"].as_array_mut().expect("a list");
                    mounts.push(
                        json!({"destination": "/data", "source": volume, "options": ["rbind", option]}),
                    );
                },
            )
            .expect("it starts");
        assert_eq!(outcome.stdout, expected, "{option}");
    }
    unmount(&inner);
    unmount(&volume);
}

fn directory_as_root(fixture: &Fixture) {
    let (mut request, output) = fixture.request(&["sh", "-c", "echo from inside >/made; echo done"], |_| {});
    let root = fixture.path().join("plain-root");
    std::fs::create_dir_all(&root).expect("a directory");
    let status =
        std::process::Command::new("cp").arg("-a").arg(fixture.lower().join(".")).arg(&root).status();
    assert!(status.expect("cp is there").success());
    request.rootfs = ferry_runtime::Rootfs::Directory(root.clone());
    let outcome = crate::support::finish(ferry_runtime::run(request).expect("it starts"), output);
    assert_eq!(outcome.stdout, "done\n", "{outcome:?}");
    assert_eq!(std::fs::read_to_string(root.join("made")).expect("made"), "from inside\n");
}

fn keyring_is_own(fixture: &Fixture) {
    // Masked for containers, so it is asked for without masks.
    let (request, output) =
        fixture.request(&["cat", "/proc/keys"], |spec| spec["linux"]["maskedPaths"] = json!([]));
    let name = format!("ferry-{}", request.id);
    let outcome = crate::support::finish(ferry_runtime::run(request).expect("it starts"), output);
    assert!(outcome.stdout.contains(&name), "{outcome:?}");
}
