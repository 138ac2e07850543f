//! `up` in the foreground: output of all services, and what Ctrl-C and the end of a container mean.
//!
//! The engine's state decides, not the stream of events: an event only says that it is worth looking.

use super::logs::{Follow, Painter};
use super::progress::Printer;
use super::up::Prepared;
use crate::failure::{Failure, Outcome};
use crate::output;
use ferry_compose::apply::{ApplyError, Engine, Executor, Settings, Watch, WatchedEvent, observe_containers};
use ferry_compose::found::Status;
use ferry_compose::plan;
use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::broadcast::Receiver;

/// How the foreground behaves.
pub struct Attached {
    /// Services whose output is shown.
    pub services: Vec<String>,
    /// Services whose containers it stays for, shown or not.
    pub watched: Vec<String>,
    /// With colours.
    pub colours: bool,
    /// With names in front of lines.
    pub prefix: bool,
    /// With timestamps.
    pub timestamps: bool,
    /// Any end of a container ends all.
    pub abort_on_exit: bool,
    /// Any failure of a container ends all.
    pub abort_on_failure: bool,
    /// The service whose code is ours.
    pub exit_code_from: Option<String>,
    /// Stop timeout.
    pub settings: Settings,
}

/// Both signals that ask for an end.
struct Interrupts {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupts {
    fn new() -> Result<Self, Failure> {
        Ok(Interrupts {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Carries the plan out and stays until all containers have ended.
pub async fn up(prepared: &Prepared, attached: &Attached, printer: &Printer) -> Outcome {
    let Prepared { engine, target, found, plan } = prepared;
    let mut interrupts = Interrupts::new()?;
    let executor = Executor::new(engine, target, &found.containers, printer, attached.settings.clone());
    let watch = Watch::start(engine).await?;
    let mut listener = watch.subscribe();
    let painter = Painter::new(attached.colours, attached.prefix, attached.timestamps);
    let names = attached.services.iter().map(String::as_str);
    output::line(&format!("Attaching to {}", names.collect::<Vec<_>>().join(", ")))?;
    let before = found.containers.iter().map(|container| container.id.clone()).collect();
    let mut foreground = Foreground {
        engine,
        attached,
        painter,
        watched: BTreeMap::new(),
        ended: BTreeSet::new(),
        early: BTreeSet::new(),
        before,
        first: None,
    };
    foreground.painter.hold(printer.is_live());
    for container in found.containers.iter().filter(|container| container.status.is_up() && !container.oneoff)
    {
        foreground.show(&container.service, &container.name, &container.id, Follow::FromNow);
    }
    {
        let mut work = std::pin::pin!(executor.execute(plan));
        loop {
            tokio::select! {
                result = &mut work => {
                    foreground.painter.hold(false);
                    if let Err(error) = result {
                        foreground.painter.finish_all().await;
                        return Err(error.into());
                    }
                    break;
                }
                event = listener.recv() => foreground.hear(event.ok()).await?,
                () = interrupts.next() => {
                    foreground.painter.hold(false);
                    output::note("Gracefully Stopping... press Ctrl+C again to force");
                    return stop_all(prepared, attached, printer, &mut interrupts).await.map(|()| 130);
                }
            }
        }
    }
    let code = foreground.stay(&mut listener, &mut interrupts).await?;
    match code {
        Stayed::AllEnded(code) => Ok(code),
        Stayed::Abort(code) => {
            output::note("Aborting on container exit...");
            stop_all(prepared, attached, printer, &mut interrupts).await?;
            foreground.drain(&mut listener).await?;
            Ok(code)
        }
        Stayed::Interrupted => {
            output::note("Gracefully Stopping... press Ctrl+C again to force");
            stop_all(prepared, attached, printer, &mut interrupts).await?;
            foreground.drain(&mut listener).await?;
            Ok(130)
        }
    }
}

/// The same with something else going on beside it, whose failure ends both.
pub async fn up_and(
    prepared: &Prepared,
    attached: &Attached,
    printer: &Printer,
    beside: impl Future<Output = Result<(), Failure>>,
) -> Outcome {
    let staying = up(prepared, attached, printer);
    tokio::select! {
        result = staying => result,
        result = beside => result.map(|()| 0),
    }
}

/// Why nobody stays any longer.
enum Stayed {
    AllEnded(i32),
    Abort(i32),
    Interrupted,
}

struct Foreground<'a> {
    engine: &'a Engine,
    attached: &'a Attached,
    painter: Painter,
    /// Containers it stays for, by id: name and service.
    watched: BTreeMap<String, (String, String)>,
    ended: BTreeSet<String>,
    /// Containers whose start was seen in the engine's list; the event is still to come.
    early: BTreeSet<String>,
    /// Containers that were there before.
    before: BTreeSet<String>,
    /// The end that decides our exit code: service and code.
    first: Option<(String, i32)>,
}

impl Foreground<'_> {
    /// A container that this run made has nothing older to leave out.
    fn from(&self, id: &str) -> Follow {
        let made_here = !self.watched.contains_key(id) && !self.before.contains(id);
        if made_here { Follow::Everything } else { Follow::ThisRun }
    }

    fn is_visible(&self, service: &str) -> bool {
        self.attached.services.iter().any(|shown| shown == service)
    }

    fn show(&mut self, service: &str, name: &str, id: &str, from: Follow) {
        let visible = self.is_visible(service);
        if !visible && !self.attached.watched.iter().any(|watched| watched == service) {
            return;
        }
        self.ended.remove(id);
        self.watched.insert(id.to_owned(), (name.to_owned(), service.to_owned()));
        if visible {
            self.painter.follow(self.engine, id, name, service, from);
        }
    }

    fn say(&self, service: &str, name: &str, text: &str) {
        if self.is_visible(service) {
            self.painter.say(name, text);
        }
    }

    /// One event, or that some were missed.
    async fn hear(&mut self, event: Option<WatchedEvent>) -> Result<(), Failure> {
        let Some(event) = event else { return Ok(()) };
        let attribute = |key: &str| event.actor.attributes.get(key).cloned().unwrap_or_default();
        if attribute(ferry_compose::labels::ONEOFF) == "True" {
            return Ok(());
        }
        match event.action.as_str() {
            // Its list told of this start before its event came.
            "start" if self.early.remove(&event.actor.id) => {}
            "start" => {
                let service = attribute(ferry_compose::labels::SERVICE);
                // A container that is being replaced has a name that is only for the moment.
                let name = attribute("name");
                let name = name
                    .split_once('_')
                    .filter(|(id, _)| id.len() == 12)
                    .map_or(name.as_str(), |(_, rest)| rest);
                self.show(&service, name, &event.actor.id, self.from(&event.actor.id));
            }
            "die" => self.look(&event.actor.id).await?,
            "destroy" => drop(self.ended.insert(event.actor.id.clone())),
            _ => {}
        }
        Ok(())
    }

    /// After a `die`: has it ended for good, or does the engine start it again?
    async fn look(&mut self, id: &str) -> Result<(), Failure> {
        let Some((name, service)) = self.watched.get(id).cloned() else { return Ok(()) };
        if self.ended.contains(id) {
            return Ok(());
        }
        let code = match self.engine.inspect(id).await {
            Ok(container) if container.state.running || container.state.restarting => {
                let code = container.state.exit_code;
                if container.state.restarting {
                    self.say(&service, &name, &format!("exited with code {code} (restarting)"));
                }
                return Ok(());
            }
            Ok(container) => container.state.exit_code as i32,
            Err(error) if error.is_not_found() => 0,
            Err(error) => return Err(ApplyError::engine(format!("cannot inspect {name}"))(error).into()),
        };
        self.painter.finish(id).await;
        self.say(&service, &name, &format!("exited with code {code}"));
        self.ended.insert(id.to_owned());
        let decides = match &self.attached.exit_code_from {
            Some(from) => *from == service,
            None => true,
        };
        if decides && self.first.is_none() && (self.attached.abort_on_exit || code != 0) {
            self.first = Some((service, code));
        }
        Ok(())
    }

    /// What began or ended before its event was heard: the engine's list says it, however late events come.
    async fn catch_up(&mut self) -> Result<(), Failure> {
        for container in observe_containers(self.engine).await? {
            if container.oneoff || container.hook || container.status == Status::Created {
                continue;
            }
            if !self.watched.contains_key(&container.id) {
                self.show(&container.service, &container.name, &container.id, self.from(&container.id));
                self.early.insert(container.id.clone());
            }
            if !container.status.is_up() {
                self.look(&container.id).await?;
            }
        }
        Ok(())
    }

    async fn stay(
        &mut self,
        listener: &mut Receiver<WatchedEvent>,
        interrupts: &mut Interrupts,
    ) -> Result<Stayed, Failure> {
        self.catch_up().await?;
        loop {
            if self.attached.abort_on_exit && !self.ended.is_empty() {
                return Ok(Stayed::Abort(self.first.as_ref().map_or(0, |(_, code)| *code)));
            }
            if let (true, Some((_, code))) = (self.attached.abort_on_failure, &self.first) {
                return Ok(Stayed::Abort(*code));
            }
            if self.watched.keys().all(|id| self.ended.contains(id)) {
                return Ok(Stayed::AllEnded(0));
            }
            tokio::select! {
                event = listener.recv() => match event {
                    Ok(event) => self.hear(Some(event)).await?,
                    Err(tokio::sync::broadcast::error::RecvError::Lagged(_)) => {}
                    Err(tokio::sync::broadcast::error::RecvError::Closed) => {
                        return Err(Failure::new("the engine's stream of events broke off"));
                    }
                },
                () = interrupts.next() => return Ok(Stayed::Interrupted),
            }
        }
    }

    /// The last lines and codes after everything was stopped.
    async fn drain(&mut self, listener: &mut Receiver<WatchedEvent>) -> Result<(), Failure> {
        while let Ok(event) = listener.try_recv() {
            self.hear(Some(event)).await?;
        }
        self.painter.finish_all().await;
        Ok(())
    }
}

/// Stops in reverse order; another Ctrl-C kills, a third one leaves at once.
async fn stop_all(
    prepared: &Prepared,
    attached: &Attached,
    printer: &Printer,
    interrupts: &mut Interrupts,
) -> Result<(), Failure> {
    let Prepared { engine, target, .. } = prepared;
    let containers = observe_containers(engine).await?;
    let found = ferry_compose::found::Found { containers, ..Default::default() };
    let plan = plan::stop(target, &found, &[]);
    let executor = Executor::new(engine, target, &found.containers, printer, attached.settings.clone());
    let stopping = executor.execute(&plan);
    tokio::select! {
        result = stopping => return Ok(result?),
        () = interrupts.next() => {}
    }
    let kill = async {
        for container in
            found.containers.iter().filter(|container| container.status.is_up() && !container.oneoff)
        {
            engine.kill(&container.id, "SIGKILL").await?;
        }
        Ok::<(), ferry_api::ClientError>(())
    };
    tokio::select! {
        result = kill => result?,
        () = interrupts.next() => {}
    }
    Err(Failure::silent(130))
}
