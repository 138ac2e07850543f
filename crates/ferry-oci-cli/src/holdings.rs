//! What a container holds of the machine besides its processes: cgroup, systemd scope, class of cache and bandwidth.

use ferry_runtime::cgroup::Cgroup;
use ferry_runtime::resctrl::Class;
use ferry_runtime::systemd::Scope;

use crate::error::CliError;

/// All of it; what is absent was never made.
#[derive(Debug, Clone, Default)]
pub(crate) struct Holdings {
    pub cgroup: Option<Cgroup>,
    pub scope: Option<Scope>,
    pub class: Option<Class>,
}

impl Holdings {
    /// Ends what still runs in the cgroup and gives everything back. Some of it may be gone already.
    pub fn give_back(&self) -> Result<(), CliError> {
        if let Some(cgroup) = &self.cgroup
            && !cgroup.processes()?.is_empty()
        {
            cgroup.kill_all()?;
        }
        if let Some(scope) = &self.scope {
            scope.stop().map_err(|error| CliError::other(error.to_string()))?;
        }
        if let Some(cgroup) = &self.cgroup {
            cgroup.remove()?;
        }
        if let Some(class) = &self.class {
            class.remove().map_err(|error| CliError::other(error.to_string()))?;
        }
        Ok(())
    }
}
