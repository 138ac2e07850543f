//! Open uploads: bytes as they come, hashed on the way, kept over restarts.
//!
//! An upload is a file of bytes and a small description beside it. The hash so far is kept in memory only; after
//! a restart it is made again from the file. Whoever works on an upload holds its lock; a second request for it
//! meanwhile is told to wait.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use ferry_oci::{Algorithm, Digest, Hasher};
use futures_util::Stream;
use serde::{Deserialize, Serialize};

use self::intake::Sink;
use crate::files::{Files, random_name};
use crate::name::Name;
use crate::refusal::{Code, Refusal};

mod intake;

/// Uploads that are open.
#[derive(Debug)]
pub struct Uploads {
    folder: PathBuf,
    open: Mutex<HashMap<String, Slot>>,
    max: usize,
}

#[derive(Debug)]
enum Slot {
    /// Nobody works on it.
    Idle(Upload),
    /// A request has it.
    Busy,
}

/// One upload, held by the request that works on it.
pub struct Upload {
    id: String,
    about: About,
    path: PathBuf,
    /// Bytes that are in the file.
    size: u64,
    hasher: Option<Hasher>,
}

impl std::fmt::Debug for Upload {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("Upload").field("id", &self.id).field("size", &self.size).finish_non_exhaustive()
    }
}

impl Upload {
    /// Opens its file behind the last byte that counts.
    fn open(&self) -> io::Result<File> {
        let file = File::options().append(true).open(&self.path)?;
        // A write that failed half-way may have left bytes behind which were never counted.
        file.set_len(self.size)?;
        Ok(file)
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct About {
    repository: String,
    algorithm: String,
}

fn unknown(id: &str) -> Refusal {
    Refusal::new(
        Code::BlobUploadUnknown,
        "there is no such upload: it was finished, cancelled, or never begun",
    )
    .detail(serde_json::json!({ "upload": id }))
}

fn is_id(text: &str) -> bool {
    text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

impl Uploads {
    /// Takes over what lies in the folder.
    pub fn open(files: &Files, max: usize) -> io::Result<Uploads> {
        let folder = files.uploads();
        let mut open = HashMap::new();
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if is_id(&name)
                && let Some(upload) = found(&path, &name)?
            {
                open.insert(name, Slot::Idle(upload));
            }
        }
        Ok(Uploads { folder, open: Mutex::new(open), max })
    }

    fn slots(&self) -> std::sync::MutexGuard<'_, HashMap<String, Slot>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many are open.
    pub fn count(&self) -> usize {
        self.slots().len()
    }

    /// Begins an upload.
    pub fn begin(&self, name: &Name, algorithm: Algorithm) -> Result<Held<'_>, Refusal> {
        let id = random_name();
        let path = self.folder.join(&id);
        {
            let mut slots = self.slots();
            if slots.len() >= self.max {
                return Err(Refusal::new(
                    Code::TooManyRequests,
                    format!("{} uploads are open, which is as many as may be", self.max),
                )
                .header(http::header::RETRY_AFTER, "30"));
            }
            slots.insert(id.clone(), Slot::Busy);
        }
        let about = About { repository: name.to_string(), algorithm: algorithm.to_string() };
        let upload = Upload {
            id: id.clone(),
            about,
            path: path.clone(),
            size: 0,
            hasher: Some(Hasher::new(algorithm)),
        };
        let held = Held { uploads: self, upload: Some(upload) };
        // The description comes first: a file without one would be nobody's.
        let text = serde_json::to_vec(&held.upload().about).map_err(Refusal::fault)?;
        let made = fs::write(path.with_extension("json"), text).and_then(|()| File::create(&path));
        if let Err(error) = made {
            held.finish();
            return Err(error.into());
        }
        Ok(held)
    }

    /// Takes an open upload of a repository.
    pub fn take(&self, name: &Name, id: &str) -> Result<Held<'_>, Refusal> {
        let mut slots = self.slots();
        let slot = slots.get_mut(id).ok_or_else(|| unknown(id))?;
        match std::mem::replace(slot, Slot::Busy) {
            Slot::Idle(upload) if upload.about.repository == name.as_str() => {
                Ok(Held { uploads: self, upload: Some(upload) })
            }
            Slot::Idle(upload) => {
                *slot = Slot::Idle(upload);
                Err(unknown(id))
            }
            Slot::Busy => Err(Refusal::new(Code::BlobUploadInvalid, "another request works on this upload")
                .status(http::StatusCode::CONFLICT)
                .header(http::header::RETRY_AFTER, "1")),
        }
    }

    /// Removes uploads that nobody has added to for so long; gives how many.
    pub fn expire(&self, age: Duration) -> usize {
        let now = SystemTime::now();
        let old = |upload: &Upload| {
            let changed = fs::metadata(&upload.path).and_then(|metadata| metadata.modified());
            changed.is_ok_and(|changed| now.duration_since(changed).is_ok_and(|idle| idle >= age))
        };
        let expired: Vec<(Name, String)> = self
            .slots()
            .iter()
            .filter_map(|(id, slot)| match slot {
                Slot::Idle(upload) if old(upload) => {
                    Some((Name::parse(&upload.about.repository)?, id.clone()))
                }
                _ => None,
            })
            .collect();
        let taken = expired.iter().filter_map(|(name, id)| self.take(name, id).ok());
        taken.map(Held::finish).count()
    }
}

/// What a restart finds of an upload; None where its description is not whole, so nobody was told of it.
fn found(path: &Path, id: &str) -> io::Result<Option<Upload>> {
    let description = fs::read(path.with_extension("json")).unwrap_or_default();
    match serde_json::from_slice(&description) {
        Ok(about) => {
            let size = fs::metadata(path)?.len();
            Ok(Some(Upload { id: id.to_owned(), about, path: path.to_owned(), size, hasher: None }))
        }
        Err(_) => fs::remove_file(path).map(|()| None),
    }
}

/// An upload in a request's hands; back in its place when dropped.
#[derive(Debug)]
pub struct Held<'a> {
    uploads: &'a Uploads,
    upload: Option<Upload>,
}

impl Held<'_> {
    fn upload(&self) -> &Upload {
        self.upload.as_ref().expect("only finish and append take it out")
    }

    /// Its name.
    pub fn id(&self) -> &str {
        &self.upload().id
    }

    /// Its file.
    pub fn path(&self) -> &Path {
        &self.upload().path
    }

    /// Bytes received.
    pub fn size(&self) -> u64 {
        self.upload().size
    }

    /// Adds what comes to it, and tells each time how many bytes are in the file. Bytes that came before an
    /// error are kept, so that the client can go on behind them.
    pub async fn append<S>(
        &mut self,
        pieces: S,
        limit: Option<u64>,
        told: impl Fn(u64),
    ) -> Result<(), Refusal>
    where
        S: Stream<Item = Result<Bytes, String>> + Unpin,
    {
        let file = self.upload().open()?;
        let mut upload = self.upload.take().expect("only finish and append take it out");
        let allowed = limit.unwrap_or(u64::MAX).saturating_sub(upload.size);
        let sink = Sink { file, hasher: upload.hasher.take(), size: upload.size, begun: upload.size };
        let (sink, received) = intake::take_in(sink, pieces, allowed, told).await?;
        (upload.size, upload.hasher) = (sink.size, sink.hasher);
        self.upload = Some(upload);
        received
    }

    /// Checks the digest over all bytes, and gives the file, synced.
    pub async fn complete(&mut self, digest: &Digest) -> Result<PathBuf, Refusal> {
        let upload = self.upload.take().expect("only finish and append take it out");
        let wanted = digest.algorithm();
        let work = move || {
            let mut upload = upload;
            let result = digest_and_sync(&mut upload, wanted);
            (upload, result)
        };
        let (upload, result) = tokio::task::spawn_blocking(work).await.map_err(Refusal::fault)?;
        let (path, size) = (upload.path.clone(), upload.size);
        self.upload = Some(upload);
        let found = result?;
        if found != *digest {
            return Err(Refusal::new(
                Code::DigestInvalid,
                format!("the {size} bytes sent have the digest {found}, not {digest}"),
            )
            .detail(serde_json::json!({ "found": found, "expected": digest })));
        }
        Ok(path)
    }

    /// Ends it: its files go, where they have not been taken.
    pub fn finish(mut self) {
        if let Some(upload) = self.upload.take() {
            // One that cannot be removed now is removed as expired later, after a restart.
            let _ = fs::remove_file(upload.path.with_extension("json"));
            let _ = fs::remove_file(&upload.path);
            self.uploads.slots().remove(&upload.id);
        }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if let Some(upload) = self.upload.take() {
            self.uploads.slots().insert(upload.id.clone(), Slot::Idle(upload));
        }
    }
}

fn digest_and_sync(upload: &mut Upload, wanted: Algorithm) -> Result<Digest, Refusal> {
    let mut file = File::open(&upload.path)?;
    let kept = upload.hasher.take().filter(|_| upload.about.algorithm == wanted.as_str());
    let hasher = match kept {
        Some(hasher) => hasher,
        None => hash_file(&mut file, wanted)?,
    };
    file.sync_all()?;
    Ok(hasher.finish())
}

fn hash_file(file: &mut File, algorithm: Algorithm) -> io::Result<Hasher> {
    let mut hasher = Hasher::new(algorithm);
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(hasher),
            count => hasher.update(&buffer[..count]),
        }
    }
}

/// The digest of a file's bytes. Blocking.
pub fn digest_of_file(path: &Path, algorithm: Algorithm) -> io::Result<Digest> {
    Ok(hash_file(&mut File::open(path)?, algorithm)?.finish())
}
