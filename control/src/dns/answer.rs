//! What is answered to a question (pure): the directory, the zone, the question and a source of chance in, records out.

use std::net::IpAddr;

use hickory_server::proto::op::ResponseCode;
use hickory_server::proto::rr::rdata::{CNAME, SRV, TXT};
use hickory_server::proto::rr::{LowerName, Name, RData, Record, RecordType};
use memcloud_protocol::topology::names::OwnerName;
use memcloud_protocol::topology::{AppId, HashMethod, Replica, Shard, ShardName, Topology};

use super::fit;
use super::zone::{Zone, address_record};
use crate::directory::Directory;

/// The sections of a message, before anything is left out for want of room.
#[derive(Clone, Debug, Default)]
pub struct Answer {
    pub code: ResponseCode,
    pub is_authoritative: bool,
    pub answers: Vec<Record>,
    pub authority: Vec<Record>,
    pub additionals: Vec<Record>,
}

/// Numbers below a bound, for the order of equals.
pub type Chance<'a> = &'a mut dyn FnMut(u32) -> u32;

/// Answers a question of class IN.
#[must_use]
pub fn answer(
    zone: &Zone,
    directory: &Directory,
    name: &LowerName,
    kind: RecordType,
    chance: Chance<'_>,
) -> Answer {
    if !zone.contains(name) {
        return Answer { code: ResponseCode::Refused, ..Answer::default() };
    }
    if matches!(kind, RecordType::AXFR | RecordType::IXFR) {
        // The zone is had as a master file, over HTTP.
        return Answer { code: ResponseCode::Refused, ..Answer::default() };
    }
    let found = match owner(zone, name) {
        Owner::Apex => Some(apex(zone, directory, kind)),
        Owner::Nameserver(addresses) => Some(addressed(name, zone, &addresses, kind)),
        Owner::Below(owner) => below(zone, directory, &owner, name, kind, chance),
        Owner::Nobody => None,
    };
    let (code, mut answer) = match found {
        Some(answer) => (ResponseCode::NoError, answer),
        None => (ResponseCode::NXDomain, Answer::default()),
    };
    if answer.answers.is_empty() {
        answer.authority = vec![zone.soa(directory.serial())];
    }
    Answer { code, is_authoritative: true, ..answer }
}

enum Owner {
    Apex,
    Nameserver(Vec<IpAddr>),
    Below(OwnerName),
    Nobody,
}

fn owner(zone: &Zone, name: &LowerName) -> Owner {
    if let Some(nameserver) = zone.nameserver(name) {
        return Owner::Nameserver(nameserver.addresses.clone());
    }
    let count = usize::from(name.num_labels()) - usize::from(zone.name().num_labels());
    if count == 0 {
        return Owner::Apex;
    }
    // At most four labels of ours, and all of them letters; anything else is nobody's.
    let labels: Vec<&[u8]> = Name::iter(name).take(count).collect();
    let texts: Option<Vec<&str>> = labels.iter().map(|label| std::str::from_utf8(label).ok()).collect();
    texts.and_then(|texts| OwnerName::parse(&texts)).map_or(Owner::Nobody, Owner::Below)
}

fn apex(zone: &Zone, directory: &Directory, kind: RecordType) -> Answer {
    let wants = |one| kind == one || kind == RecordType::ANY;
    let mut answer = Answer::default();
    if wants(RecordType::SOA) {
        answer.answers.push(zone.soa(directory.serial()));
    }
    if wants(RecordType::NS) {
        answer.answers.extend(zone.nameservers());
        answer.additionals.extend(zone.glue());
    }
    answer
}

fn addressed(name: &LowerName, zone: &Zone, addresses: &[IpAddr], kind: RecordType) -> Answer {
    let wanted = |address: &&IpAddr| match kind {
        RecordType::A => address.is_ipv4(),
        RecordType::AAAA => address.is_ipv6(),
        kind => kind == RecordType::ANY,
    };
    let name = Name::from(name.clone());
    let answers =
        addresses.iter().filter(wanted).map(|&address| address_record(name.clone(), zone.ttl(), address));
    Answer { answers: answers.collect(), ..Answer::default() }
}

/// `None`: the name does not exist. An answer without records: it does, and has none of this type.
fn below(
    zone: &Zone,
    directory: &Directory,
    owner: &OwnerName,
    name: &LowerName,
    kind: RecordType,
    chance: Chance<'_>,
) -> Option<Answer> {
    let topology = &directory.app(owner.appid())?.topology;
    let shard = |name: ShardName| topology.shards.iter().find(|shard| shard.name == name);
    let any = kind == RecordType::ANY;
    match owner {
        OwnerName::AppService(appid) if any || kind == RecordType::SRV => {
            let all: Vec<_> = topology
                .shards
                .iter()
                .flat_map(|shard| shard.replicas.iter().map(move |one| (shard.name, one)))
                .collect();
            Some(services(zone, name, *appid, all, chance))
        }
        OwnerName::ShardService(appid, number) => {
            let shard = shard(*number)?;
            if !any && kind != RecordType::SRV {
                return Some(Answer::default());
            }
            let all = shard.replicas.iter().map(|one| (shard.name, one)).collect();
            Some(services(zone, name, *appid, all, chance))
        }
        OwnerName::Replica(_, number, site) => {
            let replica = shard(*number)?.replicas.iter().find(|one| one.site == *site)?;
            Some(host(zone, name, replica, kind))
        }
        OwnerName::App(_) if any || kind == RecordType::TXT => Some(described(zone, name, topology)),
        OwnerName::Shard(_, number) | OwnerName::ShardProtocol(_, number) => {
            shard(*number).map(|_: &Shard| Answer::default())
        }
        OwnerName::AppService(_) | OwnerName::App(_) | OwnerName::AppProtocol(_) => Some(Answer::default()),
    }
}

/// SRV records, by priority; among equals in an order that follows their weights (RFC 2782, "Usage rules"), since many clients take
/// the first. All targets' addresses follow.
fn services(
    zone: &Zone,
    name: &LowerName,
    appid: AppId,
    all: Vec<(ShardName, &Replica)>,
    chance: Chance<'_>,
) -> Answer {
    let ordered = in_order(preferred_if_too_many(zone, all), chance);
    let owner = Name::from(name.clone());
    let mut answer = Answer::default();
    for (shard, replica) in ordered {
        let Some((target, address)) = target(zone, appid, shard, replica) else { continue };
        if let Some(address) = address {
            answer.additionals.push(address_record(target.clone(), zone.ttl(), address));
        }
        let data = SRV::new(replica.priority, replica.weight, replica.port, target);
        answer.answers.push(Record::from_rdata(owner.clone(), zone.ttl(), RData::SRV(data)));
    }
    answer
}

/// A message holds 64 KiB: an app with more replicas lists those that are asked first, and its shards list all.
fn preferred_if_too_many<'a>(
    zone: &Zone,
    all: Vec<(ShardName, &'a Replica)>,
) -> Vec<(ShardName, &'a Replica)> {
    if all.len() <= fit::services_in_one_message(zone.name()) {
        return all;
    }
    let best = all.iter().map(|(_, replica)| replica.priority).min();
    let mut preferred: Vec<_> =
        all.into_iter().filter(|(_, replica)| Some(replica.priority) == best).collect();
    preferred.truncate(fit::services_in_one_message(zone.name()));
    preferred
}

fn in_order<'a>(mut all: Vec<(ShardName, &'a Replica)>, chance: Chance<'_>) -> Vec<(ShardName, &'a Replica)> {
    all.sort_by_key(|(_, replica)| replica.priority);
    let mut ordered = Vec::with_capacity(all.len());
    for equals in all.chunk_by(|(_, one), (_, other)| one.priority == other.priority) {
        let mut left = equals.to_vec();
        let mut weights: u32 = left.iter().map(|(_, one)| u32::from(one.weight)).sum();
        while !left.is_empty() {
            let drawn = chance(weights.saturating_add(1));
            let mut sum = 0;
            let at = left.iter().position(|(_, one)| {
                sum += u32::from(one.weight);
                sum >= drawn
            });
            let taken = left.remove(at.unwrap_or(0));
            weights -= u32::from(taken.1.weight);
            ordered.push(taken);
        }
    }
    ordered
}

/// The name of ours that has the replica's address; a replica that is itself known by a name is pointed at by that (RFC 2782: a target
/// is no alias).
fn target(zone: &Zone, appid: AppId, shard: ShardName, replica: &Replica) -> Option<(Name, Option<IpAddr>)> {
    match replica.host.parse::<IpAddr>() {
        Ok(address) => {
            Some((zone.below(&OwnerName::Replica(appid, shard, replica.site.clone()))?, Some(address)))
        }
        Err(_) => foreign(&replica.host).map(|name| (name, None)),
    }
}

fn host(zone: &Zone, name: &LowerName, replica: &Replica, kind: RecordType) -> Answer {
    match replica.host.parse::<IpAddr>() {
        Ok(address) => addressed(name, zone, &[address], kind),
        Err(_) => {
            let alias = foreign(&replica.host).map(|target| RData::CNAME(CNAME(target)));
            let record = alias.map(|data| Record::from_rdata(Name::from(name.clone()), zone.ttl(), data));
            Answer { answers: record.into_iter().collect(), ..Answer::default() }
        }
    }
}

fn foreign(host: &str) -> Option<Name> {
    let mut name = Name::from_ascii(host).ok()?;
    name.set_fqdn(true);
    Some(name)
}

fn described(zone: &Zone, name: &LowerName, topology: &Topology) -> Answer {
    let hash = match topology.hash {
        HashMethod::Ketama => "ketama",
    };
    let texts = vec![
        "v=memcloud1".to_owned(),
        format!("revision={}", topology.revision),
        format!("shards={}", topology.shards.len()),
        format!("hash={hash}"),
    ];
    let record = Record::from_rdata(Name::from(name.clone()), zone.ttl(), RData::TXT(TXT::new(texts)));
    Answer { answers: vec![record], ..Answer::default() }
}
