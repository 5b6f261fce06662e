//! What the zone is called, and the records that every zone has.

use std::net::IpAddr;

use hickory_server::proto::rr::rdata::{A, AAAA, NS, SOA};
use hickory_server::proto::rr::{LowerName, Name, RData, Record};
use memcloud_protocol::topology::names::OwnerName;

/// How long resolvers keep that a name does not exist (RFC 2308 section 5): an app that was published just now is found soon.
const NEGATIVE_TTL: u32 = 5;
/// For secondaries, which have no way to transfer this zone but by its master file.
const REFRESH: i32 = 60;
const RETRY: i32 = 10;
const EXPIRE: i32 = 86_400;

/// A zone's name and its servers.
#[derive(Clone, Debug)]
pub struct Zone {
    name: Name,
    lower: LowerName,
    ttl: u32,
    mailbox: Name,
    nameservers: Vec<Nameserver>,
}

/// A name server, and its addresses when it is named inside the zone.
#[derive(Clone, Debug)]
pub struct Nameserver {
    pub name: Name,
    pub addresses: Vec<IpAddr>,
}

/// A name that is none.
#[derive(Clone, Debug, thiserror::Error)]
#[error("`{name}` is no name of a zone: {why}")]
pub struct BadZone {
    name: String,
    why: String,
}

impl Zone {
    /// A zone with one name server inside it, `ns.<zone>`, at these addresses.
    ///
    /// # Errors
    /// The name is none, or the root.
    pub fn new(name: &str, ttl: u32, addresses: Vec<IpAddr>) -> Result<Self, BadZone> {
        let bad = |why: String| BadZone { name: name.to_owned(), why };
        let mut parsed = Name::from_ascii(name).map_err(|error| bad(error.to_string()))?;
        parsed.set_fqdn(true);
        if parsed.is_root() {
            return Err(bad("the root is somebody else's".into()));
        }
        let below = |label: &str| {
            Name::from_ascii(label)
                .and_then(|one| one.append_domain(&parsed))
                .map_err(|error| bad(error.to_string()))
        };
        let nameservers = vec![Nameserver { name: below("ns")?, addresses }];
        let mailbox = below("hostmaster")?;
        Ok(Self { lower: LowerName::new(&parsed), name: parsed, ttl, mailbox, nameservers })
    }

    #[must_use]
    pub fn name(&self) -> &Name {
        &self.name
    }

    #[must_use]
    pub fn ttl(&self) -> u32 {
        self.ttl
    }

    /// Whether a name is the zone's own, or below it.
    #[must_use]
    pub fn contains(&self, name: &LowerName) -> bool {
        self.lower.zone_of(name)
    }

    /// A name of this zone.
    #[must_use]
    pub fn below(&self, owner: &OwnerName) -> Option<Name> {
        Name::from_ascii(owner.to_string()).and_then(|name| name.append_domain(&self.name)).ok()
    }

    /// In an answer that says no it is kept no longer than the no itself (RFC 2308 section 3).
    #[must_use]
    pub fn soa_of_denial(&self, serial: u32) -> Record {
        let mut soa = self.soa(serial);
        soa.ttl = soa.ttl.min(NEGATIVE_TTL);
        soa
    }

    #[must_use]
    pub fn soa(&self, serial: u32) -> Record {
        let primary = self.nameservers.first().map_or_else(|| self.name.clone(), |one| one.name.clone());
        let data = SOA::new(primary, self.mailbox.clone(), serial, REFRESH, RETRY, EXPIRE, NEGATIVE_TTL);
        Record::from_rdata(self.name.clone(), self.ttl, RData::SOA(data))
    }

    #[must_use]
    pub fn nameservers(&self) -> Vec<Record> {
        let record = |one: &Nameserver| {
            Record::from_rdata(self.name.clone(), self.ttl, RData::NS(NS(one.name.clone())))
        };
        self.nameservers.iter().map(record).collect()
    }

    /// Addresses of the name servers inside the zone.
    #[must_use]
    pub fn glue(&self) -> Vec<Record> {
        let of = |one: &Nameserver| {
            let name = one.name.clone();
            one.addresses
                .iter()
                .map(move |&address| address_record(name.clone(), self.ttl, address))
                .collect::<Vec<_>>()
        };
        self.nameservers.iter().flat_map(of).collect()
    }

    /// The name server of this name. One without an address here has no record of its own, and its name does not exist.
    #[must_use]
    pub fn nameserver(&self, name: &LowerName) -> Option<&Nameserver> {
        let is_it = |one: &&Nameserver| LowerName::new(&one.name) == *name && !one.addresses.is_empty();
        self.nameservers.iter().find(is_it)
    }
}

pub(super) fn address_record(name: Name, ttl: u32, address: IpAddr) -> Record {
    let data = match address {
        IpAddr::V4(address) => RData::A(A(address)),
        IpAddr::V6(address) => RData::AAAA(AAAA(address)),
    };
    Record::from_rdata(name, ttl, data)
}
