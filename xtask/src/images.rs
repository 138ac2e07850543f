//! The offline image factory: base images for tests and benchmarks, made from Debian packages because no
//! registry is needed or asked. Each image is a docker-archive tar in the cache folder, made once.
//!
//! A recipe prepares a root file system folder; `archive` packs it the way `docker save` does, with all
//! owners and extended attributes, and with a fixed time, so that the same tree gives the same digest.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::host;

/// One image of the factory.
pub struct Recipe {
    /// File name without `.tar`.
    pub name: &'static str,
    /// References given to the image.
    pub tags: &'static [&'static str],
    /// Default entry point; empty for none.
    entrypoint: &'static [&'static str],
    /// Default command.
    command: &'static [&'static str],
    /// Environment besides PATH.
    environment: &'static [&'static str],
    /// Ports said to be listened on, as `6379/tcp`.
    exposes: &'static [&'static str],
    /// Paths that become anonymous volumes.
    volumes: &'static [&'static str],
    /// Where commands run; empty for `/`.
    working_directory: &'static str,
    /// Counted up when the recipe changes, so that an archive of an older one is made anew.
    revision: u32,
    /// Fills the empty folder with the root file system.
    prepare: fn(&Path) -> Result<()>,
}

/// What a recipe leaves out.
const PLAIN: Recipe = Recipe {
    name: "",
    tags: &[],
    entrypoint: &[],
    command: &[],
    environment: &[],
    exposes: &[],
    volumes: &[],
    working_directory: "",
    revision: 1,
    prepare: busybox,
};

/// All images, small ones first.
pub const RECIPES: &[Recipe] = &[
    Recipe { name: "busybox", tags: &["busybox:latest"], command: &["sh"], prepare: busybox, ..PLAIN },
    Recipe { name: "alpine", tags: &["alpine:latest"], command: &["/bin/sh"], prepare: alpine, ..PLAIN },
    Recipe {
        name: "hello-world",
        tags: &["hello-world:latest"],
        command: &["/hello"],
        prepare: hello_world,
        ..PLAIN
    },
    Recipe {
        name: "python",
        tags: &["python:3.8", "python:3.8-buster", "python:3.8-alpine", "python:latest"],
        command: &["python3"],
        environment: &["LANG=C.UTF-8"],
        prepare: python,
        ..PLAIN
    },
    Recipe {
        name: "redis",
        tags: &["redis:alpine", "redis:latest"],
        command: &["redis-server", "--protected-mode", "no"],
        exposes: &["6379/tcp"],
        volumes: &["/data"],
        working_directory: "/data",
        prepare: redis,
        ..PLAIN
    },
    Recipe {
        name: "postgres",
        tags: &["postgres:latest", "postgres:15"],
        entrypoint: &["docker-entrypoint.sh"],
        command: &["postgres"],
        environment: &["PGDATA=/var/lib/postgresql/data"],
        exposes: &["5432/tcp"],
        volumes: &["/var/lib/postgresql/data"],
        prepare: postgres,
        ..PLAIN
    },
    Recipe {
        name: "mariadb",
        tags: &["mariadb:latest"],
        entrypoint: &["docker-entrypoint.sh"],
        command: &["mariadbd"],
        exposes: &["3306/tcp"],
        volumes: &["/var/lib/mysql"],
        revision: 2,
        prepare: mariadb,
        ..PLAIN
    },
    Recipe {
        name: "adminer",
        tags: &["adminer:latest"],
        command: &["php", "-S", "0.0.0.0:8080", "-t", "/usr/share/adminer/adminer"],
        exposes: &["8080/tcp"],
        prepare: adminer,
        ..PLAIN
    },
    Recipe {
        name: "debian",
        tags: &["debian:bookworm", "debian:latest", "ubuntu:latest"],
        command: &["bash"],
        prepare: debian,
        ..PLAIN
    },
];

/// Makes the named images (all where none is named) and gives the paths of their archives.
pub fn make(names: &[String]) -> Result<Vec<PathBuf>> {
    let mut archives = Vec::new();
    for name in names {
        if !RECIPES.iter().any(|recipe| recipe.name == name) {
            let known: Vec<&str> = RECIPES.iter().map(|recipe| recipe.name).collect();
            bail!("no image recipe `{name}`; there are: {}", known.join(", "));
        }
    }
    for recipe in RECIPES {
        if names.is_empty() || names.iter().any(|name| name == recipe.name) {
            archives.push(make_one(recipe)?);
        }
    }
    Ok(archives)
}

fn make_one(recipe: &Recipe) -> Result<PathBuf> {
    let directory = host::cache_directory()?.join("images");
    fs::create_dir_all(&directory)?;
    let archive = directory.join(format!("{}.tar", recipe.name));
    let stamp = directory.join(format!("{}.revision", recipe.name));
    let made_by = fs::read_to_string(&stamp).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(1);
    if archive.exists() && made_by == recipe.revision {
        return Ok(archive);
    }
    eprintln!("making image {}", recipe.tags[0]);
    let work = directory.join(format!(".{}.{}", recipe.name, std::process::id()));
    let root = work.join("rootfs");
    fs::create_dir_all(&root)?;
    let made = (recipe.prepare)(&root).and_then(|()| pack(recipe, &root, &work));
    let made = made
        .and_then(|packed| fs::rename(&packed, &archive).context("cannot move the archive into the cache"));
    fs::remove_dir_all(&work).ok();
    made.with_context(|| format!("cannot make image {}", recipe.name))?;
    fs::write(&stamp, recipe.revision.to_string())?;
    Ok(archive)
}

fn busybox(root: &Path) -> Result<()> {
    host::install_packages(&["busybox-static"])?;
    for folder in [
        "bin",
        "dev",
        "etc",
        "home",
        "lib",
        "proc",
        "root",
        "sys",
        "tmp",
        "usr/bin",
        "usr/sbin",
        "var/spool/mail",
    ] {
        fs::create_dir_all(root.join(folder))?;
    }
    fs::set_permissions(root.join("tmp"), fs::Permissions::from_mode(0o1777))?;
    symlink("bin", root.join("sbin"))?;
    fs::copy("/bin/busybox", root.join("bin/busybox"))?;
    let applets = host::output_of(Command::new("/bin/busybox").arg("--list"))?;
    for applet in applets.lines().filter(|applet| *applet != "busybox") {
        fs::hard_link(root.join("bin/busybox"), root.join("bin").join(applet))?;
    }
    fs::write(
        root.join("etc/passwd"),
        "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\nguest:x:405:100:guest:/home:/bin/sh\nnobody:x:65534:65534:nobody:/home:/bin/false\n",
    )?;
    fs::write(
        root.join("etc/group"),
        "root:x:0:\ndaemon:x:1:\nwheel:x:10:guest\nusers:x:100:guest\nnogroup:x:65534:\n",
    )?;
    Ok(())
}

fn alpine(root: &Path) -> Result<()> {
    busybox(root)?;
    fs::write(root.join("etc/alpine-release"), "3.20.0\n")?;
    fs::write(root.join("etc/os-release"), "NAME=\"Alpine Linux\"\nID=alpine\nVERSION_ID=3.20.0\n")?;
    Ok(())
}

fn hello_world(root: &Path) -> Result<()> {
    busybox(root)?;
    fs::write(
        root.join("hello"),
        "#!/bin/sh\necho\necho 'Hello from Docker!'\necho 'This message shows that your installation appears to be working correctly.'\n",
    )?;
    fs::set_permissions(root.join("hello"), fs::Permissions::from_mode(0o755))?;
    Ok(())
}

fn debian(root: &Path) -> Result<()> {
    unpack_debian(root)
}

/// Debian's minimal tree, bootstrapped once and kept as a tar in the cache, since other recipes and the virtual
/// machine start from it.
pub fn unpack_debian(root: &Path) -> Result<()> {
    let kept = host::cache_directory()?.join("debian-bookworm.tar");
    if !kept.exists() {
        bootstrap_debian(&kept)?;
    }
    unpack(&kept, root)
}

fn unpack(archive: &Path, root: &Path) -> Result<()> {
    host::run_command(
        Command::new("tar").args(["--xattrs", "--numeric-owner", "-xpf"]).arg(archive).arg("-C").arg(root),
    )
}

/// The same with the packages, kept in the cache as `name`.
pub fn unpack_debian_with(root: &Path, name: &str, packages: &[&str]) -> Result<()> {
    let kept = host::cache_directory()?.join(format!("debian-{name}.tar"));
    let listed = kept.with_extension("packages");
    let wanted = packages.join(" ");
    if !kept.exists() || fs::read_to_string(&listed).is_ok_and(|had| had != wanted) {
        let tree = host::cache_directory()?.join(format!(".{name}.{}", std::process::id()));
        fs::create_dir_all(&tree)?;
        let made = debian_with(&tree, packages).and_then(|()| pack_tree(&tree, &kept));
        fs::remove_dir_all(&tree).ok();
        made?;
        fs::write(listed, wanted)?;
    }
    unpack(&kept, root)
}

fn bootstrap_debian(kept: &Path) -> Result<()> {
    host::install_packages(&["debootstrap"])?;
    let tree = host::cache_directory()?.join(format!(".debootstrap.{}", std::process::id()));
    let mut bootstrap = Command::new("/usr/sbin/debootstrap");
    bootstrap.args(["--variant=minbase", "bookworm"]).arg(&tree).arg(host::debian_mirror()?);
    let made = host::run_command(bootstrap.stdout(std::process::Stdio::null()))
        .and_then(|()| clean_debian(&tree))
        .and_then(|()| pack_tree(&tree, kept));
    fs::remove_dir_all(&tree).ok();
    made
}

/// Debian's tree with packages installed inside it, as an image's own `RUN apt-get install` would.
fn debian_with(root: &Path, packages: &[&str]) -> Result<()> {
    unpack_debian(root)?;
    fs::copy("/etc/resolv.conf", root.join("etc/resolv.conf"))?;
    // Services must not start while their packages are installed.
    let policy = root.join("usr/sbin/policy-rc.d");
    write_program(&policy, "#!/bin/sh\nexit 101\n")?;
    let script = format!(
        "apt-get update -q && apt-get install -y -q --no-install-recommends {} && apt-get clean",
        packages.join(" ")
    );
    host::run_command(
        Command::new("chroot")
            .arg(root)
            .args(["sh", "-c", &script])
            .env("DEBIAN_FRONTEND", "noninteractive")
            .stdout(std::process::Stdio::null()),
    )?;
    fs::remove_file(&policy)?;
    clean_debian(root)
}

fn write_program(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

fn python(root: &Path) -> Result<()> {
    debian_with(root, &["python3", "python3-pip", "python3-venv"])?;
    for (link, target) in [("python", "python3"), ("pip", "pip3")] {
        let link = root.join("usr/local/bin").join(link);
        symlink(format!("/usr/bin/{target}"), link)?;
    }
    // pip of a python image may install into the system's tree; Debian's may not while this file stands.
    for entry in fs::read_dir(root.join("usr/lib"))?.flatten() {
        fs::remove_file(entry.path().join("EXTERNALLY-MANAGED")).ok();
    }
    Ok(())
}

fn redis(root: &Path) -> Result<()> {
    debian_with(root, &["redis-server", "redis-tools"])?;
    fs::create_dir_all(root.join("data"))?;
    Ok(())
}

fn postgres(root: &Path) -> Result<()> {
    debian_with(root, &["postgresql-15"])?;
    write_program(
        &root.join("usr/local/bin/docker-entrypoint.sh"),
        r#"#!/bin/bash
# Makes the cluster at the first start, then runs the server in the foreground.
set -e
bin=/usr/lib/postgresql/15/bin
mkdir -p "$PGDATA" /run/postgresql; chown -R postgres "$PGDATA" /run/postgresql; chmod 700 "$PGDATA"
as() { setpriv --reuid=postgres --regid=postgres --init-groups "$@"; }
if [ ! -s "$PGDATA/PG_VERSION" ]; then
    password=$(mktemp); echo "${POSTGRES_PASSWORD:?POSTGRES_PASSWORD is not set}" > "$password"; chown postgres "$password"
    as $bin/initdb -D "$PGDATA" -U "${POSTGRES_USER:-postgres}" --pwfile="$password" -A md5 >/dev/null
    rm "$password"
    echo "host all all all md5" >> "$PGDATA/pg_hba.conf"
fi
case "$1" in postgres) shift; exec setpriv --reuid=postgres --regid=postgres --init-groups $bin/postgres -D "$PGDATA" -c listen_addresses='*' "$@";; *) exec "$@";; esac
"#,
    )
}

fn mariadb(root: &Path) -> Result<()> {
    debian_with(root, &["mariadb-server"])?;
    fs::remove_dir_all(root.join("var/lib/mysql")).ok();
    fs::create_dir_all(root.join("var/lib/mysql"))?;
    write_program(
        &root.join("usr/local/bin/docker-entrypoint.sh"),
        r#"#!/bin/bash
# Makes the data folder at the first start with the root password asked for, then runs the server.
set -e
password="${MARIADB_ROOT_PASSWORD:-$MYSQL_ROOT_PASSWORD}"
mkdir -p /run/mysqld; chown -R mysql:mysql /run/mysqld /var/lib/mysql
if [ ! -d /var/lib/mysql/mysql ]; then
    [ -n "$password" ] || { echo "MYSQL_ROOT_PASSWORD is not set" >&2; exit 1; }
    mariadb-install-db --user=mysql --datadir=/var/lib/mysql --skip-test-db >/dev/null
    # The server takes one statement per line.
    printf "ALTER USER root@localhost IDENTIFIED BY '%s';\nCREATE USER root@'%%' IDENTIFIED BY '%s';\nGRANT ALL ON *.* TO root@'%%' WITH GRANT OPTION;\n" "$password" "$password" > /run/mysqld/first.sql
    chown mysql /run/mysqld/first.sql
    set -- "$@" --init-file=/run/mysqld/first.sql
fi
exec "$@" --user=mysql --bind-address=0.0.0.0
"#,
    )
}

fn adminer(root: &Path) -> Result<()> {
    debian_with(root, &["php-cli", "php-mysql", "adminer"])?;
    let page = root.join("usr/share/adminer/adminer/index.php");
    if !page.exists() {
        fs::create_dir_all(root.join("usr/share/adminer/adminer"))?;
        symlink("../adminer.php", &page)?;
    }
    Ok(())
}

/// Takes out what belongs to the machine that bootstrapped, not to the image.
fn clean_debian(tree: &Path) -> Result<()> {
    for folder in ["var/cache/apt/archives", "var/lib/apt/lists", "var/log"] {
        let folder = tree.join(folder);
        fs::remove_dir_all(&folder).ok();
        fs::create_dir_all(&folder)?;
    }
    fs::create_dir_all(tree.join("var/lib/apt/lists/partial"))?;
    fs::create_dir_all(tree.join("var/cache/apt/archives/partial"))?;
    for file in ["etc/hostname", "etc/resolv.conf"] {
        fs::write(tree.join(file), "")?;
    }
    let mirror = host::debian_mirror()?;
    fs::write(tree.join("etc/apt/sources.list"), format!("deb {mirror} bookworm main\n"))?;
    Ok(())
}

/// Packs a tree with fixed order and times, so that equal trees give equal bytes.
fn pack_tree(tree: &Path, archive: &Path) -> Result<()> {
    let partial = archive.with_extension("partial");
    host::run_command(
        Command::new("tar")
            .args([
                "--format=pax",
                "--pax-option=delete=atime,delete=ctime",
                "--sort=name",
                "--numeric-owner",
            ])
            .args(["--xattrs", "--xattrs-include=*", "--mtime=@1700000000", "-cf"])
            .arg(&partial)
            .arg("-C")
            .arg(tree)
            .arg("."),
    )?;
    fs::rename(&partial, archive)?;
    Ok(())
}

/// Packs the tree as one layer of a docker-archive: `manifest.json`, the config, `layer.tar`.
fn pack(recipe: &Recipe, root: &Path, work: &Path) -> Result<PathBuf> {
    let layer = work.join("layer.tar");
    pack_tree(root, &layer)?;
    let diff_id = sha256_of_file(&layer)?;
    let config = serde_json::to_vec(&image_config(recipe, &diff_id))?;
    let config_name = format!("{}.json", hex::encode(Sha256::digest(&config)));
    let layer_name = format!("{diff_id}/layer.tar");
    let manifest = json!([{ "Config": config_name, "RepoTags": recipe.tags, "Layers": [layer_name] }]);

    let packed = work.join("image.tar");
    let mut builder = tar::Builder::new(fs::File::create(&packed)?);
    append(&mut builder, &config_name, &config)?;
    let mut header = entry_header(fs::metadata(&layer)?.len());
    builder.append_data(&mut header, &layer_name, fs::File::open(&layer)?)?;
    append(&mut builder, "manifest.json", &serde_json::to_vec(&manifest)?)?;
    builder.into_inner()?.flush()?;
    Ok(packed)
}

fn image_config(recipe: &Recipe, diff_id: &str) -> Value {
    let mut environment = vec!["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"];
    environment.extend(recipe.environment);
    json!({
        "architecture": match std::env::consts::ARCH { "aarch64" => "arm64", _ => "amd64" },
        "os": "linux",
        "created": "2023-11-14T22:13:20Z",
        "config": runtime_config(recipe, &environment),
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{diff_id}")] },
        "history": [{ "created": "2023-11-14T22:13:20Z", "created_by": format!("image factory: {}", recipe.name) }],
    })
}

fn runtime_config(recipe: &Recipe, environment: &[&str]) -> Value {
    let set = |names: &[&str]| {
        names.iter().map(|name| ((*name).to_owned(), json!({}))).collect::<serde_json::Map<_, _>>()
    };
    let mut config = json!({ "Env": environment, "Cmd": recipe.command });
    if !recipe.entrypoint.is_empty() {
        config["Entrypoint"] = json!(recipe.entrypoint);
    }
    if !recipe.exposes.is_empty() {
        config["ExposedPorts"] = Value::Object(set(recipe.exposes));
    }
    if !recipe.volumes.is_empty() {
        config["Volumes"] = Value::Object(set(recipe.volumes));
    }
    if !recipe.working_directory.is_empty() {
        config["WorkingDir"] = recipe.working_directory.into();
    }
    config
}

fn entry_header(size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_size(size);
    header.set_mode(0o644);
    header.set_mtime(1_700_000_000);
    header
}

fn append(builder: &mut tar::Builder<fs::File>, name: &str, bytes: &[u8]) -> Result<()> {
    let mut header = entry_header(bytes.len() as u64);
    builder.append_data(&mut header, name, bytes)?;
    Ok(())
}

fn sha256_of_file(path: &Path) -> Result<String> {
    let mut file = fs::File::open(path)?;
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok(hex::encode(hasher.finalize()));
        }
        hasher.update(&buffer[..count]);
    }
}
