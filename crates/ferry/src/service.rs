//! The engine as a service of systemd: the unit, and asking systemd for it.

use std::io;
use std::path::Path;
use std::process::Command;

use crate::failure::Failure;

/// The unit's name.
pub const UNIT: &str = "ferry.service";
/// Where it is installed.
pub const UNIT_PATH: &str = "/etc/systemd/system/ferry.service";

/// Whether the engine of this machine is systemd's to start: a command that started one of its own would be in the
/// way of the service.
pub fn is_installed() -> bool {
    systemd_runs() && Path::new(UNIT_PATH).exists()
}

/// The unit. The keeper and the containers' monitors share the unit's cgroup: `KillMode=process` ends only
/// the main process at a stop or restart, `Delegate=yes` leaves the cgroups below to the engine.
pub fn unit(program: &Path) -> String {
    format!(
        "[Unit]\n\
         Description=Ferry container engine\n\
         After=network-online.target nss-lookup.target\n\
         Wants=network-online.target\n\n\
         [Service]\n\
         # Ready when clients can connect. A keeper that an engine put in the place of a dead one is told by MAINPID.\n\
         Type=notify\n\
         ExecStart={} engine run\n\
         # Reads daemon.json again.\n\
         ExecReload=/bin/kill -HUP $MAINPID\n\
         Restart=on-failure\n\
         # Containers outlive the engine: only the main process is ended, never what it started.\n\
         KillMode=process\n\
         # The engine makes cgroups for containers below its own; systemd leaves them alone.\n\
         Delegate=yes\n\
         TasksMax=infinity\n\
         LimitNOFILE=1048576\n\
         OOMScoreAdjust=-500\n\n\
         [Install]\n\
         WantedBy=multi-user.target\n",
        program.display()
    )
}

/// Whether systemd manages this machine (sd_booted(3)).
pub fn systemd_runs() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// Runs systemctl, whose messages go to standard error.
pub fn systemctl(arguments: &[&str]) -> Result<(), Failure> {
    let failed = |error: io::Error| Failure::from(error).context("cannot run systemctl");
    let status = Command::new("systemctl").args(arguments).status().map_err(failed)?;
    match status.success() {
        true => Ok(()),
        false => Err(Failure::new(format!("systemctl {} failed: {status}", arguments.join(" ")))),
    }
}
