//! TLS for more than one program: the certificate that a server shows, and whom a client believes.
//!
//! ```text
//!   files ──look()──► Certificate ──ResolvesServerCert──► a server's handshakes
//!   a CA file, or the system's ──► Trust ──connect()──► a client's stream
//! ```
//!
//! Promises that files which have changed are used without a restart, that a broken certificate never takes the place of a good one,
//! and that each failure is a sentence that says what to do. Refuses to know what is spoken inside, when files are looked at, and
//! what is counted. There is one provider of cryptography, ring.

mod certificate;
mod expiry;
mod trust;
mod words;

use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::crypto::ring::default_provider;

pub use certificate::{BadCertificate, Certificate, Files, Look, server_config};
pub use rustls::server::ResolvesServerCert;
pub use trust::{NoTls, Trust};

fn provider() -> Arc<CryptoProvider> {
    Arc::new(default_provider())
}

/// A file that is no certificate's is not read to its end.
fn read(file: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    std::fs::File::open(file)?.take(FILE_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// The system's list of authorities has some 200 KB.
const FILE_BYTES_MAX: u64 = 4 << 20;
