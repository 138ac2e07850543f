//! The process of a container or an exec: environment, user, capabilities, limits. Pure.

use ferry_api::container::{Config, HostConfig};
use ferry_oci::runtime::{Capabilities, LinuxCapabilities, Process, User};

use super::resources::{self, ResourceError};
use super::security::Security;
use super::user::Identity;

/// Search path of a container whose image names none.
const DEFAULT_PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a process is made of, besides the container's settings.
pub struct ProcessPlan<'a> {
    /// Program and arguments.
    pub argv: Vec<String>,
    /// Who.
    pub identity: &'a Identity,
    /// Terminal or pipes.
    pub terminal: bool,
    /// Working directory; empty means `/`.
    pub directory: &'a str,
    /// Environment, complete.
    pub environment: Vec<String>,
    /// Bounding set; effective for root.
    pub capabilities: Capabilities,
}

impl ProcessPlan<'_> {
    /// As the runtime takes it.
    pub fn build(self, host_config: &HostConfig, security: &Security) -> Result<Process, ResourceError> {
        let rlimits = resources::rlimits(host_config.ulimits.as_deref().unwrap_or_default())?;
        let directory = if self.directory.is_empty() { "/" } else { self.directory };
        let mut process = Process::default();
        process
            .set_terminal(Some(self.terminal))
            .set_user(user(self.identity))
            .set_args(Some(self.argv))
            .set_env(Some(self.environment))
            .set_cwd(directory.into())
            .set_capabilities(Some(capability_sets(self.capabilities, self.identity.uid)))
            .set_rlimits((!rlimits.is_empty()).then_some(rlimits))
            .set_no_new_privileges(Some(security.no_new_privileges))
            .set_apparmor_profile(security.apparmor.clone().filter(|name| name != "unconfined"))
            .set_oom_score_adj(i32::try_from(host_config.oom_score_adj).ok());
        Ok(process)
    }
}

fn user(identity: &Identity) -> User {
    let mut user = User::default();
    user.set_uid(identity.uid).set_gid(identity.gid);
    // The primary group is among them, or a set-group-id program could drop it and so pass files that shut it out.
    let others = identity.groups.iter().copied().filter(|group| *group != identity.gid);
    user.set_additional_gids(Some(std::iter::once(identity.gid).chain(others).collect()));
    user
}

/// Root gets the set; anyone else only what set-user-id programs may gain, as in Docker.
fn capability_sets(set: Capabilities, uid: u32) -> LinuxCapabilities {
    let mut sets = LinuxCapabilities::default();
    let held = if uid == 0 { set.clone() } else { Capabilities::new() };
    sets.set_bounding(Some(set))
        .set_effective(Some(held.clone()))
        .set_permitted(Some(held))
        .set_inheritable(Some(Capabilities::new()))
        .set_ambient(Some(Capabilities::new()));
    sets
}

/// The container's environment: Docker's base, then what image and person say, which wins.
pub fn environment(config: &Config, terminal: bool, home: &str) -> Vec<String> {
    let mut environment = vec![DEFAULT_PATH.to_owned()];
    if !config.hostname.is_empty() {
        environment.push(format!("HOSTNAME={}", config.hostname));
    }
    if terminal {
        environment.push("TERM=xterm".into());
    }
    merge(&mut environment, config.env.iter().flatten());
    if !environment.iter().any(|entry| entry.starts_with("HOME=")) {
        environment.push(format!("HOME={home}"));
    }
    environment
}

/// Puts `additions` over `environment`; an entry without `=` takes the variable away.
pub fn merge<'a>(environment: &mut Vec<String>, additions: impl IntoIterator<Item = &'a String>) {
    for addition in additions {
        let name = addition.split('=').next().unwrap_or(addition);
        let same = |entry: &String| entry.split('=').next() == Some(name);
        if !addition.contains('=') {
            environment.retain(|entry| !same(entry));
            continue;
        }
        match environment.iter_mut().find(|entry| same(entry)) {
            Some(entry) => entry.clone_from(addition),
            None => environment.push(addition.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_is_layered() {
        let config = Config {
            hostname: "box".into(),
            env: Some(["A=1", "PATH=/bin", "A=2", "TERM"].map(str::to_owned).into()),
            ..Config::default()
        };
        assert_eq!(environment(&config, true, "/root"), ["PATH=/bin", "HOSTNAME=box", "A=2", "HOME=/root"]);
        let plain = environment(&Config::default(), false, "/");
        assert_eq!(plain, [DEFAULT_PATH, "HOME=/"]);
    }

    #[test]
    fn only_root_holds_capabilities() {
        let set = ferry_runtime::capability::docker_default();
        assert_eq!(capability_sets(set.clone(), 0).effective().as_ref(), Some(&set));
        assert_eq!(capability_sets(set.clone(), 5).effective().as_ref(), Some(&Capabilities::new()));
        assert_eq!(capability_sets(set.clone(), 5).bounding().as_ref(), Some(&set));
    }
}
