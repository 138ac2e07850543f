//! Certificates: given ones, and one made at the first start.

use std::fs;
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::TlsAcceptor;

use crate::settings::Tls;

/// Why TLS cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file.
    #[error("cannot use {path}: {reason}")]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The pair of certificate and key.
    #[error("the certificate and key cannot be used: {0}")]
    Pair(#[from] rustls::Error),
    /// The making of an own one.
    #[error("cannot make a certificate: {0}")]
    Make(#[from] rcgen::Error),
}

/// What accepts encrypted connections; None where they are not encrypted.
pub fn acceptor(tls: &Tls, own: &Path) -> Result<Option<TlsAcceptor>, TlsError> {
    let (certificate, key) = match tls {
        Tls::Off => return Ok(None),
        Tls::Given { certificate, key } => (certificate.clone(), key.clone()),
        Tls::SelfMade { names } => self_made(own, names)?,
    };
    let failed = |path: &Path, error: rustls_pki_types::pem::Error| TlsError::File {
        path: path.to_owned(),
        reason: error.to_string(),
    };
    let chain: Result<Vec<_>, _> =
        CertificateDer::pem_file_iter(&certificate).map_err(|error| failed(&certificate, error))?.collect();
    let chain = chain.map_err(|error| failed(&certificate, error))?;
    let key = PrivateKeyDer::from_pem_file(&key).map_err(|error| failed(&key, error))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Some(TlsAcceptor::from(Arc::new(config))))
}

/// The pair of files, made where they are not there yet.
fn self_made(folder: &Path, names: &[String]) -> Result<(PathBuf, PathBuf), TlsError> {
    let (certificate, key) = (folder.join("ca.crt"), folder.join("key.pem"));
    if !certificate.exists() || !key.exists() {
        let mut all = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
        if let Ok(name) = fs::read_to_string("/proc/sys/kernel/hostname") {
            all.push(name.trim().to_owned());
        }
        all.extend(names.iter().cloned());
        all.dedup();
        let made = rcgen::generate_simple_self_signed(all)?;
        let written = fs::create_dir_all(folder)
            .and_then(|()| write(&key, made.signing_key.serialize_pem().as_bytes(), 0o600))
            .and_then(|()| write(&certificate, made.cert.pem().as_bytes(), 0o644));
        written.map_err(|error| TlsError::File { path: folder.to_owned(), reason: error.to_string() })?;
        crate::log::note(&format!("made a certificate, which clients must trust: {}", certificate.display()));
    }
    Ok((certificate, key))
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = fs::File::options().write(true).create(true).truncate(true).mode(mode).open(path)?;
    io::Write::write_all(&mut file, bytes)?;
    file.sync_all()
}
