//! The engine's side of TLS: its certificate, and whose certificates let a client in.

use std::path::PathBuf;
use std::sync::Arc;

use ferry_api::TlsError;
use ferry_api::client::tls::{read_certificates, read_key};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

/// What TLS is served with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerTls {
    /// Only clients with a certificate of this authority are let in.
    pub authorities: Option<PathBuf>,
    /// The engine's certificate chain.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl ServerTls {
    /// Reads the files and makes what connections are accepted with.
    pub fn acceptor(&self) -> Result<TlsAcceptor, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|source| TlsError::Use { what: "TLS 1.2 and 1.3", source })?;
        let builder = match &self.authorities {
            None => builder.with_no_client_auth(),
            Some(path) => {
                let mut roots = RootCertStore::empty();
                for certificate in read_certificates(path)? {
                    let refuse = |source| TlsError::Use { what: "the authority's certificate", source };
                    roots.add(certificate).map_err(refuse)?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                    .build()
                    .map_err(|error| TlsError::Verifier(error.to_string()))?;
                builder.with_client_cert_verifier(verifier)
            }
        };
        let config = builder
            .with_single_cert(read_certificates(&self.certificate)?, read_key(&self.key)?)
            .map_err(|source| TlsError::Use { what: "the engine's certificate", source })?;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}
