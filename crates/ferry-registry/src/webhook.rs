//! Webhooks: others are told of pushes, pulls and deletes, in the form that Docker's registry tells them.
//!
//! Events wait in a bounded queue and are sent by one task per address, each several times where nobody answers.
//! A receiver that is away for long misses events; the log says how many.

use std::time::Duration;

use bytes::Bytes;
use ferry_remote::transport::{Transport, full};
use http::header::{CONTENT_TYPE, HeaderName};
use ring::hmac;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::pattern::Pattern;

/// Events that wait for one receiver.
const QUEUE: usize = 1000;
/// How often one is sent.
const TRIES: u32 = 5;
/// The pause after the first try; doubled after each.
const PAUSE: Duration = Duration::from_millis(500);
/// The form of events.
const MEDIA_TYPE: &str = "application/vnd.docker.distribution.events.v1+json";
const SIGNATURE: HeaderName = HeaderName::from_static("x-ferry-signature");

/// A receiver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Webhook {
    /// Where events are posted to.
    pub url: http::Uri,
    /// Key of the signature that is sent along: `X-Ferry-Signature: sha256=HMAC-OF-THE-BODY`.
    pub secret: Option<String>,
    /// `push`, `pull`, `delete`, `mount`; all where empty.
    pub actions: Vec<String>,
    /// Repositories that it is told of.
    pub repositories: Pattern,
}

impl Webhook {
    /// One that is told of everything; None where the text is no `http://` or `https://` URL.
    pub fn new(url: &str) -> Option<Webhook> {
        let url: http::Uri = url.parse().ok()?;
        let fits = matches!(url.scheme_str(), Some("http" | "https")) && url.host().is_some();
        let all = Pattern::new("*");
        fits.then_some(Webhook { url, secret: None, actions: Vec::new(), repositories: all })
    }
}

/// Something that happened.
#[derive(Debug)]
pub struct Event<'a> {
    /// `push`, `pull`, `delete` or `mount`.
    pub action: &'static str,
    /// Where.
    pub repository: &'a str,
    /// To what.
    pub digest: Option<String>,
    /// Under which tag.
    pub tag: Option<&'a str>,
    /// Of which type.
    pub media_type: Option<&'a str>,
    /// Its bytes.
    pub size: Option<u64>,
    /// By whom.
    pub actor: &'a str,
}

/// All receivers.
#[derive(Debug, Default)]
pub struct Webhooks {
    receivers: Vec<(Webhook, mpsc::Sender<Value>)>,
}

impl Webhooks {
    /// Starts a task for each receiver; needs the runtime.
    pub fn start(webhooks: &[Webhook]) -> Webhooks {
        if webhooks.is_empty() {
            return Webhooks::default();
        }
        let transport = Transport::new(std::sync::Arc::default());
        let receivers = webhooks.iter().map(|webhook| {
            let (sender, events) = mpsc::channel(QUEUE);
            tokio::spawn(deliver(transport.clone(), webhook.clone(), events));
            (webhook.clone(), sender)
        });
        Webhooks { receivers: receivers.collect() }
    }

    /// Tells all receivers that want to know.
    pub fn tell(&self, event: &Event<'_>) {
        for (webhook, sender) in &self.receivers {
            let wanted = webhook.actions.is_empty() || webhook.actions.iter().any(|one| one == event.action);
            if wanted
                && webhook.repositories.fits(event.repository)
                && sender.try_send(envelope(event)).is_err()
            {
                crate::log::fault(&format!(
                    "webhook {}: too many events wait; one is lost: {} of {}",
                    webhook.url, event.action, event.repository
                ));
            }
        }
    }
}

fn envelope(event: &Event<'_>) -> Value {
    let mut target = json!({ "repository": event.repository });
    for (key, value) in [
        ("digest", event.digest.as_ref().map(|digest| json!(digest))),
        ("tag", event.tag.map(|tag| json!(tag))),
        ("mediaType", event.media_type.map(|kind| json!(kind))),
        ("size", event.size.map(|size| json!(size))),
        ("length", event.size.map(|size| json!(size))),
    ] {
        if let Some(value) = value {
            target[key] = value;
        }
    }
    json!({ "events": [{
        "id": crate::files::random_name(),
        "timestamp": jiff::Timestamp::now().to_string(),
        "action": event.action,
        "target": target,
        "actor": { "name": event.actor },
    }] })
}

async fn deliver(transport: Transport, webhook: Webhook, mut events: mpsc::Receiver<Value>) {
    while let Some(event) = events.recv().await {
        let body = Bytes::from(event.to_string());
        let mut pause = PAUSE;
        for attempt in 1..=TRIES {
            let Err(reason) = post(&transport, &webhook, body.clone()).await else { break };
            crate::log::fault(&format!("webhook {}: try {attempt} of {TRIES}: {reason}", webhook.url));
            if attempt < TRIES {
                tokio::time::sleep(pause).await;
                pause *= 2;
            }
        }
    }
}

async fn post(transport: &Transport, webhook: &Webhook, body: Bytes) -> Result<(), String> {
    let mut request = http::Request::post(webhook.url.clone()).header(CONTENT_TYPE, MEDIA_TYPE);
    if let Some(secret) = &webhook.secret {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let signature = hex::encode(hmac::sign(&key, &body));
        request = request.header(SIGNATURE, format!("sha256={signature}"));
    }
    let request = request.body(full(body)).map_err(|error| error.to_string())?;
    let response = transport.send(request).await.map_err(|error| error.to_string())?;
    match response.status() {
        status if status.is_success() => Ok(()),
        status => Err(format!("it answers {status}")),
    }
}
