//! The zone as a master file (RFC 1035 section 5), for other servers to load.

use std::fmt::{self, Write};
use std::net::IpAddr;

use hickory_server::proto::rr::Record;
use memcloud_protocol::topology::names::OwnerName;
use memcloud_protocol::topology::{Replica, Topology};

use super::services::{Service, foreign, services};
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
    for one in services(zone, topology, None) {
        srv(&OwnerName::AppService(appid), &one, out)?;
    }
    for shard in &topology.shards {
        for one in services(zone, topology, Some(shard.name)) {
            srv(&OwnerName::ShardService(appid, shard.name), &one, out)?;
        }
        for replica in &shard.replicas {
            host(zone, &OwnerName::Replica(appid, shard.name, replica.site.clone()), replica, out)?;
        }
    }
    Ok(())
}

fn srv(owner: &OwnerName, one: &Service<'_>, out: &mut impl Write) -> fmt::Result {
    let Replica { priority, weight, port, .. } = one.replica;
    writeln!(out, "{owner} IN SRV {priority} {weight} {port} {}", one.target)
}

fn host(zone: &Zone, name: &OwnerName, replica: &Replica, out: &mut impl Write) -> fmt::Result {
    match (zone.below(name), replica.host.parse::<IpAddr>(), foreign(&replica.host)) {
        (Some(_), Ok(IpAddr::V4(address)), _) => writeln!(out, "{name} IN A {address}"),
        (Some(_), Ok(IpAddr::V6(address)), _) => writeln!(out, "{name} IN AAAA {address}"),
        (Some(_), Err(_), Some(target)) => writeln!(out, "{name} IN CNAME {target}"),
        _ => Ok(()),
    }
}
