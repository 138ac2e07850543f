//! A data root on a disk without room: what is asked for fails in the disk's own words and leaves nothing, what
//! runs goes on.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

use ferry_tests::Engine;
use ferry_tests::engine::wait_until;

use crate::{CLIENTS, Test};

/// The suite.
pub const TESTS: &[Test] = &[
    ("data::a_full_disk_says_so", a_full_disk_says_so),
    ("data::output_waits_for_room", output_waits_for_room),
];

/// What the kernel says.
const FULL: &str = "No space left on device";

/// A data root on a file system of its own, with little room left.
struct SmallDisk {
    place: PathBuf,
}

/// Room left for a test; a copy of what it writes does not fit.
const ROOM: u64 = 40 << 20;

impl SmallDisk {
    fn mount(engine: &Engine) -> SmallDisk {
        let place = engine.data_root();
        let _ = engine.engine_command("stop").ok();
        let _ = fs::remove_dir_all(&place);
        fs::create_dir_all(&place).unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=1g", "tmpfs"]).arg(&place);
        assert!(mount.status().unwrap().success());
        let _ = engine.engine_command("start").ok();
        SmallDisk { place }
    }

    /// An engine on a small disk, with busybox.
    fn with_busybox() -> (Engine, SmallDisk) {
        let engine = Engine::start();
        let disk = SmallDisk::mount(&engine);
        let archive = ferry_tests::images::archive("busybox");
        engine.ferry(["load", "-q", "-i", &archive.to_string_lossy()]).exits(0);
        // The image that is built in is written beside the first requests.
        engine.ferry(["run", "--rm", "localhost/hello"]).exits(0);
        (engine, disk)
    }

    /// Nothing is being written or removed any more.
    fn wait_for_quiet(&self) {
        wait_until("nothing is under way", || {
            ["ingest", "tmp", "trash"]
                .iter()
                .all(|name| fs::read_dir(self.place.join(name)).is_ok_and(|mut names| names.next().is_none()))
        });
    }

    /// Takes the last byte.
    fn fill_up(&self) {
        self.wait_for_quiet();
        let mut ballast = fs::File::create(self.place.join("ballast")).unwrap();
        while ballast.write_all(&[1; 64 << 10]).is_ok() {}
        while ballast.write_all(&[1; 512]).is_ok() {}
    }

    fn remove_ballast(&self) {
        fs::remove_file(self.place.join("ballast")).unwrap();
    }

    /// Gives the engine its own disk back, so that it ends as any other.
    fn give_back(self, engine: &Engine) {
        let _ = engine.engine_command("stop").ok();
        drop(self);
        let _ = engine.engine_command("start").ok();
    }

    fn free(&self) -> u64 {
        let stat = rustix::fs::statvfs(&self.place).unwrap();
        stat.f_bavail * stat.f_frsize
    }

    /// Takes what is free but for [`ROOM`], once nothing is being written or removed any more.
    fn fill(&self) {
        self.wait_for_quiet();
        let ballast = fs::File::create(self.place.join("ballast")).unwrap();
        let size = self.free() - ROOM;
        rustix::fs::fallocate(&ballast, rustix::fs::FallocateFlags::empty(), 0, size).unwrap();
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.place).status();
    }
}

fn a_full_disk_says_so() {
    let (engine, disk) = SmallDisk::with_busybox();
    let put = "dd if=/dev/urandom of=/srv/blob bs=1M count=24 2>/dev/null";
    engine.ferry(["run", "--name", "maker", "busybox", "sh", "-c", &format!("mkdir /srv; {put}")]).exits(0);
    engine.ferry(["commit", "maker", "filled:1"]).exits(0);
    let small = engine.directory().join("small");
    fs::write(&small, "small").unwrap();
    engine.ferry(["cp", &small.display().to_string(), "maker:/kept"]).exits(0);
    disk.fill();
    let fill = "dd if=/dev/urandom of=/d/blob bs=1M count=24; echo 1 > /d/file";
    engine.ferry(["run", "--rm", "-v", "vol:/d", "busybox", "sh", "-c", fill]).exits(0);
    engine.ferry(["volume", "clone", "vol", "copy"]).exits(1).complains(FULL);
    engine.ferry(["volume", "snapshot", "vol", "kept"]).exits(1).complains(FULL);
    engine.ferry(["volume", "snapshots", "-q", "vol"]).prints("");
    let big = engine.directory().join("big");
    fs::write(&big, vec![1u8; 64 << 20]).unwrap();
    for client in CLIENTS {
        for target in ["maker:/big", "maker:/kept"] {
            disk.wait_for_quiet();
            engine.client(client, ["cp", &big.display().to_string(), target]).exits(1).complains(FULL);
        }
        disk.wait_for_quiet();
        let copied_up = engine.client(client, ["create", "-v", "new:/srv", "filled:1", "true"]);
        copied_up.exits(1).complains(FULL);
        disk.wait_for_quiet();
        engine.client(client, ["volume", "ls", "-q"]).prints("vol");
    }
    // What failed was taken back, and what was there is there.
    let back = engine.directory().join("back");
    engine.ferry(["cp", "maker:/kept", &back.display().to_string()]).exits(0);
    assert_eq!(fs::read_to_string(&back).unwrap(), "small");
    engine
        .ferry(["cp", "maker:/big", &back.display().to_string()])
        .exits(1)
        .complains("Could not find the file");
    engine.ferry(["ps", "-aq"]).says(&engine.inspect("maker", "{{.Id}}")[..12]);
    engine.ferry(["run", "--rm", "-v", "vol:/d", "busybox", "cat", "/d/file"]).prints("1");
    engine.ferry(["volume", "rm", "vol"]).exits(0);
    engine.ferry(["rm", "maker"]).exits(0);
    wait_until("the room is there again", || disk.free() > ROOM - (4 << 20));
    // Not a byte is left: a volume is made or it is not, and what was said holds.
    disk.fill_up();
    let mut made = Vec::new();
    for number in 0..20 {
        let name = format!("more-{number:02}");
        let created = engine.client(CLIENTS[number % 2], ["volume", "create", &name]);
        match created.code {
            0 => made.push(name),
            _ => drop(created.complains(FULL)),
        }
    }
    engine.kill("engine");
    engine.ferry(["volume", "ls", "-q"]).prints(&made.join("\n"));
    disk.remove_ballast();
    disk.give_back(&engine);
}

/// A log that cannot be written stops no container. What it says waits for room as long as that is sensible;
/// what is lost is told, in the log itself too.
fn output_waits_for_room() {
    let (engine, disk) = SmallDisk::with_busybox();
    let chat = "i=0; while true; do i=$((i+1)); echo line $i; usleep 20000; done";
    engine.ferry(["run", "-d", "--name", "chat", "busybox", "sh", "-c", chat]).exits(0);
    let loud = "echo begin; until [ -e /s/go ]; do usleep 20000; done; yes 0123456789012345678901234567890123456789 \
                | head -n 60000; touch /s/done; echo end; sleep 1000";
    let words = ["run", "-d", "--name", "loud", "--tmpfs", "/s", "busybox", "sh", "-c", loud];
    engine.ferry(words).exits(0);
    let error = |name: &str| engine.inspect(name, "{{.State.Running}} {{.State.Error}}");
    disk.fill_up();
    wait_until("the trouble is told", || error("chat").contains(FULL));
    assert!(error("chat").starts_with("true log: cannot be written"), "{}", error("chat"));
    engine.ferry(["exec", "loud", "touch", "/s/go"]).exits(0);
    wait_until("it has said it all", || engine.ferry(["exec", "loud", "test", "-e", "/s/done"]).code == 0);
    disk.remove_ballast();
    wait_until("the log goes on", || error("chat") == "true ");
    wait_until("the loss is told", || {
        error("loud").contains("bytes were not written: No space left on device")
    });
    let logs = |name: &str| {
        let read = engine.ferry(["logs", name]);
        (read.stdout, read.stderr)
    };
    let lines: Vec<String> = logs("chat").0.lines().map(str::to_owned).collect();
    for (index, line) in lines.iter().enumerate() {
        assert_eq!(line, &format!("line {}", index + 1), "nothing is missing");
    }
    wait_until("the log tells of the gap", || {
        logs("loud").1.contains("bytes of output could not be logged here")
    });
    assert!(logs("loud").0.starts_with("begin\n0123456789"));
    let events = engine.ferry([
        "events",
        "--since",
        "1h",
        "--until",
        "0s",
        "--format",
        "{{.Action}} {{.Actor.Attributes.name}}",
    ]);
    events.says("log_stopped chat").says("log_resumed chat").says("log_stopped loud");
    engine.ferry(["rm", "-f", "chat", "loud"]).exits(0);
    disk.give_back(&engine);
}
