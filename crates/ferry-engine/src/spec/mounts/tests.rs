//! Mounts as they are written, planned and handed to the runtime.

use ferry_api::container::{BindOptions, TmpfsOptions, VolumeOptions};
use ferry_oci::runtime::LinuxIdMapping;

use super::*;

#[test]
fn binds_parse() {
    for (text, kind, source, name, destination, read_only, propagation) in [
        ("/a:/b", MountKind::Bind, "/a", "", "/b", false, "rprivate"),
        ("/a/../c/:/b//d/", MountKind::Bind, "/c", "", "/b/d", false, "rprivate"),
        ("/a:/b:ro", MountKind::Bind, "/a", "", "/b", true, "rprivate"),
        ("/a:/b:ro,rslave,z", MountKind::Bind, "/a", "", "/b", true, "rslave"),
        ("data:/b", MountKind::Volume, "", "data", "/b", false, ""),
        ("data:/b:nocopy,ro", MountKind::Volume, "", "data", "/b", true, ""),
        ("/b", MountKind::Volume, "", "", "/b", false, ""),
    ] {
        let plan = MountPlan::parse_bind(text).expect(text);
        assert_eq!(
            (plan.kind, plan.source.as_str(), plan.name.as_str(), plan.destination.as_str()),
            (kind, source, name, destination),
            "{text}"
        );
        assert_eq!((plan.read_only, plan.propagation.as_str()), (read_only, propagation), "{text}");
        assert_eq!(plan.anonymous, text == "/b");
    }
}

#[test]
fn bad_binds_say_why() {
    for (text, message) in [
        ("", "invalid volume specification: ''"),
        (":/b", "invalid volume specification: ':/b'"),
        ("/a:/b:ro:x", "invalid volume specification: '/a:/b:ro:x'"),
        ("/a:/b:rx", "invalid mode: rx"),
        ("/a:/b:ro,rw", "invalid mode: ro,rw"),
        ("data:/b:rshared", "invalid mode: rshared"),
        (
            "/a:b",
            "invalid mount config for type \"bind\": invalid mount path: 'b' mount path must be absolute",
        ),
        (
            "/a:/",
            "invalid volume specification: '/a:/': invalid mount config for type \"bind\": invalid specification: destination can't be '/'",
        ),
        (
            "./data:/b",
            "\"./data\" includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path",
        ),
    ] {
        assert_eq!(MountPlan::parse_bind(text).expect_err(text).to_string(), message, "{text}");
    }
}

fn mount(kind: &str, source: &str, target: &str) -> Mount {
    Mount { kind: kind.into(), source: source.into(), target: target.into(), ..Mount::default() }
}

#[test]
fn long_mounts_become_runtime_mounts() {
    let bind = Mount {
        read_only: true,
        bind_options: Some(BindOptions { propagation: "rshared".into(), ..BindOptions::default() }),
        ..mount("bind", "/src", "/dst")
    };
    let options = MountPlan::from_mount(&bind).unwrap().to_runtime().options().clone();
    assert_eq!(options.unwrap(), ["rbind", "rshared", "ro", "rro"]);
    let tmpfs = Mount {
        tmpfs_options: Some(TmpfsOptions { size_bytes: 1024, mode: 0o1777, ..TmpfsOptions::default() }),
        ..mount("tmpfs", "", "/tmp")
    };
    let options = MountPlan::from_mount(&tmpfs).unwrap().to_runtime().options().clone();
    assert_eq!(options.unwrap(), ["noexec", "nosuid", "nodev", "rprivate", "size=1024", "mode=1777"]);
    let volume = Mount {
        volume_options: Some(VolumeOptions { subpath: "a/b".into(), ..VolumeOptions::default() }),
        ..mount("volume", "data", "/d")
    };
    let mut plan = MountPlan::from_mount(&volume).unwrap();
    plan.source = "/volumes/data".into();
    let mount = plan.to_runtime();
    assert_eq!(mount.source().as_deref(), Some(Path::new("/volumes/data")));
    assert_eq!(mount.options().clone().unwrap()[0], "x-ferry.subpath=a/b");
}

#[test]
fn mapped_ids_exchange_one_and_keep_the_rest() {
    let mut plan = MountPlan::parse_bind("/a:/b:idmap,ro").unwrap();
    plan.caller = Some(Caller { uid: 1000, gid: 0 });
    let (uid, gid) = plan.id_mappings(0, 0).unwrap();
    let shown = |map: &[LinuxIdMapping]| -> Vec<(u32, u32, u32)> {
        map.iter().map(|entry| (entry.container_id(), entry.host_id(), entry.size())).collect()
    };
    assert_eq!(shown(&uid), [(1, 1, 999), (1001, 1001, u32::MAX - 1001), (1000, 0, 1)]);
    assert_eq!(shown(&gid), [(0, 0, u32::MAX)]);
    assert_eq!(plan.id_mappings(1000, 0), None, "nothing to exchange");
    assert_eq!(MountPlan::parse_bind("v1:/b:idmap").unwrap_err().to_string(), "invalid mode: idmap");
}

#[test]
fn bad_long_mounts_say_why() {
    let climbing = Mount {
        volume_options: Some(VolumeOptions { subpath: "../x".into(), ..VolumeOptions::default() }),
        ..mount("volume", "data", "/d")
    };
    for (mount, message) in [
        (mount("cluster", "", "/x"), "invalid mount config: mount type unknown: \"cluster\""),
        (mount("bind", "", "/x"), "invalid mount config for type \"bind\": field Source must not be empty"),
        (
            mount("tmpfs", "/y", "/x"),
            "invalid mount config for type \"tmpfs\": field Source must not be specified",
        ),
        (
            mount("volume", "v1", ""),
            "invalid mount config for type \"volume\": field Target must not be empty",
        ),
        (climbing, "invalid subpath \"../x\": it must be relative and stay inside the volume"),
    ] {
        assert_eq!(MountPlan::from_mount(&mount).expect_err(message).to_string(), message);
    }
}

#[test]
fn tmpfs_options_replace_the_safe_defaults_they_contradict() {
    let plan = parse_tmpfs("/run", "exec,size=64m").unwrap();
    assert_eq!(
        plan.to_runtime().options().clone().unwrap(),
        ["nosuid", "nodev", "rprivate", "exec", "size=64m"]
    );
    assert_eq!(parse_tmpfs("/run", "lowerdir=/etc"), Err(MountError::TmpfsOption("lowerdir=/etc".into())));
    assert_eq!(parse_tmpfs("/run", "size="), Err(MountError::TmpfsOption("size=".into())));
}

#[test]
fn parents_come_first_and_places_are_unique() {
    let plans = ["/a/b:/x/y/z", "/a:/x", "/c:/x/y"].map(|text| MountPlan::parse_bind(text).unwrap());
    let places: Vec<_> = order(plans.into()).unwrap().into_iter().map(|plan| plan.destination).collect();
    assert_eq!(places, ["/x", "/x/y", "/x/y/z"]);
    let twice = ["/a:/x", "/b:/x/"].map(|text| MountPlan::parse_bind(text).unwrap());
    assert_eq!(order(twice.into()), Err(MountError::Duplicate("/x".into())));
}
