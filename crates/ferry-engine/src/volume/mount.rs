//! Mounting a volume by its driver options `type`, `o` and `device`, as mount(8) has them.

use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use ferry_oci::runtime;
use ferry_store::Volume;
use http::StatusCode;
use rustix::fs::{Mode, OFlags};

use crate::error::{HttpStatus, error_chain};

/// Why a volume is not mounted; the beginning is Docker's text.
#[derive(Debug, thiserror::Error)]
#[error(
    "error while mounting volume '{}': failed to mount local volume: mount {device}:{}, type {kind:?}, options {options:?}: {reason}",
    mountpoint.display(),
    mountpoint.display()
)]
pub struct MountError {
    mountpoint: PathBuf,
    device: String,
    kind: String,
    options: String,
    reason: String,
}

impl HttpStatus for MountError {
    fn status(&self) -> StatusCode {
        StatusCode::INTERNAL_SERVER_ERROR
    }
}

/// Mounts what a volume's options say at its data directory.
pub fn mount(volume: &Volume) -> Result<(), MountError> {
    let get = |option: &str| volume.options.get(option).cloned().unwrap_or_default();
    let (kind, device, options) = (get("type"), get("device"), get("o"));
    let attached = words(&kind, &options).and_then(|words| attach(&kind, &device, words, &volume.mountpoint));
    attached.map_err(|reason| MountError {
        mountpoint: volume.mountpoint.clone(),
        device,
        kind,
        options,
        reason,
    })
}

fn attach(kind: &str, device: &str, words: Vec<String>, mountpoint: &Path) -> Result<(), String> {
    let bind = words.iter().any(|word| matches!(word.as_str(), "bind" | "rbind"));
    if !bind && matches!(kind, "none" | "bind") {
        return Err(format!("type {kind:?} needs the option \"bind\""));
    }
    let mut mount = runtime::Mount::default();
    mount
        .set_destination(mountpoint.to_path_buf())
        .set_typ(Some(if bind { "bind".into() } else { kind.to_owned() }))
        .set_source(Some(device.into()))
        .set_options(Some(words));
    let detached =
        ferry_runtime::detached_mount(&mount).map_err(|error| explain(kind, &error_chain(&error)))?;
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let place = rustix::fs::open(mountpoint, flags, Mode::empty()).map_err(|errno| errno.to_string())?;
    ferry_sys::mount::attach(detached.as_fd(), place.as_fd()).map_err(|errno| errno.to_string())
}

/// "No such device" is what the kernel says of a file system that it does not have.
fn explain(kind: &str, text: &str) -> String {
    let known = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let has = known.lines().any(|line| line.split_whitespace().last() == Some(kind));
    match text.contains("no such device") && !has {
        true => format!("{text}: this kernel has no file system {kind:?} (its module is not loaded)"),
        false => text.to_owned(),
    }
}

/// The options, one by one. A server of NFS or SMB that is given by name is looked up: the kernel takes
/// addresses only.
fn words(kind: &str, options: &str) -> Result<Vec<String>, String> {
    let network = kind.starts_with("nfs") || matches!(kind, "cifs" | "smb3");
    let mut words = Vec::new();
    for word in options.split(',').filter(|word| !word.is_empty()) {
        match word.strip_prefix("addr=") {
            Some(host) if network => words.push(format!("addr={}", address(host)?)),
            _ => words.push(word.to_owned()),
        }
    }
    Ok(words)
}

fn address(host: &str) -> Result<IpAddr, String> {
    if let Ok(address) = host.parse() {
        return Ok(address);
    }
    let hosts = std::fs::read_to_string("/etc/hosts").unwrap_or_default();
    if let Some(address) = find_in_hosts(&hosts, host) {
        return Ok(address);
    }
    let name = host.to_owned();
    let looked_up = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(ferry_remote::look_up(&name))
    });
    let found = looked_up.join().map_err(|_| "the look-up broke down".to_owned())?;
    found.map_err(|error| format!("look up address of {host:?}: {error}"))
}

fn find_in_hosts(text: &str, host: &str) -> Option<IpAddr> {
    text.lines().find_map(|line| {
        let mut words = line.split('#').next()?.split_whitespace();
        let address = words.next()?.parse().ok()?;
        words.any(|name| name.eq_ignore_ascii_case(host)).then_some(address)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_become_addresses() {
        assert_eq!(
            words("nfs", "addr=10.0.0.1,rw,,nfsvers=4").unwrap(),
            ["addr=10.0.0.1", "rw", "nfsvers=4"]
        );
        assert_eq!(words("tmpfs", "size=1m,addr=x").unwrap(), ["size=1m", "addr=x"]);
        let hosts = "127.0.0.1 localhost\n10.0.0.2 nas nas.example # store\n";
        assert_eq!(find_in_hosts(hosts, "NAS"), Some("10.0.0.2".parse().unwrap()));
        assert_eq!(find_in_hosts(hosts, "store"), None);
    }

    #[test]
    fn a_missing_file_system_is_named() {
        let text = explain("no-such-fs", "cannot open mount source: no such device");
        assert!(text.ends_with("this kernel has no file system \"no-such-fs\" (its module is not loaded)"));
        assert_eq!(explain("tmpfs", "permission denied"), "permission denied");
    }
}
