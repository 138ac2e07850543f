//! Replacing a container: plainly, or as `deploy.update_config` asks, without a gap and with a way back.
//!
//! Owns the order of the calls around one replacement. The new container always lives under a temporary name until
//! the old one is gone, so that a client that dies in between leaves something the next `up` understands.

use super::engine::trying;
use super::executor::{Executor, Outcome};
use super::{ApplyError, health};
use crate::model::Condition;
use crate::plan::{Back, OnFailure, Update};
use ferry_api::container::{CreateRequest, EndpointSettings, HostConfig, Inspect, Mount, NetworkingConfig};
use futures_util::future::join_all;
use std::time::Duration;

/// The container that is replaced.
pub(super) struct Old<'a> {
    pub(super) id: &'a str,
    pub(super) name: &'a str,
    pub(super) inherit_volumes: bool,
}

/// A replacement that an update made, and what was there before.
pub(super) struct Replaced {
    service: String,
    name: String,
    id: String,
    old: Inspect,
    start_first: bool,
}

/// The new container on its way.
struct New<'a> {
    service: &'a str,
    temporary: String,
    id: String,
}

impl Executor<'_> {
    pub(super) async fn replace(
        &self,
        service: &str,
        number: u32,
        name: &str,
        old: &Old<'_>,
        update: Option<&Update>,
    ) -> Result<Outcome, ApplyError> {
        let inspect = match self.engine.inspect(old.id).await {
            Ok(inspect) => Some(inspect),
            Err(error) if error.is_not_found() => None,
            Err(error) => return Err(ApplyError::engine(format!("cannot inspect {}", old.name))(error)),
        };
        let running = inspect.as_ref().is_some_and(|old| old.state.running);
        let Some((update, inspect)) = update.zip(inspect.clone()).filter(|_| running) else {
            self.replace_plainly(service, number, name, old, inspect.as_ref()).await?;
            return Ok(Outcome::Done);
        };
        if let Some(delay) = update.delay {
            tokio::time::sleep(delay).await;
        }
        match self.update(service, number, name, old, inspect, update).await {
            Ok(()) => Ok(Outcome::Done),
            Err(error) if self.is_tolerated(service, update) => {
                self.progress.note(&format!("{name}: {error}; the old container stays"));
                Ok(Outcome::Skipped("Update failed".to_owned()))
            }
            Err(error) => {
                if update.on_failure == OnFailure::Rollback {
                    self.roll_back(service, &update.back).await?;
                }
                Err(error)
            }
        }
    }

    async fn replace_plainly(
        &self,
        service: &str,
        number: u32,
        name: &str,
        old: &Old<'_>,
        inspect: Option<&Inspect>,
    ) -> Result<(), ApplyError> {
        let new = self.create_beside(service, number, name, old, inspect).await?;
        self.stop(service, old.name, old.id).await?;
        self.take_place(&new, name, old.name, old.id).await
    }

    /// The new container under a temporary name.
    async fn create_beside<'s>(
        &self,
        service: &'s str,
        number: u32,
        name: &str,
        old: &Old<'_>,
        inspect: Option<&Inspect>,
    ) -> Result<New<'s>, ApplyError> {
        let temporary = format!("{}_{name}", old.id.get(..12).unwrap_or(old.id));
        // One left behind by a client that was killed in the middle of this.
        trying(format!("cannot remove {temporary}"), self.engine.remove(&temporary, false, true).await)?;
        let before = inspect.map(|inspect| (inspect, old));
        let id = self.create(service, number, &temporary, name, before).await?;
        Ok(New { service, temporary, id })
    }

    /// The old container goes, the new one gets its name.
    async fn take_place(
        &self,
        new: &New<'_>,
        name: &str,
        old_name: &str,
        old: &str,
    ) -> Result<(), ApplyError> {
        trying(format!("cannot remove container {old_name}"), self.engine.remove(old, false, true).await)?;
        self.forget(new.service, old_name, old);
        let renamed = self.engine.rename(&new.id, name).await;
        trying(format!("cannot rename {} to {name}", new.temporary), renamed)?;
        self.remember(new.service, name, &new.id);
        Ok(())
    }

    async fn update(
        &self,
        service: &str,
        number: u32,
        name: &str,
        old: &Old<'_>,
        inspect: Inspect,
        update: &Update,
    ) -> Result<(), ApplyError> {
        let new = self.create_beside(service, number, name, old, Some(&inspect)).await?;
        let publishes = inspect.host_config.port_bindings.as_ref().is_some_and(|ports| !ports.is_empty());
        let hand_over = publishes && update.start_first;
        let start_first = update.start_first && (!hand_over || self.hands_over_ports(name).await?);
        let proved = if start_first {
            self.prove(&new, update.monitor, hand_over.then_some(old.id)).await
        } else {
            self.stop(service, old.name, old.id).await?;
            self.prove(&new, update.monitor, None).await
        };
        if let Err(error) = proved {
            trying(
                format!("cannot remove {}", new.temporary),
                self.engine.remove(&new.id, true, true).await,
            )?;
            if !start_first {
                trying(format!("cannot start {} again", old.name), self.engine.start(old.id).await)?;
            }
            return Err(error);
        }
        if start_first {
            self.stop(service, old.name, old.id).await?;
        }
        self.take_place(&new, name, old.name, old.id).await?;
        let (service, name) = (service.to_owned(), name.to_owned());
        let replaced = Replaced { service, name, id: new.id, old: inspect, start_first };
        self.replaced.borrow_mut().push(replaced);
        Ok(())
    }

    async fn hands_over_ports(&self, name: &str) -> Result<bool, ApplyError> {
        let able = trying("cannot ask the engine what it is", self.engine.hands_over_ports().await)?;
        if !able {
            self.progress.note(&format!(
                "{name}: this engine cannot hand published ports over, so the old container stops first"
            ));
        }
        Ok(able)
    }

    /// Starts the new container and waits until it is healthy, and as long as `monitor` says; then the ports of
    /// the old one lead to it.
    async fn prove(
        &self,
        new: &New<'_>,
        monitor: Option<Duration>,
        giver: Option<&str>,
    ) -> Result<(), ApplyError> {
        let watch = self.watch().await?;
        self.run_pre_start(new.service, &new.id).await?;
        self.run_pre_start_of_replica(new.service, &new.temporary, &new.id).await?;
        let started = match giver {
            Some(_) => self.engine.start_without_ports(&new.id).await,
            None => self.engine.start(&new.id).await,
        };
        trying(format!("cannot start container {}", new.temporary), started)?;
        let container =
            trying(format!("cannot inspect {}", new.temporary), self.engine.inspect(&new.id).await)?;
        let checked = container.state.health.as_ref().is_some_and(|health| health.status != "none");
        let condition = if checked { Condition::ServiceHealthy } else { Condition::ServiceStarted };
        let path = [new.service.to_owned()];
        health::wait_for(self.engine, watch, &new.id, condition, &path).await?;
        if let Some(monitor) = monitor {
            health::stays_up(self.engine, watch, &new.id, condition, monitor, &path).await?;
        }
        if let Some(giver) = giver {
            let taken = self.engine.take_ports(&new.id, giver).await;
            trying(format!("cannot hand the ports over to {}", new.temporary), taken)?;
        }
        Ok(())
    }

    /// Counts a replica that failed; whether the update goes on in spite of it.
    fn is_tolerated(&self, service: &str, update: &Update) -> bool {
        let mut all = self.failed_updates.borrow_mut();
        let failed = all.entry(service.to_owned()).or_default();
        *failed += 1;
        update.on_failure == OnFailure::Continue || *failed <= update.may_fail
    }

    /// Replicas that this update replaced become again what they were, the last ones first.
    async fn roll_back(&self, service: &str, back: &Back) -> Result<(), ApplyError> {
        let mut pause = None;
        loop {
            let batch = self.take_replaced(service, back.parallelism);
            if batch.is_empty() {
                return Ok(());
            }
            if let Some(pause) = pause {
                tokio::time::sleep(pause).await;
            }
            pause = back.delay;
            let results = join_all(batch.iter().map(|one| self.put_back(one, back))).await;
            for (one, result) in batch.iter().zip(results) {
                match result {
                    Ok(()) => self.progress.note(&format!("{}: rolled back", one.name)),
                    Err(error) if back.goes_on => {
                        self.progress.note(&format!("{}: cannot be rolled back: {error}", one.name));
                    }
                    Err(error) => return Err(error),
                }
            }
        }
    }

    fn take_replaced(&self, service: &str, most: Option<usize>) -> Vec<Replaced> {
        let mut all = self.replaced.borrow_mut();
        let mut batch = Vec::new();
        while most.is_none_or(|most| batch.len() < most)
            && let Some(at) = all.iter().rposition(|one| one.service == service)
        {
            batch.push(all.remove(at));
        }
        batch
    }

    async fn put_back(&self, replaced: &Replaced, back: &Back) -> Result<(), ApplyError> {
        let service = replaced.service.as_str();
        let start_first = back.start_first.unwrap_or(replaced.start_first);
        let temporary = format!("{}_{}", replaced.id.get(..12).unwrap_or(&replaced.id), replaced.name);
        let created = self.engine.create(&temporary, "", &as_it_was(&replaced.old)).await;
        let id = trying(format!("cannot create container {temporary}"), created)?.id;
        let new = New { service, temporary, id };
        let publishes =
            replaced.old.host_config.port_bindings.as_ref().is_some_and(|ports| !ports.is_empty());
        let hand_over = start_first && publishes;
        let start_first = start_first && (!hand_over || self.hands_over_ports(&replaced.name).await?);
        if !start_first {
            self.stop(service, &replaced.name, &replaced.id).await?;
        }
        let giver = (start_first && publishes).then_some(replaced.id.as_str());
        self.prove(&new, back.monitor, giver).await?;
        if start_first {
            self.stop(service, &replaced.name, &replaced.id).await?;
        }
        self.take_place(&new, &replaced.name, &replaced.name, &replaced.id).await
    }
}

/// The request that makes a container like one that was there.
fn as_it_was(old: &Inspect) -> CreateRequest {
    let mut host = old.host_config.clone();
    inherit_volumes(&mut host, old);
    let asked = |settings: &EndpointSettings| EndpointSettings {
        ipam_config: settings.ipam_config.clone(),
        links: settings.links.clone(),
        aliases: settings.aliases.clone(),
        driver_opts: settings.driver_opts.clone(),
        gw_priority: settings.gw_priority,
        ..EndpointSettings::default()
    };
    let networks = old.network_settings.networks.iter().map(|(name, one)| (name.clone(), Some(asked(one))));
    CreateRequest {
        config: old.config.clone(),
        host_config: Some(host),
        networking_config: Some(NetworkingConfig { endpoints_config: Some(networks.collect()) }),
    }
}

/// Anonymous volumes of the old container are mounted at the same places of the new one.
pub(super) fn inherit_volumes(host: &mut HostConfig, old: &Inspect) {
    for mount in old.mounts.iter().filter(|mount| mount.kind == "volume" && !mount.name.is_empty()) {
        let bound = host
            .binds
            .iter()
            .flatten()
            .any(|bind| bind.split(':').nth(1) == Some(mount.destination.as_str()));
        match host.mounts.iter_mut().find(|wanted| wanted.target == mount.destination) {
            Some(wanted) if wanted.kind == "volume" && wanted.source.is_empty() => {
                wanted.source = mount.name.clone()
            }
            Some(_) => {}
            None if bound => {}
            // An image's volume: only a name that the engine made up is one nobody declared.
            None if is_anonymous(&mount.name) => host.mounts.push(Mount {
                kind: "volume".to_owned(),
                source: mount.name.clone(),
                target: mount.destination.clone(),
                read_only: !mount.rw,
                ..Mount::default()
            }),
            None => {}
        }
    }
}

fn is_anonymous(name: &str) -> bool {
    name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn anonymous_volumes_go_over_and_named_ones_do_not() {
        let mount = |name: &str, destination: &str| ferry_api::container::MountPoint {
            kind: "volume".to_owned(),
            name: name.to_owned(),
            destination: destination.to_owned(),
            rw: true,
            ..Default::default()
        };
        let anonymous = "a".repeat(64);
        let old = Inspect {
            mounts: vec![
                mount(&anonymous, "/anon"),
                mount("app_data", "/data"),
                mount(&anonymous, "/wanted"),
            ],
            ..Inspect::default()
        };
        let wanted = Mount { kind: "volume".to_owned(), target: "/wanted".to_owned(), ..Mount::default() };
        let mut host = HostConfig { mounts: vec![wanted], ..HostConfig::default() };
        inherit_volumes(&mut host, &old);
        let found: Vec<(&str, &str)> =
            host.mounts.iter().map(|m| (m.target.as_str(), m.source.as_str())).collect();
        assert_eq!(found, [("/wanted", anonymous.as_str()), ("/anon", anonymous.as_str())]);
    }
}
