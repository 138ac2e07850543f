//! Registries: which addresses stand for a domain, and whether they take a login.
//!
//! [`Registry::repository`] finds the first address of a domain that answers; everything after that goes there, through
//! [`Repository`].

use std::sync::Arc;

use http::{HeaderMap, Method, StatusCode};

use ferry_oci::Reference;

use crate::authorization::{Authorizer, read_limited};
use crate::credentials::Credentials;
use crate::endpoint::{self, Endpoint};
use crate::error::{RemoteError, show};
use crate::repository::{Repository, refusal_text};
use crate::transport::{self, Transport};

/// All exchanges with registries under one set of settings.
#[derive(Clone)]
pub struct Registry {
    transport: Transport,
}

impl Registry {
    /// Registries under these settings.
    #[must_use]
    pub fn new(settings: Arc<crate::Settings>) -> Self {
        Self { transport: Transport::new(settings) }
    }

    /// The settings in force.
    #[must_use]
    pub fn settings(&self) -> &crate::Settings {
        self.transport.settings()
    }

    pub(crate) fn transport(&self) -> &Transport {
        &self.transport
    }

    /// Repositories on all addresses that stand for the reference's domain, best first, mirrors included.
    #[must_use]
    pub fn candidates(&self, reference: &Reference, credentials: Option<&Credentials>) -> Vec<Repository> {
        endpoint::candidates(reference.domain(), self.transport.settings())
            .into_iter()
            .map(|endpoint| self.at(endpoint, reference, credentials))
            .collect()
    }

    /// The repository at the domain itself, on the first address that answers at all.
    ///
    /// # Errors
    /// Where none answers.
    pub async fn repository(
        &self,
        reference: &Reference,
        credentials: Option<&Credentials>,
    ) -> Result<Repository, RemoteError> {
        let mut last = None;
        for repository in self.candidates(reference, credentials) {
            if repository.endpoint.is_mirror {
                continue;
            }
            match repository.reachable().await {
                Ok(()) => return Ok(repository),
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| RemoteError::Protocol {
            place: reference.domain().to_owned(),
            reason: "no address".into(),
        }))
    }

    /// Checks credentials against a registry.
    ///
    /// # Errors
    /// Where it cannot be reached or refuses them.
    pub async fn login(&self, domain: &Reference, credentials: &Credentials) -> Result<(), RemoteError> {
        let repository = self.repository(domain, Some(credentials)).await?;
        let uri = repository.endpoint.uri("")?;
        let sent =
            repository.send_for(Method::GET, uri.clone(), HeaderMap::new(), transport::empty, &[]).await;
        let response = match sent {
            Err(RemoteError::Unauthorized { reason, .. }) => {
                let status = StatusCode::UNAUTHORIZED;
                return Err(RemoteError::LoginRefused { place: show(&uri), status, reason });
            }
            other => other?,
        };
        match response.status() {
            status if status.is_success() => Ok(()),
            status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
                let body = read_limited(&self.transport, response, &uri).await.unwrap_or_default();
                Err(RemoteError::LoginRefused {
                    place: show(&uri),
                    status,
                    reason: refusal_text(status, &body),
                })
            }
            status => Err(repository.refusal(status, response, &uri).await),
        }
    }

    fn at(&self, endpoint: Endpoint, reference: &Reference, credentials: Option<&Credentials>) -> Repository {
        // A mirror is another registry: what proves identity to the one is not shown to the other.
        let credentials = credentials.filter(|_| !endpoint.is_mirror).cloned();
        Repository {
            transport: self.transport.clone(),
            endpoint,
            path: reference.path().to_owned(),
            name: reference.familiar_name(),
            authorizer: Arc::new(Authorizer::new(credentials)),
            only: None,
        }
    }
}
