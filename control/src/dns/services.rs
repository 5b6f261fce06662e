//! Which SRV records an app or a shard has (pure): the same for who asks and for who loads the master file.

use std::collections::HashSet;
use std::net::IpAddr;

use hickory_server::proto::rr::Name;
use memcloud_protocol::topology::names::OwnerName;
use memcloud_protocol::topology::{AppId, Replica, ShardName, Topology};

use super::fit;
use super::zone::Zone;

/// A replica, and where its record points.
#[derive(Clone, Debug)]
pub struct Service<'a> {
    pub shard: ShardName,
    pub replica: &'a Replica,
    pub target: Name,
    /// Of a target that is a name of ours.
    pub address: Option<IpAddr>,
}

/// The services of an app, or of one shard of it, in the order of the topology. None: the name does not
/// exist.
///
/// A message holds 64 KiB: where that is not enough, those that are asked first are listed, as many as there is room for.
#[must_use]
pub fn services<'a>(zone: &Zone, topology: &'a Topology, only: Option<ShardName>) -> Vec<Service<'a>> {
    let owner = match only {
        None => OwnerName::AppService(topology.appid),
        Some(shard) => OwnerName::ShardService(topology.appid, shard),
    };
    let Some(owner) = zone.below(&owner) else { return Vec::new() };
    let shards = topology.shards.iter().filter(|shard| only.is_none_or(|name| shard.name == name));
    let replicas = shards.flat_map(|shard| shard.replicas.iter().map(move |one| (shard.name, one)));
    // RFC 2181 section 5: no two records of a name are equal, and two replicas may be known by one foreign name.
    let mut seen = HashSet::new();
    let all: Vec<_> = replicas
        .filter_map(|(shard, replica)| service(zone, topology.appid, shard, replica))
        .filter(|Service { replica, target, address, .. }| {
            address.is_some() || seen.insert((replica.priority, replica.weight, replica.port, target.clone()))
        })
        .collect();
    if fit::services_in_one_message(&owner, all.iter().map(|one| &one.target)) == all.len() {
        return all;
    }
    let best = all.iter().map(|one| one.replica.priority).min();
    let mut preferred: Vec<_> = all.into_iter().filter(|one| Some(one.replica.priority) == best).collect();
    preferred.truncate(fit::services_in_one_message(&owner, preferred.iter().map(|one| &one.target)));
    preferred
}

/// Points at the name of ours that has the replica's address; a replica that is itself known by a name is pointed at by that (RFC 2782:
/// a target is no alias).
fn service<'a>(zone: &Zone, appid: AppId, shard: ShardName, replica: &'a Replica) -> Option<Service<'a>> {
    let address = replica.host.parse::<IpAddr>().ok();
    let target = match address {
        Some(_) => zone.below(&OwnerName::Replica(appid, shard, replica.site.clone()))?,
        None => foreign(&replica.host)?,
    };
    Some(Service { shard, replica, target, address })
}

/// The name of a host that is known by one.
#[must_use]
pub fn foreign(host: &str) -> Option<Name> {
    let mut name = Name::from_ascii(host).ok()?;
    name.set_fqdn(true);
    Some(name)
}
