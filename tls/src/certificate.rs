//! The certificate that a server shows, read again when its files have changed.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::ArcSwap;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys, ServerConfig};

use crate::{expiry, provider, read};

/// Where a certificate and its key are, as PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Files {
    /// The certificate, and behind it those between it and the CA.
    pub certificate: PathBuf,
    /// Its private key: PKCS#8, PKCS#1 or SEC1, without a password.
    pub key: PathBuf,
}

/// Why files are of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadCertificate {
    /// There is no certificate.
    #[error("{file} holds no certificate ({reason}): it has to be PEM")]
    Certificate { file: PathBuf, reason: String },
    /// There is no key.
    #[error("{file} holds no private key ({reason}): it has to be PEM, without a password")]
    Key { file: PathBuf, reason: String },
    /// The two do not belong together.
    #[error(
        "the key in {key} is not the one of the certificate in {certificate}: name the two that were made together"
    )]
    Mismatch { certificate: PathBuf, key: PathBuf },
}

/// What looking at the files came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// They hold what is shown already.
    Same,
    /// They held another certificate, which is shown from now on.
    Replaced,
    /// They are of no use; what was shown before still is.
    Failed(BadCertificate),
}

/// A certificate that is shown, and where it comes from.
#[derive(Debug)]
pub struct Certificate {
    files: Files,
    shown: ArcSwap<CertifiedKey>,
}

impl Certificate {
    /// Reads the files.
    ///
    /// # Errors
    /// They hold no certificate, no key, or two that do not belong together.
    pub fn new(files: Files) -> Result<Self, BadCertificate> {
        let shown = ArcSwap::from_pointee(certified(&files)?);
        Ok(Self { files, shown })
    }

    /// Reads the files again.
    pub fn look(&self) -> Look {
        match certified(&self.files) {
            Ok(read) if read.cert == self.shown.load().cert => Look::Same,
            Ok(read) => {
                self.shown.store(Arc::new(read));
                Look::Replaced
            }
            Err(bad) => Look::Failed(bad),
        }
    }

    /// Until when the shown certificate holds, in seconds since 1970.
    #[must_use]
    pub fn expires(&self) -> Option<i64> {
        self.shown.load().cert.first().and_then(|certificate| expiry::expires(certificate))
    }

    /// Where it comes from.
    #[must_use]
    pub fn files(&self) -> &Files {
        &self.files
    }
}

impl ResolvesServerCert for Certificate {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.shown.load_full())
    }
}

/// What a server needs for handshakes that show `certificate` and speak `protocol` (ALPN) inside. Clients show none.
///
/// # Errors
/// The library was built without what it needs.
pub fn server_config(certificate: Arc<Certificate>, protocol: &str) -> Result<ServerConfig, Error> {
    let config = ServerConfig::builder_with_provider(provider()).with_safe_default_protocol_versions()?;
    let mut config = config.with_no_client_auth().with_cert_resolver(certificate);
    config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
    Ok(config)
}

fn certified(files: &Files) -> Result<CertifiedKey, BadCertificate> {
    let no_certificate =
        |reason: String| BadCertificate::Certificate { file: files.certificate.clone(), reason };
    let no_key = |reason: String| BadCertificate::Key { file: files.key.clone(), reason };
    let text = read(&files.certificate).map_err(|error| no_certificate(error.to_string()))?;
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    let chain = chain.map_err(|error| no_certificate(error.to_string()))?;
    if chain.is_empty() {
        return Err(no_certificate("no BEGIN CERTIFICATE is in it".to_owned()));
    }
    let text = read(&files.key).map_err(|error| no_key(error.to_string()))?;
    let key = PrivateKeyDer::from_pem_slice(&text).map_err(|error| no_key(error.to_string()))?;
    CertifiedKey::from_der(chain, key, &provider()).map_err(|error| match error {
        Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
            BadCertificate::Mismatch { certificate: files.certificate.clone(), key: files.key.clone() }
        }
        Error::InvalidCertificate(error) => no_certificate(format!("{error:?}")),
        error => no_key(error.to_string()),
    })
}

#[cfg(test)]
mod tests;
