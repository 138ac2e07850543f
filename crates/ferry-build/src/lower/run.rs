//! RUN: a command with its environment, mounts, network and isolation.

use super::error::{LowerError, LowerErrorKind};
use super::metadata::with_shell;
use super::options::PREDEFINED_ARGS;
use super::plan::{Origin, origin};
use super::stage::{StageState, folder, image_vertex};
use super::{CONTEXT, Context};
use crate::dockerfile::ast::{CommandForm, Instruction, Run, Word};
use crate::dockerfile::mount::{self, MountType, Sharing};
use crate::dockerfile::word::{HeredocStart, split_blank};
use crate::llb::ops::{
    Action, CacheOpt, CacheSharing, ExecOp, FileAction, FileActionMkFile, FileOp, Kind, Meta, Mount,
    MountType as LlbMountType, NetMode, ProxyEnv, SecretEnv, SecretOpt, SecurityMode, SshOpt, TmpfsOpt,
};
use crate::llb::{VertexId, VertexInfo};

/// Where a script given as a heredoc stands in the container.
const PIPES: &str = "/dev/pipes";

/// Permissions of the script.
const SCRIPT_MODE: i32 = 0o755;

/// What is gathered for one command.
struct Command {
    inputs: Vec<VertexId>,
    mounts: Vec<Mount>,
    secret_env: Vec<SecretEnv>,
}

impl Command {
    fn input(&mut self, vertex: VertexId) -> i64 {
        let index = self.inputs.iter().position(|input| *input == vertex).unwrap_or_else(|| {
            self.inputs.push(vertex);
            self.inputs.len() - 1
        });
        i64::try_from(index).expect("a command has few inputs")
    }
}

/// Lowers a RUN.
pub fn lower(
    context: &mut Context<'_>,
    state: &mut StageState,
    instruction: &Instruction,
    run: &Run,
    mut info: VertexInfo,
) -> Result<(), LowerError> {
    let mut command = Command { inputs: Vec::new(), mounts: Vec::new(), secret_env: Vec::new() };
    let root_input = state.root.map_or(-1, |root| command.input(root));
    command.mounts.push(Mount { input: root_input, dest: "/".to_owned(), output: 0, ..Mount::default() });
    let arguments = arguments(context, state, run, &mut command);
    for word in &run.mounts {
        add_mount(context, state, word, &mut command)?;
    }
    if !run.devices.is_empty() {
        let kind = LowerErrorKind::Unsupported("RUN --device".to_owned());
        return Err(LowerError::new(run.devices[0].span, kind));
    }
    let history = history_text(state, &arguments);
    if let Some(heredoc) = run.heredocs.first() {
        info.name = format!("{} ({})", info.name, summary(&heredoc.content));
    }
    let meta = Meta {
        args: arguments,
        env: state.scope.process_env(),
        cwd: state.working_directory().to_owned(),
        user: state.image.config.user.clone(),
        proxy_env: proxies(context),
        extra_hosts: context.options.extra_hosts.clone(),
        hostname: hostname(context),
        ulimits: context.options.resources.ulimits.clone(),
        cgroup_parent: context.options.resources.cgroup_parent.clone().unwrap_or_default(),
    };
    let exec = ExecOp {
        meta: Some(meta),
        mounts: command.mounts,
        network: network(context, run, instruction)? as i32,
        security: security(context, run)? as i32,
        secret_env: command.secret_env,
    };
    let vertex = context.graph.add(command.inputs, Kind::Exec(exec), info);
    state.advance(vertex, history);
    Ok(())
}

/// The words that are run; heredocs become the shell's input, or a script of their own.
fn arguments(context: &mut Context<'_>, state: &StageState, run: &Run, command: &mut Command) -> Vec<String> {
    let line = match (&run.command.form, run.heredocs.first()) {
        (CommandForm::Exec(_), _) | (_, None) => return with_shell(&run.command.form, &state.shell),
        (CommandForm::Shell(line), Some(_)) => line,
    };
    let alone = split_blank(line).len() == 1 && HeredocStart::parse(line.trim()).is_some();
    if !alone {
        let bodies: String =
            run.heredocs.iter().map(|heredoc| format!("\n{}{}", heredoc.content, heredoc.name)).collect();
        return with_shell(&CommandForm::Shell(format!("{line}{bodies}")), &state.shell);
    }
    let heredoc = &run.heredocs[0];
    if !heredoc.content.starts_with("#!") {
        return with_shell(&CommandForm::Shell(heredoc.content.clone()), &state.shell);
    }
    let file = FileActionMkFile {
        path: format!("/{}", heredoc.name),
        mode: SCRIPT_MODE,
        data: heredoc.content.clone().into_bytes(),
        owner: None,
        timestamp: -1,
    };
    let script = scratch_file(context, file, format!("[internal] script {}", heredoc.name));
    let input = command.input(script);
    command.mounts.push(Mount {
        input,
        selector: "/".to_owned(),
        dest: PIPES.to_owned(),
        output: -1,
        readonly: true,
        ..Mount::default()
    });
    vec![format!("{PIPES}/{}", heredoc.name)]
}

/// A tree with one file.
pub fn scratch_file(context: &mut Context<'_>, file: FileActionMkFile, name: String) -> VertexId {
    let action = FileAction { input: -1, secondary_input: -1, output: 0, action: Some(Action::Mkfile(file)) };
    let info = VertexInfo { name, ignore_cache: false, span: None };
    context.graph.add(Vec::new(), Kind::File(FileOp { actions: vec![action] }), info)
}

fn add_mount(
    context: &mut Context<'_>,
    state: &mut StageState,
    word: &Word,
    command: &mut Command,
) -> Result<(), LowerError> {
    let refuse = |kind| LowerError::new(word.span, kind);
    let raw_from = mount::split_csv(&word.value)
        .unwrap_or_default()
        .into_iter()
        .find_map(|field| field.trim().strip_prefix("from=").map(str::to_owned));
    if let Some(from) = raw_from.filter(|from| from.contains('$')) {
        return Err(refuse(LowerErrorKind::MountFromVariable(from)));
    }
    let text = state.expand(word)?;
    let parsed =
        mount::Mount::parse(&text).map_err(|error| refuse(LowerErrorKind::Mount(error.to_string())))?;
    let mut mount = Mount { input: -1, output: -1, dest: target(state, &parsed), ..Mount::default() };
    match parsed.mount_type {
        MountType::Bind => {
            let source = mount_source(context, state, &parsed, word)?;
            mount.input = match source {
                Some(vertex) => command.input(vertex),
                None => -1,
            };
            mount.selector = parsed.source.clone().unwrap_or_else(|| "/".to_owned());
            mount.readonly = !parsed.writable.unwrap_or(false);
        }
        MountType::Cache => {
            if parsed.from.is_some() {
                let source = mount_source(context, state, &parsed, word)?;
                mount.input = source.map_or(-1, |vertex| command.input(vertex));
                mount.selector = parsed.source.clone().unwrap_or_else(|| "/".to_owned());
            }
            mount.mount_type = LlbMountType::Cache as i32;
            mount.readonly = !parsed.writable.unwrap_or(true);
            mount.cache = Some(CacheOpt {
                id: cache_id(context, &parsed, &mount.dest),
                mode: parsed.mode.unwrap_or(0o755),
                uid: parsed.uid.unwrap_or(0),
                gid: parsed.gid.unwrap_or(0),
                sharing: sharing(&parsed) as i32,
            });
        }
        MountType::Tmpfs => {
            mount.mount_type = LlbMountType::Tmpfs as i32;
            mount.tmpfs = Some(TmpfsOpt { size: parsed.size.unwrap_or(0) });
        }
        MountType::Secret => {
            let id = secret_id(&parsed);
            if let Some(name) = &parsed.env {
                command.secret_env.push(SecretEnv {
                    id: id.clone(),
                    name: name.clone(),
                    optional: !parsed.required,
                });
                if parsed.target.is_none() {
                    return Ok(());
                }
            }
            if mount.dest.is_empty() {
                mount.dest = format!("/run/secrets/{id}");
            }
            mount.mount_type = LlbMountType::Secret as i32;
            mount.secret = Some(SecretOpt {
                id,
                uid: parsed.uid.unwrap_or(0),
                gid: parsed.gid.unwrap_or(0),
                mode: parsed.mode.unwrap_or(0o400),
                optional: !parsed.required,
            });
        }
        MountType::Ssh => {
            let number = command.mounts.iter().filter(|mount| mount.ssh.is_some()).count();
            if mount.dest.is_empty() {
                mount.dest = format!("/run/buildkit/ssh_agent.{number}");
            }
            mount.mount_type = LlbMountType::Ssh as i32;
            mount.ssh = Some(SshOpt {
                id: parsed.id.clone().unwrap_or_else(|| "default".to_owned()),
                uid: parsed.uid.unwrap_or(0),
                gid: parsed.gid.unwrap_or(0),
                mode: parsed.mode.unwrap_or(0o600),
                optional: !parsed.required,
            });
        }
    }
    command.mounts.push(mount);
    Ok(())
}

fn target(state: &StageState, parsed: &mount::Mount) -> String {
    match parsed.target.as_deref() {
        None | Some("") => String::new(),
        Some(target) => crate::path::join(state.working_directory(), target),
    }
}

fn mount_source(
    context: &mut Context<'_>,
    state: &StageState,
    parsed: &mount::Mount,
    word: &Word,
) -> Result<Option<VertexId>, LowerError> {
    let Some(from) = &parsed.from else {
        return Ok(Some(folder(context, CONTEXT.trim_start_matches("local://"))));
    };
    let from = Word { value: from.clone(), span: word.span };
    tree_of(context, state, &from)
}

/// The tree that a `from` names; `None` is an empty one.
pub fn tree_of(
    context: &mut Context<'_>,
    state: &StageState,
    from: &Word,
) -> Result<Option<VertexId>, LowerError> {
    if from.value == "scratch" {
        return Ok(None);
    }
    Ok(match origin(context.dockerfile, context.options, state.stage_index, from, &state.platform)? {
        Origin::Scratch => None,
        Origin::Stage(index) => context.states[&index].root,
        Origin::Folder(name) => Some(folder(context, &name)),
        Origin::Image(request) => {
            let name = format!("[internal] load image {}", request.name);
            Some(image_vertex(context, &request, name))
        }
    })
}

fn cache_id(context: &Context<'_>, parsed: &mount::Mount, dest: &str) -> String {
    let id = parsed.id.clone().unwrap_or_else(|| dest.to_owned());
    match context.options.build_args.get("BUILDKIT_CACHE_MOUNT_NS") {
        Some(Some(space)) if !space.is_empty() => format!("{space}/{id}"),
        _ => id,
    }
}

fn sharing(parsed: &mount::Mount) -> CacheSharing {
    match parsed.sharing {
        Sharing::Shared => CacheSharing::Shared,
        Sharing::Private => CacheSharing::Private,
        Sharing::Locked => CacheSharing::Locked,
    }
}

fn secret_id(parsed: &mount::Mount) -> String {
    let target = parsed.target.as_deref().unwrap_or_default();
    parsed.id.clone().unwrap_or_else(|| target.rsplit('/').next().unwrap_or(target).to_owned())
}

/// Build arguments that name proxies; no part of the cache key.
fn proxies(context: &Context<'_>) -> Option<ProxyEnv> {
    let value = |name: &str| {
        let given = context.options.build_args.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        given.and_then(|(_, value)| value.clone()).unwrap_or_default()
    };
    let [http_proxy, https_proxy, ftp_proxy, no_proxy, all_proxy] = PREDEFINED_ARGS.map(value);
    let proxies = ProxyEnv { http_proxy, https_proxy, ftp_proxy, no_proxy, all_proxy };
    (proxies != ProxyEnv::default()).then_some(proxies)
}

fn hostname(context: &Context<'_>) -> String {
    match context.options.build_args.get("BUILDKIT_SANDBOX_HOSTNAME") {
        Some(Some(name)) => name.clone(),
        _ => String::new(),
    }
}

fn network(context: &Context<'_>, run: &Run, instruction: &Instruction) -> Result<NetMode, LowerError> {
    let mode = match run.network.as_ref().map(|word| word.value.as_str()) {
        Some("host") => NetMode::Host,
        Some("none") => NetMode::None,
        _ => context.options.network,
    };
    // `--network host` of the whole build is the caller's own word; a Dockerfile's needs --allow.
    let asked_by_file = run.network.as_ref().is_some_and(|word| word.value == "host");
    if asked_by_file && !context.options.allow_host_network && context.options.network != NetMode::Host {
        let kind = LowerErrorKind::NotAllowed("RUN --network=host", "network.host");
        return Err(LowerError::new(instruction.span, kind));
    }
    Ok(mode)
}

fn security(context: &Context<'_>, run: &Run) -> Result<SecurityMode, LowerError> {
    match &run.security {
        Some(word) if word.value == "insecure" => {
            if !context.options.allow_insecure {
                let kind = LowerErrorKind::NotAllowed("RUN --security=insecure", "security.insecure");
                return Err(LowerError::new(word.span, kind));
            }
            Ok(SecurityMode::Insecure)
        }
        _ => Ok(SecurityMode::Sandbox),
    }
}

/// `RUN |1 NAME=value /bin/sh -c command`
fn history_text(state: &StageState, arguments: &[String]) -> String {
    use crate::dockerfile::expand::Variables;
    let args: Vec<String> = state
        .scope
        .args
        .iter()
        .filter(|(name, _)| !PREDEFINED_ARGS.contains(&name.to_ascii_lowercase().as_str()))
        .map(|(name, _)| format!("{name}={}", state.scope.get(name).unwrap_or_default()))
        .collect();
    let mut words = vec!["RUN".to_owned()];
    if !args.is_empty() {
        words.push(format!("|{}", args.len()));
        words.extend(args);
    }
    words.extend(arguments.iter().cloned());
    words.join(" ")
}

/// The first words of a heredoc, for the step's name.
fn summary(content: &str) -> String {
    const MAX_CHARACTERS: usize = 40;
    let line = content.lines().find(|line| !line.trim().is_empty()).unwrap_or_default().trim();
    match line.char_indices().nth(MAX_CHARACTERS) {
        Some((at, _)) => format!("{}...", &line[..at]),
        None => line.to_owned(),
    }
}
