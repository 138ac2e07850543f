//! Scrub: reads every blob again, and mends what is not as it was pushed.
//!
//! A damaged blob is fetched anew from the upstream of a repository that has it, or from the registries named
//! for repairs. Where none has it, the registry says from then on that it lacks the blob, so that the next push
//! of it heals every repository that refers to it.

use std::sync::Arc;

use ferry_oci::Digest;
use serde::Serialize;

use crate::name::Name;
use crate::refusal::Refusal;
use crate::registry::Registry;
use crate::storage::Found;

/// Blobs that are looked up at once.
const PAGE: usize = 1000;

/// What a scrub found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Report {
    /// Blobs that were read.
    pub checked: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Blobs that were damaged and are whole again.
    pub repaired: Vec<String>,
    /// Blobs that are damaged or missing, and that nobody else had.
    pub lost: Vec<String>,
}

enum State {
    Whole,
    /// With the reason.
    Damaged(String),
}

impl Registry {
    /// Reads all blobs.
    pub async fn scrub(self: &Arc<Self>) -> Result<Report, Refusal> {
        let _alone = self.scrubbing.lock().await;
        self.catalog.refresh().await?;
        let mut report = Report::default();
        let mut last: Option<String> = None;
        loop {
            let page = self.catalog.blobs(last.as_deref(), PAGE)?;
            let Some((end, _)) = page.last() else { break };
            last = Some(end.clone());
            for (text, size) in page {
                let Ok(digest) = Digest::parse(&text) else { continue };
                report.checked += 1;
                report.bytes += size;
                if let State::Damaged(reason) = self.examine(&digest).await? {
                    crate::log::fault(&format!("scrub: blob {digest}: {reason}"));
                    self.mend(&digest, &mut report).await?;
                }
            }
        }
        self.metrics.scrubbed(&report);
        Ok(report)
    }

    async fn examine(&self, digest: &Digest) -> Result<State, Refusal> {
        Ok(match self.read_again(digest).await? {
            Found::Digest(found) if found == *digest => State::Whole,
            // Swept since it was listed: there is nothing to mend.
            _ if self.catalog.blob_anywhere(digest)?.is_none() => State::Whole,
            Found::Digest(found) => State::Damaged(format!("its bytes have the digest {found}")),
            Found::Unreadable(error) => State::Damaged(format!("it cannot be read: {error}")),
        })
    }

    async fn mend(self: &Arc<Self>, digest: &Digest, report: &mut Report) -> Result<(), Refusal> {
        let holders = self.catalog.holders(digest)?;
        let names: Vec<Name> = holders.iter().filter_map(|name| Name::parse(name)).collect();
        for name in &names {
            match self.fetch_again(name, digest).await {
                Ok(true) => {
                    crate::log::note(&format!(
                        "scrub: blob {digest} is whole again, from the upstream of {name}"
                    ));
                    report.repaired.push(digest.to_string());
                    return Ok(());
                }
                Ok(false) => {}
                Err(refusal) => {
                    crate::log::fault(&format!("scrub: fetching {digest} for {name}: {refusal:?}"))
                }
            }
        }
        self.lose(digest).await?;
        report.lost.push(digest.to_string());
        Ok(())
    }
}
