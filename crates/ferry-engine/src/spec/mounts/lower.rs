//! From a mount as it was planned to one as the runtime takes it.

use ferry_oci::runtime::{self, LinuxIdMapping, LinuxIdMappingBuilder};

use super::tmpfs::tmpfs_options;
use super::{MountKind, MountPlan, ReadOnlyDepth};

/// The runtime's option for a place inside the source.
const SUBPATH_OPTION: &str = "x-ferry.subpath";
/// The runtime's option for a directory to be stacked, topmost first.
const LAYER_OPTION: &str = "x-ferry.layer";

impl MountPlan {
    /// As the runtime takes it.
    pub fn to_runtime(&self) -> runtime::Mount {
        let mut mount = runtime::Mount::default();
        mount.set_destination(self.destination.clone().into());
        if self.kind == MountKind::Tmpfs {
            mount.set_typ(Some("tmpfs".into()));
            mount.set_source(Some("tmpfs".into()));
            mount.set_options(Some(tmpfs_options(&self.tmpfs_options, self.read_only)));
            return mount;
        }
        // The runtime walks the path inside: a container may put links where a directory was.
        let subpath = Some(&self.subpath).filter(|subpath| !subpath.is_empty());
        let mut options: Vec<String> =
            subpath.into_iter().map(|subpath| format!("{SUBPATH_OPTION}={subpath}")).collect();
        if self.kind == MountKind::Image {
            options.extend(self.layer_paths.iter().map(|path| format!("{LAYER_OPTION}={}", path.display())));
            mount.set_typ(Some("overlay".into()));
            mount.set_options(Some(options));
            return mount;
        }
        options.extend(self.bind_options());
        mount.set_typ(Some("bind".into()));
        let source = match self.kind {
            MountKind::Secret => self.layer_paths.first().cloned().unwrap_or_default(),
            _ => self.source.clone().into(),
        };
        mount.set_source(Some(source));
        mount.set_options(Some(options));
        mount
    }

    /// The mappings of an `idmap` mount: what the caller owns on the host is the container's user's, all
    /// other ids are themselves. What on the host has the user's own number is nobody's, unless the
    /// two are one.
    pub fn id_mappings(&self, uid: u32, gid: u32) -> Option<(Vec<LinuxIdMapping>, Vec<LinuxIdMapping>)> {
        let caller = self.caller.filter(|_| self.maps_ids)?;
        if (caller.uid, caller.gid) == (uid, gid) {
            return None;
        }
        Some((one_for_another(caller.uid, uid), one_for_another(caller.gid, gid)))
    }

    fn bind_options(&self) -> Vec<String> {
        let mut options = vec![if self.non_recursive { "bind" } else { "rbind" }.to_owned()];
        let propagation = if self.propagation.is_empty() { "rprivate" } else { &self.propagation };
        options.push(propagation.to_owned());
        if self.read_only {
            options.push("ro".into());
            if self.read_only_depth != ReadOnlyDepth::TopOnly && !self.non_recursive {
                options.push("rro".into());
            }
        }
        options
    }
}

/// A map of ids in which `host` is shown as `inside`.
fn one_for_another(host: u32, inside: u32) -> Vec<LinuxIdMapping> {
    let entry = |container_id: u32, host_id: u32, size: u32| {
        // In a mount's map the first number is the one on disk.
        let entry = LinuxIdMappingBuilder::default().container_id(container_id).host_id(host_id).size(size);
        entry.build().expect("every field is set")
    };
    // The last number there is means "no id".
    let (low, high) = (host.min(inside), host.max(inside));
    let ranges = if low == high {
        vec![(0, u32::MAX)]
    } else {
        vec![(0, low), (low + 1, high), (high.saturating_add(1), u32::MAX)]
    };
    let mut map: Vec<LinuxIdMapping> = ranges
        .into_iter()
        .filter(|(start, end)| start < end)
        .map(|(start, end)| entry(start, start, end - start))
        .collect();
    if low != high {
        map.push(entry(host, inside, 1));
    }
    map
}
