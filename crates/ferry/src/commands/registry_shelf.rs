//! `registry serve --engine`: the engine's images for the registry, over the engine's socket.

use std::collections::BTreeMap;
use std::io;

use bytes::Bytes;
use ferry_api::client::Response;
use ferry_api::{Call, Client, ClientError};
use ferry_registry::shelf::{Bits, Digest, Later, Shelf};
use futures_util::{StreamExt as _, stream};
use serde::Deserialize;

use crate::failure::Failure;
use crate::session::Session;

/// An engine behind its socket.
#[derive(Debug)]
pub struct Engine(Client);

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Names {
    names: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    error: Option<String>,
}

impl Engine {
    /// The engine that the command line means; started where it is the default one. Its connections are made by
    /// whoever asks, since they belong to the threads that made them.
    pub async fn reach(session: &Session) -> Result<Engine, Failure> {
        session.engine().await?;
        let target = session.target()?;
        Ok(Engine(match &target.tls {
            Some(options) => {
                Client::with_tls(target.host, options).map_err(|error| Failure::from_error(&error))?
            }
            None => Client::new(target.host),
        }))
    }

    async fn find(&self, call: Call) -> Result<Option<Response>, String> {
        match self.0.call(call).await {
            Ok(response) => Ok(Some(response)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(text(error)),
        }
    }
}

fn text(error: ClientError) -> String {
    Failure::from(error).message
}

fn bits(response: Response) -> Bits {
    let pieces = stream::try_unfold(response, |mut response| async move {
        let piece = response.chunk().await.map_err(io::Error::other)?;
        Ok(piece.map(|piece| (piece, response)))
    });
    pieces.boxed()
}

impl Shelf for Engine {
    fn images(&self) -> Later<'_, Vec<(String, Vec<String>)>> {
        Box::pin(async {
            let response = self.0.call(Call::get("/ferry/shelf/images")).await.map_err(text)?;
            let Names { names } = response.json().await.map_err(text)?;
            let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
            for name in names {
                // A domain's port could be no part of a repository's name.
                if let Some((name, tag)) = name.rsplit_once(':').filter(|(name, _)| !name.contains(':')) {
                    found.entry(name.to_owned()).or_default().push(tag.to_owned());
                }
            }
            for tags in found.values_mut() {
                tags.sort();
                tags.dedup();
            }
            Ok(found.into_iter().collect())
        })
    }

    fn manifest<'a>(&'a self, name: &'a str, reference: &'a str) -> Later<'a, Option<(String, Bytes)>> {
        Box::pin(async move {
            let call = Call::get("/ferry/shelf/manifest").query("name", name).query("reference", reference);
            let Some(response) = self.find(call).await? else { return Ok(None) };
            let media_type = response.header("content-type").unwrap_or_default().to_owned();
            Ok(Some((media_type, response.bytes().await.map_err(text)?)))
        })
    }

    fn blob<'a>(
        &'a self,
        name: &'a str,
        digest: &'a Digest,
        part: Option<(u64, u64)>,
    ) -> Later<'a, Option<(u64, Bits)>> {
        Box::pin(async move {
            let mut call =
                Call::get("/ferry/shelf/blob").query("name", name).query("digest", digest.to_string());
            if let Some((start, end)) = part {
                call = call.query("start", start.to_string()).query("end", end.to_string());
            }
            let Some(response) = self.find(call).await? else { return Ok(None) };
            let size = response.header("x-ferry-size").and_then(|size| size.parse().ok());
            let size = size.ok_or("the engine does not say how large a blob is")?;
            Ok(Some((size, bits(response))))
        })
    }

    fn load(&self, archive: Bits) -> Later<'_, ()> {
        Box::pin(async move {
            let call = Call::post("/images/load").query("quiet", "1").stream("application/x-tar", archive);
            let mut lines = self.0.call(call).await.map_err(text)?.json_lines::<Line>();
            while let Some(line) = lines.next().await.map_err(text)? {
                if let Some(error) = line.error {
                    return Err(error);
                }
            }
            Ok(())
        })
    }
}
