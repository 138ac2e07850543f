//! Pull-through: what is not here is fetched from an upstream registry, kept, and sent on while it comes.
//!
//! A tag is asked for again once it is older than a while; an upstream that does not answer leaves what was kept.
//! The last byte of a blob is held back until its digest has been verified, so that no client ever has a whole
//! blob that is not what it says.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use ferry_oci::{Digest, Reference as ImageReference};
use ferry_remote::{Blob, Credentials, FetchedManifest, RemoteError, Repository};
use futures_util::TryStreamExt as _;
use futures_util::stream::{self, Stream};
use tokio::sync::watch;

use crate::catalog::{ManifestRecord, NewManifest, StoredManifest, TagRecord};
use crate::manifest;
use crate::name::{Name, Reference};
use crate::refusal::{Code, Refusal};
use crate::registry::{Registry, now};
use crate::settings::Settings;

/// Bytes read at once from a file that is still growing.
const READ: u64 = 256 << 10;

/// One upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upstream {
    /// First parts of the names that come from it; empty for all that no other one has.
    pub prefix: String,
    /// Its domain, with a port where it has one: `docker.io`.
    pub domain: String,
    /// Whether it may be asked without TLS, or with a certificate that proves nothing.
    pub insecure: bool,
    /// Who asks there; None for anybody.
    pub login: Option<Credentials>,
}

impl Upstream {
    /// Asks as this user from now on; as nobody where the name is empty.
    pub fn log_in(&mut self, username: String, password: String) {
        let login = Credentials { username, password, ..Credentials::default() };
        self.login = (!login.is_empty()).then_some(login);
    }
}

/// All upstreams, and what is on its way from them.
pub struct Upstreams {
    upstreams: Vec<Upstream>,
    repair_from: Vec<String>,
    remote: ferry_remote::Registry,
    fresh: Duration,
    flights: Mutex<HashMap<(Name, Digest), Flight>>,
}

impl std::fmt::Debug for Upstreams {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Upstreams").field("upstreams", &self.upstreams).finish_non_exhaustive()
    }
}

/// How much of a blob can be sent on; None once its fetch has failed.
type Progress = Option<u64>;

/// A blob that is being fetched.
#[derive(Clone, Debug)]
struct Flight {
    file: Arc<File>,
    size: u64,
    progress: watch::Receiver<Progress>,
}

/// A blob that is sent on while it comes.
pub struct Coming {
    /// Its size.
    pub size: u64,
    flight: Flight,
}

impl Upstreams {
    /// None where nothing is fetched from elsewhere.
    pub fn new(settings: &Settings) -> Option<Upstreams> {
        let insecure = settings.upstreams.iter().filter(|upstream| upstream.insecure);
        let insecure = insecure.map(|upstream| upstream.domain.clone()).collect();
        let ways = ferry_remote::Settings { insecure, ..ferry_remote::Settings::default() };
        let remote = ferry_remote::Registry::new(Arc::new(ways));
        let (upstreams, repair_from) = (settings.upstreams.clone(), settings.repair_from.clone());
        let fresh = settings.upstream_fresh;
        let any = !upstreams.is_empty() || !repair_from.is_empty();
        any.then(|| Upstreams { upstreams, repair_from, remote, fresh, flights: Mutex::default() })
    }

    /// Where a blob may be had once more: at the name's upstream, or under the same name elsewhere.
    fn repairers(&self, name: &Name) -> Vec<Repository> {
        let mut all = self.addresses(name);
        for domain in &self.repair_from {
            if let Ok(reference) = ImageReference::parse_normalized(&format!("{domain}/{name}")) {
                all.extend(self.remote.candidates(&reference, None));
            }
        }
        all
    }

    /// A name's upstream, and what the name is there.
    fn find(&self, name: &Name) -> Option<(&Upstream, ImageReference)> {
        let under = |upstream: &&Upstream| {
            !upstream.prefix.is_empty()
                && name.as_str().strip_prefix(&upstream.prefix).is_some_and(|rest| rest.starts_with('/'))
        };
        let longest = self.upstreams.iter().filter(under).max_by_key(|upstream| upstream.prefix.len());
        let upstream =
            longest.or_else(|| self.upstreams.iter().find(|upstream| upstream.prefix.is_empty()))?;
        let path = match upstream.prefix.as_str() {
            "" => name.as_str(),
            prefix => &name.as_str()[prefix.len() + 1..],
        };
        let reference = ImageReference::parse_normalized(&format!("{}/{path}", upstream.domain)).ok()?;
        Some((upstream, reference))
    }

    /// What a name of another registry is called here, as clients ask that have this one for a mirror of all
    /// (`?ns=DOMAIN`); None where that registry is not among the upstreams.
    pub fn local_name(&self, domain: &str, name: &Name) -> Option<Name> {
        let upstream = self.upstreams.iter().find(|upstream| upstream.domain == domain)?;
        match upstream.prefix.as_str() {
            "" => Some(name.clone()),
            prefix => Name::parse(&format!("{prefix}/{name}")),
        }
    }

    /// Whether a name is an upstream's, and so nobody may push to it here.
    pub fn covers(&self, name: &Name) -> bool {
        self.find(name).is_some()
    }

    /// The addresses of a name's upstream, best first.
    fn addresses(&self, name: &Name) -> Vec<Repository> {
        let Some((upstream, reference)) = self.find(name) else { return Vec::new() };
        self.remote.candidates(&reference, upstream.login.as_ref())
    }

    /// The digest that a tag has there now.
    async fn digest(&self, name: &Name, text: &str) -> Option<Result<Option<Digest>, RemoteError>> {
        let mut last = None;
        for repository in self.addresses(name) {
            if settled(&mut last, repository.manifest_digest(text).await) {
                break;
            }
        }
        last
    }

    async fn manifest(&self, name: &Name, text: &str) -> Option<Result<FetchedManifest, RemoteError>> {
        let mut last = None;
        for repository in self.addresses(name) {
            if settled(&mut last, repository.manifest(text).await) {
                break;
            }
        }
        last
    }

    async fn blob(&self, name: &Name, digest: &Digest) -> Option<Result<Blob, RemoteError>> {
        let mut last = None;
        for repository in self.addresses(name) {
            if settled(&mut last, repository.blob(digest, 0).await) {
                break;
            }
        }
        last
    }
}

/// Keeps an answer; false where the next address may know better.
fn settled<T>(last: &mut Option<Result<T, RemoteError>>, answer: Result<T, RemoteError>) -> bool {
    let settled =
        matches!(answer, Ok(_) | Err(RemoteError::ManifestUnknown { .. } | RemoteError::BlobUnknown { .. }));
    *last = Some(answer);
    settled
}

/// A manifest, and whether it may be out of date because its upstream does not answer.
pub struct Found {
    /// The manifest.
    pub manifest: StoredManifest,
    /// Its upstream could not be asked.
    pub stale: bool,
}

impl Registry {
    /// A manifest from here, or else from its upstream.
    pub async fn pull_manifest(&self, name: &Name, reference: &Reference) -> Result<Option<Found>, Refusal> {
        let kept = self.catalog.manifest(name, reference)?;
        let found = |manifest| Found { manifest, stale: false };
        let Some(upstreams) = self.upstreams.as_ref().filter(|upstreams| upstreams.covers(name)) else {
            return Ok(kept.map(found));
        };
        let text = match reference {
            Reference::Digest(_) if kept.is_some() => return Ok(kept.map(found)),
            Reference::Digest(digest) => digest.to_string(),
            Reference::Tag(tag) => tag.clone(),
        };
        let set = match (&kept, self.catalog.resolve(name, reference)?) {
            (Some(_), Some((_, Some(record)))) => Some(record.set),
            _ => None,
        };
        if set.is_some_and(|set| now().saturating_sub(set) < upstreams.fresh.as_secs()) {
            return Ok(kept.map(found));
        }
        match (self.refresh(upstreams, name, &text, kept.as_ref()).await, kept) {
            (Ok(()), _) => Ok(self.catalog.manifest(name, reference)?.map(found)),
            (Err(RemoteError::ManifestUnknown { .. }), _) => Ok(None),
            (Err(error), Some(manifest)) => {
                crate::log::note(&format!("{name}:{text} is served as it was kept: {}", chain(&error)));
                Ok(Some(Found { manifest, stale: true }))
            }
            (Err(error), None) => Err(unreachable(name, &error)),
        }
    }

    /// Makes a manifest here what it is upstream.
    async fn refresh(
        &self,
        upstreams: &Upstreams,
        name: &Name,
        text: &str,
        kept: Option<&StoredManifest>,
    ) -> Result<(), RemoteError> {
        if let Some(kept) = kept
            && upstreams.digest(name, text).await.transpose()?.flatten().as_ref() == Some(&kept.digest)
        {
            let record = TagRecord { digest: kept.digest.clone(), set: now() };
            return self.catalog.set_tag(name, text, record).await.map_err(|error| broken(name, &error));
        }
        let Some(fetched) = upstreams.manifest(name, text).await.transpose()? else { return Ok(()) };
        let tags = if text.contains(':') { Vec::new() } else { vec![text.to_owned()] };
        let new = new_manifest(name, fetched, tags)
            .map_err(|refusal| broken(name, &format!("its manifest is not valid: {refusal:?}")))?;
        let put = self.catalog.put_manifest(new).await.map_err(|error| broken(name, &error))?;
        debug_assert!(put.is_ok(), "blobs may miss while a cache fills");
        Ok(())
    }

    /// A blob that has to be fetched; None where it is not there either.
    pub async fn pull_blob(
        self: &Arc<Self>,
        name: &Name,
        digest: &Digest,
    ) -> Result<Option<Coming>, Refusal> {
        let Some(upstreams) = &self.upstreams else { return Ok(None) };
        let key = (name.clone(), digest.clone());
        let flying = upstreams.flights().get(&key).cloned();
        if let Some(flight) = flying {
            return Ok(Some(Coming { size: flight.size, flight }));
        }
        let blob = match upstreams.blob(name, digest).await {
            None | Some(Err(RemoteError::BlobUnknown { .. })) => return Ok(None),
            Some(Err(error)) => return Err(unreachable(name, &error)),
            Some(Ok(blob)) => blob,
        };
        let Some(size) = blob.size.filter(|_| blob.offset == 0) else {
            return Err(unreachable(name, &broken(name, &"it does not say how large a blob is")));
        };
        let held = self.uploads.begin(name, digest.algorithm())?;
        let (sender, progress) = watch::channel(Some(0));
        let flight = Flight { file: Arc::new(File::open(held.path())?), size, progress };
        let first = {
            let mut flights = upstreams.flights();
            match flights.get(&key) {
                Some(flight) => Err(flight.clone()),
                None => {
                    flights.insert(key.clone(), flight.clone());
                    Ok(flight)
                }
            }
        };
        let flight = match first {
            Ok(flight) => flight,
            // Another request was quicker.
            Err(flight) => {
                held.finish();
                return Ok(Some(Coming { size, flight }));
            }
        };
        let id = held.id().to_owned();
        drop(held);
        let registry = Arc::clone(self);
        // Whoever asked may go away; the cache fills all the same.
        tokio::spawn(async move { registry.land(key, &id, blob.stream, sender, size).await });
        Ok(Some(Coming { size, flight }))
    }

    /// Fetches a blob once more, in place of a damaged one; false where nobody has it.
    pub async fn fetch_again(&self, name: &Name, digest: &Digest) -> Result<bool, Refusal> {
        let Some(upstreams) = &self.upstreams else { return Ok(false) };
        for repository in upstreams.repairers(name) {
            let blob = match repository.blob(digest, 0).await {
                Ok(blob) => blob,
                Err(error) => {
                    crate::log::note(&format!("repair of {digest}: {}", chain(&error)));
                    continue;
                }
            };
            let mut held = self.uploads.begin(name, digest.algorithm())?;
            let pieces = blob.stream.map_err(|error| chain(&error));
            let fetched = match held.append(pieces, None, |_| {}).await {
                Ok(()) => held.complete(digest).await,
                Err(refusal) => Err(refusal),
            };
            let placed = match fetched {
                Ok(path) => self.replace_blob(path, digest).await.map(|()| true),
                Err(refusal) => {
                    crate::log::note(&format!("repair of {digest}: {refusal:?}"));
                    Ok(false)
                }
            };
            held.finish();
            if placed? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Fetches a blob to its end and puts it in its place.
    async fn land(
        &self,
        key: (Name, Digest),
        id: &str,
        stream: impl Stream<Item = Result<Bytes, RemoteError>> + Send + Unpin,
        sender: watch::Sender<Progress>,
        size: u64,
    ) {
        let (name, digest) = &key;
        let landed = async {
            let mut held = self.uploads.take(name, id)?;
            let pieces = stream.map_err(|error| chain(&error));
            // The last byte waits for the digest.
            let teller = sender.clone();
            let told = move |written: u64| {
                teller.send_replace(Some(written.min(size.saturating_sub(1))));
            };
            match held.append(pieces, None, told).await {
                Ok(()) => self.finish_upload(held, name, digest).await,
                Err(refusal) => {
                    held.finish();
                    Err(refusal)
                }
            }
        };
        let landed = landed.await;
        if let Err(refusal) = &landed {
            crate::log::fault(&format!("{name}: fetching {digest}: {refusal:?}"));
        }
        sender.send_replace(landed.is_ok().then_some(size));
        if let Some(upstreams) = &self.upstreams {
            upstreams.flights().remove(&key);
        }
    }
}

impl Upstreams {
    fn flights(&self) -> std::sync::MutexGuard<'_, HashMap<(Name, Digest), Flight>> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Coming {
    /// A part of it, as its bytes come.
    pub fn bytes(self, start: u64, end: u64) -> impl Stream<Item = io::Result<Bytes>> + Send + use<> {
        let Flight { file, progress, .. } = self.flight;
        stream::try_unfold((file, progress, start), move |(file, mut progress, at)| async move {
            if at >= end {
                return Ok(None);
            }
            let broke_off = || io::Error::other("the fetch from the upstream broke off");
            let there = progress.wait_for(|there| there.is_none_or(|there| there > at)).await;
            let there = there.map_err(|_| broke_off())?.ok_or_else(broke_off)?;
            let mut buffer = vec![0; (there.min(end) - at).min(READ) as usize];
            file.read_exact_at(&mut buffer, at)?;
            let next = at + buffer.len() as u64;
            Ok(Some((Bytes::from(buffer), (file, progress, next))))
        })
    }
}

fn new_manifest(name: &Name, fetched: FetchedManifest, tags: Vec<String>) -> Result<NewManifest, Refusal> {
    let parsed = manifest::parse(Some(&fetched.media_type), &fetched.bytes)?;
    let descriptor = manifest::descriptor(&parsed, &fetched.digest, fetched.bytes.len());
    let bytes = fetched.bytes.to_vec();
    Ok(NewManifest {
        name: name.clone(),
        digest: fetched.digest,
        record: ManifestRecord::new(parsed, bytes.len() as u64, now()),
        bytes,
        tags,
        descriptor,
        blobs_may_miss: true,
    })
}

fn broken(name: &Name, reason: &dyn std::fmt::Display) -> RemoteError {
    RemoteError::Protocol { place: name.to_string(), reason: reason.to_string() }
}

fn unreachable(name: &Name, error: &RemoteError) -> Refusal {
    crate::log::fault(&format!("{name}: {}", chain(error)));
    Refusal::new(Code::Unknown, format!("{name} is not here, and its upstream cannot be asked"))
        .status(http::StatusCode::BAD_GATEWAY)
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(&format!(": {cause}"));
        next = cause.source();
    }
    text
}
