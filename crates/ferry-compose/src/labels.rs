//! Labels that mark what belongs to a project: Docker's, byte for byte, and the version of the hash.

/// Project name.
pub const PROJECT: &str = "com.docker.compose.project";
/// Service name.
pub const SERVICE: &str = "com.docker.compose.service";
/// Number of a replica, from 1.
pub const NUMBER: &str = "com.docker.compose.container-number";
/// `True` for containers of `run`, else `False`.
pub const ONEOFF: &str = "com.docker.compose.oneoff";
/// Random id of a container of `run`.
pub const SLUG: &str = "com.docker.compose.slug";
/// Hash of the configuration, by Docker's algorithm.
pub const CONFIG_HASH: &str = "com.docker.compose.config-hash";
/// Id of the image the container was made from.
pub const IMAGE: &str = "com.docker.compose.image";
/// `service:condition:restart`, separated by commas.
pub const DEPENDS_ON: &str = "com.docker.compose.depends_on";
/// Version of the program that made it.
pub const VERSION: &str = "com.docker.compose.version";
/// The project's folder.
pub const WORKING_DIR: &str = "com.docker.compose.project.working_dir";
/// The Compose files, separated by commas.
pub const CONFIG_FILES: &str = "com.docker.compose.project.config_files";
/// The env files named on the command line.
pub const ENVIRONMENT_FILE: &str = "com.docker.compose.project.environment_file";
/// The container this one replaced.
pub const REPLACE: &str = "com.docker.compose.replace";
/// Key of a network.
pub const NETWORK: &str = "com.docker.compose.network";
/// Key of a volume.
pub const VOLUME: &str = "com.docker.compose.volume";
/// The hook a container runs.
pub const HOOK: &str = "com.docker.compose.hook";
/// Ferry's own hash, which decides; [`CONFIG_HASH`] is the one that Docker Compose would write.
pub const HASH: &str = "dev.ferry.compose.hash";
/// Version of the algorithm behind [`HASH`]; absent on what another program made.
pub const HASH_VERSION: &str = "dev.ferry.compose.hash-version";
/// The `post_start` hooks as JSON: the engine runs them where no client is.
pub const POST_START: &str = "dev.ferry.compose.post-start";

/// What [`VERSION`] holds.
pub const OWN_VERSION: &str = env!("CARGO_PKG_VERSION");

/// The filter that finds everything of a project.
pub fn of_project(project: &str) -> String {
    format!("{PROJECT}={project}")
}
