//! Whom a client believes: the CA of a file, or those of the system. Read again for each connection.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio::task::spawn_blocking;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::{provider, read, words};

/// Whom a client believes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trust {
    /// The certificates of those who sign, as PEM; without it the system's.
    pub ca: Option<PathBuf>,
    /// The flag that names this file, for sentences.
    pub flag: &'static str,
}

/// Why there is no connection.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoTls {
    /// Nobody is believed.
    #[error("{file} holds no certificate of a CA ({reason}): it has to be PEM")]
    Ca { file: PathBuf, reason: String },
    /// Nor by the system.
    #[error(
        "this machine knows no CA ({reason}): install the package ca-certificates, or name a file with {flag}"
    )]
    NoSystem { reason: String, flag: &'static str },
    /// No certificate could be for it.
    #[error("{0} is no name and no address that a certificate could be for")]
    Name(String),
    /// The other side is not who it should be, or does not speak TLS.
    #[error("{0}")]
    Handshake(String),
}

impl Trust {
    /// Shakes hands with `host`, to which `stream` leads, and will speak HTTP/1.1 inside. How long it may take is the caller's business.
    ///
    /// # Errors
    /// The file is of no use, or the other side is not `host` as far as it can show.
    pub async fn connect(&self, stream: TcpStream, host: &str) -> Result<TlsStream<TcpStream>, NoTls> {
        let name = ServerName::try_from(host.to_owned()).map_err(|_| NoTls::Name(host.to_owned()))?;
        let trust = self.clone();
        let config = spawn_blocking(move || trust.config()).await;
        let config = config.map_err(|error| NoTls::Handshake(error.to_string()))??;
        let connected = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
        connected.map_err(|error| NoTls::Handshake(words::handshake(&error, self)))
    }

    fn config(&self) -> Result<ClientConfig, NoTls> {
        let roots = match &self.ca {
            Some(file) => of_file(file)?,
            None => of_system(self.flag)?,
        };
        let config = ClientConfig::builder_with_provider(provider()).with_safe_default_protocol_versions();
        let config = config.map_err(|error| NoTls::Handshake(error.to_string()))?;
        let mut config = config.with_root_certificates(roots).with_no_client_auth();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(config)
    }
}

fn of_file(file: &Path) -> Result<RootCertStore, NoTls> {
    let no = |reason: String| NoTls::Ca { file: file.to_owned(), reason };
    let text = read(file).map_err(|error: io::Error| no(error.to_string()))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&text) {
        let certificate = certificate.map_err(|error| no(error.to_string()))?;
        roots.add(certificate).map_err(|error| no(error.to_string()))?;
    }
    if roots.is_empty() { Err(no("no BEGIN CERTIFICATE is in it".to_owned())) } else { Ok(roots) }
}

fn of_system(flag: &'static str) -> Result<RootCertStore, NoTls> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // Some that are old are not understood, and nobody needs them.
    let (added, _) = roots.add_parsable_certificates(found.certs);
    if added == 0 {
        let reason = found.errors.first().map_or_else(|| "none is installed".to_owned(), ToString::to_string);
        return Err(NoTls::NoSystem { reason, flag });
    }
    Ok(roots)
}

#[cfg(test)]
mod tests;
