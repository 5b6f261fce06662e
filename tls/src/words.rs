//! Why a handshake failed, in words for whoever has to do something about it.

use std::io;

use rustls::{CertificateError, Error};

use crate::Trust;

pub(crate) fn handshake(error: &io::Error, trust: &Trust) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(Error::InvalidCertificate(error)) => certificate(error, trust),
        Some(Error::InvalidMessage(_)) => "it does not speak TLS there: is it http:// ?".to_owned(),
        Some(error) => format!("TLS with it fails: {error}"),
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            "it hung up in the TLS handshake: is it https:// ?".to_owned()
        }
        None => format!("it broke off in the TLS handshake ({error}): is it https:// ?"),
    }
}

fn certificate(error: &CertificateError, trust: &Trust) -> String {
    match error {
        CertificateError::UnknownIssuer | CertificateError::BadSignature => match &trust.ca {
            Some(file) => format!(
                "its certificate is not signed by the CA in {}: name the file of the CA that has signed it with {}",
                file.display(),
                trust.flag
            ),
            None => format!(
                "its certificate is signed by nobody whom this machine knows: name the file of its CA with {}",
                trust.flag
            ),
        },
        CertificateError::Expired | CertificateError::ExpiredContext { .. } => {
            "its certificate has expired: renew it there, or set this machine's clock".to_owned()
        }
        CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
            "its certificate does not hold yet: set the clocks of both machines".to_owned()
        }
        CertificateError::NotValidForName => "its certificate is for another name".to_owned(),
        CertificateError::NotValidForNameContext { expected, presented } => format!(
            "its certificate is not for {} but for {}: use a name it has, or make one that has this name",
            expected.to_str(),
            names(presented)
        ),
        error if format!("{error:?}").contains("CaUsedAsEndEntity") => {
            "its certificate is that of a CA (CA:TRUE) and may only sign: have it sign another one for the server"
                .to_owned()
        }
        error => format!("its certificate is not accepted: {error}"),
    }
}

/// The library writes `DnsName("a")` and `IpAddress(127.0.0.1)`.
fn names(presented: &[String]) -> String {
    if presented.is_empty() {
        return "no name at all (it needs a subjectAltName)".to_owned();
    }
    let bare = |name: &String| {
        let inner = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(name);
        inner.trim_matches('"').to_owned()
    };
    presented.iter().map(bare).collect::<Vec<_>>().join(", ")
}
