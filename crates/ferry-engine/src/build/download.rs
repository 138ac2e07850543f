//! `ADD https://..` and contexts by URL: a GET that follows redirects, into a file.

use std::path::PathBuf;
use std::sync::Arc;

use ferry_build::git::GitAddress;
use ferry_build::solve::{BoxFuture, Downloads};
use ferry_remote::transport::{Transport, empty};
use http::{Request, Uri, header};
use http_body_util::BodyExt;
use tokio::io::AsyncWriteExt;

use crate::error::error_chain;

/// Redirects followed, as curl and browsers do about.
const MAX_REDIRECTS: usize = 10;

/// Largest download; a typing mistake must not fill the disk.
const MAX_BYTES: u64 = 64 << 30;

/// Downloads for builds.
pub struct WebDownloads {
    transport: Transport,
}

impl WebDownloads {
    /// With the system's certificates and proxies.
    pub fn new() -> Self {
        Self { transport: Transport::new(Arc::new(ferry_remote::Settings::default())) }
    }
}

impl Downloads for WebDownloads {
    fn fetch(&self, url: String, target: PathBuf) -> BoxFuture<'static, Result<Option<i64>, String>> {
        let transport = self.transport.clone();
        Box::pin(async move { fetch(&transport, &url, &target).await })
    }

    fn clone_repository(
        &self,
        address: GitAddress,
        target: PathBuf,
    ) -> BoxFuture<'static, Result<i64, String>> {
        Box::pin(async move { super::git::clone_repository(&address, &target).await })
    }
}

async fn fetch(transport: &Transport, url: &str, target: &std::path::Path) -> Result<Option<i64>, String> {
    let mut uri: Uri = url.parse().map_err(|error| format!("invalid URL: {error}"))?;
    for _ in 0..MAX_REDIRECTS {
        let request = Request::get(uri.clone()).body(empty()).map_err(|error| error.to_string())?;
        let response = transport.send(request).await.map_err(|error| error_chain(&error))?;
        let status = response.status();
        if status.is_redirection()
            && let Some(location) = response.headers().get(header::LOCATION)
        {
            let location = location.to_str().map_err(|_| "redirect to an unreadable address".to_owned())?;
            uri = redirected(&uri, location)?;
            continue;
        }
        if !status.is_success() {
            return Err(format!("the server answered {status}"));
        }
        let modified = response.headers().get(header::LAST_MODIFIED).and_then(|value| value.to_str().ok());
        let modified = modified.and_then(|text| jiff::fmt::rfc2822::parse(text).ok());
        save(response.into_body(), target).await?;
        return Ok(modified.map(|time| time.timestamp().as_second()));
    }
    Err(format!("more than {MAX_REDIRECTS} redirects"))
}

fn redirected(from: &Uri, location: &str) -> Result<Uri, String> {
    if location.contains("://") {
        return location.parse().map_err(|error| format!("redirect to {location:?}: {error}"));
    }
    let mut parts = from.clone().into_parts();
    parts.path_and_query =
        Some(location.parse().map_err(|error| format!("redirect to {location:?}: {error}"))?);
    Uri::from_parts(parts).map_err(|error| format!("redirect to {location:?}: {error}"))
}

async fn save(mut body: hyper::body::Incoming, target: &std::path::Path) -> Result<(), String> {
    let failed = |error: std::io::Error| format!("cannot write {}: {error}", target.display());
    let mut file = tokio::fs::File::create(target).await.map_err(failed)?;
    let mut written = 0_u64;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| format!("the download broke off: {error}"))?;
        let Ok(data) = frame.into_data() else { continue };
        written += data.len() as u64;
        if written > MAX_BYTES {
            return Err(format!("the download is larger than {MAX_BYTES} bytes"));
        }
        file.write_all(&data).await.map_err(failed)?;
    }
    file.flush().await.map_err(failed)
}
