//! `--tmpfs` and the options that Docker lets through to one.

use super::{MountError, MountKind, MountPlan, clean_destination};

/// Mount flags that Docker lets through to a tmpfs.
const TMPFS_FLAGS: &[&str] = &[
    "ro",
    "rw",
    "exec",
    "noexec",
    "suid",
    "nosuid",
    "dev",
    "nodev",
    "sync",
    "async",
    "dirsync",
    "mand",
    "nomand",
    "atime",
    "noatime",
    "diratime",
    "nodiratime",
    "relatime",
    "norelatime",
    "strictatime",
    "nostrictatime",
    "private",
    "rprivate",
    "shared",
    "rshared",
    "slave",
    "rslave",
    "unbindable",
    "runbindable",
    "defaults",
];

/// Options with a value that a tmpfs takes.
const TMPFS_VALUES: &[&str] = &["mode", "uid", "gid", "nr_inodes", "nr_blocks", "size", "mpol"];

pub(super) fn check_tmpfs_option(option: &str) -> Result<(), MountError> {
    let known = match option.split_once('=') {
        None => TMPFS_FLAGS.contains(&option),
        Some((word, value)) => TMPFS_VALUES.contains(&word) && !value.is_empty(),
    };
    if known { Ok(()) } else { Err(MountError::TmpfsOption(option.to_owned())) }
}

/// Options of a tmpfs: Docker's safe defaults first, what was asked for after them.
pub(super) fn tmpfs_options(asked: &[String], read_only: bool) -> Vec<String> {
    let mut options: Vec<String> = ["noexec", "nosuid", "nodev", "rprivate"].map(str::to_owned).into();
    for option in asked {
        let opposite = match option.as_str() {
            "exec" => "noexec",
            "suid" => "nosuid",
            "dev" => "nodev",
            _ => "",
        };
        options.retain(|it| it != opposite && it != option);
        options.push(option.clone());
    }
    if read_only {
        options.push("ro".into());
    }
    options
}

/// One of `HostConfig.Tmpfs`: destination and comma-separated options.
pub fn parse_tmpfs(destination: &str, options: &str) -> Result<MountPlan, MountError> {
    let mut plan =
        MountPlan::new(MountKind::Tmpfs, clean_destination(destination, MountKind::Tmpfs, destination)?);
    for option in options.split(',').filter(|option| !option.is_empty()) {
        check_tmpfs_option(option)?;
        plan.tmpfs_options.push(option.to_owned());
    }
    Ok(plan)
}
