//! `create`: makes a container, fetching the image where it is missing.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::path::PathBuf;

use ferry_api::container::{CreateRequest, CreateResponse, Mount};
use ferry_api::{Call, Client, ClientError, Host};

use super::options::{ContainerFlags, Defaults, build, missing_source};
use crate::commands::image::pull_image;
use crate::failure::{ENGINE_FAILED, Failure, Outcome};
use crate::output;
use crate::output::progress::To;
use crate::session::Session;
use crate::terminal;

/// Where clients look for an engine.
const SOCKET_INSIDE: &str = "/var/run/docker.sock";

/// Runs `create`.
pub async fn create(session: &Session, flags: ContainerFlags, arguments: Vec<String>) -> Outcome {
    // As Docker's client: flags that cannot be meant end as those of `run` do.
    let request = request(session, &flags, &arguments).map_err(|failure| failure.code(ENGINE_FAILED))?;
    let created = create_container(session, &flags, &request).await?;
    output::line(&created.id)?;
    Ok(0)
}

/// The request that flags and arguments make.
pub fn request(
    session: &Session,
    flags: &ContainerFlags,
    arguments: &[String],
) -> Result<CreateRequest, Failure> {
    let (image, arguments) = arguments.split_first().expect("the table wants at least one argument");
    if image.trim().is_empty() {
        return Err(Failure::new("invalid reference format: the image name is empty")
            .hint("an unset variable in its place gives an empty word; check it with 'echo'"));
    }
    let target = session.target()?;
    let defaults = Defaults {
        directory: std::env::current_dir().unwrap_or_else(|_| PathBuf::from("/")),
        variables: session.config().proxy_variables(&target.host.to_string()),
        console_size: terminal::size(),
    };
    let mut request = build(flags, image, arguments, &defaults).map_err(Failure::new)?;
    if flags.use_api_socket {
        share_socket(&mut request, &target.host)?;
    }
    if flags.io_maxbandwidth.is_some() || flags.io_maxiops.is_some() {
        output::note("WARNING: --io-maxbandwidth and --io-maxiops are for Windows containers; discarded");
    }
    if !session.docker_texts && target.host.unix_path().is_some() {
        refuse_missing_source(&request)?;
    }
    Ok(request)
}

/// Mounts the engine's socket at the place where clients look for it.
fn share_socket(request: &mut CreateRequest, host: &Host) -> Result<(), Failure> {
    let path = host.unix_path().ok_or_else(|| {
        Failure::new(format!("flag --use-api-socket can't be used with the engine at {host}"))
            .hint("the engine's socket is a file of its own machine; run this there")
    })?;
    let mount = Mount {
        kind: "bind".into(),
        source: path.display().to_string(),
        target: SOCKET_INSIDE.into(),
        ..Mount::default()
    };
    request.host_config.get_or_insert_default().mounts.push(mount);
    Ok(())
}

/// Docker makes an empty folder of root's for a host path that does not exist; scripts called as `docker`
/// get that, people who type get told.
fn refuse_missing_source(request: &CreateRequest) -> Result<(), Failure> {
    let binds = request.host_config.as_ref().and_then(|host| host.binds.as_deref()).unwrap_or_default();
    match missing_source(binds) {
        None => Ok(()),
        Some(source) => Err(Failure::new(format!("the host path {source:?} of a volume does not exist"))
            .hint(format!("check the spelling, or make it: mkdir -p {source}"))),
    }
}

/// Makes the container; fetches a missing image as `--pull` says.
pub async fn create_container(
    session: &Session,
    flags: &ContainerFlags,
    request: &CreateRequest,
) -> Result<CreateResponse, Failure> {
    let client = session.engine().await?;
    let id_file = IdFile::open(&flags.cidfile)?;
    let make = async || {
        client.call(creation("/containers/create", flags, request)).await?.json::<CreateResponse>().await
    };
    let created = with_image(session, flags, &request.config.image, make).await?;
    warn(&created.warnings);
    id_file.write(&created.id)?;
    Ok(created)
}

/// The call that makes a container.
pub fn creation(path: &str, flags: &ContainerFlags, request: &CreateRequest) -> Call {
    Call::post(path).query_text("name", &flags.name).query_text("platform", &platform(flags)).json(request)
}

/// What the engine says of a container that it made nevertheless.
pub fn warn(warnings: &[String]) {
    for warning in warnings {
        output::note(&format!("WARNING: {warning}"));
    }
}

fn platform(flags: &ContainerFlags) -> String {
    let asked = flags.platform.clone();
    asked.or_else(|| crate::session::environment("DOCKER_DEFAULT_PLATFORM")).unwrap_or_default()
}

/// Does what needs an image; where that is missing, fetches it as `--pull` says, and does it again.
pub async fn with_image<T>(
    session: &Session,
    flags: &ContainerFlags,
    image: &str,
    make: impl AsyncFn() -> Result<T, ClientError>,
) -> Result<T, Failure> {
    let client = session.engine().await?;
    let to = if flags.quiet { To::Nowhere } else { To::Stderr };
    let policy = flags.pull.as_deref().unwrap_or("missing");
    if !matches!(policy, "always" | "missing" | "never") {
        return Err(Failure::new(format!(
            "invalid pull option: '{policy}': must be one of \"always\", \"missing\" or \"never\""
        )));
    }
    if policy == "always" {
        pull_image(session, client, image, &platform(flags), to).await?;
    }
    match make().await {
        Err(error) if policy == "missing" && is_missing_image(&error) => {
            fetch(session, client, image, &platform(flags), to, error).await?;
            Ok(make().await?)
        }
        Err(error) if is_missing_image(&error) => Err(explain_missing(client, image, error).await),
        result => Ok(result?),
    }
}

fn is_missing_image(error: &ClientError) -> bool {
    error.is_not_found() && error.to_string().contains("No such image")
}

/// Fetches an image that the engine lacks. Where that fails, says both what was missing and why it did not
/// come.
async fn fetch(
    session: &Session,
    client: &Client,
    image: &str,
    platform: &str,
    to: To,
    missing: ClientError,
) -> Result<(), Failure> {
    if is_container(client, image).await {
        return Err(explain_missing(client, image, missing).await);
    }
    if to == To::Stderr {
        output::note(&format!("Unable to find image '{}' locally", crate::commands::image::with_tag(image)));
    }
    match pull_image(session, client, image, platform, to).await {
        Ok(()) => Ok(()),
        Err(mut failure) => {
            // An engine without registries answers as to any unknown path.
            if failure.message == "page not found" {
                failure.message = missing.to_string();
            }
            Err(failure
                .hint("'ferry images' lists what is here; 'ferry load -i FILE' brings an image from a file"))
        }
    }
}

async fn is_container(client: &Client, name: &str) -> bool {
    super::inspect(client, name).await.is_ok()
}

async fn explain_missing(client: &Client, image: &str, error: ClientError) -> Failure {
    let failure = Failure::from(error);
    if is_container(client, image).await {
        return failure.hint(format!("{image:?} is a container; to start it again: ferry start {image}"));
    }
    failure.hint("'ferry images' lists what is here; 'ferry load -i FILE' brings an image from a file")
}

/// The file of `--cidfile`: made first, so that nothing is created when it cannot be; removed when nothing
/// was created after all.
struct IdFile {
    file: Option<(PathBuf, File)>,
    written: bool,
}

impl IdFile {
    fn open(path: &str) -> Result<IdFile, Failure> {
        if path.is_empty() {
            return Ok(IdFile { file: None, written: false });
        }
        let file = OpenOptions::new().write(true).create_new(true).open(path).map_err(|error| match error
            .kind()
        {
            ErrorKind::AlreadyExists => Failure::new(format!(
                "container ID file found, make sure the other container isn't running or delete {path}"
            )),
            _ => Failure::from(error).context(&format!("failed to create the container ID file {path}")),
        })?;
        Ok(IdFile { file: Some((path.into(), file)), written: false })
    }

    fn write(mut self, id: &str) -> Result<(), Failure> {
        if let Some((_, file)) = &mut self.file {
            file.write_all(id.as_bytes())?;
        }
        self.written = true;
        Ok(())
    }
}

impl Drop for IdFile {
    fn drop(&mut self) {
        if let Some((path, _)) = self.file.as_ref().filter(|_| !self.written) {
            // It is empty and ours; where it cannot be removed the next run says so.
            let _ = std::fs::remove_file(path);
        }
    }
}
