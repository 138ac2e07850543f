//! Network devices of the host that move into a container (`linux.netDevices`).
//!
//! By the specification a device keeps its addresses of global scope, gets the name asked for, and is up in the
//! container. Runs in the caller, who may look at both network namespaces.

mod message;

use std::os::fd::{AsFd, AsRawFd as _};

use ferry_oci::runtime::Linux;
use ferry_sys::netlink::{Family, NetlinkSocket};
use ferry_sys::network_namespace::NetworkNamespace;
use rustix::io::Errno;

use crate::create::Step;
use crate::error::{SpecError, StepError};
use message::{Address, Conversation, Link};

/// The kernel's longest name of a device.
const NAME_MAX: usize = 15;

/// A device that is to be moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NetDevicePlan {
    /// Its name in the caller's network namespace.
    pub host: String,
    /// Its name in the container's.
    pub name: String,
}

/// The devices of a specification; `private` tells that the container's network namespace is not the caller's.
pub(crate) fn plan(linux: &Linux, private: bool) -> Result<Vec<NetDevicePlan>, SpecError> {
    let mut plans = Vec::new();
    for (host, device) in linux.net_devices().iter().flatten() {
        let name = device.name().clone().filter(|name| !name.is_empty()).unwrap_or_else(|| host.clone());
        for text in [host, &name] {
            check_name(text)?;
        }
        plans.push(NetDevicePlan { host: host.clone(), name });
    }
    plans.sort_by(|one, other| one.name.cmp(&other.name));
    if let Some(pair) = plans.windows(2).find(|pair| pair[0].name == pair[1].name) {
        return Err(SpecError::new("linux.netDevices", &pair[0].name, "two devices cannot have one name"));
    }
    match plans.first() {
        Some(first) if !private => {
            let reason = "a device can be moved into a network namespace of the container's own only";
            Err(SpecError::new("linux.netDevices", &first.host, reason))
        }
        _ => Ok(plans),
    }
}

fn check_name(name: &str) -> Result<(), SpecError> {
    let bad = |character: char| character.is_whitespace() || "/:\0".contains(character);
    let reason = match name {
        "" | "." | ".." => "not the name of a device",
        name if name.len() > NAME_MAX => "a name has 15 bytes at most",
        name if name.contains(bad) => "a name has no slash, colon or space",
        _ => return Ok(()),
    };
    Err(SpecError::new("linux.netDevices", name, reason))
}

/// Moves devices into the network namespace of a process.
pub(crate) fn move_devices(devices: &[NetDevicePlan], pid: i32) -> Result<(), StepError> {
    let Some(first) = devices.first() else { return Ok(()) };
    let fail = |errno| StepError::new(Step::NetworkDevice, &first.host, errno);
    let home = NetworkNamespace::current().map_err(fail)?;
    let target = NetworkNamespace::open(&format!("/proc/{pid}/ns/net")).map_err(fail)?;
    let open = || NetlinkSocket::open(Family::Route, 0).map(Conversation::new);
    let mut here = open().map_err(fail)?;
    let mut there = target.run_inside(&home, open).and_then(|socket| socket).map_err(fail)?;
    devices.iter().try_for_each(|device| {
        move_one(device, &target, &mut here, &mut there).map_err(|errno| {
            let value = match errno {
                Errno::EXIST => {
                    format!("{} to {}, which the container has already", device.host, device.name)
                }
                _ => format!("{} to {} in the container", device.host, device.name),
            };
            StepError::new(Step::NetworkDevice, value, errno)
        })
    })
}

fn move_one(
    device: &NetDevicePlan,
    target: &NetworkNamespace,
    here: &mut Conversation,
    there: &mut Conversation,
) -> Result<(), Errno> {
    let link = here.link(&device.host)?;
    let addresses = here.addresses(link)?;
    here.set_up(link, false)?;
    here.hand_over(link, target.as_fd().as_raw_fd(), &device.name)?;
    let moved: Link = there.link(&device.name)?;
    for address in addresses.iter().filter(|address| address.is_kept()) {
        there.add_address(moved, address)?;
    }
    there.set_up(moved, true)
}

impl Address {
    /// Addresses that the kernel or a server has given come again by themselves.
    fn is_kept(&self) -> bool {
        self.is_permanent() && self.is_global()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn devices(json: &str, private: bool) -> Result<Vec<NetDevicePlan>, SpecError> {
        let linux: Linux = serde_json::from_str(json).expect("a part of a configuration");
        plan(&linux, private)
    }

    #[test]
    fn names_are_the_host_s_unless_given() {
        let found = devices(r#"{"netDevices": {"eth1": {}, "eth2": {"name": "a"}}}"#, true).expect("valid");
        let names: Vec<_> = found.iter().map(|device| (device.host.as_str(), device.name.as_str())).collect();
        assert_eq!(names, [("eth2", "a"), ("eth1", "eth1")]);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (json, private) in [
            (r#"{"netDevices": {"eth1": {"name": "a/b"}}}"#, true),
            (r#"{"netDevices": {"eth1": {"name": "a-name-too-long-"}}}"#, true),
            (r#"{"netDevices": {"eth1": {"name": "a"}, "eth2": {"name": "a"}}}"#, true),
            (r#"{"netDevices": {"eth1": {}}}"#, false),
        ] {
            assert!(devices(json, private).is_err(), "{json}");
        }
    }
}
