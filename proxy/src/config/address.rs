//! Where something listens or is dialed: `host:port` or `unix:/path`.
//!
//! The text is kept as it was given, so that a host name is resolved when it is dialed and not once at the start.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::PathBuf;
use std::str::FromStr;

use thiserror::Error;

/// An address of this proxy, of its memcached or of a peer.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// `host:port`, checked: the host is not empty, the port is a number; IPv6 stands in brackets.
    Tcp(String),
    /// The absolute path of a unix socket.
    Unix(PathBuf),
}

/// Why a text is no address.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum AddressError {
    #[error("`{0}` is no address; write host:port, as in 127.0.0.1:11211, or unix:/path")]
    NoPort(String),
    #[error("`{0}` names no host; write 0.0.0.0:PORT if every interface is meant")]
    NoHost(String),
    #[error("`{0}` does not end in a port; a port is a number up to 65535")]
    BadPort(String),
    #[error("`{0}` holds an IPv6 address without brackets; write [::1]:11211")]
    BareIpv6(String),
    #[error("`{0}` is no host name or IP address")]
    BadHost(String),
    #[error("`{0}` is no absolute path; write unix:/run/memcloud.sock")]
    RelativePath(String),
    #[error("`{0}` is longer than the 107 bytes that a unix socket's path may have")]
    LongPath(String),
}

impl Address {
    /// The host without brackets; nothing for a unix socket.
    pub fn host(&self) -> Option<&str> {
        match self {
            Self::Tcp(text) => Some(split(text).0),
            Self::Unix(_) => None,
        }
    }

    /// The port; nothing for a unix socket.
    pub fn port(&self) -> Option<u16> {
        match self {
            Self::Tcp(text) => split(text).1.parse().ok(),
            Self::Unix(_) => None,
        }
    }

    /// Whether only this machine can reach it. A name other than `localhost` counts as reachable: what it
    /// resolves to may change after the check.
    pub fn is_loopback(&self) -> bool {
        self.host().is_none_or(|host| match host_ip(host) {
            Some(ip) => ip.is_loopback(),
            None => false,
        })
    }

    /// Whether a connection to `self` would arrive at a socket bound to `door`, as far as the texts tell.
    pub fn leads_to(&self, door: &Self) -> bool {
        match (self, door) {
            (Self::Unix(a), Self::Unix(b)) => a == b,
            (Self::Tcp(a), Self::Tcp(b)) => {
                let ((host, port), (door_host, door_port)) = (split(a), split(b));
                let same_port = port.parse::<u16>() == door_port.parse::<u16>() && port.parse() != Ok(0_u16);
                same_port && hosts_meet(host, door_host)
            }
            _ => false,
        }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let owned = || text.to_owned();
        if let Some(path) = text.strip_prefix("unix:") {
            return match path {
                path if !path.starts_with('/') => Err(AddressError::RelativePath(owned())),
                path if path.len() > UNIX_PATH_MAX => Err(AddressError::LongPath(owned())),
                path => Ok(Self::Unix(path.into())),
            };
        }
        if !text.contains(':') {
            return Err(AddressError::NoPort(owned()));
        }
        if text.parse::<Ipv6Addr>().is_ok() {
            return Err(AddressError::BareIpv6(owned()));
        }
        let (host, port) = split(text);
        match host {
            "" => return Err(AddressError::NoHost(owned())),
            host if host.contains(':') && host.parse::<Ipv6Addr>().is_err() => {
                return Err(AddressError::BadHost(owned()));
            }
            host if host.contains(':') && !text.starts_with('[') => {
                return Err(AddressError::BareIpv6(owned()));
            }
            host if !host.bytes().all(is_host_byte) => return Err(AddressError::BadHost(owned())),
            _ => {}
        }
        // `parse` alone would take a sign.
        if port.is_empty() || !port.bytes().all(|byte| byte.is_ascii_digit()) || port.parse::<u16>().is_err()
        {
            return Err(AddressError::BadPort(owned()));
        }
        Ok(Self::Tcp(owned()))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(text) => f.write_str(text),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Host without brackets, and port; the port is empty where there is none.
fn split(text: &str) -> (&str, &str) {
    let (host, port) = text.rsplit_once(':').unwrap_or((text, ""));
    (host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host), port)
}

fn host_ip(host: &str) -> Option<IpAddr> {
    if host.eq_ignore_ascii_case("localhost") { Some(Ipv4Addr::LOCALHOST.into()) } else { host.parse().ok() }
}

fn hosts_meet(host: &str, door_host: &str) -> bool {
    match (host_ip(host), host_ip(door_host)) {
        (Some(ip), Some(door)) => {
            ip == door
                || (door.is_unspecified() && (ip.is_loopback() || ip.is_unspecified()))
                || (ip.is_unspecified() && door.is_loopback())
        }
        _ => host.eq_ignore_ascii_case(door_host),
    }
}

/// Letters, digits, `-`, `.`, `_` of names; `:` and `%` of IPv6 addresses with a zone.
fn is_host_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b':' | b'%')
}

/// `sun_path` of Linux, less the ending zero.
const UNIX_PATH_MAX: usize = 107;

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Address {
        text.parse().unwrap()
    }

    #[test]
    fn good_addresses_keep_their_text() {
        for text in
            ["127.0.0.1:11211", "localhost:0", "[::1]:11211", "cache-1.example.com:65535", "unix:/run/a.sock"]
        {
            assert_eq!(address(text).to_string(), text);
        }
        assert_eq!(address("[::1]:7").host(), Some("::1"));
        assert_eq!(address("a:7").port(), Some(7));
    }

    #[test]
    fn every_wrong_address_is_told_why() {
        let long = format!("unix:/{}", "x".repeat(107));
        let cases = [
            ("", "`` is no address; write host:port, as in 127.0.0.1:11211, or unix:/path"),
            ("11211", "`11211` is no address; write host:port, as in 127.0.0.1:11211, or unix:/path"),
            (":11211", "`:11211` names no host; write 0.0.0.0:PORT if every interface is meant"),
            ("a:b", "`a:b` does not end in a port; a port is a number up to 65535"),
            ("a:", "`a:` does not end in a port; a port is a number up to 65535"),
            ("a:+1", "`a:+1` does not end in a port; a port is a number up to 65535"),
            ("a:65536", "`a:65536` does not end in a port; a port is a number up to 65535"),
            ("::1", "`::1` holds an IPv6 address without brackets; write [::1]:11211"),
            ("fe80::1:zz:1", "`fe80::1:zz:1` is no host name or IP address"),
            ("a b:1", "`a b:1` is no host name or IP address"),
            ("unix:a.sock", "`unix:a.sock` is no absolute path; write unix:/run/memcloud.sock"),
        ];
        for (text, message) in cases {
            assert_eq!(text.parse::<Address>().unwrap_err().to_string(), message);
        }
        assert_eq!(long.parse::<Address>().unwrap_err(), AddressError::LongPath(long.clone()));
    }

    #[test]
    fn loopback_is_decided_by_the_host() {
        for text in ["127.0.0.1:1", "127.9.9.9:1", "localhost:1", "[::1]:1", "unix:/a"] {
            assert!(address(text).is_loopback(), "{text}");
        }
        for text in ["0.0.0.0:1", "10.0.0.1:1", "[::]:1", "example.com:1"] {
            assert!(!address(text).is_loopback(), "{text}");
        }
    }

    #[test]
    fn a_door_is_recognised_under_its_other_names() {
        let leads = |a: &str, b: &str| address(a).leads_to(&address(b));
        assert!(leads("localhost:1", "127.0.0.1:1"));
        assert!(leads("127.0.0.1:1", "0.0.0.0:1"));
        assert!(leads("0.0.0.0:1", "127.0.0.1:1"));
        assert!(leads("Host:1", "host:01"));
        assert!(leads("unix:/a", "unix:/a"));
        assert!(!leads("127.0.0.1:1", "127.0.0.1:2"));
        assert!(!leads("127.0.0.1:0", "127.0.0.1:0"), "port 0 is a new port each time");
        assert!(!leads("10.0.0.9:1", "0.0.0.0:1"), "another machine's address");
    }
}
