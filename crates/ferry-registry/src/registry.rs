//! The registry itself: catalog, files and uploads together, whatever the protocol.

use std::io;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use ferry_oci::{Algorithm, Digest};
use tokio::sync::RwLock;

use crate::access::Guard;
use crate::bucket::Bucket;
use crate::bucket::journal::BucketJournal;
use crate::catalog::Catalog;
use crate::database::{DatabaseError, Journal};
use crate::files::{Files, random_key, write_whole};
use crate::metrics::Metrics;
use crate::name::Name;
use crate::rate::Limiter;
use crate::refusal::{Code, Refusal};
use crate::settings::{Quota, Settings};
use crate::upload::{Held, Uploads};
use crate::upstream::Upstreams;
use crate::webhook::Webhooks;

/// A registry over its root.
#[derive(Debug)]
pub struct Registry {
    /// What the operator chose.
    pub settings: Settings,
    /// The metadata.
    pub catalog: Catalog,
    /// The files.
    pub files: Files,
    /// Where the blobs are instead, which is shared with other instances.
    pub bucket: Option<Bucket>,
    /// This instance's own name among them.
    pub instance: String,
    /// Open uploads.
    pub uploads: Uploads,
    /// Who may do what.
    pub guard: Guard,
    /// Where else to look; None where nowhere.
    pub upstreams: Option<Upstreams>,
    /// Counters.
    pub metrics: Metrics,
    /// Limits of requests; None where there are none.
    pub limiter: Option<Limiter>,
    /// Who is told of what happens.
    pub webhooks: Webhooks,
    /// Held by the scrub that runs.
    pub(crate) scrubbing: tokio::sync::Mutex<()>,
    /// Whoever places a file and records it reads; the sweep, which removes records and files, writes.
    pub(crate) placing: RwLock<()>,
}

/// Why a root cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The files.
    #[error("cannot open the registry's folder: {0}")]
    Files(#[from] io::Error),
    /// The metadata; another registry that serves the same root is told here too.
    #[error(transparent)]
    Database(#[from] DatabaseError),
    /// The password file.
    #[error(transparent)]
    Access(#[from] crate::access::AccessError),
}

/// Now, in Unix seconds.
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_secs())
}

/// Makes the tokens of one instance good for all of them. Blocking, within the runtime.
fn share_key(bucket: &Bucket, files: &Files) -> Result<(), io::Error> {
    let (bucket, runtime) = (bucket.clone(), tokio::runtime::Handle::current());
    let shared = std::thread::spawn(move || runtime.block_on(bucket.shared("token.key", random_key())));
    let key = shared.join().map_err(|_| io::Error::other("the key of the tokens cannot be shared"))?;
    write_whole(&files.token_key(), &key.map_err(io::Error::other)?)
}

impl From<DatabaseError> for Refusal {
    fn from(error: DatabaseError) -> Refusal {
        Refusal::fault(error)
    }
}

impl Registry {
    /// Opens or makes the root. Blocking; within the runtime.
    pub fn open(settings: Settings) -> Result<Registry, OpenError> {
        let files = Files::open(&settings.root)?;
        let instance = files.instance()?;
        let bucket = settings.bucket.as_ref().map(Bucket::new).transpose()?;
        let journal = bucket.as_ref().map(|bucket| {
            let runtime = tokio::runtime::Handle::current();
            Box::new(BucketJournal::new(bucket.clone(), runtime, instance.clone())) as Box<dyn Journal>
        });
        let catalog = Catalog::open(&files.metadata(), journal)?;
        if let Some(bucket) = &bucket {
            share_key(bucket, &files)?;
        }
        let uploads = Uploads::open(&files, settings.max_uploads)?;
        let guard = Guard::open(&settings.access, &files.token_key())?;
        files.empty_trash()?;
        let limiter = settings.rate.map(Limiter::new);
        let webhooks = Webhooks::start(&settings.webhooks);
        Ok(Registry {
            upstreams: Upstreams::new(&settings),
            settings,
            catalog,
            files,
            bucket,
            instance,
            uploads,
            guard,
            metrics: Metrics::default(),
            limiter,
            webhooks,
            scrubbing: tokio::sync::Mutex::default(),
            placing: RwLock::new(()),
        })
    }

    /// Finishes an upload: checks its digest, puts its file in place, and records it.
    pub async fn finish_upload(
        &self,
        mut held: Held<'_>,
        name: &Name,
        digest: &Digest,
    ) -> Result<(), Refusal> {
        let result = self.place_upload(&mut held, name, digest).await;
        // What does not match its digest will never match it.
        held.finish();
        result
    }

    async fn place_upload(&self, held: &mut Held<'_>, name: &Name, digest: &Digest) -> Result<(), Refusal> {
        let path = held.complete(digest).await?;
        let size = held.size();
        if self.catalog.blob(name, digest)?.is_none() {
            self.check_quota(name, size)?;
        }
        self.keep_blob(path, size, name, digest).await
    }

    /// Refuses where a repository would hold more than it may.
    pub fn check_quota(&self, name: &Name, more: u64) -> Result<(), Refusal> {
        let fits = |quota: &&Quota| quota.repositories.fits(name.as_str());
        let Some(quota) = self.settings.quotas.iter().find(fits).map(|quota| quota.size) else {
            return Ok(());
        };
        let used = self.catalog.repository_size(name.as_str())?;
        if used.saturating_add(more) > quota {
            let text =
                format!("{name} holds {used} of the {quota} bytes that it may hold; {more} more do not fit");
            return Err(Refusal::new(Code::Denied, text));
        }
        Ok(())
    }

    /// Refuses pushes where there may be none.
    pub fn check_push(&self, name: &Name) -> Result<(), Refusal> {
        self.check_writable()?;
        match self.upstreams.as_ref().is_some_and(|upstreams| upstreams.covers(name)) {
            true => Err(Refusal::new(
                Code::Unsupported,
                format!("{name} comes from an upstream registry; push it there"),
            )),
            false => Ok(()),
        }
    }

    /// Refuses changes where there may be none.
    pub fn check_writable(&self) -> Result<(), Refusal> {
        match self.settings.read_only {
            true => Err(Refusal::new(Code::Unsupported, "this registry is read-only")),
            false => Ok(()),
        }
    }

    /// Collects garbage: expired uploads, expired trash, blobs that nothing refers to. Gives the bytes freed.
    pub async fn collect(&self) -> Result<u64, Refusal> {
        self.uploads.expire(self.settings.upload_expiry);
        self.catalog.refresh().await?;
        let time = now();
        self.catalog.purge(time.saturating_sub(self.settings.trash.as_secs()), time).await?;
        let mut freed = 0;
        loop {
            let swept = {
                let _alone = self.placing.write().await;
                let swept = self.catalog.sweep(time.saturating_sub(self.settings.grace.as_secs())).await?;
                for (digest, size) in &swept.files {
                    if self.bucket.is_none() {
                        self.files.discard(&self.files.blob(digest))?;
                    }
                    freed += size;
                }
                swept
            };
            self.clear_loose(false).await?;
            let files = self.files.clone();
            tokio::task::spawn_blocking(move || files.empty_trash()).await.map_err(Refusal::fault)??;
            if !swept.more {
                self.metrics.swept(freed);
                return Ok(freed);
            }
        }
    }

    /// A blob's bytes are lost for good.
    pub(crate) async fn lose(&self, digest: &Digest) -> Result<(), Refusal> {
        let _alone = self.placing.write().await;
        self.catalog.lose_blob(digest).await?;
        if self.bucket.is_some() {
            return Ok(());
        }
        Ok(self.files.discard(&self.files.blob(digest))?)
    }

    /// Removes files that a kill left between their placing and their record.
    pub async fn remove_orphans(self: &Arc<Self>) -> Result<usize, Refusal> {
        if self.bucket.is_some() {
            return Ok(self.clear_loose(true).await? + self.catalog.tidy(now()).await?);
        }
        let mut removed = 0;
        for algorithm in [Algorithm::Sha256, Algorithm::Sha512] {
            let registry = Arc::clone(self);
            let found = tokio::task::spawn_blocking(move || {
                let mut found = Vec::new();
                let visited = registry.files.each_blob(algorithm, |digest, _| {
                    if matches!(registry.catalog.blob_anywhere(&digest), Ok(None)) {
                        found.push(digest);
                    }
                });
                visited.map(|()| found)
            });
            for digest in found.await.map_err(Refusal::fault)?? {
                let _alone = self.placing.write().await;
                // Looked at again: it may have been recorded since.
                if self.catalog.blob_anywhere(&digest)?.is_none() {
                    self.files.discard(&self.files.blob(&digest))?;
                    removed += 1;
                }
            }
        }
        Ok(removed)
    }
}
