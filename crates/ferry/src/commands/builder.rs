//! `build` and `builder prune`: packs the context, sends it, shows what the engine says.

use std::fs;
use std::io::{self, Read as _, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use ferry_api::Call;
use ferry_build::ignore::{Ignore, Verdict};
use futures_util::stream;
use tokio::sync::mpsc;

use super::build_local::{self, Export, LocalContext, Shown};
use super::container::options::pairs;
use super::{confirm, filters, system};
use crate::cli::Command;
use crate::command;
use crate::failure::{Failure, Outcome};
use crate::flags::{Bytes as Size, NanoCpus};
use crate::output::progress::{self, To};
use crate::output::{self, units};
use crate::session::Session;

crate::flags! {
    /// Flags of `build`.
    pub struct BuildFlags {
        allow: Vec<String> = '-' "allow" <strings> "Allow extra privileges (network.host, security.insecure)";
        build_context: Vec<String> = '-' "build-context" <list> "Additional build contexts (name=path, name=docker-image://image)";
        check: bool = '-' "check" "Check the Dockerfile and build nothing";
        fix: bool = '-' "fix" "With --check: mend what can be mended safely";
        metadata_file: String = '-' "metadata-file" <string> "Write build result metadata to a file";
        no_cache_filter: Vec<String> = '-' "no-cache-filter" <strings> "Do not cache specified stages";
        output: Vec<String> = 'o' "output" <list> "Output destination (format: \"type=local,dest=path\")";
        secret: Vec<String> = '-' "secret" <list> "Secret to expose to the build (format: \"id=mysecret[,src=/local/secret]\")";
        ssh: Vec<String> = '-' "ssh" <list> "SSH agent socket to expose to the build (format: \"default|<id>[=<socket>]\")";
        why_miss: bool = '-' "why-miss" "Say of each step that is not in the cache what changed";
        add_host: Vec<String> = '-' "add-host" <list> "Add a custom host-to-IP mapping (host:ip)";
        build_arg: Vec<String> = '-' "build-arg" <list> "Set build-time variables";
        cache_from: Vec<String> = '-' "cache-from" <strings> "Images to consider as cache sources";
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
        platform: String = '-' "platform" <string> "Set platform if server is multi-platform capable";
        progress: String = '-' "progress" <string> "Type of progress output (auto, plain, quiet)";
        pull: bool = '-' "pull" "Always attempt to pull a newer version of the image";
        quiet: bool = 'q' "quiet" "Suppress the build output and print image ID on success";
        rm: Option<bool> = '-' "rm" "Remove intermediate containers after a successful build (default true)";
        security_opt: Vec<String> = '-' "security-opt" <strings> "Security options";
        shm_size: Option<Size> = '-' "shm-size" <bytes> "Size of /dev/shm";
        squash: bool = '-' "squash" "Squash newly built layers into a single new layer";
        tag: Vec<String> = 't' "tag" <list> "Name and optionally a tag in the \"name:tag\" format";
        target: String = '-' "target" <string> "Set the target build stage to build";
        ulimit: Vec<String> = '-' "ulimit" <ulimit> "Ulimit options";
    }
}

crate::flags! {
    /// Flags of `builder prune`.
    pub struct PruneFlags {
        all: bool = 'a' "all" "Remove all unused build cache, not just dangling ones";
        filter: Vec<String> = '-' "filter" <filter> "Provide filter values (e.g. \"until=24h\")";
        force: bool = 'f' "force" "Do not prompt for confirmation";
        keep_storage: Option<Size> = '-' "keep-storage" <bytes> "Amount of disk space to keep for cache";
    }
}

crate::flags! {
    /// Flags of `builder du`.
    pub struct UsageFlags {
        verbose: bool = '-' "verbose" "Show every record in full";
    }
}

/// The table.
pub static COMMANDS: &[Command] = &[
    command!(
        ["build", "image build", "builder build"],
        "[OPTIONS] PATH | URL | -",
        "Build an image from a Dockerfile",
        Exactly(1),
        BuildFlags,
        build
    ),
    command!(
        ["builder du", "builder ls"],
        "[OPTIONS]",
        "Show what the build cache holds",
        None,
        UsageFlags,
        usage
    ),
    command!(["builder prune"], "[OPTIONS]", "Remove build cache", None, PruneFlags, prune),
];

/// A context ready to be packed.
struct Context {
    folder: PathBuf,
    /// The Dockerfile's name in the archive.
    dockerfile: String,
    /// A Dockerfile that lies outside of the folder, or came from stdin.
    extra: Option<Vec<u8>>,
    ignore: Ignore,
}

/// What is sent.
enum Source {
    Folder(Context),
    /// A tar or a lone Dockerfile from stdin, already as an archive.
    Archive(Vec<u8>),
    /// The engine fetches it.
    Remote(String),
}

/// The name that a Dockerfile from elsewhere has in the archive.
const EXTRA_NAME: &str = ".dockerfile.ferry";
/// Most that is read from stdin as a context: what does not fit belongs into a folder.
const MAX_STDIN: u64 = 2 * 1024 * 1024 * 1024;

/// Runs `build`.
pub async fn build(session: &Session, flags: BuildFlags, arguments: Vec<String>) -> Outcome {
    let source = source(session, &flags, &arguments[0])?;
    if let Source::Folder(context) = &source
        && let Some(outcome) = build_folder(session, &flags, context).await?
    {
        return Ok(outcome);
    }
    let mut call = Call::post("/build");
    let dockerfile = match &source {
        Source::Folder(context) => context.dockerfile.clone(),
        _ if flags.file.is_empty() => "Dockerfile".into(),
        _ => flags.file.clone(),
    };
    call = parameters(call, &flags)?.query("dockerfile", dockerfile);
    let mut packing = None;
    match source {
        Source::Remote(url) => call = call.query("remote", url),
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
    let quiet = flags.quiet || flags.progress == "quiet";
    let answer = session.engine().await?.call(call).await;
    let answer = match (answer, packing) {
        (Err(error), Some(packing)) if error.status().is_none() => {
            // A body that breaks off is our doing where packing failed, and then that is the reason.
            packing.await.map_err(|error| Failure::new(error.to_string()))?.map_err(context_failure)?;
            return Err(error.into());
        }
        (answer, _) => answer?,
    };
    let records = progress::show(answer, if quiet { To::Nowhere } else { To::Stdout }).await?;
    let id = records.iter().rev().find_map(|record| record["ID"].as_str()).unwrap_or_default();
    if quiet {
        output::line(id)?;
    }
    if !flags.iidfile.is_empty() {
        fs::write(&flags.iidfile, id)
            .map_err(|error| Failure::from(error).context(&format!("cannot write {}", flags.iidfile)))?;
    }
    Ok(0)
}

/// Builds a folder where it lies, or checks its Dockerfile. None where the classic way is to be gone:
/// the engine is elsewhere or another's, or a script reads Docker's texts and asks nothing beyond them.
async fn build_folder(
    session: &Session,
    flags: &BuildFlags,
    context: &Context,
) -> Result<Option<i32>, Failure> {
    let local = LocalContext {
        folder: context.folder.clone(),
        dockerfile: context.dockerfile.clone(),
        extra: context.extra.clone(),
    };
    if flags.check || flags.fix {
        return build_local::check(&local, flags.fix).map(Some);
    }
    let beyond = !(flags.secret.is_empty()
        && flags.ssh.is_empty()
        && flags.output.is_empty()
        && flags.allow.is_empty()
        && flags.build_context.is_empty()
        && flags.no_cache_filter.is_empty()
        && flags.metadata_file.is_empty());
    let reachable = session.target()?.host.unix_path().is_some();
    if !reachable || session.docker_texts && !beyond {
        return Ok(None);
    }
    let exports = flags.output.iter().map(|text| Export::parse(text)).collect::<Result<Vec<_>, _>>()?;
    let call = parameters(Call::post("/ferry/build"), flags)?
        .query("dockerfile", &context.dockerfile)
        .json(&build_local::request(&local, flags)?);
    let answer = match session.engine().await?.call(call).await {
        Err(error) if error.is_not_found() && !beyond => return Ok(None),
        answer => answer?,
    };
    let shown = Shown { quiet: flags.quiet || flags.progress == "quiet", why_miss: flags.why_miss };
    let id = build_local::show(answer, &shown).await?;
    for export in &exports {
        build_local::export(session, &id, export).await?;
    }
    finish(flags, &id, shown.quiet)?;
    Ok(Some(0))
}

/// What is said and written of a finished build.
fn finish(flags: &BuildFlags, id: &str, quiet: bool) -> Result<(), Failure> {
    if quiet {
        output::line(id)?;
    } else {
        let names =
            if flags.tag.is_empty() { String::new() } else { format!(" as {}", flags.tag.join(", ")) };
        output::note(&format!("built {}{names}", id.trim_start_matches("sha256:").get(..12).unwrap_or(id)));
    }
    let write = |path: &str, text: &str| {
        fs::write(path, text).map_err(|error| Failure::from(error).context(&format!("cannot write {path}")))
    };
    if !flags.iidfile.is_empty() {
        write(&flags.iidfile, id)?;
    }
    if !flags.metadata_file.is_empty() {
        let metadata = serde_json::json!({
            "containerimage.config.digest": id,
            "containerimage.digest": id,
            "image.name": flags.tag.join(","),
        });
        write(&flags.metadata_file, &format!("{metadata:#}\n"))?;
    }
    Ok(())
}

fn context_failure(error: io::Error) -> Failure {
    Failure::from_error(&error).context("cannot read the build context")
}

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
    if !flags.cache_from.is_empty() {
        call = call.query("cachefrom", json(&serde_json::json!(flags.cache_from)));
    }
    if !flags.add_host.is_empty() {
        call = call.query("extrahosts", flags.add_host.join(","));
    }
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
        .query_text("cpuperiod", &number(flags.cpu_period))
        .query_text("cpuquota", &number(flags.cpu_quota))
        .query_text("cpusetcpus", &flags.cpuset_cpus)
        .query_text("cpusetmems", &flags.cpuset_mems)
        .query_text("cgroupparent", &flags.cgroup_parent))
}

fn source(session: &Session, flags: &BuildFlags, argument: &str) -> Result<Source, Failure> {
    let remote = ["http://", "https://", "git://", "git@", "github.com/"];
    if remote.iter().any(|prefix| argument.starts_with(prefix)) {
        return Ok(Source::Remote(argument.to_owned()));
    }
    if argument == "-" {
        if flags.file == "-" {
            return Err(Failure::new(
                "invalid argument: can't use stdin for both build context and dockerfile",
            ));
        }
        return Ok(Source::Archive(stdin_archive(&flags.file)?));
    }
    if argument.is_empty() {
        return Err(Failure::new("the path of the build context is empty (an unset variable?)"));
    }
    let folder = PathBuf::from(argument);
    let metadata = fs::metadata(&folder)
        .map_err(|_| Failure::new(format!("unable to prepare context: path {argument:?} not found")))?;
    if !metadata.is_dir() {
        return Err(Failure::new(format!(
            "unable to prepare context: {argument:?} is a file, and a folder is wanted"
        ))
        .hint(format!(
            "{} build -f {argument} {}",
            session.called,
            folder.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new(".")).display()
        )));
    }
    local(session, flags, folder)
}

fn local(session: &Session, flags: &BuildFlags, folder: PathBuf) -> Result<Source, Failure> {
    let (dockerfile, extra) = match flags.file.as_str() {
        "" => (default_dockerfile(session, &folder)?, None),
        "-" => {
            let mut text = Vec::new();
            io::stdin().take(MAX_STDIN).read_to_end(&mut text)?;
            (EXTRA_NAME.to_owned(), Some(text))
        }
        file => named_dockerfile(&folder, file)?,
    };
    let ignore = read_ignore(&folder, &dockerfile)?;
    Ok(Source::Folder(Context { folder, dockerfile, extra, ignore }))
}

fn default_dockerfile(session: &Session, folder: &Path) -> Result<String, Failure> {
    if folder.join("Dockerfile").is_file() {
        return Ok("Dockerfile".into());
    }
    let mut failure =
        Failure::new(format!("unable to prepare context: there is no Dockerfile in {}", folder.display()));
    let near = fs::read_dir(folder).ok().into_iter().flatten().flatten().find_map(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        name.to_lowercase().starts_with("dockerfile").then_some(name)
    });
    if let Some(name) = near {
        let file = folder.join(&name);
        failure = failure.hint(format!(
            "{name:?} is there: {} build -f {} {}",
            session.called,
            file.display(),
            folder.display()
        ));
    }
    Err(failure)
}

/// A Dockerfile named by `-f`: its path in the context, or its contents where it lies elsewhere.
fn named_dockerfile(folder: &Path, file: &str) -> Result<(String, Option<Vec<u8>>), Failure> {
    let failed = |error: io::Error| {
        Failure::from_error(&error)
            .context(&format!("unable to prepare context: cannot read the Dockerfile {file:?}"))
    };
    let found = [PathBuf::from(file), folder.join(file)].into_iter().find(|path| path.is_file());
    let Some(path) = found else {
        return Err(failed(io::ErrorKind::NotFound.into()));
    };
    let full = path.canonicalize().map_err(failed)?;
    let root = folder.canonicalize().map_err(failed)?;
    match full.strip_prefix(&root) {
        Ok(inside) => Ok((inside.to_string_lossy().into_owned(), None)),
        Err(_) => Ok((EXTRA_NAME.to_owned(), Some(fs::read(&path).map_err(failed)?))),
    }
}

/// The Dockerfile's own `.dockerignore`, or the context's.
pub fn read_ignore(folder: &Path, dockerfile: &str) -> Result<Ignore, Failure> {
    for name in [format!("{dockerfile}.dockerignore"), ".dockerignore".to_owned()] {
        match fs::read_to_string(folder.join(&name)) {
            Ok(text) => {
                return Ignore::parse(&text)
                    .map_err(|error| Failure::from_error(&error).context(&format!("cannot use {name}")));
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(Failure::from_error(&error).context(&format!("cannot read {name}"))),
        }
    }
    Ok(Ignore::default())
}

/// Stdin as an archive: it may be one already, packed or not, or a lone Dockerfile.
fn stdin_archive(file: &str) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    io::stdin().take(MAX_STDIN).read_to_end(&mut bytes)?;
    let magic: [&[u8]; 4] =
        [&[0x1f, 0x8b], b"BZh", &[0xfd, b'7', b'z', b'X', b'Z'], &[0x28, 0xb5, 0x2f, 0xfd]];
    let is_tar = bytes.get(257..262) == Some(b"ustar");
    if is_tar || magic.iter().any(|magic| bytes.starts_with(magic)) {
        return Ok(bytes);
    }
    if bytes.is_empty() {
        return Err(Failure::new("the Dockerfile from stdin is empty"));
    }
    let name = if file.is_empty() { "Dockerfile" } else { file };
    let mut builder = tar::Builder::new(Vec::new());
    append_bytes(&mut builder, name, &bytes)?;
    Ok(builder.into_inner()?)
}

fn append_bytes(builder: &mut tar::Builder<impl Write>, name: &str, bytes: &[u8]) -> io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(bytes.len() as u64);
    header.set_mode(0o600);
    builder.append_data(&mut header, name, bytes)
}

struct Pieces {
    sender: mpsc::Sender<io::Result<Bytes>>,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = Bytes::copy_from_slice(bytes);
        self.sender.blocking_send(Ok(piece)).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Packs a context; a failure also breaks off the body, so that the engine does not build from half of it.
fn pack(context: &Context, sender: mpsc::Sender<io::Result<Bytes>>) -> io::Result<()> {
    let pieces = io::BufWriter::with_capacity(256 * 1024, Pieces { sender: sender.clone() });
    let result = write_archive(context, pieces);
    match result {
        // The engine has refused already and says why.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        Err(error) => {
            let _ = sender.blocking_send(Err(io::Error::new(error.kind(), error.to_string())));
            Err(error)
        }
        Ok(()) => Ok(()),
    }
}

fn write_archive(context: &Context, out: impl Write) -> io::Result<()> {
    let mut builder = tar::Builder::new(out);
    builder.follow_symlinks(false);
    if let Some(text) = &context.extra {
        append_bytes(&mut builder, &context.dockerfile, text)?;
    }
    add_folder(&mut builder, context, Path::new(""), &context.ignore.root())?;
    builder.into_inner()?.flush()
}

fn add_folder<W: Write>(
    builder: &mut tar::Builder<W>,
    context: &Context,
    inside: &Path,
    verdict: &Verdict,
) -> io::Result<()> {
    let mut entries: Vec<_> = fs::read_dir(context.folder.join(inside))?.collect::<io::Result<_>>()?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = inside.join(entry.file_name());
        let bytes = path.as_os_str().as_encoded_bytes();
        let verdict = context.ignore.judge(verdict, bytes);
        // Docker sends these two whatever the patterns say: the engine needs them.
        let needed = context.extra.is_none() && path == Path::new(&context.dockerfile)
            || path == Path::new(".dockerignore");
        let kind = entry.file_type()?;
        if verdict.ignored && !needed && !(kind.is_dir() && leads_to(&path, &context.dockerfile)) {
            if !kind.is_dir() || context.ignore.can_skip(bytes, &verdict) {
                continue;
            }
            add_folder(builder, context, &path, &verdict)?;
            continue;
        }
        add_entry(builder, &context.folder.join(&path), &path, kind)?;
        if kind.is_dir() {
            add_folder(builder, context, &path, &verdict)?;
        }
    }
    Ok(())
}

fn leads_to(folder: &Path, dockerfile: &str) -> bool {
    Path::new(dockerfile).starts_with(folder)
}

fn add_entry<W: Write>(
    builder: &mut tar::Builder<W>,
    source: &Path,
    name: &Path,
    kind: fs::FileType,
) -> io::Result<()> {
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", source.display()));
    let metadata = fs::symlink_metadata(source).map_err(named)?;
    let mut header = tar::Header::new_gnu();
    header.set_metadata(&metadata);
    // Who owns the files here means nothing in the image.
    header.set_uid(0);
    header.set_gid(0);
    if kind.is_dir() {
        builder.append_data(&mut header, name, io::empty())
    } else if kind.is_symlink() {
        builder.append_link(&mut header, name, fs::read_link(source).map_err(named)?)
    } else if kind.is_file() {
        let file = fs::File::open(source).map_err(named)?;
        builder.append_data(&mut header, name, file.take(metadata.len())).map_err(named)
    } else {
        Ok(())
    }
}

/// Runs `builder du`.
pub async fn usage(session: &Session, flags: UsageFlags, _arguments: Vec<String>) -> Outcome {
    const WIDTH: usize = 60;
    let records: Vec<serde_json::Value> =
        session.engine().await?.call(Call::get("/ferry/build/cache")).await?.json().await?;
    let mut total = 0;
    output::line(&format!("{:<14}{:>10}  {:>4}  {:<6}  STEP", "ID", "SIZE", "USES", "SHARED"))?;
    for record in &records {
        let size = record["Size"].as_i64().unwrap_or(0);
        total += size;
        let id = record["Id"].as_str().unwrap_or_default();
        let step = record["Description"].as_str().unwrap_or_default().replace('\n', " ");
        let (id, step) = match flags.verbose {
            true => (id.to_owned(), step),
            false => (id.chars().take(12).collect(), step.chars().take(WIDTH).collect()),
        };
        let shared = if record["Shared"].as_bool().unwrap_or(false) { "yes" } else { "no" };
        let uses = record["Uses"].as_u64().unwrap_or(0);
        output::line(&format!("{id:<14}{:>10}  {uses:>4}  {shared:<6}  {step}", units::size(size)))?;
    }
    output::line(&format!("Total:\t{}", units::size(total)))?;
    Ok(0)
}

/// Runs `builder prune`.
pub async fn prune(session: &Session, flags: PruneFlags, _arguments: Vec<String>) -> Outcome {
    let what = if flags.all { "all build cache" } else { "all dangling build cache" };
    let question = format!("WARNING! This will remove {what}.\nAre you sure you want to continue?");
    if !flags.force && !confirm(&question)? {
        return Ok(0);
    }
    let reclaimed = system::prune_cache(session, &filters(&flags.filter)?, flags.all).await?;
    output::line(&format!("Total:\t{}", units::size4(reclaimed as i64)))?;
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_leave_out_what_is_ignored() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        fs::create_dir_all(root.join("node_modules/deep")).unwrap();
        fs::create_dir_all(root.join("docker")).unwrap();
        for (name, text) in [
            ("docker/Dockerfile", "FROM scratch"),
            (".dockerignore", "node_modules\n!node_modules/deep/kept\n*.log\ndocker\n"),
            ("app.py", "print()"),
            ("a.log", "x"),
            ("node_modules/left", "x"),
            ("node_modules/deep/kept", "x"),
        ] {
            fs::write(root.join(name), text).unwrap();
        }
        let ignore = read_ignore(root, "docker/Dockerfile").unwrap();
        let context =
            Context { folder: root.into(), dockerfile: "docker/Dockerfile".into(), extra: None, ignore };
        let mut archive = Vec::new();
        write_archive(&context, &mut archive).unwrap();
        let mut names: Vec<String> = tar::Archive::new(&archive[..])
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().to_string_lossy().into_owned())
            .collect();
        names.sort();
        assert_eq!(
            names,
            [".dockerignore", "app.py", "docker", "docker/Dockerfile", "node_modules/deep/kept"]
        );
    }
}
