//! One process of control: where it is, and whether TLS is spoken with it.

use std::fmt;

use super::Address;
use super::check::{Problem, refuse};

/// `http://host:port` or `https://host:port`, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// `host:port`.
    pub address: String,
    /// TLS is spoken.
    pub is_secure: bool,
}

impl Endpoint {
    /// All that are named, at least one.
    pub(super) fn all(urls: &[String]) -> Result<Vec<Self>, Problem> {
        if urls.is_empty() || urls.len() > ENDPOINTS_MAX {
            return refuse(
                "control",
                format!("between 1 and {ENDPOINTS_MAX} addresses of control can be named"),
            );
        }
        urls.iter().map(|url| Self::new(url)).collect()
    }

    fn new(url: &str) -> Result<Self, Problem> {
        let (rest, is_secure) = match (url.strip_prefix("http://"), url.strip_prefix("https://")) {
            (None, rest) => (rest, true),
            (rest, _) => (rest, false),
        };
        match rest.map(|rest| rest.strip_suffix('/').unwrap_or(rest).parse()) {
            Some(Ok(Address::Tcp(address))) => Ok(Self { address, is_secure }),
            _ => refuse(
                "control",
                format!("`{url}` is no URL of control; write https://host:port or http://host:port"),
            ),
        }
    }

    /// The host alone, for which its certificate has to be.
    #[must_use]
    pub fn host(&self) -> &str {
        let host = self.address.rsplit_once(':').map_or(self.address.as_str(), |(host, _)| host);
        host.trim_start_matches('[').trim_end_matches(']')
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.is_secure { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.address)
    }
}

/// More would take longer to try than a lease lasts.
const ENDPOINTS_MAX: usize = 8;
