//! TLS to an engine at a TCP address: who is trusted, and as whom we come.
//!
//! With `verify` off the engine's certificate is taken as it comes, as Docker's `--tls` does; whoever stands in
//! between reads along then.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio_rustls::TlsConnector;

/// What TLS to an engine is made with.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsOptions {
    /// The authorities that are trusted; the system's without it.
    pub authorities: Option<PathBuf>,
    /// Our certificate chain and its key.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// Check the engine's certificate.
    pub verify: bool,
    /// Do not check that the certificate is for the address.
    pub any_name: bool,
}

/// TLS that cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file.
    #[error("cannot read {what} {}", path.display())]
    Read {
        /// What it should hold.
        what: &'static str,
        /// Where.
        path: PathBuf,
        /// Why not.
        #[source]
        source: pem::Error,
    },
    /// A file without what it should hold.
    #[error("{} holds no {what}", path.display())]
    Empty {
        /// What it should hold.
        what: &'static str,
        /// Where.
        path: PathBuf,
    },
    /// A certificate or key that TLS cannot work with.
    #[error("cannot use {what}")]
    Use {
        /// What.
        what: &'static str,
        /// Why not.
        #[source]
        source: rustls::Error,
    },
    /// The system has no authorities.
    #[error("no certificate authority is known on this machine; name one with --tlscacert")]
    NoAuthorities,
    /// The rules for checking certificates.
    #[error("cannot check certificates: {0}")]
    Verifier(String),
}

impl TlsOptions {
    /// Reads the files and makes what connections are made with.
    pub fn connector(&self) -> Result<TlsConnector, TlsError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|source| TlsError::Use { what: "TLS 1.2 and 1.3", source })?;
        let verifier: Arc<dyn ServerCertVerifier> = match (self.verify, self.any_name) {
            (false, _) => Arc::new(Lenient { provider, inner: None }),
            (true, true) => Arc::new(Lenient { inner: Some(self.verifier(&provider)?), provider }),
            (true, false) => self.verifier(&provider)?,
        };
        let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
        let config = match &self.certificate {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => builder
                .with_client_auth_cert(read_certificates(chain)?, read_key(key)?)
                .map_err(|source| TlsError::Use { what: "the client's certificate", source })?,
        };
        Ok(TlsConnector::from(Arc::new(config)))
    }

    fn verifier(&self, provider: &Arc<CryptoProvider>) -> Result<Arc<WebPkiServerVerifier>, TlsError> {
        let roots = Arc::new(self.roots()?);
        WebPkiServerVerifier::builder_with_provider(roots, Arc::clone(provider))
            .build()
            .map_err(|error| TlsError::Verifier(error.to_string()))
    }

    fn roots(&self) -> Result<RootCertStore, TlsError> {
        let mut roots = RootCertStore::empty();
        match &self.authorities {
            Some(path) => {
                for certificate in read_certificates(path)? {
                    let refuse = |source| TlsError::Use { what: "the authority's certificate", source };
                    roots.add(certificate).map_err(refuse)?;
                }
            }
            None => {
                roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            }
        }
        if roots.is_empty() { Err(TlsError::NoAuthorities) } else { Ok(roots) }
    }
}

/// Every certificate of a PEM file.
pub fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let what = "certificate";
    let failed = |source| TlsError::Read { what, path: path.to_owned(), source };
    let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(path)
        .map_err(failed)?
        .collect::<Result<_, _>>()
        .map_err(|source| TlsError::Read { what, path: path.to_owned(), source })?;
    if certificates.is_empty() {
        return Err(TlsError::Empty { what, path: path.to_owned() });
    }
    Ok(certificates)
}

/// The private key of a PEM file.
pub fn read_key(path: &Path) -> Result<PrivateKeyDer<'static>, TlsError> {
    let what = "private key";
    PrivateKeyDer::from_pem_file(path).map_err(|source| match source {
        pem::Error::NoItemsFound => TlsError::Empty { what, path: path.to_owned() },
        source => TlsError::Read { what, path: path.to_owned(), source },
    })
}

/// Checks the chain but not the name, or nothing at all.
#[derive(Debug)]
struct Lenient {
    provider: Arc<CryptoProvider>,
    inner: Option<Arc<WebPkiServerVerifier>>,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(inner) = &self.inner else { return Ok(ServerCertVerified::assertion()) };
        match inner.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now) {
            Err(rustls::Error::InvalidCertificate(
                CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
            )) => Ok(ServerCertVerified::assertion()),
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_hold_nothing_are_named() {
        let options =
            |path: &str| TlsOptions { authorities: Some(path.into()), verify: true, ..TlsOptions::default() };
        let error = |path| options(path).connector().err().unwrap().to_string();
        assert_eq!(error("/nowhere/ca.pem"), "cannot read certificate /nowhere/ca.pem");
        assert_eq!(error("/dev/null"), "/dev/null holds no certificate");
        let key = (PathBuf::from("/dev/null"), PathBuf::from("/dev/null"));
        let anybody = TlsOptions { certificate: Some(key), ..TlsOptions::default() };
        assert!(anybody.connector().is_err());
        assert!(TlsOptions::default().connector().is_ok(), "without a check nothing needs to be there");
    }
}
