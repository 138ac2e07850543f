//! Profiles in Docker's JSON form, and the resolution of their conditions.

use ferry_oci::runtime::{
    Arch, Capabilities, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompArgBuilder,
    LinuxSeccompFilterFlag, LinuxSeccompOperator, LinuxSyscall,
};
use serde::{Deserialize, Deserializer};

use super::arch::Architecture;
use super::error::SeccompError;
use crate::{capability, kernel};

/// More rules than any real profile has.
const RULES_MAX: usize = 4096;

/// A profile with conditions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DockerProfile {
    pub default_action: LinuxSeccompAction,
    pub default_errno_ret: Option<u32>,
    /// Either these, ...
    #[serde(default, deserialize_with = "null_as_default")]
    pub architectures: Vec<String>,
    /// ... or for each native architecture the ones it runs besides.
    #[serde(default, deserialize_with = "null_as_default")]
    pub arch_map: Vec<ArchMap>,
    #[serde(default, deserialize_with = "null_as_default")]
    pub flags: Vec<LinuxSeccompFilterFlag>,
    #[serde(default, deserialize_with = "null_as_default")]
    pub listener_path: String,
    #[serde(default, deserialize_with = "null_as_default")]
    pub syscalls: Vec<DockerSyscall>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ArchMap {
    architecture: String,
    #[serde(default, deserialize_with = "null_as_default")]
    sub_architectures: Vec<String>,
}

/// One rule with its conditions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DockerSyscall {
    #[serde(default, deserialize_with = "null_as_default")]
    pub names: Vec<String>,
    /// The old form: one name.
    #[serde(default, deserialize_with = "null_as_default")]
    pub name: String,
    pub action: LinuxSeccompAction,
    pub errno_ret: Option<u32>,
    #[serde(default, deserialize_with = "null_as_default")]
    pub args: Vec<DockerArgument>,
    #[serde(default, deserialize_with = "null_as_default")]
    pub includes: Filter,
    #[serde(default, deserialize_with = "null_as_default")]
    pub excludes: Filter,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DockerArgument {
    pub index: usize,
    pub value: u64,
    #[serde(default)]
    pub value_two: u64,
    pub op: LinuxSeccompOperator,
}

/// A condition; an empty one always holds for includes and never for excludes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Filter {
    #[serde(default, deserialize_with = "null_as_default")]
    pub caps: Vec<String>,
    #[serde(default, deserialize_with = "null_as_default")]
    pub arches: Vec<String>,
    pub min_kernel: Option<String>,
}

/// Go writes empty lists as null.
fn null_as_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(
    source: D,
) -> Result<T, D::Error> {
    Ok(Option::deserialize(source)?.unwrap_or_default())
}

/// What the conditions are about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Situation<'a> {
    pub architecture: Architecture,
    pub capabilities: &'a Capabilities,
    /// Major and minor version of the running kernel.
    pub kernel: (u32, u32),
}

/// Reads a profile.
pub(super) fn parse(json: &[u8]) -> Result<DockerProfile, SeccompError> {
    let profile: DockerProfile = serde_json::from_slice(json)?;
    if !profile.architectures.is_empty() && !profile.arch_map.is_empty() {
        return Err(SeccompError::Profile {
            reason: "it has both \"architectures\" and \"archMap\"; use one of them".to_owned(),
        });
    }
    if profile.syscalls.len() > RULES_MAX {
        let reason = format!("it has {} rules, more than {RULES_MAX}", profile.syscalls.len());
        return Err(SeccompError::Profile { reason });
    }
    Ok(profile)
}

/// The rules that hold in a situation.
pub(super) fn resolve(
    profile: &DockerProfile,
    situation: Situation<'_>,
) -> Result<LinuxSeccomp, SeccompError> {
    let mut resolved = LinuxSeccomp::default();
    resolved.set_default_action(profile.default_action);
    resolved.set_default_errno_ret(profile.default_errno_ret);
    resolved.set_architectures(Some(architectures(profile, situation.architecture)?));
    if !profile.flags.is_empty() {
        resolved.set_flags(Some(profile.flags.clone()));
    }
    if !profile.listener_path.is_empty() {
        resolved.set_listener_path(Some(profile.listener_path.clone().into()));
    }
    let mut syscalls = Vec::new();
    for rule in &profile.syscalls {
        if includes(&rule.includes, situation)? && !excludes(&rule.excludes, situation)? {
            syscalls.push(rule.resolved()?);
        }
    }
    resolved.set_syscalls(Some(syscalls));
    Ok(resolved)
}

fn architectures(profile: &DockerProfile, native: Architecture) -> Result<Vec<Arch>, SeccompError> {
    let parse = |name: &String| {
        serde_json::from_value::<Arch>(serde_json::Value::String(name.clone()))
            .map_err(|_| SeccompError::UnknownArchitecture { name: name.clone() })
    };
    if !profile.architectures.is_empty() {
        return profile.architectures.iter().map(parse).collect();
    }
    if profile.arch_map.is_empty() {
        return Ok(native.with_compatible().iter().map(|architecture| architecture.to_oci()).collect());
    }
    for entry in &profile.arch_map {
        if parse(&entry.architecture)? == native.to_oci() {
            let all = std::iter::once(&entry.architecture).chain(&entry.sub_architectures);
            return all.map(parse).collect();
        }
    }
    Ok(vec![native.to_oci()])
}

fn includes(filter: &Filter, situation: Situation<'_>) -> Result<bool, SeccompError> {
    let architecture = filter.arches.is_empty()
        || filter.arches.iter().any(|name| name == situation.architecture.docker_name());
    let capabilities = filter.caps.iter().all(|name| has(situation.capabilities, name));
    let kernel = match &filter.min_kernel {
        Some(least) => situation.kernel >= parse_kernel(least)?,
        None => true,
    };
    Ok(architecture && capabilities && kernel)
}

fn excludes(filter: &Filter, situation: Situation<'_>) -> Result<bool, SeccompError> {
    let architecture = filter.arches.iter().any(|name| name == situation.architecture.docker_name());
    let capability = filter.caps.iter().any(|name| has(situation.capabilities, name));
    let kernel = match &filter.min_kernel {
        Some(least) => situation.kernel >= parse_kernel(least)?,
        None => false,
    };
    Ok(architecture || capability || kernel)
}

fn has(capabilities: &Capabilities, name: &str) -> bool {
    // A name from a newer kernel is one the container cannot have.
    capability::parse(name).is_ok_and(|capability| capabilities.contains(&capability))
}

fn parse_kernel(text: &str) -> Result<(u32, u32), SeccompError> {
    kernel::parse_version(text).ok_or_else(|| SeccompError::Profile {
        reason: format!("{text:?} is no kernel version like \"4.8\""),
    })
}

impl DockerSyscall {
    fn resolved(&self) -> Result<LinuxSyscall, SeccompError> {
        let names = match (self.name.is_empty(), self.names.is_empty()) {
            (true, _) => self.names.clone(),
            (false, true) => vec![self.name.clone()],
            (false, false) => {
                let reason =
                    format!("a rule has both \"name\" ({:?}) and \"names\"; use one of them", self.name);
                return Err(SeccompError::Profile { reason });
            }
        };
        let mut syscall = LinuxSyscall::default();
        syscall.set_names(names);
        syscall.set_action(self.action);
        syscall.set_errno_ret(self.errno_ret);
        if !self.args.is_empty() {
            let arguments = self.args.iter().map(DockerArgument::resolved).collect::<Result<_, _>>()?;
            syscall.set_args(Some(arguments));
        }
        Ok(syscall)
    }
}

impl DockerArgument {
    fn resolved(&self) -> Result<LinuxSeccompArg, SeccompError> {
        let argument = LinuxSeccompArgBuilder::default()
            .index(self.index)
            .value(self.value)
            .value_two(self.value_two)
            .op(self.op)
            .build();
        argument.map_err(|error| SeccompError::Profile { reason: error.to_string() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conditions_decide_about_rules() {
        let profile = parse(
            br#"{"defaultAction": "SCMP_ACT_ERRNO", "architectures": null, "syscalls": [
                {"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": null, "includes": {}},
                {"names": ["bpf"], "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_BPF"]}},
                {"names": ["iopl"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["arm64"]}},
                {"names": ["ptrace"], "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "4.8"}},
                {"name": "clone3", "action": "SCMP_ACT_ERRNO", "errnoRet": 38, "excludes": {"caps": ["CAP_SYS_ADMIN"]}}
            ]}"#,
        )
        .expect("a valid profile");
        let names = |capabilities: &Capabilities, kernel| {
            let situation = Situation { architecture: Architecture::X86_64, capabilities, kernel };
            let resolved = resolve(&profile, situation).expect("it resolves");
            let rules = resolved.syscalls().clone().unwrap_or_default();
            rules.iter().map(|rule| rule.names().join(",")).collect::<Vec<_>>().join(" ")
        };
        assert_eq!(names(&capability::docker_default(), (6, 1)), "read ptrace clone3");
        assert_eq!(names(&capability::all(), (4, 4)), "read bpf");
    }

    #[test]
    fn mistakes_are_told() {
        let message = |json: &str| parse(json.as_bytes()).expect_err("a bad profile").to_string();
        assert_eq!(
            message(
                r#"{"defaultAction":"SCMP_ACT_ALLOW","architectures":["SCMP_ARCH_X86"],"archMap":[{"architecture":"SCMP_ARCH_X86"}]}"#
            ),
            "invalid seccomp profile: it has both \"architectures\" and \"archMap\"; use one of them"
        );
        assert!(message("{").starts_with("cannot read seccomp profile: "));
    }
}
