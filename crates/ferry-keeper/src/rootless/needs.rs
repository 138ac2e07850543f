//! What this machine lacks for containers of the calling user, who is not root, and the commands that mend it.

use super::ids::{self, Ids};

/// One thing that is missing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need {
    /// Nothing works without it.
    pub vital: bool,
    /// What is missing, and what does not work for it.
    pub fact: String,
    /// The command that mends it, as root.
    pub mend: String,
}

/// Switches of kernels and distributions: the file, the value that forbids user namespaces, and the one to set.
const SWITCHES: [(&str, &str, &str); 3] = [
    ("user.max_user_namespaces", "0", "65536"),
    ("kernel.unprivileged_userns_clone", "0", "1"),
    ("kernel.apparmor_restrict_unprivileged_userns", "1", "0"),
];

/// All that is missing, the worst first.
pub fn missing() -> Vec<Need> {
    let mut needs: Vec<Need> = SWITCHES.iter().filter_map(switch).collect();
    let optional = |fact: String, mend: String| Need { vital: false, fact, mend };
    if let Some(program) = ids::missing_helper() {
        let fact = format!("{program} is missing: containers have one user id only");
        needs.push(optional(fact, "apt install uidmap".into()));
    }
    if let Ok(user) = Ids::of_user()
        && !user.has_ranges()
    {
        let fact = "no subordinate ids: containers have one user id only".into();
        needs.push(optional(fact, user.remedy()));
    }
    if ids::find("pasta").is_none() {
        let fact = "pasta is missing: containers and pulls reach nothing outside".into();
        needs.push(optional(fact, "apt install passt".into()));
    }
    if std::fs::File::options().read(true).write(true).open("/dev/net/tun").is_err() {
        let fact = "/dev/net/tun cannot be opened: containers and pulls reach nothing outside".into();
        needs.push(optional(fact, "modprobe tun; chmod 0666 /dev/net/tun".into()));
    }
    needs
}

fn switch((name, forbids, allows): &(&str, &str, &str)) -> Option<Need> {
    let path = format!("/proc/sys/{}", name.replace('.', "/"));
    let value = std::fs::read_to_string(path).ok()?;
    (value.trim() == *forbids).then(|| Need {
        vital: true,
        fact: format!("{name} = {forbids} forbids user namespaces"),
        mend: format!("sysctl -w {name}={allows}"),
    })
}
