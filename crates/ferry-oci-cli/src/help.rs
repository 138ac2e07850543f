//! `--help` and `--version`.

use crate::features::SPEC_VERSION;

/// Shown by `--help` and for no command at all.
const COMMANDS: &str = "\
Commands:
  create     Make a container from a bundle; its command waits for start
  start      Let the command of a created container run
  run        Make and run a container (-d: do not wait for its end)
  exec       Run a further process in a container
  state      What a container is and does, as JSON
  list       Containers of this state directory
  ps         Processes of a container
  kill       Send a signal to a container's first process (-a: to all)
  delete     Remove what is left of a container (-f: and end it)
  pause      Stop all processes of a container for a while
  resume     Let them go on
  update     Change limits of a running container
  events     Resource use and events, as JSON (--stats: once)
  spec       Write a first config.json
  features   What this runtime knows, as JSON

Global flags:
      --root DIR             Where states are kept (default /run/ferry-runtime)
      --log FILE             Where messages go (default standard error)
      --log-format FORMAT    text or json
      --debug                More messages
      --rootless VALUE       Taken and not needed: rights are seen from the bundle

Flags of create, run and exec:
  -b, --bundle DIR           The bundle (create, run; default: here)
      --console-socket PATH  Where the terminal's master side is sent
      --pid-file FILE        Where the process's number is written
      --preserve-fds N       Hand on N descriptors from 3 on
      --no-pivot             Move the root instead of pivoting (hosts on a ramdisk)
      --no-new-keyring       Stay in the caller's session keyring
  -d, --detach               Do not wait for the end (run, exec)
  -p, --process FILE         What to run, as JSON (exec); or -t -e -u -g -c --cwd and a command
";

/// Prints the help.
pub(crate) fn print(called: &str) {
    let words = if called == "runc" { "runc" } else { "ferry runtime" };
    let text = format!(
        "Run containers from OCI bundles, without an engine\n\nUsage: {words} [GLOBAL FLAGS] COMMAND [FLAGS] CONTAINER\n\n{COMMANDS}"
    );
    // A reader that has gone wants no help.
    drop(crate::list::print(text.trim_end()));
}

/// Prints the version, in the lines that engines read.
pub(crate) fn version(called: &str) {
    let version = env!("CARGO_PKG_VERSION");
    drop(crate::list::print(&format!("{called} version {version}\nspec: {SPEC_VERSION}")));
}
