//! `start`, `stop`, `restart`, `kill`, `pause`, `unpause`, `rm` and `wait`.

use super::context::Compose;
use super::up::{interruptible, print_plan, seconds, wait_until_up};
use crate::commands::confirm;
use crate::failure::{Failure, Outcome};
use crate::output;
use ferry_compose::apply::{Engine, Executor, Phase, Progress as _, Settings, observe, observe_containers};
use ferry_compose::found::{Found, FoundContainer, Status};
use ferry_compose::plan::{self, DownOptions, Recreate, UpOptions};
use ferry_compose::target::Target;
use futures_util::future::join_all;
use std::collections::BTreeMap;

crate::flags! {
    /// Flags of `start`.
    pub struct StartFlags {
        wait: bool = '-' "wait" "Wait for services to be running|healthy. Implies detached mode.";
        wait_timeout: Option<i64> = '-' "wait-timeout" <int> "Maximum duration in seconds to wait for the project to be running|healthy";
    }
}

crate::flags! {
    /// Flags of `stop`.
    pub struct StopFlags {
        timeout: Option<i64> = 't' "timeout" <int> "Specify a shutdown timeout in seconds";
    }
}

crate::flags! {
    /// Flags of `restart`.
    pub struct RestartFlags {
        no_deps: bool = '-' "no-deps" "Don't restart dependent services";
        timeout: Option<i64> = 't' "timeout" <int> "Specify a shutdown timeout in seconds";
    }
}

crate::flags! {
    /// Flags of `kill`.
    pub struct KillFlags {
        remove_orphans: bool = '-' "remove-orphans" "Remove containers for services not defined in the Compose file";
        signal: Option<String> = 's' "signal" <string> "SIGNAL to send to the container (default SIGKILL)";
    }
}

crate::flags! {
    /// Flags of `rm`.
    pub struct RmFlags {
        all: bool = 'a' "all" "Remove one-off containers too (accepted, always done)";
        force: bool = 'f' "force" "Don't ask to confirm removal";
        stop: bool = 's' "stop" "Stop the containers, if required, before removing";
        volumes: bool = 'v' "volumes" "Remove any anonymous volumes attached to containers";
    }
}

crate::flags! {
    /// Flags of `wait`.
    pub struct WaitFlags {
        down_project: bool = '-' "down-project" "Drops project when the first container stops";
    }
}

/// The project and its containers; the services named exist.
async fn look(
    compose: &Compose,
    services: &[String],
) -> Result<(Engine, Target, Vec<FoundContainer>), Failure> {
    let target = compose.target_or_name(services)?;
    let engine = compose.engine(&target.project.name).await?;
    let containers = observe_containers(&engine).await?;
    compose.check_services(&target, &containers, services)?;
    Ok((engine, target, containers))
}

fn of_services<'c>(containers: &'c [FoundContainer], services: &[String]) -> Vec<&'c FoundContainer> {
    let wanted =
        |c: &&FoundContainer| !c.oneoff && !c.hook && (services.is_empty() || services.contains(&c.service));
    containers.iter().filter(wanted).collect()
}

/// Runs `start`.
pub async fn start(compose: &Compose, flags: StartFlags, services: Vec<String>) -> Outcome {
    let mut target = compose.target_or_name(&services)?;
    let engine = compose.engine(&target.project.name).await?;
    let found = observe(&engine, &mut target).await?;
    compose.check_services(&target, &found.containers, &services)?;
    let present = of_services(&found.containers, &services);
    let missing = services.iter().find(|name| !present.iter().any(|container| container.service == **name));
    if let Some(name) = missing {
        return Err(Failure::new(format!("service \"{name}\" has no container to start"))
            .hint(format!("create it first: compose up -d {name}")));
    }
    if target.services.is_empty() {
        return start_by_name(compose, &engine, &present).await;
    }
    // Nothing is created and nothing recreated: every service keeps the containers it has.
    let count = |name: &String| present.iter().filter(|container| container.service == *name).count();
    let options = UpOptions {
        scale: target.services.keys().map(|name| (name.clone(), count(name))).collect::<BTreeMap<_, _>>(),
        services,
        recreate: Recreate::Never,
        recreate_dependencies: Recreate::Never,
        ignore_orphans: true,
        ..UpOptions::default()
    };
    let plan = plan::up(&target, &found, &options)?;
    if compose.globals.dry_run {
        return print_plan(&plan);
    }
    let printer = compose.progress("start");
    let executor = Executor::new(&engine, &target, &found.containers, &printer, Settings::default());
    interruptible(executor.execute(&plan)).await?;
    if flags.wait {
        let waited_for = target.selected(&options.services, true);
        wait_until_up(&executor, &waited_for, seconds(flags.wait_timeout)).await?;
    }
    Ok(0)
}

async fn start_by_name(compose: &Compose, engine: &Engine, containers: &[&FoundContainer]) -> Outcome {
    let printer = compose.progress("start");
    let idle: Vec<&FoundContainer> = containers.iter().copied().filter(|c| !c.status.is_up()).collect();
    each(&idle, &printer, "Starting", "Started", async |container| engine.start(&container.id).await).await
}

/// Does the same to each container at once.
async fn each(
    containers: &[&FoundContainer],
    printer: &super::progress::Printer,
    before: &str,
    after: &str,
    act: impl AsyncFn(&FoundContainer) -> Result<(), ferry_api::ClientError>,
) -> Outcome {
    let results = join_all(containers.iter().map(|container| async {
        let subject = format!("Container {}", container.name);
        if printer.dry_run {
            printer.state(&subject, &format!("{after} (dry run)"), Phase::Done);
            return Ok(());
        }
        printer.state(&subject, before, Phase::Working);
        let result = act(container).await;
        let (word, phase) = if result.is_ok() { (after, Phase::Done) } else { ("Error", Phase::Failed) };
        printer.state(&subject, word, phase);
        result.map_err(|error| Failure::from(error).context(&container.name))
    }));
    let failures: Vec<Failure> = results.await.into_iter().filter_map(Result::err).collect();
    match Failure::many(failures) {
        Some(failure) => Err(failure),
        None => Ok(0),
    }
}

/// Runs `stop`.
pub async fn stop(compose: &Compose, flags: StopFlags, services: Vec<String>) -> Outcome {
    let (engine, target, containers) = look(compose, &services).await?;
    let found = Found { containers, ..Found::default() };
    let plan = plan::stop(&target, &found, &services);
    if compose.globals.dry_run {
        return print_plan(&plan);
    }
    let printer = compose.progress("stop");
    let executor = Executor::new(
        &engine,
        &target,
        &found.containers,
        &printer,
        Settings { timeout: seconds(flags.timeout) },
    );
    interruptible(executor.execute(&plan)).await?;
    Ok(0)
}

/// Runs `restart`: services in the order of their dependencies, dependents with `restart: true` with them.
pub async fn restart(compose: &Compose, flags: RestartFlags, services: Vec<String>) -> Outcome {
    let (engine, target, containers) = look(compose, &services).await?;
    let mut wanted = services.clone();
    if !flags.no_deps && !services.is_empty() {
        for (name, service) in &target.services {
            let follows =
                service.depends_on.iter().any(|(needs, how)| how.restart && services.contains(needs));
            if follows && !wanted.contains(name) {
                wanted.push(name.clone());
            }
        }
    }
    let printer = compose.progress("restart");
    let timeout = seconds(flags.timeout);
    let mut order: Vec<String> = target.in_dependency_order().into_iter().map(str::to_owned).collect();
    order.extend(
        containers
            .iter()
            .map(|container| container.service.clone())
            .filter(|name| !target.services.contains_key(name)),
    );
    order.dedup();
    let chosen = of_services(&containers, &wanted);
    // Only an edge with `restart: true` orders two restarts; everything else goes at once.
    let mut waves: Vec<Vec<&FoundContainer>> = Vec::new();
    for name in &order {
        let follows = |needs: &str| {
            target
                .services
                .get(name)
                .and_then(|service| service.depends_on.get(needs))
                .is_some_and(|how| how.restart)
        };
        let after = waves.iter().rposition(|wave| wave.iter().any(|container| follows(&container.service)));
        let wave = after.map_or(0, |index| index + 1);
        if waves.len() <= wave {
            waves.push(Vec::new());
        }
        waves[wave].extend(chosen.iter().copied().filter(|container| container.service == *name));
    }
    for wave in waves {
        each(&wave, &printer, "Restarting", "Started", async |container| {
            engine.restart(&container.id, timeout).await
        })
        .await?;
    }
    Ok(0)
}

/// Runs `kill`.
pub async fn kill(compose: &Compose, flags: KillFlags, services: Vec<String>) -> Outcome {
    let (engine, target, containers) = look(compose, &services).await?;
    let signal = flags.signal.unwrap_or_else(|| "SIGKILL".to_owned());
    let printer = compose.progress("kill");
    let known = |c: &FoundContainer| target.services.is_empty() || target.services.contains_key(&c.service);
    let running: Vec<&FoundContainer> = of_services(&containers, &services)
        .into_iter()
        .filter(|c| c.status.is_up() && (known(c) || flags.remove_orphans))
        .collect();
    if running.is_empty() {
        printer.note("no container to kill");
        return Ok(0);
    }
    each(&running, &printer, "Killing", "Killed", async |container| {
        engine.kill(&container.id, &signal).await
    })
    .await?;
    let orphans: Vec<&FoundContainer> = running.into_iter().filter(|c| !known(c)).collect();
    each(&orphans, &printer, "Removing", "Removed", async |container| {
        engine.remove(&container.id, false, true).await
    })
    .await
}

/// Runs `pause`.
pub async fn pause(compose: &Compose, _: crate::flags::NoFlags, services: Vec<String>) -> Outcome {
    let (engine, _, containers) = look(compose, &services).await?;
    let chosen: Vec<_> =
        of_services(&containers, &services).into_iter().filter(|c| c.status == Status::Running).collect();
    each(&chosen, &compose.progress("pause"), "Pausing", "Paused", async |c| engine.pause(&c.id, true).await)
        .await
}

/// Runs `unpause`.
pub async fn unpause(compose: &Compose, _: crate::flags::NoFlags, services: Vec<String>) -> Outcome {
    let (engine, _, containers) = look(compose, &services).await?;
    let chosen: Vec<_> =
        of_services(&containers, &services).into_iter().filter(|c| c.status == Status::Paused).collect();
    each(&chosen, &compose.progress("unpause"), "Unpausing", "Unpaused", async |c| {
        engine.pause(&c.id, false).await
    })
    .await
}

/// Runs `rm`.
pub async fn rm(compose: &Compose, flags: RmFlags, services: Vec<String>) -> Outcome {
    let (engine, target, containers) = look(compose, &services).await?;
    if flags.stop && !compose.globals.dry_run {
        let found = Found { containers: containers.clone(), ..Found::default() };
        let plan = plan::stop(&target, &found, &services);
        let printer = compose.progress("stop");
        let executor = Executor::new(&engine, &target, &found.containers, &printer, Settings::default());
        interruptible(executor.execute(&plan)).await?;
    }
    let wanted = |c: &&FoundContainer| services.is_empty() || services.contains(&c.service);
    let chosen: Vec<&FoundContainer> =
        containers.iter().filter(wanted).filter(|c| flags.stop || !c.status.is_up()).collect();
    if chosen.is_empty() {
        output::note("No stopped containers");
        return Ok(0);
    }
    let names: Vec<&str> = chosen.iter().map(|container| container.name.as_str()).collect();
    if !flags.force {
        output::line(&format!("? Going to remove {}", names.join(", ")))?;
        if !confirm("Are you sure?")? {
            return Ok(0);
        }
    }
    let printer = compose.progress("rm");
    each(&chosen, &printer, "Removing", "Removed", async |c| engine.remove(&c.id, flags.volumes, true).await)
        .await
}

/// Runs `wait`: the last container's code.
pub async fn wait(compose: &Compose, flags: WaitFlags, services: Vec<String>) -> Outcome {
    let (engine, target, containers) = look(compose, &services).await?;
    let chosen = of_services(&containers, &services);
    if chosen.is_empty() {
        return Err(Failure::new("no containers for project to wait for"));
    }
    let mut last = 0;
    let mut waits: futures_util::stream::FuturesUnordered<_> = chosen
        .iter()
        .map(|container| async { (&container.name, engine.wait(&container.id).await) })
        .collect();
    use futures_util::StreamExt as _;
    while let Some((name, code)) = waits.next().await {
        last = code.map_err(|error| Failure::from(error).context(name).code(42))? as i32;
        output::line(&format!("container {name:?} exited with status code {last}"))?;
        if flags.down_project {
            let found = Found { containers: observe_containers(&engine).await?, ..Found::default() };
            let plan = plan::down(&target, &found, &DownOptions::default());
            let printer = compose.progress("down");
            let executor = Executor::new(&engine, &target, &found.containers, &printer, Settings::default());
            interruptible(executor.execute(&plan)).await?;
            break;
        }
    }
    Ok(last)
}
