//! What a container may do: capabilities, seccomp, masked paths, and the words of `--security-opt`. Pure.

use ferry_oci::runtime::Capabilities;
use ferry_runtime::capability;

/// Paths hidden by default, besides the per-processor ones.
const MASKED: &[&str] = &[
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

/// Paths read-only by default.
const READONLY: &[&str] = &["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Docker's default list of hidden paths on a machine with this many processors.
pub fn default_masked(processors: u32) -> Vec<String> {
    let fixed = MASKED.iter().map(|path| (*path).to_owned());
    let thermal = (0..processors).map(|cpu| format!("/sys/devices/system/cpu/cpu{cpu}/thermal_throttle"));
    fixed.chain(thermal).collect()
}

/// Docker's default list of read-only paths.
pub fn default_readonly() -> Vec<String> {
    READONLY.iter().map(|path| (*path).to_owned()).collect()
}

/// Which system calls are let through.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Seccomp {
    /// Docker's default profile.
    #[default]
    Default,
    /// All.
    Unconfined,
    /// A profile in Docker's JSON form.
    Profile(String),
}

/// What `--security-opt` says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Security {
    /// Which system calls are let through.
    pub seccomp: Seccomp,
    /// AppArmor profile; `None` is the default one.
    pub apparmor: Option<String>,
    /// Set-user-id programs gain nothing.
    pub no_new_privileges: bool,
    /// Nothing is hidden or made read-only.
    pub system_paths_unconfined: bool,
    /// The cgroup file system may be written to.
    pub writable_cgroups: bool,
    /// SELinux labels, without the `label=`.
    pub labels: Vec<String>,
}

/// A word that is not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecurityError {
    /// A form that is neither a word nor key=value.
    #[error("invalid --security-opt 1: {0:?}")]
    Form(String),
    /// A key nobody knows.
    #[error("invalid --security-opt 2: {0:?}")]
    Key(String),
    /// A capability nobody knows.
    #[error("invalid {field}: unknown capability: \"{name}\"")]
    Capability {
        /// `CapAdd` or `CapDrop`.
        field: &'static str,
        /// As given, in capitals.
        name: String,
    },
}

impl Security {
    /// Reads the options of a container.
    pub fn parse(options: &[String]) -> Result<Self, SecurityError> {
        let mut security = Self::default();
        for option in options {
            security.apply(option)?;
        }
        Ok(security)
    }

    fn apply(&mut self, option: &str) -> Result<(), SecurityError> {
        let (key, value) = match option.split_once('=').or_else(|| option.split_once(':')) {
            Some(pair) => pair,
            None => match option {
                "no-new-privileges" => ("no-new-privileges", "true"),
                "disable" => ("label", "disable"),
                _ => return Err(SecurityError::Form(option.to_owned())),
            },
        };
        let flag = || match value {
            "true" | "1" => Ok(true),
            "false" | "0" => Ok(false),
            _ => Err(SecurityError::Key(option.to_owned())),
        };
        match key {
            "seccomp" => {
                self.seccomp = match value {
                    "unconfined" => Seccomp::Unconfined,
                    "" | "builtin" => Seccomp::Default,
                    json => Seccomp::Profile(json.to_owned()),
                }
            }
            "apparmor" => self.apparmor = Some(value.to_owned()),
            "no-new-privileges" => self.no_new_privileges = flag()?,
            "writable-cgroups" => self.writable_cgroups = flag()?,
            "label" => self.labels.push(value.to_owned()),
            "systempaths" if value == "unconfined" => self.system_paths_unconfined = true,
            _ => return Err(SecurityError::Key(option.to_owned())),
        }
        Ok(())
    }
}

/// The capabilities of a container: Docker's defaults, changed by `--cap-add` and `--cap-drop`, or all that
/// this engine has (`available`) when privileged.
pub fn capabilities(
    add: &[String],
    drop: &[String],
    privileged: bool,
    available: u64,
) -> Result<Capabilities, SecurityError> {
    let add = Wanted::parse(add, "CapAdd")?;
    let drop = Wanted::parse(drop, "CapDrop")?;
    let everything =
        || capability::all().into_iter().filter(|one| available & (1 << capability::number(*one)) != 0);
    if privileged {
        return Ok(everything().collect());
    }
    if add.all {
        return Ok(everything().filter(|one| !drop.some.contains(one)).collect());
    }
    if drop.all {
        return Ok(add.some);
    }
    let defaults = capability::docker_default().into_iter().filter(|one| !drop.some.contains(one));
    Ok(defaults.chain(add.some.iter().copied()).collect())
}

struct Wanted {
    all: bool,
    some: Capabilities,
}

impl Wanted {
    fn parse(names: &[String], field: &'static str) -> Result<Self, SecurityError> {
        let mut wanted = Self { all: false, some: Capabilities::new() };
        for name in names {
            if name.eq_ignore_ascii_case("all") || name.eq_ignore_ascii_case("cap_all") {
                wanted.all = true;
                continue;
            }
            let capability = capability::parse(name).map_err(|_| {
                let upper = name.to_ascii_uppercase();
                let bare = upper.strip_prefix("CAP_").unwrap_or(&upper);
                SecurityError::Capability { field, name: format!("CAP_{bare}") }
            })?;
            wanted.some.insert(capability);
        }
        Ok(wanted)
    }
}

#[cfg(test)]
mod tests {
    use ferry_oci::runtime::Capability;

    use super::*;

    fn words(text: &str) -> Vec<String> {
        text.split_whitespace().map(str::to_owned).collect()
    }

    #[test]
    fn options_read() {
        let parse = |text: &str| Security::parse(&words(text));
        assert_eq!(parse("").unwrap(), Security::default());
        assert_eq!(parse("seccomp=unconfined").unwrap().seccomp, Seccomp::Unconfined);
        assert_eq!(parse("seccomp:unconfined").unwrap().seccomp, Seccomp::Unconfined);
        assert_eq!(parse("seccomp={\"a\":1}").unwrap().seccomp, Seccomp::Profile("{\"a\":1}".into()));
        assert!(parse("no-new-privileges").unwrap().no_new_privileges);
        assert!(!parse("no-new-privileges=false").unwrap().no_new_privileges);
        assert!(parse("systempaths=unconfined").unwrap().system_paths_unconfined);
        assert_eq!(parse("apparmor=unconfined").unwrap().apparmor.as_deref(), Some("unconfined"));
        assert_eq!(parse("label=disable").unwrap().labels, ["disable"]);
        for (text, message) in [
            ("nonsense", "invalid --security-opt 1: \"nonsense\""),
            ("foo=bar", "invalid --security-opt 2: \"foo=bar\""),
            ("systempaths=x", "invalid --security-opt 2: \"systempaths=x\""),
        ] {
            assert_eq!(parse(text).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn capabilities_add_and_drop() {
        let none = 0;
        let all = u64::MAX;
        let get = |add, drop, privileged, available| {
            capabilities(&words(add), &words(drop), privileged, available).map(|set| capability::mask(&set))
        };
        let default = 0xa804_25fb;
        assert_eq!(get("", "", false, none), Ok(default));
        assert_eq!(get("net_admin", "", false, none), Ok(default | 1 << 12));
        assert_eq!(get("", "CAP_CHOWN", false, none), Ok(default & !1));
        assert_eq!(get("sys_time", "ALL", false, none), Ok(1 << 25));
        assert_eq!(get("all", "chown", false, all), Ok(((1 << 41) - 1) & !1));
        assert_eq!(get("", "", true, all & !(1 << 24)), Ok(((1 << 41) - 1) & !(1 << 24)));
        let unknown = get("net_admim", "", false, none).unwrap_err();
        assert_eq!(unknown.to_string(), "invalid CapAdd: unknown capability: \"CAP_NET_ADMIM\"");
        assert_eq!(capability::number(Capability::SysTime), 25);
    }

    #[test]
    fn default_paths() {
        let masked = default_masked(2);
        assert!(masked.contains(&"/sys/devices/system/cpu/cpu1/thermal_throttle".to_owned()));
        assert!(masked.contains(&"/proc/kcore".to_owned()));
        assert_eq!(default_readonly().len(), 5);
    }
}
