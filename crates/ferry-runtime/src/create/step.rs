//! The steps of a start, by name: what error messages and fault hooks speak of.

use std::fmt;

use serde::{Deserialize, Serialize};

/// One step on the way to a running container.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Open the pipes, namespaces and cgroup files that init inherits.
    Prepare,
    /// Clone init into its namespaces.
    Clone,
    /// Shift the clocks of the time namespace.
    TimeOffsets,
    /// Write the user namespace's id maps.
    MapIds,
    /// Read what init reports.
    Report,
    /// Reset signals and become a session leader.
    Session,
    /// Join namespaces given by path.
    JoinNamespace,
    /// Join the container's cgroup.
    JoinCgroup,
    /// Unshare the cgroup namespace.
    UnshareCgroup,
    /// Make the session keyring.
    Keyring,
    /// Write the OOM score adjustment.
    OomScore,
    /// Keep the host's mount table untouched.
    IsolateMounts,
    /// Open the source of a mount.
    MountSource,
    /// Mount the root file system.
    MountRoot,
    /// Make the mount's root the root of the process.
    PivotRoot,
    /// Attach a mount inside the root.
    Mount,
    /// Run hooks before the root is entered.
    Hooks,
    /// Make devices in `/dev`.
    Devices,
    /// Open the terminal.
    Console,
    /// Set host and domain name.
    Hostname,
    /// Write kernel parameters.
    Sysctl,
    /// Make paths read-only.
    ReadonlyPath,
    /// Mask paths.
    MaskPath,
    /// Make the root read-only.
    ReadonlyRoot,
    /// Set resource limits.
    ResourceLimits,
    /// Set scheduler, I/O priority or affinity.
    Scheduler,
    /// Set the memory policy.
    MemoryPolicy,
    /// Move network devices into the container.
    NetworkDevice,
    /// Set the security label of the next exec.
    SecurityLabel,
    /// Wait for the start signal.
    Gate,
    /// Become the container's user.
    User,
    /// Enter the working directory.
    WorkingDirectory,
    /// Set the capability sets.
    Capabilities,
    /// Load the seccomp filter.
    Seccomp,
    /// Close inherited descriptors.
    CloseDescriptors,
    /// Run the command.
    Execute,
}

impl fmt::Display for Step {
    /// An imperative that reads on with the step's value: "cannot mount proc to /proc".
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Step::Prepare => "prepare",
            Step::Clone => "clone",
            Step::TimeOffsets => "shift clocks",
            Step::MapIds => "map user and group ids",
            Step::Report => "follow",
            Step::Session => "start session",
            Step::JoinNamespace => "join namespace",
            Step::JoinCgroup => "join cgroup",
            Step::UnshareCgroup => "unshare cgroup namespace",
            Step::Keyring => "create session keyring",
            Step::OomScore => "set oom_score_adj",
            Step::IsolateMounts => "isolate mounts",
            Step::MountSource => "open mount source",
            Step::MountRoot => "mount root file system",
            Step::PivotRoot => "pivot to root",
            Step::Mount => "mount",
            Step::Hooks => "run hooks",
            Step::Devices => "create device",
            Step::Console => "set up terminal",
            Step::Hostname => "set hostname",
            Step::Sysctl => "set sysctl",
            Step::ReadonlyPath => "make read-only",
            Step::MaskPath => "mask",
            Step::ReadonlyRoot => "make root read-only",
            Step::ResourceLimits => "set resource limit",
            Step::Scheduler => "set scheduling",
            Step::MemoryPolicy => "set memory policy",
            Step::NetworkDevice => "move network device",
            Step::SecurityLabel => "set security label",
            Step::Gate => "wait for start",
            Step::User => "become user",
            Step::WorkingDirectory => "enter working directory",
            Step::Capabilities => "set capabilities",
            Step::Seccomp => "load seccomp filter",
            Step::CloseDescriptors => "close descriptors",
            Step::Execute => "execute",
        })
    }
}
