//! `--mount type=bind,source=/a,target=/b,readonly` and `--tmpfs`.

use std::collections::BTreeMap;
use std::path::Path;

use ferry_api::container::{BindOptions, ImageOptions, Mount, TmpfsOptions, VolumeDriver, VolumeOptions};

use super::device::split_quoted;
use crate::flags::Bytes;

/// Reads one `--mount`.
pub fn mount(spec: &str, directory: &Path) -> Result<Mount, String> {
    let mut mount = Mount { kind: "volume".into(), ..Default::default() };
    for field in split_quoted(spec) {
        let (key, value) = match field.split_once('=') {
            Some((key, value)) => (key.to_ascii_lowercase(), Some(value)),
            None => (field.to_ascii_lowercase(), None),
        };
        set(&mut mount, &key, value, &field)?;
    }
    if mount.target.is_empty() {
        return Err(format!("invalid argument {spec:?} for \"--mount\" flag: target is required"));
    }
    if mount.kind == "bind" && mount.source.starts_with('.') {
        let joined = directory.join(&mount.source);
        mount.source = joined.components().collect::<std::path::PathBuf>().to_string_lossy().into_owned();
    }
    check(&mount)?;
    Ok(mount)
}

fn set(mount: &mut Mount, key: &str, value: Option<&str>, field: &str) -> Result<(), String> {
    let text = || {
        value.map(str::to_owned).ok_or_else(|| format!("invalid field '{field}' must be a key=value pair"))
    };
    let flag = || match value {
        None | Some("1" | "true") => Ok(true),
        Some("0" | "false") => Ok(false),
        Some(other) => Err(format!("invalid value for {key}: {other}")),
    };
    match key {
        "type" => mount.kind = text()?.to_ascii_lowercase(),
        "source" | "src" => mount.source = text()?,
        "target" | "dst" | "destination" => mount.target = text()?,
        "readonly" | "ro" => mount.read_only = flag()?,
        "consistency" => mount.consistency = text()?,
        key if key.starts_with("bind-") => {
            let options = mount.bind_options.get_or_insert_default();
            match key {
                "bind-propagation" => options.propagation = text()?.to_ascii_lowercase(),
                "bind-nonrecursive" => options.non_recursive = flag()?,
                "bind-recursive" => set_recursive(options, &text()?)?,
                "bind-create-src" => options.create_mountpoint = flag()?,
                _ => return Err(format!("unexpected key '{key}' in '{field}'")),
            }
        }
        key if key.starts_with("volume-") => {
            let options = mount.volume_options.get_or_insert_default();
            match key {
                "volume-nocopy" => options.no_copy = flag()?,
                "volume-subpath" => options.subpath = text()?,
                "volume-label" => insert(&mut options.labels, &text()?),
                "volume-driver" => options.driver_config.get_or_insert_default().name = text()?,
                "volume-opt" => insert(&mut driver(options).options, &text()?),
                _ => return Err(format!("unexpected key '{key}' in '{field}'")),
            }
        }
        "image-subpath" => mount.image_options = Some(ImageOptions { subpath: text()? }),
        "tmpfs-size" => {
            let size = Bytes::parse(&text()?)
                .map_err(|_| format!("invalid value for {key}: {}", value.unwrap_or_default()))?;
            mount.tmpfs_options.get_or_insert_with(TmpfsOptions::default).size_bytes = size.0;
        }
        "tmpfs-mode" => {
            let mode = u32::from_str_radix(&text()?, 8)
                .map_err(|_| format!("invalid value for {key}: {}", value.unwrap_or_default()))?;
            mount.tmpfs_options.get_or_insert_with(TmpfsOptions::default).mode = mode;
        }
        _ => return Err(format!("unexpected key '{key}' in '{field}'")),
    }
    Ok(())
}

fn driver(options: &mut VolumeOptions) -> &mut VolumeDriver {
    options.driver_config.get_or_insert_default()
}

fn insert(map: &mut BTreeMap<String, String>, pair: &str) {
    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
    map.insert(name.to_owned(), value.to_owned());
}

fn set_recursive(options: &mut BindOptions, value: &str) -> Result<(), String> {
    match value {
        "enabled" => {}
        "disabled" => options.non_recursive = true,
        "writable" => options.read_only_non_recursive = true,
        "readonly" => options.read_only_force_recursive = true,
        other => return Err(format!("invalid value for bind-recursive: {other}")),
    }
    Ok(())
}

/// The modes of recursion say how deep read-only goes; without it they say nothing.
fn check_recursion(mount: &Mount) -> Result<(), String> {
    let Some(options) = &mount.bind_options else { return Ok(()) };
    let needs = |mode: &str, what: &str| {
        Err(format!("option 'bind-recursive={mode}' requires '{what}' to be specified in conjunction"))
    };
    match (options.read_only_non_recursive, options.read_only_force_recursive) {
        (true, _) if !mount.read_only => needs("writable", "readonly"),
        (_, true) if !mount.read_only => needs("readonly", "readonly"),
        (_, true) if options.propagation != "rprivate" => needs("readonly", "bind-propagation=rprivate"),
        _ => Ok(()),
    }
}

fn check(mount: &Mount) -> Result<(), String> {
    check_recursion(mount)?;
    let kinds = ["bind", "volume", "tmpfs", "image", "npipe", "cluster"];
    if !kinds.contains(&mount.kind.as_str()) {
        return Err(format!("invalid mount type {:?}; known are bind, volume, tmpfs and image", mount.kind));
    }
    if mount.kind == "bind" && mount.source.is_empty() {
        return Err("a bind mount needs a source".into());
    }
    let misplaced = [
        ("bind", mount.bind_options.is_some()),
        ("volume", mount.volume_options.is_some()),
        ("tmpfs", mount.tmpfs_options.is_some()),
        ("image", mount.image_options.is_some()),
    ];
    match misplaced.iter().find(|(kind, given)| *given && *kind != mount.kind) {
        Some((kind, _)) => Err(format!("cannot mix '{kind}-*' options with mount type '{}'", mount.kind)),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts() {
        let read = |spec: &str| mount(spec, Path::new("/here"));
        let bind = read("type=bind,src=./x,dst=/b,ro,bind-propagation=rslave").unwrap();
        assert_eq!((bind.source.as_str(), bind.target.as_str(), bind.read_only), ("/here/x", "/b", true));
        let tmpfs =
            read("type=tmpfs,target=/t,tmpfs-size=1m,tmpfs-mode=1770").unwrap().tmpfs_options.unwrap();
        assert_eq!((tmpfs.size_bytes, tmpfs.mode), (1 << 20, 0o1770));
        let volume = read("source=v,target=/v,volume-label=a=b,\"volume-opt=o=x,y\"").unwrap();
        assert_eq!(volume.kind, "volume");
        assert_eq!(volume.volume_options.unwrap().driver_config.unwrap().options["o"], "x,y");
        for (bad, text) in [
            ("type=bind,target=/x", "needs a source"),
            ("type=fast,target=/x", "invalid mount type"),
            ("type=bind,source=/x", "target is required"),
            ("type=tmpfs,target=/x,volume-nocopy", "cannot mix"),
            ("speed=1,target=/x", "unexpected key 'speed'"),
        ] {
            assert!(read(bad).unwrap_err().contains(text), "{bad}");
        }
    }
}
