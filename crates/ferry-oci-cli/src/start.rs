//! `start`: lets the command of a created container run.

use rustix::net::{AddressFamily, SocketFlags, SocketType};

use crate::Global;
use crate::arguments::parse;
use crate::create::{address, poststart};
use crate::error::CliError;
use crate::state::{Directory, Status};

/// Runs `start`.
pub(crate) fn start(global: &Global, words: &[String]) -> Result<i32, CliError> {
    let parsed = parse(&[], words)?;
    let directory = Directory::open(&global.root, parsed.id("start")?)?;
    let state = directory.read()?;
    match directory.status(&state)? {
        Status::Created => {}
        Status::Stopped => {
            return Err(CliError::State("cannot start a container that has stopped".to_owned()));
        }
        Status::Running => {
            return Err(CliError::State("cannot start an already running container".to_owned()));
        }
        other => {
            return Err(CliError::State(format!("cannot start a container in the {} state", other.name())));
        }
    }
    let gate = directory.gate();
    let failed = |errno: rustix::io::Errno| CliError::file("connect to", &gate)(errno.into());
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC, None)
            .map_err(failed)?;
    let (_parent, place) = address(&gate).map_err(failed)?;
    rustix::net::connect(&socket, &place).map_err(failed)?;
    // From here on nobody else can start it, and it does not count as created any more.
    std::fs::remove_file(&gate).map_err(CliError::file("remove", &gate))?;
    let warnings = ferry_runtime::start(socket)?;
    for warning in warnings {
        global.log.warn(&warning);
    }
    let spec = state.spec()?;
    if let Some(hooks) = spec.hooks() {
        poststart(global, hooks, &state.described(), state.init_process_pid);
    }
    Ok(0)
}
