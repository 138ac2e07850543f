//! Commands about one container of a service, handed to the commands about containers: `exec`, `attach`, `cp`,
//! `export`, `commit`, `stats`.

use super::context::{Compose, pick};
use crate::commands::COMMANDS;
use crate::failure::{Failure, Outcome};
use crate::session::Session;
use crate::terminal;
use ferry_compose::apply::observe_containers;
use ferry_compose::found::FoundContainer;
use std::io::{self, IsTerminal as _};

crate::flags! {
    /// Flags of `exec`.
    pub struct ExecFlags {
        detach: bool = 'd' "detach" "Detached mode: Run command in the background";
        env: Vec<String> = 'e' "env" <list> "Set environment variables";
        index: Option<i64> = '-' "index" <int> "Index of the container if service has multiple replicas";
        interactive: Option<bool> = 'i' "interactive" "Keep STDIN open even if not attached (default true)";
        no_tty: bool = 'T' "no-tty" "Disable pseudo-TTY allocation";
        no_tty_legacy: bool = '-' "no-TTY" "Disable pseudo-TTY allocation (deprecated spelling)";
        privileged: bool = '-' "privileged" "Give extended privileges to the process";
        tty: Option<bool> = 't' "tty" "Allocate a pseudo-TTY (default true on a terminal)";
        user: String = 'u' "user" <string> "Run the command as this user";
        workdir: String = 'w' "workdir" <string> "Path to workdir directory for this command";
    }
}

crate::flags! {
    /// Flags of `attach`.
    pub struct AttachFlags {
        detach_keys: String = '-' "detach-keys" <string> "Override the key sequence for detaching from a container";
        index: Option<i64> = '-' "index" <int> "Index of the container if service has multiple replicas";
        no_stdin: bool = '-' "no-stdin" "Do not attach STDIN";
        sig_proxy: Option<bool> = '-' "sig-proxy" "Proxy all received signals to the process (default true)";
    }
}

crate::flags! {
    /// Flags of `cp`.
    pub struct CpFlags {
        all: bool = '-' "all" "Include containers created by the run command";
        archive: bool = 'a' "archive" "Archive mode (copy all uid/gid information)";
        follow_link: bool = 'L' "follow-link" "Always follow symbol link in SRC_PATH";
        index: Option<i64> = '-' "index" <int> "Index of the container if service has multiple replicas";
    }
}

crate::flags! {
    /// Flags of `export`.
    pub struct ExportFlags {
        index: Option<i64> = '-' "index" <int> "Index of the container if service has multiple replicas";
        output: String = 'o' "output" <string> "Write to a file, instead of STDOUT";
    }
}

crate::flags! {
    /// Flags of `commit`.
    pub struct CommitFlags {
        author: String = 'a' "author" <string> "Author (e.g., \"John Hannibal Smith <hannibal@a-team.com>\")";
        change: Vec<String> = 'c' "change" <list> "Apply Dockerfile instruction to the created image";
        index: Option<i64> = '-' "index" <int> "Index of the container if service has multiple replicas";
        message: String = 'm' "message" <string> "Commit message";
        pause: Option<bool> = 'p' "pause" "Pause container during commit (default true)";
    }
}

crate::flags! {
    /// Flags of `stats`.
    pub struct StatsFlags {
        all: bool = 'a' "all" "Show all containers (default shows just running)";
        format: String = '-' "format" <string> "Format output using a custom template";
        no_stream: bool = '-' "no-stream" "Disable streaming stats and only pull the first result";
        no_trunc: bool = '-' "no-trunc" "Do not truncate output";
    }
}

/// Runs a command of `ferry` itself.
pub async fn hand_over(session: &Session, name: &str, words: Vec<String>) -> Outcome {
    let mut all = COMMANDS.iter().flat_map(|area| area.iter());
    match all.find(|command| command.names.contains(&name)) {
        Some(command) => (command.run)(session, command, words).await,
        None => Err(Failure::new(format!("this version has no command '{name}'"))),
    }
}

/// All containers of the project; the service exists.
async fn containers_of(compose: &Compose, service: &str) -> Result<Vec<FoundContainer>, Failure> {
    let target = compose.target_or_name(&[])?;
    let engine = compose.engine(&target.project.name).await?;
    let containers = observe_containers(&engine).await?;
    compose.check_services(&target, &containers, &[service.to_owned()])?;
    Ok(containers)
}

fn option(words: &mut Vec<String>, flag: &str, value: &str) {
    if !value.is_empty() {
        words.extend([flag.to_owned(), value.to_owned()]);
    }
}

/// Runs `exec`.
pub async fn exec(compose: &Compose, flags: ExecFlags, arguments: Vec<String>) -> Outcome {
    let (service, command) = arguments.split_first().expect("the table wants two arguments");
    let containers = containers_of(compose, service).await?;
    let container = pick(&containers, service, flags.index.unwrap_or(0))?;
    if !container.status.is_up() {
        return Err(Failure::new(format!("service \"{service}\" is not running"))
            .hint(format!("start it first: compose up -d {service}")));
    }
    let no_tty = flags.no_tty || flags.no_tty_legacy;
    let terminal = terminal::stdin_is_terminal() && io::stdout().is_terminal();
    let tty = flags.tty.unwrap_or(terminal) && !no_tty && terminal && !flags.detach;
    let mut words = Vec::new();
    if flags.interactive.unwrap_or(true) && !flags.detach {
        words.push("-i".to_owned());
    }
    for (on, word) in [(tty, "-t"), (flags.detach, "-d"), (flags.privileged, "--privileged")] {
        if on {
            words.push(word.to_owned());
        }
    }
    flags.env.iter().for_each(|variable| option(&mut words, "-e", variable));
    option(&mut words, "-u", &flags.user);
    option(&mut words, "-w", &flags.workdir);
    words.push(container.id.clone());
    words.extend(command.iter().cloned());
    hand_over(&compose.session, "exec", words).await
}

/// Runs `attach`.
pub async fn attach(compose: &Compose, flags: AttachFlags, arguments: Vec<String>) -> Outcome {
    let service = &arguments[0];
    let containers = containers_of(compose, service).await?;
    let container = pick(&containers, service, flags.index.unwrap_or(0))?;
    let mut words = Vec::new();
    option(&mut words, "--detach-keys", &flags.detach_keys);
    if flags.no_stdin {
        words.push("--no-stdin".to_owned());
    }
    words.push(format!("--sig-proxy={}", flags.sig_proxy.unwrap_or(true)));
    words.push(container.id.clone());
    hand_over(&compose.session, "attach", words).await
}

/// Runs `cp`: `SERVICE:PATH` on one side; to a service it goes to all of its containers.
pub async fn cp(compose: &Compose, flags: CpFlags, arguments: Vec<String>) -> Outcome {
    let [source, destination] = arguments.as_slice() else { unreachable!("the table wants two arguments") };
    let mut base = Vec::new();
    for (on, word) in [(flags.archive, "-a"), (flags.follow_link, "-L")] {
        if on {
            base.push(word.to_owned());
        }
    }
    match (service_path(source), service_path(destination)) {
        (Some((service, path)), None) => {
            let containers = containers_of(compose, service).await?;
            let container = pick(&containers, service, flags.index.unwrap_or(0))?;
            base.extend([format!("{}:{path}", container.id), destination.clone()]);
            hand_over(&compose.session, "cp", base).await
        }
        (None, Some((service, path))) => {
            let containers = containers_of(compose, service).await?;
            let chosen = |c: &&FoundContainer| {
                let number = flags.index.is_none_or(|index| c.number.map(i64::from) == Some(index));
                c.service == service && !c.hook && (flags.all || !c.oneoff) && number
            };
            let targets: Vec<&FoundContainer> = containers.iter().filter(chosen).collect();
            if targets.is_empty() {
                return Err(Failure::new(format!("service \"{service}\" has no container to copy to")));
            }
            for container in targets {
                let mut words = base.clone();
                words.extend([source.clone(), format!("{}:{path}", container.id)]);
                hand_over(&compose.session, "cp", words).await?;
            }
            Ok(0)
        }
        (Some(_), Some(_)) => Err(Failure::new("copying between services is not supported")),
        (None, None) => Err(Failure::new("one of the two must be SERVICE:PATH")),
    }
}

/// `web:/etc` but not `./a:b` or `/a:b`.
fn service_path(text: &str) -> Option<(&str, &str)> {
    text.split_once(':').filter(|(service, _)| !service.is_empty() && !service.contains(['/', '.']))
}

/// Runs `export`.
pub async fn export(compose: &Compose, flags: ExportFlags, arguments: Vec<String>) -> Outcome {
    let service = &arguments[0];
    let containers = containers_of(compose, service).await?;
    let container = pick(&containers, service, flags.index.unwrap_or(0))?;
    let mut words = Vec::new();
    option(&mut words, "-o", &flags.output);
    words.push(container.id.clone());
    hand_over(&compose.session, "export", words).await
}

/// Runs `commit`.
pub async fn commit(compose: &Compose, flags: CommitFlags, arguments: Vec<String>) -> Outcome {
    let service = &arguments[0];
    let containers = containers_of(compose, service).await?;
    let container = pick(&containers, service, flags.index.unwrap_or(0))?;
    let mut words = Vec::new();
    option(&mut words, "-a", &flags.author);
    option(&mut words, "-m", &flags.message);
    flags.change.iter().for_each(|change| option(&mut words, "-c", change));
    if flags.pause == Some(false) {
        words.push("--pause=false".to_owned());
    }
    words.push(container.id.clone());
    words.extend(arguments.get(1).cloned());
    hand_over(&compose.session, "commit", words).await
}

/// Runs `stats`.
pub async fn stats(compose: &Compose, flags: StatsFlags, services: Vec<String>) -> Outcome {
    let target = compose.target_or_name(&services)?;
    let engine = compose.engine(&target.project.name).await?;
    let containers = observe_containers(&engine).await?;
    compose.check_services(&target, &containers, &services)?;
    let mut words = Vec::new();
    for (on, word) in [(flags.all, "-a"), (flags.no_stream, "--no-stream"), (flags.no_trunc, "--no-trunc")] {
        if on {
            words.push(word.to_owned());
        }
    }
    option(&mut words, "--format", &flags.format);
    let wanted = |c: &&FoundContainer| {
        (services.is_empty() || services.contains(&c.service)) && (flags.all || c.status.is_up())
    };
    let ids: Vec<String> = containers.iter().filter(wanted).map(|container| container.id.clone()).collect();
    if ids.is_empty() {
        return Err(Failure::new("no container of the project runs"));
    }
    words.extend(ids);
    hand_over(&compose.session, "stats", words).await
}
