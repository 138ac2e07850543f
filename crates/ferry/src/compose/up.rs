//! `up`, `create` and `scale`.

use super::attached::{self, Attached};
use super::build::{EngineBuilder, EnginePuller};
use super::context::Compose;
use super::progress::Printer;
use super::warn;
use crate::failure::{Failure, Outcome};
use crate::output;
use ferry_compose::apply::{Engine, Executor, ImagePolicy, Settings, observe, prepare_images};
use ferry_compose::found::Found;
use ferry_compose::plan::{self, Plan, Recreate, UpOptions};
use ferry_compose::target::Target;
use std::collections::BTreeMap;
use std::future::Future;
use std::time::Duration;

crate::flags! {
    /// Flags of `up`.
    pub struct UpFlags {
        abort_on_container_exit: bool = '-' "abort-on-container-exit" "Stops all containers if any container was stopped. Incompatible with -d";
        abort_on_container_failure: bool = '-' "abort-on-container-failure" "Stops all containers if any container exited with failure. Incompatible with -d";
        always_recreate_deps: bool = '-' "always-recreate-deps" "Recreate dependent containers. Incompatible with --no-recreate.";
        attach: Vec<String> = '-' "attach" <list> "Restrict attaching to the specified services. Incompatible with --attach-dependencies.";
        attach_dependencies: bool = '-' "attach-dependencies" "Automatically attach to log output of dependent services";
        build: bool = '-' "build" "Build images before starting containers";
        detach: bool = 'd' "detach" "Detached mode: Run containers in the background";
        exit_code_from: Option<String> = '-' "exit-code-from" <string> "Return the exit code of the selected service container. Implies --abort-on-container-exit";
        force_recreate: bool = '-' "force-recreate" "Recreate containers even if their configuration and image haven't changed";
        menu: Option<bool> = '-' "menu" "Enable interactive shortcuts when running attached (accepted, without effect)";
        no_attach: Vec<String> = '-' "no-attach" <list> "Do not attach (stream logs) to the specified services";
        no_build: bool = '-' "no-build" "Don't build an image, even if it's policy";
        no_color: bool = '-' "no-color" "Produce monochrome output";
        no_deps: bool = '-' "no-deps" "Don't start linked services";
        no_log_prefix: bool = '-' "no-log-prefix" "Don't print prefix in logs";
        no_recreate: bool = '-' "no-recreate" "If containers already exist, don't recreate them. Incompatible with --force-recreate.";
        no_start: bool = '-' "no-start" "Don't start the services after creating them";
        pull: Option<String> = '-' "pull" <string> "Pull image before running (\"always\"|\"missing\"|\"never\"|\"build\")";
        quiet_build: bool = '-' "quiet-build" "Suppress the build output";
        quiet_pull: bool = '-' "quiet-pull" "Pull without printing progress information";
        remove_orphans: bool = '-' "remove-orphans" "Remove containers for services not defined in the Compose file";
        renew_anon_volumes: bool = 'V' "renew-anon-volumes" "Recreate anonymous volumes instead of retrieving data from the previous containers";
        scale: Vec<String> = '-' "scale" <list> "Scale SERVICE to NUM instances. Overrides the scale setting in the Compose file if present.";
        timeout: Option<i64> = 't' "timeout" <int> "Use this timeout in seconds for container shutdown when attached or when containers are already running";
        timestamps: bool = '-' "timestamps" "Show timestamps";
        wait: bool = '-' "wait" "Wait for services to be running|healthy. Implies detached mode.";
        wait_timeout: Option<i64> = '-' "wait-timeout" <int> "Maximum duration in seconds to wait for the project to be running|healthy";
        watch: bool = 'w' "watch" "Watch source code and rebuild/refresh containers when files are updated.";
        yes: bool = 'y' "yes" "Assume \"yes\" as answer to all prompts and run non-interactively";
    }
}

crate::flags! {
    /// Flags of `create`.
    pub struct CreateFlags {
        build: bool = '-' "build" "Build images before starting containers";
        force_recreate: bool = '-' "force-recreate" "Recreate containers even if their configuration and image haven't changed";
        no_build: bool = '-' "no-build" "Don't build an image, even if it's policy";
        no_recreate: bool = '-' "no-recreate" "If containers already exist, don't recreate them. Incompatible with --force-recreate.";
        pull: Option<String> = '-' "pull" <string> "Pull image before running (\"always\"|\"missing\"|\"never\"|\"build\")";
        quiet_pull: bool = '-' "quiet-pull" "Pull without printing progress information";
        remove_orphans: bool = '-' "remove-orphans" "Remove containers for services not defined in the Compose file";
        scale: Vec<String> = '-' "scale" <list> "Scale SERVICE to NUM instances. Overrides the scale setting in the Compose file if present.";
        yes: bool = 'y' "yes" "Assume \"yes\" as answer to all prompts and run non-interactively";
    }
}

crate::flags! {
    /// Flags of `scale`.
    pub struct ScaleFlags {
        no_deps: bool = '-' "no-deps" "Don't start linked services";
        timeout: Option<i64> = 't' "timeout" <int> "Use this timeout in seconds for container shutdown";
    }
}

/// Everything an `up` worked out on its way.
pub struct Prepared {
    /// The engine.
    pub engine: Engine,
    /// The project.
    pub target: Target,
    /// What was there.
    pub found: Found,
    /// What is to be done.
    pub plan: Plan,
}

/// Runs `up`.
pub async fn up(compose: &Compose, flags: UpFlags, services: Vec<String>) -> Outcome {
    check(&flags)?;
    let options = up_options(compose, &flags, &services)?;
    let policy = ImagePolicy {
        pull: flags.pull.clone(),
        build: flags.build,
        no_build: flags.no_build,
        quiet_build: flags.quiet_build,
    };
    let printer = compose.progress("up");
    let prepared = prepare(compose, &services, &options, &policy, flags.quiet_pull, &printer).await?;
    if compose.globals.dry_run {
        return print_plan(&prepared.plan);
    }
    if let Some(from) = &flags.exit_code_from {
        compose.check_services(&prepared.target, &prepared.found.containers, std::slice::from_ref(from))?;
    }
    let settings = Settings { timeout: seconds(flags.timeout) };
    let detached = flags.detach || flags.wait || flags.no_start;
    if !detached {
        let attached = Attached {
            services: attached_services(&prepared.target, &flags, &services),
            watched: watched_services(&prepared.target, &flags, &services),
            colours: compose.colours() && !flags.no_color,
            prefix: !flags.no_log_prefix,
            timestamps: flags.timestamps,
            abort_on_exit: flags.abort_on_container_exit || flags.exit_code_from.is_some(),
            abort_on_failure: flags.abort_on_container_failure,
            exit_code_from: flags.exit_code_from.clone(),
            settings,
        };
        if flags.watch {
            let watching = super::watch::beside(compose, &services);
            return attached::up_and(&prepared, &attached, &printer, watching).await;
        }
        return attached::up(&prepared, &attached, &printer).await;
    }
    let executor =
        Executor::new(&prepared.engine, &prepared.target, &prepared.found.containers, &printer, settings);
    interruptible(executor.execute(&prepared.plan)).await?;
    if flags.wait {
        let waited_for = prepared.target.selected(&services, !flags.no_deps);
        wait_until_up(&executor, &waited_for, seconds(flags.wait_timeout)).await?;
    }
    Ok(0)
}

/// Runs `create`.
pub async fn create(compose: &Compose, flags: CreateFlags, services: Vec<String>) -> Outcome {
    let up_flags = UpFlags {
        build: flags.build,
        force_recreate: flags.force_recreate,
        no_build: flags.no_build,
        no_recreate: flags.no_recreate,
        no_start: true,
        pull: flags.pull,
        quiet_pull: flags.quiet_pull,
        remove_orphans: flags.remove_orphans,
        scale: flags.scale,
        ..UpFlags::default()
    };
    up(compose, up_flags, services).await
}

/// Runs `scale`.
pub async fn scale(compose: &Compose, flags: ScaleFlags, arguments: Vec<String>) -> Outcome {
    let services: Vec<String> =
        arguments.iter().map(|argument| argument.split('=').next().unwrap_or_default().to_owned()).collect();
    let up_flags = UpFlags {
        detach: true,
        no_deps: flags.no_deps,
        scale: arguments,
        timeout: flags.timeout,
        no_recreate: true,
        ..UpFlags::default()
    };
    up(compose, up_flags, services).await
}

/// Flags that exclude each other.
fn check(flags: &UpFlags) -> Result<(), Failure> {
    let detached = flags.detach || flags.wait;
    let aborting =
        flags.abort_on_container_exit || flags.abort_on_container_failure || flags.exit_code_from.is_some();
    for (both, text) in [
        (flags.force_recreate && flags.no_recreate, "--force-recreate and --no-recreate are incompatible"),
        (flags.build && flags.no_build, "--build and --no-build are incompatible"),
        (
            flags.renew_anon_volumes && flags.no_recreate,
            "--renew-anon-volumes and --no-recreate are incompatible",
        ),
        (
            flags.always_recreate_deps && flags.no_recreate,
            "--always-recreate-deps and --no-recreate are incompatible",
        ),
        (
            detached && aborting,
            "--detach and --wait cannot be combined with --abort-on-container-exit, --abort-on-container-failure or --exit-code-from",
        ),
        (
            detached && (!flags.attach.is_empty() || flags.attach_dependencies),
            "--detach cannot be combined with --attach or --attach-dependencies",
        ),
        (
            flags.attach_dependencies && !flags.attach.is_empty(),
            "cannot combine --attach and --attach-dependencies",
        ),
        (
            flags.abort_on_container_exit && flags.abort_on_container_failure,
            "--abort-on-container-exit and --abort-on-container-failure are incompatible",
        ),
        (detached && flags.watch, "--watch cannot be combined with --detach"),
    ] {
        if both {
            return Err(Failure::new(text));
        }
    }
    Ok(())
}

fn up_options(compose: &Compose, flags: &UpFlags, services: &[String]) -> Result<UpOptions, Failure> {
    let recreate = match (flags.force_recreate, flags.no_recreate) {
        (true, _) => Recreate::Force,
        (_, true) => Recreate::Never,
        _ => Recreate::Diverged,
    };
    let is_true = |name: &str| {
        compose.variable(name).is_some_and(|value| matches!(value.as_str(), "1" | "true" | "TRUE"))
    };
    Ok(UpOptions {
        services: services.to_vec(),
        recreate,
        recreate_dependencies: match recreate {
            Recreate::Never => Recreate::Never,
            _ if flags.always_recreate_deps => Recreate::Force,
            _ => Recreate::Diverged,
        },
        inherit_volumes: !flags.renew_anon_volumes,
        scale: scales(&flags.scale)?,
        remove_orphans: flags.remove_orphans || is_true("COMPOSE_REMOVE_ORPHANS"),
        ignore_orphans: is_true("COMPOSE_IGNORE_ORPHANS"),
        no_dependencies: flags.no_deps,
        start: !flags.no_start,
        one_off: None,
    })
}

/// `web=3`.
pub fn scales(flags: &[String]) -> Result<BTreeMap<String, usize>, Failure> {
    let one = |text: &String| {
        let parsed =
            text.split_once('=').and_then(|(name, count)| Some((name.to_owned(), count.parse().ok()?)));
        parsed.ok_or_else(|| {
            Failure::new(format!("invalid scale \"{text}\"")).hint("write SERVICE=NUMBER, as in web=3")
        })
    };
    flags.iter().map(one).collect()
}

/// Looks, gets the images, and plans.
pub async fn prepare(
    compose: &Compose,
    services: &[String],
    options: &UpOptions,
    policy: &ImagePolicy,
    quiet_pull: bool,
    printer: &Printer,
) -> Result<Prepared, Failure> {
    let mut target = compose.target(services)?;
    refuse_unsupported(&target)?;
    let engine = compose.engine(&target.project.name).await?;
    let selected: Vec<String> =
        target.selected(services, !options.no_dependencies).into_iter().map(str::to_owned).collect();
    if !compose.globals.dry_run {
        target = super::provider::up(compose, target, &selected, printer).await?;
    }
    let mut found = observe(&engine, &mut target).await?;
    // Names are checked before anything is pulled.
    plan::up(&target, &found, options)?;
    if !compose.globals.dry_run {
        let names: Vec<&str> = selected.iter().map(String::as_str).collect();
        let puller = EnginePuller::new(&compose.session, &engine, quiet_pull);
        let builder = EngineBuilder::new(&compose.session, &target.project);
        if prepare_images(&engine, &target, &names, policy, &puller, &builder, printer).await? {
            found = observe(&engine, &mut target).await?;
        }
    }
    let plan = plan::up(&target, &found, options)?;
    Ok(Prepared { engine, target, found, plan })
}

/// What cannot be carried out is refused before anything is done.
pub fn refuse_unsupported(target: &Target) -> Result<(), Failure> {
    for (name, service) in &target.services {
        if !service.models.is_empty() {
            return Err(Failure::new(format!(
                "service \"{name}\" uses models, and this engine has no model runner"
            )));
        }
    }
    Ok(())
}

/// What `--dry-run` prints.
pub fn print_plan(plan: &Plan) -> Outcome {
    for warning in &plan.warnings {
        warn(warning);
    }
    for name in &plan.unchanged {
        output::line(&format!("container {name}  unchanged"))?;
    }
    output::write(plan.render().as_bytes())?;
    Ok(0)
}

/// Seconds of a flag.
pub fn seconds(flag: Option<i64>) -> Option<Duration> {
    flag.and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs)
}

/// Breaks off at Ctrl-C or TERM: the next `up` finishes what was begun.
pub async fn interruptible<T>(
    work: impl Future<Output = Result<T, ferry_compose::apply::ApplyError>>,
) -> Result<T, Failure> {
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        result = work => Ok(result?),
        _ = tokio::signal::ctrl_c() => Err(Failure::silent(130)),
        _ = terminate.recv() => Err(Failure::silent(130)),
    }
}

/// `--wait`.
pub async fn wait_until_up(
    executor: &Executor<'_>,
    services: &[&str],
    timeout: Option<Duration>,
) -> Result<(), Failure> {
    let wait = interruptible(executor.wait_until_up(services));
    match timeout {
        None => wait.await,
        Some(limit) => tokio::time::timeout(limit, wait).await.unwrap_or_else(|_| {
            Err(Failure::new(format!("the project was not up after {} s", limit.as_secs())))
        }),
    }
}

/// Services whose containers the foreground stays for: those named, and the one whose code is ours.
fn watched_services(target: &Target, flags: &UpFlags, services: &[String]) -> Vec<String> {
    let named = target.selected(services, false).into_iter().map(str::to_owned);
    named.chain(flags.exit_code_from.clone()).collect()
}

/// Services whose output is shown.
fn attached_services(target: &Target, flags: &UpFlags, services: &[String]) -> Vec<String> {
    let base: Vec<&str> = if !flags.attach.is_empty() {
        flags.attach.iter().map(String::as_str).collect()
    } else {
        target.selected(services, flags.attach_dependencies || services.is_empty())
    };
    base.into_iter()
        .filter(|name| !flags.no_attach.iter().any(|not| not == name))
        .filter(|name| {
            let wanted = target.services.get(*name).and_then(|service| service.attach).unwrap_or(true);
            wanted || flags.attach.iter().any(|named| named == name)
        })
        .map(str::to_owned)
        .collect()
}
