//! `watch`: files of the project that change are copied into containers, or have them rebuilt or restarted.

mod notify;
mod rules;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use ferry_compose::apply::{Engine, Executor, ImagePolicy, Settings, observe_containers};
use ferry_compose::found::FoundContainer;
use ferry_compose::plan::UpOptions;
use ferry_compose::target::Target;

use super::context::Compose;
use super::up::{self, UpFlags, interruptible};
use super::warn;
use crate::failure::{Failure, Outcome};
use crate::output;
use notify::{Changes, Notify};
use rules::Rule;

crate::flags! {
    /// Flags of `watch`.
    pub struct WatchFlags {
        no_up: bool = '-' "no-up" "Do not build & start services before watching";
        prune: Option<bool> = '-' "prune" "Prune dangling images on rebuild";
        quiet: bool = '-' "quiet" "Hide build output";
    }
}

/// Runs `watch`.
pub async fn watch(compose: &Compose, flags: WatchFlags, services: Vec<String>) -> Outcome {
    let target = compose.target(&services)?;
    let rules = rules_of(&target, &services)?;
    if !flags.no_up {
        let up_flags = UpFlags { detach: true, build: true, quiet_build: flags.quiet, ..UpFlags::default() };
        up::up(compose, up_flags, services.clone()).await?;
    }
    let watching = Watching::new(compose, target, rules, flags.quiet, flags.prune != Some(false)).await?;
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        result = watching.run() => result.map(|()| 0),
        _ = tokio::signal::ctrl_c() => Ok(130),
        _ = terminate.recv() => Ok(130),
    }
}

/// The rules of `up --watch`, which go on beside the output of the services.
pub async fn beside(compose: &Compose, services: &[String]) -> Result<(), Failure> {
    let target = compose.target(services)?;
    let rules = rules_of(&target, services)?;
    Watching::new(compose, target, rules, true, true).await?.run().await
}

fn rules_of(target: &Target, services: &[String]) -> Result<Vec<Rule>, Failure> {
    let mut rules = Vec::new();
    for name in target.selected(services, false) {
        let Some(model) = target.services.get(name) else { continue };
        for rule in model.develop.iter().flat_map(|develop| &develop.watch) {
            if let Some(mount) = model.volumes.iter().find(|mount| mounted(mount, rule.target.as_deref())) {
                warn(&format!(
                    "service \"{name}\": {} is in the container already, mounted at {}; it is not watched",
                    rule.path, mount.target
                ));
                continue;
            }
            let read = Rule::new(name, model, rule);
            rules.push(read.map_err(|error| Failure::new(format!("service \"{name}\": {error}")))?);
        }
    }
    if rules.is_empty() {
        return Err(Failure::new("none of the selected services is configured for watch")
            .hint("give a service a develop.watch section with rules"));
    }
    Ok(rules)
}

/// Whether a bind mount brings the rule's files into the container already.
fn mounted(mount: &ferry_compose::model::Mount, target: Option<&str>) -> bool {
    mount.kind == "bind" && target.is_some_and(|target| Path::new(target).starts_with(&mount.target))
}

/// What a batch of changes asks for, service by service.
#[derive(Default)]
struct Work<'a> {
    /// Paths to copy or to remove, with the rule that says where.
    sync: BTreeMap<PathBuf, &'a Rule>,
    /// Rules whose commands run after the copies.
    exec: Vec<&'a Rule>,
    restart: bool,
    rebuild: bool,
}

struct Watching<'a> {
    compose: &'a Compose,
    engine: Engine,
    target: Target,
    rules: std::rc::Rc<Vec<Rule>>,
    quiet: bool,
    prune: bool,
}

impl<'a> Watching<'a> {
    async fn new(
        compose: &'a Compose,
        target: Target,
        rules: Vec<Rule>,
        quiet: bool,
        prune: bool,
    ) -> Result<Self, Failure> {
        let engine = compose.engine(&target.project.name).await?;
        Ok(Watching { compose, engine, target, rules: std::rc::Rc::new(rules), quiet, prune })
    }

    async fn run(&self) -> Result<(), Failure> {
        let rules = std::rc::Rc::clone(&self.rules);
        let mut notify = Notify::new(move |folder| rules.iter().all(|rule| rule.skips(folder)))?;
        for rule in self.rules.iter() {
            let place = rule.path().display().to_string();
            notify
                .add(rule.path())
                .map_err(|error| Failure::from(error).context(&format!("cannot watch {place}")))?;
        }
        let initial = self.rules.iter().filter(|rule| rule.rule.initial_sync);
        let everything: BTreeSet<PathBuf> = initial.flat_map(|rule| files_below(rule.path())).collect();
        output::note("Watch enabled");
        if !everything.is_empty() {
            self.carry_out(self.sort(&everything, true)).await;
        }
        loop {
            let Changes { mut paths, everything } = notify.next().await?;
            if everything {
                paths.extend(self.rules.iter().flat_map(|rule| files_below(rule.path())));
            }
            self.carry_out(self.sort(&paths, false)).await;
        }
    }

    fn sort(&self, paths: &BTreeSet<PathBuf>, initial: bool) -> BTreeMap<&str, Work<'_>> {
        let mut work: BTreeMap<&str, Work<'_>> = BTreeMap::new();
        for path in paths {
            for rule in
                self.rules.iter().filter(|rule| rule.concerns(path) && (!initial || rule.rule.initial_sync))
            {
                let of_service = work.entry(&rule.service).or_default();
                match rule.rule.action.as_str() {
                    "rebuild" => of_service.rebuild = true,
                    "restart" => of_service.restart = true,
                    action => {
                        of_service.sync.insert(path.clone(), rule);
                        of_service.restart |= action == "sync+restart";
                        if action == "sync+exec"
                            && !of_service.exec.iter().any(|known| std::ptr::eq(*known, rule))
                        {
                            of_service.exec.push(rule);
                        }
                    }
                }
            }
        }
        work
    }

    /// A change that cannot be carried out is told; the next one may mend it.
    async fn carry_out(&self, work: BTreeMap<&str, Work<'_>>) {
        for (service, work) in work {
            let done =
                if work.rebuild { self.rebuild(service).await } else { self.apply(service, &work).await };
            if let Err(failure) = done {
                let causes = failure.causes.iter().map(|cause| format!(": {cause}")).collect::<String>();
                output::note(&format!("error: service \"{service}\": {}{causes}", failure.message));
            }
        }
    }

    async fn apply(&self, service: &str, work: &Work<'_>) -> Result<(), Failure> {
        let all = observe_containers(&self.engine).await?;
        let own: Vec<&FoundContainer> =
            all.iter().filter(|c| c.service == service && !c.oneoff && !c.hook && c.status.is_up()).collect();
        if !work.sync.is_empty() {
            output::note(&format!(
                "Syncing service {service:?} after {} changes were detected",
                work.sync.len()
            ));
            let (there, gone): (Vec<_>, Vec<_>) =
                work.sync.iter().partition(|(path, _)| path.symlink_metadata().is_ok());
            let archive = archive(&there)?;
            for container in &own {
                if !there.is_empty() {
                    self.engine.put_archive(&container.id, "/", archive.clone()).await?;
                }
                self.remove(container, &gone).await?;
            }
        }
        for rule in &work.exec {
            for container in &own {
                self.run_command(container, rule).await?;
            }
        }
        if work.restart {
            output::note(&format!("Restarting service {service:?}"));
            for container in &own {
                self.engine.restart(&container.id, None).await?;
            }
        }
        if !work.sync.is_empty() || work.restart {
            output::note(&format!("Service {service:?} is up to date"));
        }
        Ok(())
    }

    async fn remove(&self, container: &FoundContainer, gone: &[(&PathBuf, &&Rule)]) -> Result<(), Failure> {
        let targets: Vec<String> = gone
            .iter()
            .filter_map(|(path, rule)| Some(rule.target_of(path)?.to_string_lossy().into_owned()))
            .collect();
        if targets.is_empty() {
            return Ok(());
        }
        let cmd = ["rm", "-rf", "--"].map(str::to_owned).into_iter().chain(targets).collect();
        self.execute(
            container,
            "rm",
            ferry_api::exec::ExecCreateRequest { cmd: Some(cmd), ..Default::default() },
        )
        .await
    }

    async fn run_command(&self, container: &FoundContainer, rule: &Rule) -> Result<(), Failure> {
        let Some(hook) = &rule.rule.exec else { return Ok(()) };
        let pairs =
            hook.environment.iter().filter_map(|(key, value)| Some(format!("{key}={}", value.as_ref()?)));
        let request = ferry_api::exec::ExecCreateRequest {
            user: hook.user.clone().unwrap_or_default(),
            privileged: hook.privileged,
            env: Some(pairs.collect()),
            working_dir: hook.working_dir.clone().unwrap_or_default(),
            cmd: Some(hook.command.clone()),
            ..Default::default()
        };
        self.execute(container, &hook.command.join(" "), request).await
    }

    async fn execute(
        &self,
        container: &FoundContainer,
        shown: &str,
        request: ferry_api::exec::ExecCreateRequest,
    ) -> Result<(), Failure> {
        let request =
            ferry_api::exec::ExecCreateRequest { attach_stdout: true, attach_stderr: true, ..request };
        match self.engine.exec_silently(&container.id, &request).await? {
            0 => Ok(()),
            code => Err(Failure::new(format!("{shown}: exit code {code} in {}", container.name))),
        }
    }

    /// Builds the service's image and replaces its containers; the old ones stay when the build fails.
    async fn rebuild(&self, service: &str) -> Result<(), Failure> {
        output::note(&format!("Rebuilding service {service:?} after changes were detected"));
        let services = [service.to_owned()];
        let options = UpOptions {
            services: services.to_vec(),
            no_dependencies: true,
            ignore_orphans: true,
            ..UpOptions::default()
        };
        let policy = ImagePolicy { pull: None, build: true, no_build: false, quiet_build: self.quiet };
        let before = self.target.image(service);
        let old = self.engine.image(&before).await?.map(|image| image.id);
        let printer = self.compose.progress("watch");
        let prepared = up::prepare(self.compose, &services, &options, &policy, true, &printer).await?;
        let settings = Settings::default();
        let executor =
            Executor::new(&prepared.engine, &prepared.target, &prepared.found.containers, &printer, settings);
        interruptible(executor.execute(&prepared.plan)).await?;
        let new = self.engine.image(&before).await?.map(|image| image.id);
        if self.prune
            && let Some(old) = old.filter(|old| new.as_ref() != Some(old))
        {
            // One that is used elsewhere, or has another name, stays.
            let _ = self.engine.client.call(ferry_api::Call::delete(format!("/images/{old}"))).await;
        }
        output::note(&format!("Service {service:?} is up to date"));
        Ok(())
    }
}

/// Files below a path, links not followed; unreadable folders are left out.
fn files_below(path: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut open = vec![path.to_owned()];
    while let Some(path) = open.pop() {
        match path.symlink_metadata() {
            Ok(metadata) if metadata.is_dir() => {
                open.extend(path.read_dir().into_iter().flatten().flatten().map(|entry| entry.path()));
            }
            Ok(_) => files.push(path),
            Err(_) => {}
        }
    }
    files
}

/// The changed files at their places in the container.
fn archive(files: &[(&PathBuf, &&Rule)]) -> Result<Vec<u8>, Failure> {
    let mut builder = tar::Builder::new(Vec::new());
    builder.follow_symlinks(false);
    for (path, rule) in files {
        let Some(target) = rule.target_of(path) else { continue };
        let inside = target.strip_prefix("/").unwrap_or(&target);
        match builder.append_path_with_name(path, inside) {
            // It went away again: the next change says so.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            result => result
                .map_err(|error| Failure::from(error).context(&format!("cannot read {}", path.display())))?,
        }
    }
    Ok(builder.into_inner()?)
}
