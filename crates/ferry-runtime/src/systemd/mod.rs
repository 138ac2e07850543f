//! The systemd cgroup driver: a container's cgroup is a scope that systemd makes, and systemd knows its limits.
//!
//! systemd owns the tree above the scope; what is in the scope is delegated to the runtime, which writes the kernel's
//! files there as it does without systemd. Limits are told to systemd too: it writes them again when its units are
//! loaded anew.

mod bus;
mod properties;
mod wire;

use std::path::Path;

use ferry_oci::runtime::LinuxResources;
use serde::{Deserialize, Serialize};

pub use bus::BusError;
use bus::{Bus, Call};
use wire::Value;

/// systemd's own socket, for root alone; no bus is needed for it.
const SOCKET: &str = "/run/systemd/private";

/// Where a container goes whose configuration does not say.
const DEFAULT_SLICE: &str = "system.slice";

/// systemd could not be asked for a scope, or would not make it.
#[derive(Debug, thiserror::Error)]
pub enum SystemdError {
    /// Another init runs here.
    #[error(
        "systemd cgroup flag passed, but systemd support for managing cgroups is not available: there is no \
         {SOCKET}; use the cgroupfs driver"
    )]
    NotRunning,
    /// A cgroup path in the other driver's form, or a name systemd would not take.
    #[error("invalid linux.cgroupsPath {path:?}: {reason}")]
    Path {
        /// The path.
        path: String,
        /// What is wrong.
        reason: &'static str,
    },
    /// The conversation with systemd.
    #[error("cannot {action} {unit}: {source}")]
    Bus {
        /// `start`, `stop`, ...
        action: &'static str,
        /// The unit.
        unit: String,
        /// Why.
        source: BusError,
    },
    /// systemd tried and failed.
    #[error("cannot start {unit}: systemd's job ended as {result:?}")]
    Job {
        /// The unit.
        unit: String,
        /// systemd's word for it.
        result: String,
    },
}

/// A scope unit: one container's cgroup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scope {
    unit: String,
    slice: String,
}

impl Scope {
    /// Reads `slice:prefix:name` as runc does; without a path it is made of the container's id.
    pub fn parse(path: &str, id: &str) -> Result<Scope, SystemdError> {
        let invalid = |reason| SystemdError::Path { path: path.to_owned(), reason };
        let (slice, prefix, name) = match path {
            "" => ("", "ferry", id),
            path => {
                let mut parts = path.split(':');
                let found = (parts.next(), parts.next(), parts.next(), parts.next());
                let (Some(slice), Some(prefix), Some(name), None) = found else {
                    return Err(invalid("the systemd driver takes the form slice:prefix:name"));
                };
                (slice, prefix, name)
            }
        };
        let slice = if slice.is_empty() { DEFAULT_SLICE } else { slice };
        if !slice.ends_with(".slice") || slice.contains('/') || has_gaps(slice) {
            return Err(invalid("the first part is not the name of a slice"));
        }
        if name.is_empty() || name.contains('/') || prefix.contains('/') {
            return Err(invalid("a unit's name has no slash and is not empty"));
        }
        let unit = match prefix {
            "" => format!("{name}.scope"),
            prefix => format!("{prefix}-{name}.scope"),
        };
        Ok(Scope { unit, slice: slice.to_owned() })
    }

    /// The unit's name.
    pub fn unit(&self) -> &str {
        &self.unit
    }

    /// The cgroup that systemd makes for it: a slice lies below those that its name begins with.
    pub fn cgroup_path(&self) -> String {
        let mut path = String::new();
        let stem = self.slice.trim_end_matches(".slice");
        if stem != "-" {
            for (end, _) in stem.match_indices('-').chain([(stem.len(), "")]) {
                path.push_str(&format!("/{}.slice", &stem[..end]));
            }
        }
        format!("{path}/{}", self.unit)
    }

    /// Makes the scope with a process in it; returns when systemd has.
    pub fn start(&self, pid: i32, resources: &LinuxResources) -> Result<(), SystemdError> {
        let mut properties = vec![
            (
                "Description".to_owned(),
                Value::Text(format!("container {}", self.unit.trim_end_matches(".scope"))),
            ),
            ("Slice".to_owned(), Value::Text(self.slice.clone())),
            ("PIDs".to_owned(), Value::Numbers(vec![pid as u32])),
            ("Delegate".to_owned(), Value::Truth(true)),
            ("DefaultDependencies".to_owned(), Value::Truth(false)),
        ];
        properties.extend(properties::accounting());
        properties.extend(properties::of(resources));
        let mut bus = self.connect("start")?;
        // One that failed before and was never looked at would stand in the way.
        drop(bus.call(&Call::manager("ResetFailedUnit", vec![Value::Text(self.unit.clone())])));
        let arguments = vec![
            Value::Text(self.unit.clone()),
            Value::Text("replace".to_owned()),
            Value::Properties(properties),
            Value::NoUnits,
        ];
        let job = bus.call(&Call::manager("StartTransientUnit", arguments)).map_err(self.failed("start"))?;
        let job = job.first_text().map_err(self.failed("start"))?;
        match bus.job_result(&job).map_err(self.failed("start"))?.as_str() {
            "done" => Ok(()),
            result => Err(SystemdError::Job { unit: self.unit.clone(), result: result.to_owned() }),
        }
    }

    /// Tells systemd other limits.
    pub fn update(&self, resources: &LinuxResources) -> Result<(), SystemdError> {
        let properties = properties::of(resources);
        if properties.is_empty() {
            return Ok(());
        }
        let arguments =
            vec![Value::Text(self.unit.clone()), Value::Truth(true), Value::Properties(properties)];
        let call = Call::manager("SetUnitProperties", arguments);
        self.connect("update")?.call(&call).map(drop).map_err(self.failed("update"))
    }

    /// Has systemd forget the scope, whose processes have ended; it may be gone already. Nothing is waited for: systemd
    /// sees by itself that the cgroup is empty.
    pub fn stop(&self) -> Result<(), SystemdError> {
        let mut bus = self.connect("stop")?;
        let arguments = vec![Value::Text(self.unit.clone()), Value::Text("replace".to_owned())];
        match bus.call(&Call::manager("StopUnit", arguments)) {
            Ok(_) => {}
            Err(BusError::Refused { name, .. }) if name == bus::NO_SUCH_UNIT => {}
            Err(error) => return Err(self.failed("stop")(error)),
        }
        drop(bus.call(&Call::manager("ResetFailedUnit", vec![Value::Text(self.unit.clone())])));
        Ok(())
    }

    fn connect(&self, action: &'static str) -> Result<Bus, SystemdError> {
        if !Path::new(SOCKET).exists() {
            return Err(SystemdError::NotRunning);
        }
        Bus::connect(Path::new(SOCKET)).map_err(self.failed(action))
    }

    fn failed(&self, action: &'static str) -> impl Fn(BusError) -> SystemdError {
        let unit = self.unit.clone();
        move |source| SystemdError::Bus { action, unit: unit.clone(), source }
    }
}

/// A slice's name is a path with dashes: none may be empty. The root slice is one dash.
fn has_gaps(slice: &str) -> bool {
    let stem = slice.trim_end_matches(".slice");
    stem != "-" && stem.split('-').any(str::is_empty)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_systemd() {
        let path = |text: &str| Scope::parse(text, "c1").expect("valid").cgroup_path();
        assert_eq!(path(""), "/system.slice/ferry-c1.scope");
        assert_eq!(path("machine.slice:libpod:abc"), "/machine.slice/libpod-abc.scope");
        assert_eq!(path(":docker:abc"), "/system.slice/docker-abc.scope");
        assert_eq!(
            path("kubepods-burstable-pod1.slice:cri-containerd:abc"),
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/cri-containerd-abc.scope"
        );
        assert_eq!(path("-.slice::abc"), "/abc.scope");
        for bad in ["/docker/abc", "a:b", "a:b:c:d", "a:b:c", "a--b.slice:p:n", "a.slice:p:", "a.slice:p:x/y"]
        {
            assert!(Scope::parse(bad, "c1").is_err(), "{bad}");
        }
    }
}
