//! `run`: a command once, in a container of its own.

use super::build::{EngineBuilder, EnginePuller};
use super::context::Compose;
use super::forward::hand_over;
use super::up::{interruptible, refuse_unsupported};
use crate::failure::{Failure, Outcome};
use crate::output;
use crate::terminal;
use ferry_api::Call;
use ferry_compose::apply::{
    Engine, Executor, ImagePolicy, OneOff, OneOffContainer, Settings, create_one_off, observe, prepare_images,
};
use ferry_compose::canonical::{parse_port, parse_volume, shell_words};
use ferry_compose::model::{BindOptions, Mount, OptionalTexts, Port, VolumeOptions};
use ferry_compose::plan::{self, Recreate, UpOptions};
use ferry_compose::target::Target;
use std::io::{self, IsTerminal as _};

crate::flags! {
    /// Flags of `run`.
    pub struct RunFlags {
        build: bool = '-' "build" "Build image before starting container";
        cap_add: Vec<String> = '-' "cap-add" <list> "Add Linux capabilities";
        cap_drop: Vec<String> = '-' "cap-drop" <list> "Drop Linux capabilities";
        detach: bool = 'd' "detach" "Run container in background and print container ID";
        entrypoint: Option<String> = '-' "entrypoint" <string> "Override the entrypoint of the image";
        env: Vec<String> = 'e' "env" <list> "Set environment variables";
        env_from_file: Vec<String> = '-' "env-from-file" <list> "Set environment variables from file";
        interactive: Option<bool> = 'i' "interactive" "Keep STDIN open even if not attached (default true)";
        label: Vec<String> = 'l' "label" <list> "Add or override a label";
        name: Option<String> = '-' "name" <string> "Assign a name to the container";
        no_deps: bool = '-' "no-deps" "Don't start linked services";
        no_tty: bool = 'T' "no-tty" "Disable pseudo-TTY allocation";
        no_tty_legacy: bool = '-' "no-TTY" "Disable pseudo-TTY allocation (deprecated spelling)";
        publish: Vec<String> = 'p' "publish" <list> "Publish a container's port(s) to the host";
        pull: Option<String> = '-' "pull" <string> "Pull image before running (\"always\"|\"missing\"|\"never\")";
        quiet: bool = 'q' "quiet" "Don't print anything to STDOUT";
        quiet_build: bool = '-' "quiet-build" "Suppress progress output from the build process";
        quiet_pull: bool = '-' "quiet-pull" "Pull without printing progress information";
        remove_orphans: bool = '-' "remove-orphans" "Remove containers for services not defined in the Compose file";
        rm: bool = '-' "rm" "Automatically remove the container when it exits";
        service_ports: bool = 'P' "service-ports" "Run command with all service's ports enabled and mapped to the host";
        tty: Option<bool> = 't' "tty" "Allocate a pseudo-TTY (default true on a terminal)";
        use_aliases: bool = '-' "use-aliases" "Use the service's network useAliases in the network(s) the container connects to";
        user: Option<String> = 'u' "user" <string> "Run as specified username or uid";
        volume: Vec<String> = 'v' "volume" <list> "Bind mount a volume";
        workdir: Option<String> = 'w' "workdir" <string> "Working directory inside the container";
    }
}

/// Runs `run`.
pub async fn run(compose: &Compose, flags: RunFlags, arguments: Vec<String>) -> Outcome {
    let (service, command) = arguments.split_first().expect("the table wants an argument");
    let mut target = compose.target(std::slice::from_ref(service))?;
    if !target.services.contains_key(service) {
        compose.check_services(&target, &[], std::slice::from_ref(service))?;
    }
    refuse_unsupported(&target)?;
    let engine = compose.engine(&target.project.name).await?;
    let printer = if flags.quiet {
        super::progress::Printer::new("run", "quiet", true, false)
    } else {
        compose.progress("run")
    };
    let wanted: Vec<String> =
        target.selected(std::slice::from_ref(service), true).into_iter().map(str::to_owned).collect();
    if !flags.no_deps {
        target = super::provider::up(compose, target, &wanted, &printer).await?;
    }
    let mut found = observe(&engine, &mut target).await?;
    let mut selected: Vec<&str> = target.selected(std::slice::from_ref(service), !flags.no_deps);
    if flags.no_deps {
        selected = vec![service.as_str()];
    }
    let names: Vec<String> = selected.iter().map(|name| (*name).to_owned()).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let policy = ImagePolicy {
        pull: flags.pull.clone(),
        build: flags.build,
        no_build: false,
        quiet_build: flags.quiet_build,
    };
    let puller = EnginePuller::new(&compose.session, &engine, flags.quiet_pull);
    let builder = EngineBuilder::new(&compose.session, &target.project);
    if prepare_images(&engine, &target, &names, &policy, &puller, &builder, &printer).await? {
        found = observe(&engine, &mut target).await?;
    }
    let options = options(&target, &flags, service, command)?;
    let plan = plan_dependencies(&target, &found, service, &flags)?;
    let executor = Executor::new(&engine, &target, &found.containers, &printer, Settings::default());
    interruptible(executor.execute(&plan)).await?;
    let container =
        create_one_off(&engine, &target, &|name| executor.ids_of(name), &options, &printer).await?;
    let hooked = interruptible(executor.before_start(service, &container.name, &container.id)).await;
    if let Err(failure) = hooked {
        // Nobody asked for a container that never starts.
        engine.remove(&container.id, true, true).await?;
        return Err(failure);
    }
    if flags.detach {
        engine.start(&container.id).await?;
        output::line(&container.name)?;
        return Ok(0);
    }
    foreground(compose, &engine, &container, &options).await
}

/// Brings up what the service depends on, and its networks and volumes, without a container of its own.
fn plan_dependencies(
    target: &Target,
    found: &ferry_compose::found::Found,
    service: &str,
    flags: &RunFlags,
) -> Result<plan::Plan, Failure> {
    let options = UpOptions {
        services: vec![service.to_owned()],
        recreate: Recreate::Never,
        recreate_dependencies: Recreate::Never,
        no_dependencies: flags.no_deps,
        remove_orphans: flags.remove_orphans,
        ignore_orphans: true,
        one_off: Some(service.to_owned()),
        ..UpOptions::default()
    };
    Ok(plan::up(target, found, &options)?)
}

fn options(target: &Target, flags: &RunFlags, service: &str, command: &[String]) -> Result<OneOff, Failure> {
    let model = &target.services[service];
    let no_tty = flags.no_tty || flags.no_tty_legacy;
    let terminal = terminal::stdin_is_terminal() && io::stdout().is_terminal();
    let words = |text: &String| shell_words(text).map_err(Failure::new);
    let mut environment = OptionalTexts::new();
    for path in &flags.env_from_file {
        let text = std::fs::read_to_string(path)
            .map_err(|error| Failure::from(error).context(&format!("cannot read {path}")))?;
        let lookup = |name: &str| target.project.environment.get(name).map(str::to_owned);
        let found = ferry_compose::dotenv::parse(&text, &lookup)
            .map_err(|error| Failure::new(format!("{path}: {error}")))?;
        environment.extend(found.into_iter().map(|assignment| (assignment.key, assignment.value)));
    }
    for text in &flags.env {
        match text.split_once('=') {
            Some((key, value)) => drop(environment.insert(key.to_owned(), Some(value.to_owned()))),
            None => {
                let value = target.project.environment.get(text).map(str::to_owned);
                environment.insert(text.clone(), value);
            }
        }
    }
    let labels = flags.label.iter().map(|label| {
        let (key, value) = label.split_once('=').unwrap_or((label, ""));
        (key.to_owned(), value.to_owned())
    });
    Ok(OneOff {
        service: service.to_owned(),
        command: (!command.is_empty()).then(|| command.to_vec()),
        entrypoint: flags.entrypoint.as_ref().map(words).transpose()?,
        environment,
        labels: labels.collect(),
        user: flags.user.clone(),
        working_dir: flags.workdir.clone(),
        volumes: volumes(target, &flags.volume)?,
        ports: ports(&flags.publish)?,
        service_ports: flags.service_ports,
        use_aliases: flags.use_aliases,
        name: flags.name.clone(),
        remove: flags.rm,
        tty: flags.tty.unwrap_or(terminal || model.tty) && !no_tty && terminal && !flags.detach,
        interactive: flags.interactive.unwrap_or(true) && !flags.detach,
        detach: flags.detach,
        cap_add: flags.cap_add.clone(),
        cap_drop: flags.cap_drop.clone(),
    })
}

fn ports(texts: &[String]) -> Result<Vec<Port>, Failure> {
    let mut ports = Vec::new();
    for text in texts {
        for port in parse_port(text).map_err(Failure::new)? {
            ports.push(Port {
                host_ip: port.host_ip,
                target: Some(i64::from(port.target)),
                published: port.published,
                protocol: Some(port.protocol),
                ..Port::default()
            });
        }
    }
    Ok(ports)
}

fn volumes(target: &Target, texts: &[String]) -> Result<Vec<Mount>, Failure> {
    let one = |text: &String| {
        let volume = parse_volume(text).map_err(Failure::new)?;
        let is_bind = volume.is_bind();
        let source = volume.source.map(|source| match is_bind {
            true => {
                let home = target.project.environment.get("HOME");
                ferry_compose::files::absolute(&target.project.directory, &source, home)
                    .to_string_lossy()
                    .into_owned()
            }
            false => source,
        });
        Ok(Mount {
            kind: if is_bind { "bind" } else { "volume" }.to_owned(),
            source,
            target: volume.target,
            read_only: volume.read_only,
            bind: is_bind.then(|| BindOptions {
                create_host_path: Some(true),
                propagation: volume.propagation,
                selinux: volume.selinux,
                ..BindOptions::default()
            }),
            volume: (!is_bind).then(|| VolumeOptions { nocopy: volume.nocopy, ..VolumeOptions::default() }),
            ..Mount::default()
        })
    };
    texts.iter().map(one).collect()
}

/// Attaches, starts, stays until the end; the code is the process's.
async fn foreground(
    compose: &Compose,
    engine: &Engine,
    container: &OneOffContainer,
    options: &OneOff,
) -> Outcome {
    let mut words = vec!["-a".to_owned()];
    if options.interactive {
        words.push("-i".to_owned());
    }
    words.push(container.id.clone());
    let outcome = hand_over(&compose.session, "start", words).await;
    if options.remove {
        let path = format!("/containers/{}", Call::segment(&container.id));
        engine.done(Call::delete(path).query("force", "1").query("v", "1")).await?;
    }
    outcome
}
