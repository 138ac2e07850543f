//! `cargo xtask vm`: boots Debian's cloud kernel under qemu with cgroup v2 alone and runs the black-box suite in
//! it, because the development machines have cgroup v1. Emulated (TCG), since KVM is not everywhere. Then the same
//! machine boots systemd, has ferry installed as a service, and is cut off from power in the middle of work.
//!
//! The machine is made of three files in the cache: the kernel, a small initramfs (busybox and the kernel modules
//! that containers need), and an ext4 disk: Debian's minimal tree with ferry, the test program and the base images.
//! Its console is our standard output; the last line it prints is the suite's exit code.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::{host, images, test};

/// Longest that the machine may run before it is ended; the whole suite takes some hours where it is emulated.
const TIME_LIMIT: Duration = Duration::from_secs(25 * 60);
const WHOLE_TIME_LIMIT: Duration = Duration::from_secs(8 * 3600);

/// Kernel modules to load, with what they depend on: disk and file systems, then what container networks need.
const MODULES: &[&str] = &[
    "virtio_pci",
    "virtio_blk",
    "overlay",
    "erofs",
    "bridge",
    "br_netfilter",
    "veth",
    "macvlan",
    "ipvlan",
    "8021q",
    "dummy",
    "sctp",
    "nf_tables",
    "nf_conntrack",
    "nf_conntrack_netlink",
    "nft_chain_nat",
    "nft_nat",
    "nft_ct",
    "nft_masq",
    "nft_redir",
    "nft_reject",
    "nft_reject_inet",
    "nft_fib_inet",
    "nft_limit",
    "nft_log",
];

/// What the last line of the console starts with.
const EXIT_MARK: &str = "ferry-vm exit code ";

/// Which tests run by default: the core scenarios, every limit, and the life of the service.
const CORE: &[&str] = &[
    "vm::",
    "run::",
    "limits::",
    "lifecycle::",
    "network::published_ports_answer",
    "network::names_resolve",
    "network::names_outlive",
    "network::gateway_modes_side_by_side",
    "network::several_networks",
    "network::ports_change",
    "network::taken_back_ports",
    BOOT,
];

/// The suite of the service, which runs under systemd, after the others.
const BOOT: &str = "boot::";

/// What the suite needs of Debian in the machine.
const PACKAGES: &[&str] =
    &["systemd", "systemd-sysv", "iproute2", "nftables", "dnsutils", "curl", "procps", "socat"];

/// Boots the machine and runs the suite in it; `filters` choose tests by the start of their names, `--all` means all.
///
/// `FERRY_BINARY` and `FERRY_TEST_SUITE` name programs that are to be run in place of ones built now.
pub fn run(filters: &[String]) -> Result<()> {
    host::install_packages(&["qemu-system-x86", "busybox-static", "kmod", "e2fsprogs", "cpio"])?;
    let given = |name: &str| std::env::var_os(name).map(PathBuf::from);
    let binary = given("FERRY_BINARY").map_or_else(test::build_binary, Ok)?;
    let suite = given("FERRY_TEST_SUITE").map_or_else(build_suite, Ok)?;
    let kernel = kernel()?;
    let work = host::target_directory().join("vm");
    fs::create_dir_all(&work)?;
    let initramfs = initramfs(&kernel, &work)?;
    let disk = disk(&binary, &suite, filters, &work)?;
    let limit = if is_whole(filters) { WHOLE_TIME_LIMIT } else { TIME_LIMIT };
    boot(&kernel.image, &initramfs, &disk, limit)
}

/// Whether the whole suite is asked for.
fn is_whole(filters: &[String]) -> bool {
    matches!(filters, [all] if all == "--all" || all == "all")
}

/// An unpacked kernel package.
struct Kernel {
    image: PathBuf,
    root: PathBuf,
    release: String,
}

/// Debian's newest cloud kernel, downloaded and unpacked once.
fn kernel() -> Result<Kernel> {
    let root = host::cache_directory()?.join("vm-kernel");
    if !root.join("boot").is_dir() {
        host::run_command(Command::new("apt-get").args(["update", "-q"]).stdout(Stdio::null()))?;
        let depends =
            host::output_of(Command::new("apt-cache").args(["depends", "linux-image-cloud-amd64"]))?;
        let package = depends
            .lines()
            .find_map(|line| line.trim().strip_prefix("Depends: "))
            .context("linux-image-cloud-amd64 depends on no kernel")?;
        let downloads = host::cache_directory()?.join("vm-kernel.download");
        fs::create_dir_all(&downloads)?;
        host::run_command(Command::new("apt-get").args(["download", "-q", package]).current_dir(&downloads))?;
        let archive =
            fs::read_dir(&downloads)?.flatten().next().context("apt-get downloaded nothing")?.path();
        let partial = root.with_extension("partial");
        host::run_command(Command::new("dpkg-deb").arg("-x").arg(archive).arg(&partial))?;
        fs::rename(&partial, &root)?;
        fs::remove_dir_all(&downloads)?;
    }
    let modules = root.join("lib/modules");
    let release = fs::read_dir(&modules)?.flatten().next().context("the kernel package has no modules")?;
    let release = release.file_name().to_string_lossy().into_owned();
    if !modules.join(&release).join("modules.dep").exists() {
        host::run_command(Command::new("/sbin/depmod").arg("-b").arg(&root).arg(&release))?;
    }
    Ok(Kernel { image: root.join("boot").join(format!("vmlinuz-{release}")), root, release })
}

/// The black-box suite's own program, which is static as all of the workspace's programs are.
fn build_suite() -> Result<PathBuf> {
    let listing = host::output_of(&mut test::cargo(&[
        "test",
        "--workspace",
        "--test",
        "blackbox",
        "--no-run",
        "--message-format=json",
    ]))?;
    listing
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter(|message| message["target"]["name"] == "blackbox")
        .find_map(|message| message["executable"].as_str().map(PathBuf::from))
        .context("cargo named no program for the black-box suite")
}

/// Busybox, the modules in the order in which they load, and an init that hands over to the disk.
fn initramfs(kernel: &Kernel, work: &Path) -> Result<PathBuf> {
    let root = work.join("initramfs");
    fs::remove_dir_all(&root).ok();
    for folder in ["bin", "dev", "proc", "sys", "modules", "newroot"] {
        fs::create_dir_all(root.join(folder))?;
    }
    fs::copy("/bin/busybox", root.join("bin/busybox"))?;
    symlink("busybox", root.join("bin/sh"))?;
    let mut load = String::new();
    for (index, module) in module_files(kernel)?.iter().enumerate() {
        let name =
            format!("{index:03}-{}", module.file_name().context("a module has a name")?.to_string_lossy());
        fs::copy(module, root.join("modules").join(&name))?;
        load.push_str(&format!("busybox insmod /modules/{name}\n"));
    }
    let init = format!(
        "#!/bin/sh\nbusybox mount -t proc proc /proc\nbusybox mount -t devtmpfs dev /dev\n{load}\
         busybox mount -t ext4 /dev/vda /newroot || busybox poweroff -f\n\
         busybox umount /proc\nexec busybox switch_root /newroot /ferry-vm-init\n"
    );
    write_program(&root.join("init"), &init)?;
    let archive = work.join("initramfs.cpio");
    let pack = format!("find . | cpio --quiet -o -H newc > {}", archive.display());
    host::run_command(Command::new("sh").args(["-c", &pack]).current_dir(&root))?;
    Ok(archive)
}

/// The module files, each after those it depends on (`modules.dep` lists them nearest first).
fn module_files(kernel: &Kernel) -> Result<Vec<PathBuf>> {
    let folder = kernel.root.join("lib/modules").join(&kernel.release);
    let table = fs::read_to_string(folder.join("modules.dep"))?;
    let (mut seen, mut ordered) = (BTreeSet::new(), Vec::new());
    for module in MODULES {
        let stem = module.replace('_', "-");
        let is_wanted = |path: &str| {
            let name = path.rsplit('/').next().unwrap_or_default();
            name.split('.').next().is_some_and(|name| name.replace('_', "-") == stem)
        };
        let Some((path, needs)) =
            table.lines().filter_map(|line| line.split_once(':')).find(|(p, _)| is_wanted(p))
        else {
            // Built into this kernel, or absent from it; a test that needs it says so.
            continue;
        };
        for file in needs.split_whitespace().rev().chain([path]) {
            if seen.insert(file.to_owned()) {
                ordered.push(folder.join(file));
            }
        }
    }
    Ok(ordered)
}

/// The root disk with everything the suite needs, made anew for every run.
fn disk(binary: &Path, suite: &Path, filters: &[String], work: &Path) -> Result<PathBuf> {
    let root = work.join("root");
    fs::remove_dir_all(&root).ok();
    fs::create_dir_all(&root)?;
    images::unpack_debian_with(&root, "vm", PACKAGES)?;
    fs::copy(binary, root.join("usr/local/bin/ferry"))?;
    fs::copy(suite, root.join("blackbox"))?;
    // Scripts find the second; bundles are made of the first, where a host has it.
    for place in ["usr/bin/busybox", "usr/local/bin/busybox"] {
        fs::copy("/bin/busybox", root.join(place))?;
    }
    // The stock client is static, unlike Debian's own.
    if Path::new("/usr/local/bin/docker").is_file() {
        fs::copy("/usr/local/bin/docker", root.join("usr/local/bin/docker"))?;
    }
    let cache = root.join("var/cache/ferry/images");
    fs::create_dir_all(&cache)?;
    for archive in images::make(&["busybox".into(), "alpine".into(), "debian".into()])? {
        fs::copy(&archive, cache.join(archive.file_name().context("an archive has a name")?))?;
    }
    write_program(&root.join("ferry-vm-init"), &vm_init(filters))?;
    add_service(&root)?;
    let disk = work.join("disk.img");
    fs::remove_file(&disk).ok();
    host::run_command(
        Command::new("/sbin/mke2fs").args(["-q", "-t", "ext4", "-d"]).arg(&root).arg(&disk).arg("3G"),
    )?;
    fs::remove_dir_all(&root)?;
    Ok(disk)
}

/// The machine's first process at each of its boots: mounts, runs the suite, and hands over to systemd, whose
/// service ([`SERVICE`]) goes on. Without the boot suite it prints the exit code and powers off.
fn vm_init(filters: &[String]) -> String {
    let chosen: Vec<&str> = match filters {
        [] => CORE.to_vec(),
        _ if is_whole(filters) => vec!["", BOOT],
        some => some.iter().map(String::as_str).collect(),
    };
    let boots = chosen.contains(&BOOT);
    let quoted: Vec<String> =
        chosen.iter().filter(|filter| **filter != BOOT).map(|filter| format!("'{filter}'")).collect();
    let hand_over = match boots {
        true => "exec /lib/systemd/systemd".to_owned(),
        false => end(),
    };
    let end = end();
    format!(
        "#!/bin/bash\nexport HOME=/root\n{ENVIRONMENT}\
         mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev 2>/dev/null\n\
         mkdir -p /dev/pts /dev/shm /run; mount -t devpts devpts /dev/pts; mount -t tmpfs shm /dev/shm\n\
         mount -t tmpfs run /run; mount -t tmpfs tmp /tmp -o size=1G\n\
         mount -t cgroup2 cgroup2 /sys/fs/cgroup\n\
         boot=$(cat /ferry-vm-boot 2>/dev/null || echo 0); echo $((boot + 1)) > /ferry-vm-boot\n\
         [ $boot -lt 2 ] || {{ echo 'the machine boots again and again'; echo 1 > /ferry-vm-code; {end}; }}\n\
         [ $boot = 0 ] || exec /lib/systemd/systemd\n\
         echo '+cpu +cpuset +io +memory +pids' > /sys/fs/cgroup/cgroup.subtree_control\n\
         busybox ip link set lo up\n\
         echo 0 > /ferry-vm-code\n\
         for filter in {}; do /blackbox --test-threads=2 --skip boot:: \"$filter\" || echo 1 > /ferry-vm-code; done\n\
         {hand_over}\n",
        quoted.join(" ")
    )
}

/// What the suite's program is told in the machine.
const ENVIRONMENT: &str = "export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n\
     export FERRY_BINARY=/usr/local/bin/ferry FERRY_CACHE_DIR=/var/cache/ferry FERRY_TEST_SLOWNESS=10\n\
     export TMPDIR=/var/tmp FERRY_TEST_MACHINE=disposable\n";

/// A command that prints the verdict and switches the machine off.
fn end() -> String {
    format!("sync; echo \"{EXIT_MARK}$(cat /ferry-vm-code)\"; sync; echo o > /proc/sysrq-trigger; sleep 100")
}

/// The service that runs the boot suite: before the power cut at the first boot, after it at the second.
const SERVICE: &str = "[Unit]\nAfter=basic.target\n[Service]\nType=exec\nExecStart=/ferry-vm-service\n\
     StandardOutput=tty\nStandardError=tty\nTTYPath=/dev/ttyS0\nDelegate=yes\n";

fn add_service(root: &Path) -> Result<()> {
    let script = format!(
        "#!/bin/bash\nexport HOME=/root\n{ENVIRONMENT}\
         test() {{ timeout 400 /blackbox --test-threads=1 \"boot::$1\" && return; echo 1 > /ferry-vm-code\n\
             journalctl --unit ferry.service --lines 60 --no-pager; tail -n 60 /run/ferry/engine.log; ps axfo pid,stat,args; }}\n\
         if [ $(cat /ferry-vm-boot) = 1 ]; then\n\
             test service; test systemd_driver; sync\n\
             test power_cut; echo 'the power was not cut'; echo 1 > /ferry-vm-code\n\
         else\n\
             test after_the_power_cut; test uninstall\n\
         fi\n\
         {}\n",
        end()
    );
    write_program(&root.join("ferry-vm-service"), &script)?;
    let units = root.join("etc/systemd/system");
    fs::write(units.join("ferry-vm.service"), SERVICE)?;
    let wants = units.join("multi-user.target.wants");
    fs::create_dir_all(&wants)?;
    symlink("../ferry-vm.service", wants.join("ferry-vm.service"))?;
    Ok(())
}

fn write_program(path: &Path, text: &str) -> Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// Boots, copies the console to standard output, and judges by the exit line.
fn boot(kernel: &Path, initramfs: &Path, disk: &Path, limit: Duration) -> Result<()> {
    let mut machine = Command::new("qemu-system-x86_64")
        .args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "3072", "-nographic"])
        .args([
            "-nodefaults",
            "-serial",
            "stdio",
            "-append",
            // An emulated processor has no speculation to guard against, and pays for every guard.
            "console=ttyS0 quiet panic=1 cgroup_no_v1=all systemd.show_status=false mitigations=off init_on_alloc=0 nokaslr",
        ])
        .arg("-kernel")
        .arg(kernel)
        .arg("-initrd")
        .arg(initramfs)
        .arg("-drive")
        .arg(format!("file={},format=raw,if=virtio,cache=unsafe", disk.display()))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start qemu-system-x86_64")?;
    let console = BufReader::new(machine.stdout.take().context("the console is piped")?);
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in console.split(b'\n').map_while(Result::ok) {
            if sender.send(String::from_utf8_lossy(&line).trim_end().to_owned()).is_err() {
                return;
            }
        }
    });
    let verdict = watch(&lines, limit);
    machine.kill().ok();
    machine.wait()?;
    match verdict? {
        0 => Ok(()),
        code => bail!("the suite failed in the virtual machine (exit code {code})"),
    }
}

fn watch(lines: &mpsc::Receiver<String>, limit: Duration) -> Result<i32> {
    let start = Instant::now();
    loop {
        let left = limit.saturating_sub(start.elapsed());
        match lines.recv_timeout(left) {
            Ok(line) => {
                println!("vm: {line}");
                if let Some(code) = line.trim().strip_prefix(EXIT_MARK) {
                    return code.trim().parse().context("the virtual machine printed no exit code");
                }
            }
            Err(mpsc::RecvTimeoutError::Timeout) => {
                bail!("the virtual machine ran longer than {} s", limit.as_secs())
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => bail!("the virtual machine ended without a verdict"),
        }
    }
}
