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
    use std::os::unix::fs::{PermissionsExt, chown};
    // Everybody may enter the directories above; the writable layer belongs to the mapped root.
    std::fs::set_permissions(fixture.path(), std::fs::Permissions::from_mode(0o755)).expect("a mode");
    let (request, output) =
        fixture.request(&["sh", "-c", "id -u; cat /proc/self/uid_map; touch /made && echo made"], |spec| {
            spec["linux"]["namespaces"].as_array_mut().expect("a list").push(json!({"type": "user"}));
            spec["linux"]["uidMappings"] = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
            spec["linux"]["gidMappings"] = json!([{"containerID": 0, "hostID": 100_000, "size": 65_536}]);
            spec["linux"]["sysctl"] = json!({});
        });
    if let ferry_runtime::Rootfs::Overlay { upper, work, .. } = &request.rootfs {
        chown(upper, Some(100_000), Some(100_000)).expect("root may");
        chown(work, Some(100_000), Some(100_000)).expect("root may");
    }
    let outcome = crate::support::finish(ferry_runtime::run(request).expect("it starts"), output);
    assert!(outcome.stdout.starts_with("0\n") && outcome.stdout.contains("100000"), "{outcome:?}");
    assert!(outcome.stdout.ends_with("made\n"), "{outcome:?}");
}
