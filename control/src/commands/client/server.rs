//! Where control is, as `--server` has it.

use super::Failure;

/// `http://HOST:PORT` or `https://HOST:PORT`, taken apart.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Server {
    /// As it was written, for sentences.
    pub(super) url: String,
    /// Host and port.
    pub(super) address: String,
    /// The host alone, for which its certificate has to be.
    pub(super) host: String,
    pub(super) is_secure: bool,
}

impl Server {
    pub(super) fn new(server: &str) -> Result<Self, Failure> {
        let says = |why: &str| {
            Failure::Flags(format!("--server {server}: {why}; write http://HOST:PORT or https://HOST:PORT"))
        };
        let (rest, is_secure) = match (server.strip_prefix("http://"), server.strip_prefix("https://")) {
            (Some(rest), _) => (rest, false),
            (_, Some(rest)) => (rest, true),
            (None, None) => return Err(says("this is no address of HTTP or HTTPS")),
        };
        let authority = rest.trim_end_matches('/');
        if authority.is_empty() || authority.contains(['/', '?', '#', '@', ' ']) {
            return Err(says("only a host and a port are needed"));
        }
        let split = authority.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok());
        let (host, address) = match split {
            Some((host, _)) => (host, authority.to_owned()),
            None => (authority, format!("{authority}:{}", if is_secure { 443 } else { 80 })),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self { url: server.trim_end_matches('/').to_owned(), address, host, is_secure })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_a_host_and_a_port() {
        for (url, address, host, is_secure) in [
            ("http://127.0.0.1:8053/", "127.0.0.1:8053", "127.0.0.1", false),
            ("http://[::1]:8053", "[::1]:8053", "::1", false),
            ("http://control", "control:80", "control", false),
            ("https://control:8443", "control:8443", "control", true),
            ("https://control/", "control:443", "control", true),
        ] {
            let server = Server::new(url).unwrap();
            assert_eq!(
                (server.address.as_str(), server.host.as_str(), server.is_secure),
                (address, host, is_secure)
            );
        }
        for bad in ["127.0.0.1:8053", "ftp://a", "http://", "https://", "http://a/v1", "http://me@a"] {
            assert!(matches!(Server::new(bad), Err(Failure::Flags(_))), "{bad}");
        }
    }
}
