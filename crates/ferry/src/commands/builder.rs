//! `build` and `builder prune`: packs the context, sends it, shows what the engine says.

use std::fs;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use ferry_api::Call;
use ferry_build::dockerfile::directive::CheckOptions;
use futures_util::stream;
use tokio::sync::mpsc;

use super::build_annotate::Annotations;
use super::build_attest::Wanted;
use super::build_cache::{PruneFlags, UsageFlags, prune, usage};
use super::build_call::{self, Method, Question};
use super::build_export;
use super::build_local::{self, Folders, LocalContext, Place};
use super::build_metadata;
use super::build_output::Export;
use super::build_pack::{append_bytes, pack};
use super::build_platforms::{self, Made, Results};
use super::build_reuse::{self, Reuse};
use super::build_screen::{self, Broken, Built, Form, Shown};
use super::build_source::{Extra, Source, source};
use super::build_verify;
use super::container::options::{device, pairs};
use super::image::registry_config;
use crate::cli::Command;
use crate::command;
use crate::failure::{Failure, Outcome};
use crate::flags::{Bytes as Size, NanoCpus};
use crate::output;
use crate::output::progress::{self, To};
use crate::session::Session;

crate::flags! {
    /// Flags of `build`.
    pub struct BuildFlags {
        allow: Vec<String> = '-' "allow" <strings> "Allow extra privileges (network.host, security.insecure)";
        annotation: Vec<String> = '-' "annotation" <list> "Add annotation to the image ([manifest|manifest-descriptor|index|index-descriptor:]KEY=VALUE)";
        attest: Vec<String> = '-' "attest" <list> "Attestations kept with the image, pushed and exported with it (type=sbom, type=provenance)";
        build_context: Vec<String> = '-' "build-context" <list> "Additional build contexts (name=path, name=docker-image://image)";
        builder: String = '-' "builder" <string> "Override the configured builder instance (default: the engine itself)";
        call: String = '-' "call" <string> "What to do with the Dockerfile: \"build\", \"check\", \"outline\" or \"targets\" (with \",format=json\": as JSON)";
        check: bool = '-' "check" "Check the Dockerfile and build nothing";
        fix: bool = '-' "fix" "With --check: mend what can be mended safely";
        metadata_file: String = '-' "metadata-file" <string> "Write build result metadata to a file";
        no_cache_filter: Vec<String> = '-' "no-cache-filter" <strings> "Do not cache specified stages";
        output: Vec<String> = 'o' "output" <list> "Output destination (format: \"type=local,dest=path\")";
        sbom: String = '-' "sbom" <string> "Shorthand for --attest=type=sbom";
        secret: Vec<String> = '-' "secret" <list> "Secret to expose to the build (format: \"id=mysecret[,src=/local/secret]\")";
        ssh: Vec<String> = '-' "ssh" <list> "SSH agent socket to expose to the build (format: \"default|<id>[=<socket>]\")";
        why_miss: bool = '-' "why-miss" "Say of each step that is not in the cache what changed";
        add_host: Vec<String> = '-' "add-host" <list> "Add a custom host-to-IP mapping (host:ip)";
        build_arg: Vec<String> = '-' "build-arg" <list> "Set build-time variables";
        cache_from: Vec<String> = '-' "cache-from" <strings> "Cache sources (image, type=registry,ref=image, type=local,src=path)";
        cache_to: Vec<String> = '-' "cache-to" <list> "Cache export destinations (type=inline | type=local,dest=path | type=registry,ref=image[,mode=max])";
        cgroup_parent: String = '-' "cgroup-parent" <string> "Set the parent cgroup for the RUN instructions during build";
        compress: bool = '-' "compress" "Compress the build context (no effect: it travels over a local socket)";
        cpu_period: Option<i64> = '-' "cpu-period" <int> "Limit the CPU CFS (Completely Fair Scheduler) period";
        cpu_quota: Option<i64> = '-' "cpu-quota" <int> "Limit the CPU CFS (Completely Fair Scheduler) quota";
        cpu_shares: Option<i64> = 'c' "cpu-shares" <int> "CPU shares (relative weight)";
        cpus: NanoCpus = '-' "cpus" <decimal> "Number of CPUs";
        cpuset_cpus: String = '-' "cpuset-cpus" <string> "CPUs in which to allow execution (0-3, 0,1)";
        cpuset_mems: String = '-' "cpuset-mems" <string> "MEMs in which to allow execution (0-3, 0,1)";
        disable_content_trust: Option<bool> = '-' "disable-content-trust" "Skip image verification (default true)";
        file: String = 'f' "file" <string> "Name of the Dockerfile (default \"PATH/Dockerfile\")";
        force_rm: bool = '-' "force-rm" "Always remove intermediate containers";
        iidfile: String = '-' "iidfile" <string> "Write the image ID to the file";
        isolation: String = '-' "isolation" <string> "Container isolation technology";
        label: Vec<String> = '-' "label" <list> "Set metadata for an image";
        load: bool = '-' "load" "Keep the result as an image (always done)";
        memory: Option<Size> = 'm' "memory" <bytes> "Memory limit";
        memory_swap: Option<Size> = '-' "memory-swap" <bytes> "Swap limit equal to memory plus swap: -1 to enable unlimited swap";
        network: String = '-' "network" <string> "Set the networking mode for the RUN instructions during build";
        no_cache: bool = '-' "no-cache" "Do not use cache when building the image";
        on_error: String = '-' "on-error" <string> "What to do when a command fails (shell: open one in front of it)";
        platform: String = '-' "platform" <string> "Set target platforms for build (os/arch[/variant],...); several make one image for all of them";
        progress: String = '-' "progress" <string> "Type of progress output (auto, tty, plain, rawjson, quiet)";
        provenance: String = '-' "provenance" <string> "Shorthand for --attest=type=provenance";
        pull: bool = '-' "pull" "Always attempt to pull a newer version of the image";
        push: bool = '-' "push" "Push the image when it is built (type=registry)";
        quiet: bool = 'q' "quiet" "Suppress the build output and print image ID on success";
        resource: Vec<String> = '-' "resource" <strings> "Limit the resources of steps (memory, memory-swap, cpu-shares, cpu-period, cpu-quota, cpuset-cpus, cpuset-mems)";
        rm: Option<bool> = '-' "rm" "Remove intermediate containers after a successful build (default true)";
        security_opt: Vec<String> = '-' "security-opt" <strings> "Security options";
        shm_size: Option<Size> = '-' "shm-size" <bytes> "Size of /dev/shm";
        squash: bool = '-' "squash" "Squash newly built layers into a single new layer";
        tag: Vec<String> = 't' "tag" <list> "Name and optionally a tag in the \"name:tag\" format";
        target: String = '-' "target" <string> "Set the target build stage to build";
        ulimit: Vec<String> = '-' "ulimit" <ulimit> "Ulimit options";
        verify: bool = '-' "verify" "Build twice, the second time without the cache, and compare";
    }
}

/// The engine's answer where a folder was named and did not come along.
const MISDIRECTED: u16 = 421;

/// The table.
pub static COMMANDS: &[Command] = &[
    command!(
        ["build", "image build", "builder build", "buildx build"],
        "[OPTIONS] PATH | URL | -",
        "Build an image from a Dockerfile",
        Exactly(1),
        BuildFlags,
        build
    ),
    command!(
        ["builder du", "buildx du"],
        "[OPTIONS]",
        "Show what the build cache holds",
        None,
        UsageFlags,
        usage
    ),
    command!(["builder prune", "buildx prune"], "[OPTIONS]", "Remove build cache", None, PruneFlags, prune),
];

/// Runs `build`.
pub async fn build(session: &Session, flags: BuildFlags, arguments: Vec<String>) -> Outcome {
    let flags = with_resources(flags)?;
    let source = source(session, &flags, &arguments[0])?;
    if let Some(outcome) = build_events(session, &flags, &source).await? {
        return Ok(outcome);
    }
    let quiet = flags.quiet || flags.progress == "quiet";
    let mut call = Call::post("/build").query_if("q", quiet && !flags.quiet);
    let dockerfile = match &source {
        Source::Folder(context) => context.dockerfile.clone(),
        _ if flags.file.is_empty() => "Dockerfile".into(),
        _ => flags.file.clone(),
    };
    call = parameters(call, &flags)?.query("dockerfile", dockerfile);
    let mut packing = None;
    match source {
        Source::Remote(url) => call = call.query("remote", url),
        Source::Text(text) => {
            let mut builder = tar::Builder::new(Vec::new());
            let name = if flags.file.is_empty() { "Dockerfile" } else { &flags.file };
            append_bytes(&mut builder, name, &text)?;
            let body = stream::iter([Ok::<_, io::Error>(Bytes::from(builder.into_inner()?))]);
            call = call.stream("application/x-tar", body);
        }
        Source::Archive(bytes) => {
            let body = stream::iter([Ok::<_, io::Error>(Bytes::from(bytes))]);
            call = call.stream("application/x-tar", body);
        }
        Source::Folder(context) => {
            let (sender, receiver) = mpsc::channel(8);
            packing = Some(tokio::task::spawn_blocking(move || pack(&context, sender)));
            let body = stream::unfold(receiver, async |mut receiver: mpsc::Receiver<io::Result<Bytes>>| {
                receiver.recv().await.map(|piece| (piece, receiver))
            });
            call = call.stream("application/x-tar", body);
        }
    }
    let answer = session.engine().await?.call(call).await;
    let answer = match (answer, packing) {
        (Err(error), Some(packing)) if error.status().is_none() => {
            // A body that breaks off is our doing where packing failed, and then that is the reason.
            packing.await.map_err(|error| Failure::new(error.to_string()))?.map_err(context_failure)?;
            return Err(error.into());
        }
        (answer, _) => answer?,
    };
    // Asked to be quiet, an engine says the id and nothing else.
    let id = match quiet {
        true => progress::hold_back(answer).await?.trim().to_owned(),
        false => {
            let records = progress::show(answer, To::Stdout).await?;
            records.iter().rev().find_map(|record| record["ID"].as_str()).unwrap_or_default().to_owned()
        }
    };
    if quiet {
        output::line(&id)?;
    }
    if !flags.iidfile.is_empty() {
        fs::write(&flags.iidfile, &id)
            .map_err(|error| Failure::from(error).context(&format!("cannot write {}", flags.iidfile)))?;
    }
    Ok(0)
}

/// Builds through `/ferry/build`, or checks the Dockerfile. None where the classic way is to be gone:
/// the engine is elsewhere or another's, or a script reads Docker's texts and asks nothing beyond them.
async fn build_events(
    session: &Session,
    flags: &BuildFlags,
    source: &Source,
) -> Result<Option<i32>, Failure> {
    let Some(local) = local_context(source, flags)? else {
        return match beyond(flags) {
            None => Ok(None),
            Some(flag) => Err(Failure::new(format!("--{flag} does not work with an archive from stdin"))
                .hint("unpack it and name the folder")),
        };
    };
    let question = Question::parse(&flags.call)?;
    if matches!(question.method, Method::Outline | Method::Targets) {
        return build_call::answer(&local, question, flags).map(Some);
    }
    let checks = question.method == Method::Check || flags.check || flags.fix;
    if checks {
        let argument = flags.build_arg.iter().find_map(|arg| arg.strip_prefix("BUILDKIT_DOCKERFILE_CHECK="));
        let options = argument.map(CheckOptions::parse).transpose();
        let options =
            options.map_err(|reason| Failure::new(format!("invalid BUILDKIT_DOCKERFILE_CHECK: {reason}")))?;
        let code = match question.json {
            true => build_local::check_as_json(&local, options.as_ref())?,
            false => build_local::check(&local, flags.fix, options.as_ref())?,
        };
        return Ok(Some(if question.ignore_status { 0 } else { code }));
    }
    let platforms = build_platforms::asked(&flags.platform)?;
    let several = platforms.len() > 1;
    if several && flags.cache_to.iter().any(|to| !to.contains("inline")) {
        return Err(Failure::new("--cache-to of several platforms at once keeps type=inline alone")
            .hint("build each platform by itself for a cache elsewhere"));
    }
    let reachable = session.target()?.host.unix_path().is_some();
    if !several && (!reachable || session.docker_texts && beyond(flags).is_none()) {
        return Ok(None);
    }
    let shown = Shown { form: Form::parse(&flags.progress, flags.quiet)?, why_miss: flags.why_miss };
    if !matches!(flags.on_error.as_str(), "" | "shell") {
        return Err(Failure::new(format!("invalid --on-error {:?}: only shell is known", flags.on_error)));
    }
    let exports = Export::all(&flags.output, flags.push, &flags.tag)?;
    let folders = Folders::open(session, &local, flags).await?;
    let reuse = Reuse::prepare(session, flags).await?;
    let mut request = build_local::request(&local, &folders, flags)?;
    reuse.complete(&mut request);
    let order = Order {
        session,
        dockerfile: &local.dockerfile,
        folders: &folders,
        request: &request,
        registries: registry_config(session)?,
        shown,
        attest: Wanted::parse(flags)?,
        annotations: Annotations::parse(&flags.annotation, &flags.output)?,
        keeps_image: exports.is_empty() || !exports.iter().all(Export::is_files),
    };
    let mut results = Results { all: Vec::new(), attest: order.attest };
    for platform in &platforms {
        // Several images get their names together, when all of them are there.
        let tag = if several { Vec::new() } else { flags.tag.clone() };
        let one = BuildFlags { platform: platform.clone(), tag, ..flags.clone() };
        if several && order.shown.form != Form::Quiet {
            output::note(&format!("building for {platform}"));
        }
        match order.run(&one).await? {
            Ran::Built(built) => {
                results.all.push(Made { platform: platform.clone(), built, flags: one });
            }
            Ran::Broken(broken) => {
                let end = broken.end(session, &flags.on_error).await;
                return end.map(Some).map_err(|failure| build_platforms::explain(failure, platform));
            }
            Ran::Elsewhere if !several && beyond(flags).is_none() => return Ok(None),
            Ran::Elsewhere => return Err(Failure::new("this engine does not build for several platforms")),
        }
    }
    folders.close(session).await?;
    reuse.finish(session, &results.lead().built.cache_image).await?;
    if several {
        results.keep(session, &flags.tag).await?;
    }
    let mut pushed = None;
    for export in &exports {
        pushed = build_export::export(session, &results, export, flags).await?.or(pushed);
    }
    let quiet = order.shown.form == Form::Quiet;
    finish(session, flags, &results, pushed.filter(|_| order.keeps_image), quiet).await?;
    Ok(Some(0))
}

/// What is the same for each platform of a build.
struct Order<'a> {
    session: &'a Session,
    dockerfile: &'a str,
    folders: &'a Folders,
    request: &'a serde_json::Value,
    registries: String,
    shown: Shown,
    attest: Wanted,
    annotations: Annotations,
    keeps_image: bool,
}

/// How the build for one platform ended.
enum Ran {
    Built(Built),
    Broken(Broken),
    /// Not Ferry's engine, or behind something that passes on bytes alone.
    Elsewhere,
}

impl Order<'_> {
    fn call(&self, flags: &BuildFlags) -> Result<Call, Failure> {
        let call = parameters(Call::post("/ferry/build"), flags)?.query("dockerfile", self.dockerfile);
        let call = call.descriptors(Arc::clone(&self.folders.open));
        Ok(call.header("X-Registry-Config", self.registries.as_str()))
    }

    async fn run(&self, flags: &BuildFlags) -> Result<Ran, Failure> {
        let answer = match self.session.engine().await?.call(self.call(flags)?.json(self.request)).await {
            Err(error) if error.is_not_found() || error.status() == Some(MISDIRECTED) => {
                return match beyond(flags) {
                    None => Ok(Ran::Elsewhere),
                    Some(_) => Err(error.into()),
                };
            }
            answer => answer?,
        };
        let built = match build_screen::show(answer, &self.shown).await? {
            Ok(built) => built,
            Err(broken) => return Ok(Ran::Broken(broken)),
        };
        if flags.verify {
            build_verify::verify(self.session, self.call(flags)?, self.request, &built.id, &self.shown)
                .await?;
        }
        if self.attest.any() && self.keeps_image {
            self.attest.keep(self.session, flags, &built).await?;
        }
        if !self.annotations.is_empty() && self.keeps_image {
            self.annotations.keep(self.session, &built.id, &flags.platform).await?;
        }
        Ok(Ran::Built(built))
    }
}

/// What `/ferry/build` is told of a source; None for an archive, which only travels the classic way.
fn local_context(source: &Source, flags: &BuildFlags) -> Result<Option<LocalContext>, Failure> {
    let dockerfile = if flags.file.is_empty() { "Dockerfile".to_owned() } else { flags.file.clone() };
    Ok(match source {
        Source::Archive(_) => None,
        Source::Folder(context) => Some(LocalContext {
            place: Place::Folder(context.folder.clone()),
            dockerfile: context.dockerfile.clone(),
            extra: context.extra.clone(),
        }),
        Source::Text(text) => Some(LocalContext {
            place: Place::Nothing(tempfile::tempdir()?),
            dockerfile,
            extra: Some(Extra { text: text.clone(), ignore: None }),
        }),
        Source::Remote(url) => {
            Some(LocalContext { place: Place::Remote(url.clone()), dockerfile, extra: None })
        }
    })
}

/// The first flag that the classic API has no word for.
fn beyond(flags: &BuildFlags) -> Option<&'static str> {
    [
        ("secret", flags.secret.is_empty()),
        ("ssh", flags.ssh.is_empty()),
        ("output", flags.output.is_empty()),
        ("allow", flags.allow.is_empty()),
        ("build-context", flags.build_context.is_empty()),
        ("no-cache-filter", flags.no_cache_filter.is_empty()),
        ("metadata-file", flags.metadata_file.is_empty()),
        ("cache-to", flags.cache_to.is_empty()),
        ("push", !flags.push),
        ("annotation", flags.annotation.is_empty()),
        ("attest", flags.attest.is_empty()),
        ("sbom", matches!(flags.sbom.as_str(), "" | "false")),
        ("provenance", matches!(flags.provenance.as_str(), "" | "false")),
        ("verify", !flags.verify),
        ("why-miss", !flags.why_miss),
        ("on-error", flags.on_error.is_empty()),
        ("check", !(flags.check || flags.fix)),
        ("call", matches!(flags.call.as_str(), "" | "build")),
    ]
    .into_iter()
    .find_map(|(name, absent)| (!absent).then_some(name))
}

/// What is said and written of a finished build.
async fn finish(
    session: &Session,
    flags: &BuildFlags,
    results: &Results,
    pushed: Option<serde_json::Value>,
    quiet: bool,
) -> Result<(), Failure> {
    let id = &results.lead().built.id;
    if quiet {
        output::line(id)?;
    } else {
        let names =
            if flags.tag.is_empty() { String::new() } else { format!(" as {}", flags.tag.join(", ")) };
        let platforms: Vec<&str> = results.all.iter().map(|made| made.platform.as_str()).collect();
        let platforms =
            if platforms.len() > 1 { format!(" for {}", platforms.join(", ")) } else { String::new() };
        let short = id.trim_start_matches("sha256:").get(..12).unwrap_or(id);
        output::note(&format!("built {short}{names}{platforms}"));
    }
    let write = |path: &str, text: &str| {
        fs::write(path, text).map_err(|error| Failure::from(error).context(&format!("cannot write {path}")))
    };
    if !flags.iidfile.is_empty() {
        write(&flags.iidfile, id)?;
    }
    if !flags.metadata_file.is_empty() {
        let metadata = build_metadata::of(session, flags, results, pushed).await?;
        write(&flags.metadata_file, &format!("{metadata:#}\n"))?;
    }
    Ok(())
}

fn context_failure(error: io::Error) -> Failure {
    Failure::from_error(&error).context("cannot read the build context")
}

fn ulimits(specs: &[String]) -> Result<serde_json::Value, Failure> {
    let limits = device::ulimits(specs).map_err(Failure::new)?;
    Ok(serde_json::json!(limits))
}

/// `--resource NAME=VALUE,...`, buildx's form of the limits.
fn with_resources(mut flags: BuildFlags) -> Result<BuildFlags, Failure> {
    let resources = std::mem::take(&mut flags.resource);
    for text in resources.iter().flat_map(|list| list.split(',')) {
        let wrong = |reason: &str| Failure::new(format!("invalid --resource {text:?}: {reason}"));
        let (name, value) = text.split_once('=').ok_or_else(|| wrong("it is not of the form name=value"))?;
        let size = || Size::parse(value).map(Some).map_err(|reason| wrong(&reason));
        let number = || value.parse().map(Some).map_err(|_| wrong("its value is no number"));
        match name {
            "memory" => flags.memory = size()?,
            "memory-swap" => flags.memory_swap = size()?,
            "cpu-shares" => flags.cpu_shares = number()?,
            "cpu-period" => flags.cpu_period = number()?,
            "cpu-quota" => flags.cpu_quota = number()?,
            "cpuset-cpus" => value.clone_into(&mut flags.cpuset_cpus),
            "cpuset-mems" => value.clone_into(&mut flags.cpuset_mems),
            other => return Err(wrong(&format!("there is no resource {other:?}"))),
        }
    }
    Ok(flags)
}

/// `--cpus` is a share of each period; the longer words win, as in `run`.
fn cpu_time(flags: &BuildFlags) -> (Option<i64>, Option<i64>) {
    match flags.cpus.0 {
        0 => (flags.cpu_period, flags.cpu_quota),
        nanos => {
            let period = flags.cpu_period.unwrap_or(CPU_PERIOD);
            let quota = i128::from(nanos) * i128::from(period) / 1_000_000_000;
            (Some(period), flags.cpu_quota.or(i64::try_from(quota).ok()))
        }
    }
}

/// Microseconds.
const CPU_PERIOD: i64 = 100_000;

fn parameters(mut call: Call, flags: &BuildFlags) -> Result<Call, Failure> {
    for tag in &flags.tag {
        call = call.query("t", tag);
    }
    let own = |name: &str| std::env::var(name).ok();
    let mut build_args = serde_json::Map::new();
    for argument in &flags.build_arg {
        match argument.split_once('=') {
            Some((name, value)) => build_args.insert(name.to_owned(), value.into()),
            None => {
                build_args.insert(argument.clone(), own(argument).map_or(serde_json::Value::Null, Into::into))
            }
        };
    }
    let json = |value: &serde_json::Value| value.to_string();
    if !build_args.is_empty() {
        call = call.query("buildargs", json(&build_args.into()));
    }
    if !flags.label.is_empty() {
        call = call.query("labels", json(&serde_json::json!(pairs(&flags.label))));
    }
    let images = build_reuse::images(&flags.cache_from)?;
    if !images.is_empty() {
        call = call.query("cachefrom", json(&serde_json::json!(images)));
    }
    if !flags.add_host.is_empty() {
        call = call.query("extrahosts", flags.add_host.join(","));
    }
    if !flags.ulimit.is_empty() {
        call = call.query("ulimits", json(&ulimits(&flags.ulimit)?));
    }
    super::builders::check(&flags.builder)?;
    let (period, quota) = cpu_time(flags);
    let number = |value: Option<i64>| value.map(|value| value.to_string()).unwrap_or_default();
    Ok(call
        .query("version", "1")
        .query_if("nocache", flags.no_cache)
        .query_if("pull", flags.pull)
        .query_if("q", flags.quiet)
        .query("rm", if flags.rm.unwrap_or(true) { "1" } else { "0" })
        .query_if("forcerm", flags.force_rm)
        .query_if("squash", flags.squash)
        .query_text("target", &flags.target)
        .query_text("platform", &flags.platform)
        .query_text("networkmode", &flags.network)
        .query_text("memory", &number(flags.memory.map(|size| size.0)))
        .query_text("memswap", &number(flags.memory_swap.map(|size| size.0)))
        .query_text("shmsize", &number(flags.shm_size.map(|size| size.0)))
        .query_text("cpushares", &number(flags.cpu_shares))
        .query_text("cpuperiod", &number(period))
        .query_text("cpuquota", &number(quota))
        .query_text("cpusetcpus", &flags.cpuset_cpus)
        .query_text("cpusetmems", &flags.cpuset_mems)
        .query_text("cgroupparent", &flags.cgroup_parent))
}
