//! Limits that this machine's cgroups have no file for, where the container runs all the same.

use ferry_oci::runtime::{LinuxBlockIo, LinuxMemory, LinuxResources};

use super::{Hierarchies, Layout};

/// A warning for each limit that is asked for and cannot be kept here. What would be dangerous to leave out is an
/// error when it is applied, and not in this list.
pub fn without_effect(resources: &LinuxResources) -> Vec<String> {
    let Ok(found) = Hierarchies::of_machine() else { return Vec::new() };
    named(resources, found.layout == Layout::V2)
        .into_iter()
        .map(|(field, reason)| format!("linux.resources.{field} has no effect: {reason}"))
        .collect()
}

const KERNEL_MEMORY: &str = "the kernel has no limit of its own memory since Linux 5.16";
const NO_SUCH_FILE: &str = "cgroup version 2 has no such limit";

fn named(resources: &LinuxResources, v2: bool) -> Vec<(&'static str, &'static str)> {
    let mut found = Vec::new();
    if let Some(memory) = resources.memory() {
        found.extend(of_memory(memory, v2));
    }
    if let Some(block_io) = resources.block_io().as_ref().filter(|_| v2) {
        found.extend(of_block_io(block_io));
    }
    found
}

#[allow(deprecated)]
fn of_memory(memory: &LinuxMemory, v2: bool) -> Vec<(&'static str, &'static str)> {
    let given = [
        (memory.kernel().is_some_and(|limit| limit > 0), "memory.kernel", KERNEL_MEMORY),
        (v2 && memory.kernel_tcp().is_some_and(|limit| limit > 0), "memory.kernelTCP", NO_SUCH_FILE),
        (v2 && memory.swappiness().is_some(), "memory.swappiness", NO_SUCH_FILE),
        (v2 && memory.disable_oom_killer() == Some(true), "memory.disableOOMKiller", NO_SUCH_FILE),
        (
            memory.use_hierarchy() == Some(false),
            "memory.useHierarchy",
            "the kernel always counts the whole tree",
        ),
    ];
    given.into_iter().filter(|(given, ..)| *given).map(|(_, field, reason)| (field, reason)).collect()
}

fn of_block_io(block_io: &LinuxBlockIo) -> Vec<(&'static str, &'static str)> {
    let leaf = block_io.leaf_weight().is_some_and(|weight| weight != 0);
    let devices = block_io.weight_device().iter().flatten();
    let device_leaf = devices.filter_map(|device| device.leaf_weight()).any(|weight| weight != 0);
    if leaf || device_leaf { vec![("blockIO.leafWeight", NO_SUCH_FILE)] } else { Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_only_one_version_has_is_told() {
        let json = r#"{"memory": {"limit": 1, "kernel": 5, "swappiness": 0, "disableOOMKiller": false},
            "blockIO": {"leafWeight": 10}}"#;
        let resources: LinuxResources = serde_json::from_str(json).expect("limits");
        let fields = |v2| named(&resources, v2).into_iter().map(|(field, _)| field).collect::<Vec<_>>();
        assert_eq!(fields(true), ["memory.kernel", "memory.swappiness", "blockIO.leafWeight"]);
        assert_eq!(fields(false), ["memory.kernel"]);
    }
}
