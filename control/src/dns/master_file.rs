//! The zone as a master file (RFC 1035 section 5), for other servers to load.

use std::fmt::{self, Write};
use std::net::IpAddr;

use hickory_server::proto::rr::Record;
use memcloud_protocol::topology::names::OwnerName;
use memcloud_protocol::topology::{Replica, Topology};

use super::fit;
use super::zone::Zone;
use crate::directory::Directory;

/// Everything that is published now.
///
/// # Errors
/// `out` takes no more.
pub fn write(zone: &Zone, directory: &Directory, out: &mut impl Write) -> fmt::Result {
    writeln!(out, "$ORIGIN {}", zone.name())?;
    writeln!(out, "$TTL {}", zone.ttl())?;
    let whole = |record: &Record| {
        format!("{} {} IN {} {}", record.name, record.ttl, record.record_type(), record.data)
    };
    writeln!(out, "{}", whole(&zone.soa(directory.serial())))?;
    for record in zone.nameservers().iter().chain(&zone.glue()) {
        writeln!(out, "{}", whole(record))?;
    }
    for entry in directory.apps() {
        app(zone, &entry.topology, out)?;
    }
    Ok(())
}

fn app(zone: &Zone, topology: &Topology, out: &mut impl Write) -> fmt::Result {
    let appid = topology.appid;
    let texts = [
        "v=memcloud1".to_owned(),
        format!("revision={}", topology.revision),
        format!("shards={}", topology.shards.len()),
        "hash=ketama".to_owned(),
    ];
    writeln!(out, "{} IN TXT \"{}\"", OwnerName::App(appid), texts.join("\" \""))?;
    let all =
        || topology.shards.iter().flat_map(|shard| shard.replicas.iter().map(move |one| (shard.name, one)));
    let is_too_much = all().count() > fit::services_in_one_message(zone.name());
    let best = all().map(|(_, replica)| replica.priority).min();
    let told = all().filter(|(_, replica)| !is_too_much || Some(replica.priority) == best);
    let service = OwnerName::AppService(appid);
    for (shard, replica) in told.take(fit::services_in_one_message(zone.name())) {
        srv(
            &service,
            &target(&OwnerName::Replica(appid, shard, replica.site.clone()), replica),
            replica,
            out,
        )?;
    }
    for (shard, replica) in all() {
        let name = OwnerName::Replica(appid, shard, replica.site.clone());
        srv(&OwnerName::ShardService(appid, shard), &target(&name, replica), replica, out)?;
        match replica.host.parse::<IpAddr>() {
            Ok(IpAddr::V4(address)) => writeln!(out, "{name} IN A {address}")?,
            Ok(IpAddr::V6(address)) => writeln!(out, "{name} IN AAAA {address}")?,
            Err(_) => writeln!(out, "{name} IN CNAME {}.", replica.host.trim_end_matches('.'))?,
        }
    }
    Ok(())
}

fn srv(owner: &OwnerName, target: &str, replica: &Replica, out: &mut impl Write) -> fmt::Result {
    writeln!(out, "{owner} IN SRV {} {} {} {target}", replica.priority, replica.weight, replica.port)
}

fn target(name: &OwnerName, replica: &Replica) -> String {
    if replica.host.parse::<IpAddr>().is_ok() {
        name.to_string()
    } else {
        format!("{}.", replica.host.trim_end_matches('.'))
    }
}
