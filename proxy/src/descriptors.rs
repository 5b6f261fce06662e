//! How many sockets the process may open. A shell's default of 1024 is far below what the sidecar accepts, while the
//! hard limit is usually ample: so the soft one is raised to it, as memcached does for its `-c`.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::config::UpstreamConnections;

/// Raises the limit as far as the process may, and returns it; `u64::MAX` for none.
pub fn raise_limit() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return current.unwrap_or(u64::MAX);
    }
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => maximum.unwrap_or(u64::MAX),
        // Some systems show a hard limit that they do not grant; what was there stays.
        Err(_) => current.unwrap_or(u64::MAX),
    }
}

/// Descriptors that so many sessions need: each its own, with `dedicated` upstream connections another one, and some
/// for the rest.
pub fn needed_for(sessions: usize, connections: UpstreamConnections) -> u64 {
    let each = match connections {
        UpstreamConnections::Shared => 1,
        UpstreamConnections::Dedicated => 2,
    };
    (sessions as u64).saturating_mul(each).saturating_add(RESERVED)
}

/// Listeners, links, logs, shared connections.
const RESERVED: u64 = 128;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_ends_at_the_hard_one() {
        let limit = raise_limit();
        assert_eq!(limit, getrlimit(Resource::Nofile).maximum.unwrap_or(u64::MAX));
        assert_eq!(raise_limit(), limit);
        assert_eq!(needed_for(1000, UpstreamConnections::Shared), 1128);
        assert_eq!(needed_for(1000, UpstreamConnections::Dedicated), 2128);
    }
}
