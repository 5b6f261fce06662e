//! What control is told of this replica (pure): from the configuration, and from what it says of itself.

use std::net::IpAddr;

use memcloud_protocol::registration::{Endpoint, Heartbeat, Register};
use memcloud_protocol::topology::Site;

use crate::config::{Address, Control};
use crate::peers::Vitals;

/// Where this proxy listens.
#[derive(Clone, Debug)]
pub struct Addresses {
    /// For apps; the first with a port is told.
    pub listen: Vec<Address>,
    /// For peers.
    pub peer_listen: Option<Address>,
}

pub(super) struct Told {
    control: Control,
    site: Option<Site>,
    apps: Option<(String, u16)>,
    peers: Option<(String, u16)>,
    /// From where control is reached.
    local: Option<IpAddr>,
}

impl Told {
    pub(super) fn new(control: &Control, site: &str, addresses: Addresses) -> Self {
        let of =
            |address: &Address| Some((address.host()?.to_owned(), address.port().filter(|port| *port != 0)?));
        Self {
            control: control.clone(),
            site: site.parse().ok(),
            apps: addresses.listen.iter().find_map(of),
            peers: addresses.peer_listen.as_ref().and_then(of),
            local: None,
        }
    }

    /// The host is not known before control is reached.
    pub(super) fn lacks_host(&self) -> bool {
        let is_wild = |(host, _): &(String, u16)| is_wildcard(host);
        self.local.is_none()
            && self.control.advertise.is_none()
            && [&self.apps, &self.peers].into_iter().flatten().any(is_wild)
    }

    pub(super) fn reached_from(&mut self, local: IpAddr) {
        self.local = Some(local);
    }

    /// Nothing before memcached has said how much memory it has.
    pub(super) fn register(&self, vitals: &Vitals) -> Option<Register> {
        let memcached = vitals.memcached.as_ref().filter(|memcached| memcached.bytes_max > 0)?;
        Some(Register {
            identity: self.control.identity.clone(),
            site: self.site.clone()?,
            address: self.endpoint(self.apps.as_ref()?)?,
            peer_address: self.endpoint(self.peers.as_ref()?)?,
            memory_bytes: memcached.bytes_max,
            memcached_version: Some(memcached.version.clone()).filter(|version| !version.is_empty()),
            proxy_version: env!("CARGO_PKG_VERSION").to_owned(),
            machine: self.control.machine.clone(),
            zone: self.control.availability_zone.clone(),
            place: self.control.place.clone(),
        })
    }

    pub(super) fn heartbeat(&self, vitals: &Vitals) -> Heartbeat {
        let sites = |names: &[String]| names.iter().filter_map(|name| name.parse().ok()).collect();
        let memcached = vitals.memcached.as_ref();
        Heartbeat {
            peer_address: self.peers.as_ref().and_then(|peers| self.endpoint(peers)),
            ready: vitals.glance.ready,
            in_sync: vitals.in_sync,
            streaming: sites(&vitals.streaming),
            whole_with: sites(&vitals.glance.whole_with),
            lag_ms: vitals.lag_ms,
            upstream_up: vitals.glance.upstream_up,
            items: memcached.map_or(0, |memcached| memcached.items),
            bytes: memcached.map_or(0, |memcached| memcached.bytes),
            backlog_entries: vitals.backlog_entries,
            lost_unrepaired: vitals.lost_unrepaired,
            sessions: vitals.sessions,
            stopping: false,
        }
    }

    fn endpoint(&self, (host, port): &(String, u16)) -> Option<Endpoint> {
        let host = match (&self.control.advertise, self.local) {
            (Some(host), _) => host.clone(),
            (None, Some(local)) if is_wildcard(host) => local.to_string(),
            (None, None) if is_wildcard(host) => return None,
            (None, _) => host.clone(),
        };
        Some(Endpoint { host, port: *port })
    }
}

fn is_wildcard(host: &str) -> bool {
    host.parse().is_ok_and(|address: IpAddr| address.is_unspecified())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::peers::{Glance, Memcached};

    fn told(listen: &str, peer_listen: &str, advertise: Option<&str>) -> Told {
        let control = Control {
            endpoints: Vec::new(),
            ca: None,
            token_file: PathBuf::from("/token"),
            place: None,
            identity: "m/a".into(),
            advertise: advertise.map(str::to_owned),
            machine: "m".into(),
            availability_zone: None,
        };
        let addresses = Addresses {
            listen: vec!["unix:/x".parse().unwrap(), listen.parse().unwrap()],
            peer_listen: Some(peer_listen.parse().unwrap()),
        };
        Told::new(&control, "a", addresses)
    }

    fn vitals(memory: u64) -> Vitals {
        let memcached = Memcached { version: "1.6.18".into(), items: 3, bytes: 100, bytes_max: memory };
        let glance = Glance { ready: false, upstream_up: true, whole_with: vec!["b".into()] };
        Vitals { memcached: Some(memcached), glance, ..Vitals::default() }
    }

    #[test]
    fn a_host_is_the_one_that_was_said_or_listened_on_or_found_out() {
        let told_as = |told: &Told| {
            let register = told.register(&vitals(64 << 20)).unwrap();
            (register.address.to_string(), register.peer_address.to_string())
        };
        let plain = told("10.0.0.1:11211", "10.0.0.2:7", None);
        assert!(!plain.lacks_host());
        assert_eq!(told_as(&plain), ("10.0.0.1:11211".into(), "10.0.0.2:7".into()));
        let mut wild = told("0.0.0.0:11211", "[::]:7", None);
        assert!(wild.lacks_host() && wild.register(&vitals(1)).is_none());
        wild.reached_from("fd00::1".parse().unwrap());
        assert_eq!(told_as(&wild), ("[fd00::1]:11211".into(), "[fd00::1]:7".into()));
        let said = told("0.0.0.0:11211", "127.0.0.1:7", Some("cache-1.example"));
        assert!(!said.lacks_host());
        assert_eq!(told_as(&said), ("cache-1.example:11211".into(), "cache-1.example:7".into()));
    }

    #[test]
    fn nobody_registers_before_memcached_has_said_what_it_has() {
        let told = told("10.0.0.1:11211", "10.0.0.1:7", None);
        assert_eq!(told.register(&Vitals { memcached: None, ..vitals(1) }), None);
        assert_eq!(told.register(&vitals(0)), None);
        let heartbeat = told.heartbeat(&vitals(1));
        assert_eq!(heartbeat.whole_with, ["b".parse().unwrap()]);
        assert!(heartbeat.upstream_up && !heartbeat.ready && heartbeat.items == 3);
    }
}
