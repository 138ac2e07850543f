//! `build`, `pull` and `push`, and the images `up` and `run` need.

use super::context::Compose;
use super::forward::hand_over;
use crate::failure::{Failure, Outcome};
use crate::output;
use crate::session::Session;
use ferry_compose::apply::{BuildRequest, Builder, Engine, Phase, Progress, Puller, Running, build_requests};
use ferry_compose::project::Project;
use ferry_compose::target::Target;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

crate::flags! {
    /// Flags of `build`.
    pub struct BuildFlags {
        build_arg: Vec<String> = '-' "build-arg" <list> "Set build-time variables for services";
        builder: String = '-' "builder" <string> "Set builder to use";
        check: bool = '-' "check" "Check build configuration";
        compress: bool = '-' "compress" "Compress the build context using gzip (accepted, without effect)";
        force_rm: bool = '-' "force-rm" "Always remove intermediate containers (accepted, without effect)";
        memory: String = 'm' "memory" <string> "Set memory limit for the build container";
        no_cache: bool = '-' "no-cache" "Do not use cache when building the image";
        no_rm: bool = '-' "no-rm" "Do not remove intermediate containers (accepted, without effect)";
        parallel: Option<bool> = '-' "parallel" "Build images in parallel (accepted, always done)";
        print: bool = '-' "print" "Print what would be built";
        progress: String = '-' "progress" <string> "Set type of progress output";
        provenance: String = '-' "provenance" <string> "Add a provenance attestation";
        pull: bool = '-' "pull" "Always attempt to pull a newer version of the image";
        push: bool = '-' "push" "Push service images";
        quiet: bool = 'q' "quiet" "Suppress the build output";
        sbom: String = '-' "sbom" <string> "Add a SBOM attestation";
        ssh: String = '-' "ssh" <string> "Set SSH authentications used when building service images";
        with_dependencies: bool = '-' "with-dependencies" "Also build dependencies (transitively)";
    }
}

crate::flags! {
    /// Flags of `pull`.
    pub struct PullFlags {
        ignore_buildable: bool = '-' "ignore-buildable" "Ignore images that can be built";
        ignore_pull_failures: bool = '-' "ignore-pull-failures" "Pull what it can and ignores images with pull failures";
        include_deps: bool = '-' "include-deps" "Also pull services declared as dependencies";
        no_parallel: bool = '-' "no-parallel" "Disable parallel pulling (accepted, without effect)";
        parallel: bool = '-' "parallel" "Pull images in parallel (accepted, always done)";
        policy: Option<String> = '-' "policy" <string> "Apply pull policy (\"missing\"|\"always\")";
        quiet: bool = 'q' "quiet" "Pull without printing progress information";
    }
}

crate::flags! {
    /// Flags of `push`.
    pub struct PushFlags {
        ignore_push_failures: bool = '-' "ignore-push-failures" "Push what it can and ignores images with push failures";
        include_deps: bool = '-' "include-deps" "Also push images of services declared as dependencies";
        quiet: bool = 'q' "quiet" "Push without printing progress information";
    }
}

/// Pulls through the engine.
pub struct EnginePuller<'a> {
    session: &'a Session,
    engine: &'a Engine,
    quiet: bool,
}

impl<'a> EnginePuller<'a> {
    /// A puller.
    pub fn new(session: &'a Session, engine: &'a Engine, quiet: bool) -> Self {
        EnginePuller { session, engine, quiet }
    }
}

impl Puller for EnginePuller<'_> {
    fn pull<'a>(
        &'a self,
        image: &'a str,
        platform: &'a str,
        progress: &'a dyn Progress,
    ) -> Running<'a, Result<(), String>> {
        Box::pin(async move {
            let call = crate::commands::image::pull_call(self.session, image, platform)
                .map_err(|failure| failure.message)?;
            let response = self.engine.client.call(call).await.map_err(|error| error.to_string())?;
            let mut lines = response.json_lines::<ferry_api::progress::Progress>();
            let mut layers: BTreeMap<String, (i64, i64)> = BTreeMap::new();
            while let Some(line) = lines.next().await.map_err(|error| error.to_string())? {
                if !line.error.is_empty() {
                    return Err(line.error);
                }
                if let (false, Some(detail)) = (self.quiet, line.progress_detail) {
                    if detail.total > 0 && line.status == "Downloading" {
                        layers.insert(line.id, (detail.current, detail.total));
                    }
                    let (current, total) =
                        layers.values().fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
                    if total > 0 {
                        let text = format!(
                            "Pulling {}/{}",
                            output::units::size(current),
                            output::units::size(total)
                        );
                        progress.state(&format!("Image {image}"), &text, Phase::Working);
                    }
                }
            }
            Ok(())
        })
    }
}

/// Builds with `ferry build`.
pub struct EngineBuilder<'a> {
    session: &'a Session,
    project: PathBuf,
    environment: BTreeMap<String, String>,
    extra: Vec<String>,
}

impl<'a> EngineBuilder<'a> {
    /// A builder of a project's images.
    pub fn new(session: &'a Session, project: &Project) -> Self {
        let environment =
            project.environment.iter().map(|(name, entry)| (name.to_owned(), entry.value.clone()));
        EngineBuilder {
            session,
            project: project.directory.clone(),
            environment: environment.collect(),
            extra: Vec::new(),
        }
    }
}

impl Builder for EngineBuilder<'_> {
    fn build<'a>(&'a self, request: &'a BuildRequest) -> Running<'a, Result<(), String>> {
        Box::pin(async move {
            let inline = InlineDockerfile::write(request)
                .map_err(|error| format!("cannot write its Dockerfile: {error}"))?;
            let mut words = words(
                request,
                inline.as_ref().map(|file| file.path.as_path()),
                &self.environment,
                &self.project,
            );
            words.splice(0..0, self.extra.iter().cloned());
            match hand_over(self.session, "build", words).await {
                Ok(0) => Ok(()),
                Ok(code) => Err(format!("the build ended with code {code}")),
                Err(failure) => {
                    Err([failure.message].into_iter().chain(failure.causes).collect::<Vec<_>>().join(": "))
                }
            }
        })
    }
}

/// `dockerfile_inline` as a file for the time of the build.
struct InlineDockerfile {
    path: PathBuf,
}

impl InlineDockerfile {
    fn write(request: &BuildRequest) -> std::io::Result<Option<Self>> {
        let Some(text) = &request.build.dockerfile_inline else { return Ok(None) };
        let name = format!("ferry-compose-{}-{}.Dockerfile", std::process::id(), request.service);
        let path = std::env::temp_dir().join(name);
        let mut options = std::fs::OpenOptions::new();
        // An own new file: a link somebody left there is not followed.
        let _ = std::fs::remove_file(&path);
        let mut file = options.write(true).create_new(true).open(&path)?;
        std::io::Write::write_all(&mut file, text.as_bytes())?;
        Ok(Some(InlineDockerfile { path }))
    }
}

impl Drop for InlineDockerfile {
    fn drop(&mut self) {
        // A leftover in the temporary folder harms nobody.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The words of `ferry build` for one service.
fn words(
    request: &BuildRequest,
    inline: Option<&Path>,
    environment: &BTreeMap<String, String>,
    project: &Path,
) -> Vec<String> {
    let build = &request.build;
    let mut words: Vec<String> = Vec::new();
    let mut add = |flag: &str, value: String| words.extend([flag.to_owned(), value]);
    for tag in &request.tags {
        add("-t", tag.clone());
    }
    match (inline, &build.dockerfile) {
        (Some(path), _) => add("-f", path.to_string_lossy().into_owned()),
        (None, Some(dockerfile)) if !build.context.contains("://") => {
            add("-f", Path::new(&build.context).join(dockerfile).to_string_lossy().into_owned());
        }
        (None, Some(dockerfile)) => add("-f", dockerfile.clone()),
        (None, None) => {}
    }
    for (key, value) in &build.args {
        let value = value.clone().or_else(|| environment.get(key).cloned());
        if let Some(value) = value {
            add("--build-arg", format!("{key}={value}"));
        }
    }
    for (key, value) in &build.labels {
        add("--label", format!("{key}={value}"));
    }
    for (flag, value) in
        [("--target", &build.target), ("--network", &build.network), ("--platform", &request.platform)]
    {
        if let Some(value) = value {
            add(flag, value.clone());
        }
    }
    for (name, context) in &build.additional_contexts {
        let context = match context.strip_prefix("service:") {
            Some(service) => format!("docker-image://{}", service_image(project, service)),
            None => context.clone(),
        };
        add("--build-context", format!("{name}={context}"));
    }
    for host in &build.extra_hosts {
        add("--add-host", host.replacen('=', ":", 1));
    }
    for (flag, values) in [
        ("--cache-from", &build.cache_from),
        ("--cache-to", &build.cache_to),
        ("--allow", &build.entitlements),
    ] {
        for value in values {
            add(flag, value.clone());
        }
    }
    for (id, secret) in &request.secrets {
        match (&secret.file, &secret.environment) {
            (Some(file), _) => add("--secret", format!("id={id},src={file}")),
            (None, Some(variable)) => add("--secret", format!("id={id},env={variable}")),
            (None, None) => {}
        }
    }
    for (id, path) in &build.ssh {
        add("--ssh", if path.is_empty() { id.clone() } else { format!("{id}={path}") });
    }
    if let Some(size) = build.shm_size {
        add("--shm-size", size.to_string());
    }
    for (on, flag) in [(request.no_cache, "--no-cache"), (request.pull, "--pull"), (request.quiet, "-q")] {
        if on {
            words.push(flag.to_owned());
        }
    }
    words.push(build.context.clone());
    words
}

/// The image of a service that is another one's context; its name where the file gives it none.
fn service_image(project: &Path, service: &str) -> String {
    let folder = project.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    format!("{}-{service}", ferry_compose::project_name::normalize(&folder))
}

/// Runs `build`.
pub async fn build(compose: &Compose, flags: BuildFlags, services: Vec<String>) -> Outcome {
    let target = compose.target(&services)?;
    compose.check_services(&target, &[], &services)?;
    let selected = target.selected(&services, flags.with_dependencies);
    let mut requests = build_requests(&target, &selected);
    for request in &mut requests {
        request.no_cache |= flags.no_cache;
        request.pull |= flags.pull;
        request.quiet = flags.quiet;
        for argument in &flags.build_arg {
            let (key, value) = match argument.split_once('=') {
                Some((key, value)) => (key, Some(value.to_owned())),
                None => (argument.as_str(), target.project.environment.get(argument).map(str::to_owned)),
            };
            request.build.args.insert(key.to_owned(), value);
        }
        resolve_service_contexts(&target, request);
    }
    let mut builder = EngineBuilder::new(&compose.session, &target.project);
    for (flag, value) in [("--progress", &flags.progress), ("--memory", &flags.memory), ("--ssh", &flags.ssh)]
    {
        if !value.is_empty() {
            builder.extra.extend([flag.to_owned(), value.clone()]);
        }
    }
    if flags.print || compose.globals.dry_run {
        for request in &requests {
            output::line(&format!(
                "build {}",
                words(request, None, &builder.environment, &builder.project).join(" ")
            ))?;
        }
        return Ok(0);
    }
    if requests.is_empty() {
        output::note("no service has a build section: nothing to build");
    }
    for request in &requests {
        if !request.quiet {
            output::note(&format!("Building {}", request.service));
        }
        builder.build(request).await.map_err(|reason| {
            Failure::new(format!("service \"{}\" failed to build: {reason}", request.service))
        })?;
    }
    if flags.push {
        return push_images(compose, &target, &selected, flags.quiet, false).await;
    }
    Ok(0)
}

/// A context that is another service's image is that image by name.
pub fn resolve_service_contexts(target: &Target, request: &mut BuildRequest) {
    for context in request.build.additional_contexts.values_mut() {
        if let Some(service) = context.strip_prefix("service:") {
            *context = format!("docker-image://{}", target.image(service));
        }
    }
}

/// Runs `pull`.
pub async fn pull(compose: &Compose, flags: PullFlags, services: Vec<String>) -> Outcome {
    let target = compose.target(&services)?;
    compose.check_services(&target, &[], &services)?;
    let engine = compose.engine(&target.project.name).await?;
    let printer = compose.progress("pull");
    let mut images: BTreeMap<String, String> = BTreeMap::new();
    for name in target.selected(&services, flags.include_deps || services.is_empty()) {
        let service = &target.services[name];
        let Some(image) = &service.image else {
            printer.state(&format!("Service {name}"), "Skipped - No image to be pulled", Phase::Warning);
            continue;
        };
        let never = matches!(service.pull_policy.as_deref(), Some("never" | "build"));
        if flags.ignore_buildable && service.build.is_some() || never {
            printer.state(&format!("Image {image}"), "Skipped", Phase::Warning);
            continue;
        }
        if flags.policy.as_deref() == Some("missing") && engine.image(image).await?.is_some() {
            printer.state(
                &format!("Image {image}"),
                "Skipped - Image is already present locally",
                Phase::Done,
            );
            continue;
        }
        images.insert(image.clone(), service.platform.clone().unwrap_or_default());
    }
    if compose.globals.dry_run {
        images.keys().try_for_each(|image| output::line(&format!("pull {image}")))?;
        return Ok(0);
    }
    let puller = EnginePuller::new(&compose.session, &engine, flags.quiet);
    let (puller, printer) = (&puller, &printer);
    let pulls = images.iter().map(|(image, platform)| async move {
        let subject = format!("Image {image}");
        printer.state(&subject, "Pulling", Phase::Working);
        let result = puller.pull(image, platform, printer).await;
        let (word, phase) = if result.is_ok() { ("Pulled", Phase::Done) } else { ("Error", Phase::Failed) };
        printer.state(&subject, word, phase);
        result.map_err(|reason| Failure::new(format!("image {image}: {reason}")))
    });
    let failures: Vec<Failure> =
        futures_util::future::join_all(pulls).await.into_iter().filter_map(Result::err).collect();
    match Failure::many(failures) {
        Some(failure) if flags.ignore_pull_failures => {
            output::note(&failure.message);
            Ok(0)
        }
        Some(failure) => Err(failure),
        None => Ok(0),
    }
}

/// Runs `push`.
pub async fn push(compose: &Compose, flags: PushFlags, services: Vec<String>) -> Outcome {
    let target = compose.target(&services)?;
    compose.check_services(&target, &[], &services)?;
    let selected = target.selected(&services, flags.include_deps || services.is_empty());
    push_images(compose, &target, &selected, flags.quiet, flags.ignore_push_failures).await
}

/// Pushes what was built and has a name of its own.
pub async fn push_images(
    compose: &Compose,
    target: &Target,
    services: &[&str],
    quiet: bool,
    ignore: bool,
) -> Outcome {
    let images: BTreeSet<&String> = services
        .iter()
        .filter_map(|name| target.services.get(*name))
        .filter(|service| service.build.is_some())
        .filter_map(|service| service.image.as_ref())
        .collect();
    for image in images {
        let mut words = if quiet { vec!["-q".to_owned()] } else { Vec::new() };
        words.push(image.clone());
        match hand_over(&compose.session, "push", words).await {
            Err(failure) if ignore => output::note(&failure.message),
            other => drop(other?),
        }
    }
    Ok(0)
}
