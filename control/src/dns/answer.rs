//! What is answered to a question (pure): the directory, the zone, the question and a source of chance in, records out.

use std::net::IpAddr;

use hickory_server::proto::op::ResponseCode;
use hickory_server::proto::rr::rdata::{CNAME, SRV, TXT};
use hickory_server::proto::rr::{LowerName, Name, RData, Record, RecordType};
use memcloud_protocol::topology::names::OwnerName;
use memcloud_protocol::topology::{HashMethod, Replica, ShardName, Topology};

use super::services::{Service, foreign, services};
use super::zone::{Zone, address_record};
use crate::directory::Directory;

/// Aliases that are followed from one to the next.
const ALIASES_MAX: usize = 8;

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

/// Answers a question of class IN. Records of the name in question have it as it was asked (RFC 4343 section 4.1), so that one
/// pointer stands for it.
#[must_use]
pub fn answer(
    zone: &Zone,
    directory: &Directory,
    asked: &Name,
    kind: RecordType,
    chance: Chance<'_>,
) -> Answer {
    let mut answer = answer_of_one(zone, directory, asked, kind, chance);
    // RFC 1034 section 4.3.2, step 3a: who is told an alias within the zone is told what is there, too.
    for _ in 0..ALIASES_MAX {
        let Some(target) = alias(&answer.answers, kind).filter(|name| zone.contains(&name.into())) else {
            break;
        };
        let next = answer_of_one(zone, directory, &target, kind, chance);
        answer.answers.extend(next.answers);
        answer = Answer { answers: answer.answers, ..next };
    }
    answer
}

fn answer_of_one(
    zone: &Zone,
    directory: &Directory,
    asked: &Name,
    kind: RecordType,
    chance: Chance<'_>,
) -> Answer {
    let name = LowerName::new(asked);
    // The zone as a whole is had as a master file, over HTTP.
    if !zone.contains(&name) || matches!(kind, RecordType::AXFR | RecordType::IXFR) {
        return Answer { code: ResponseCode::Refused, ..Answer::default() };
    }
    let found = match owner(zone, &name) {
        Owner::Apex => Some(apex(zone, directory, kind)),
        Owner::Nameserver(addresses) => Some(addressed(asked, zone, &addresses, kind)),
        Owner::Below(owner) => below(zone, directory, &owner, asked, kind, chance),
        Owner::Nobody => None,
    };
    let (code, mut answer) = match found {
        Some(answer) => (ResponseCode::NoError, answer),
        None => (ResponseCode::NXDomain, Answer::default()),
    };
    if answer.answers.is_empty() {
        answer.authority = vec![zone.soa_of_denial(directory.serial())];
    }
    Answer { code, is_authoritative: true, ..answer }
}

/// Where the last record leads, if it is an alias that was not asked for itself, and leads nowhere we have been.
fn alias(answers: &[Record], kind: RecordType) -> Option<Name> {
    let RData::CNAME(CNAME(target)) = &answers.last()?.data else { return None };
    let is_new = answers.iter().all(|record| record.name != *target);
    (is_new && !matches!(kind, RecordType::CNAME | RecordType::ANY)).then(|| target.clone())
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
    // Not `num_labels`, which does not count an asterisk.
    let count = name.iter().len() - zone.name().iter().len();
    if count == 0 {
        return Owner::Apex;
    }
    // At most four labels of ours, and all of them letters; anything else is nobody's.
    let labels: Vec<&[u8]> = name.iter().take(count).collect();
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

fn addressed(name: &Name, zone: &Zone, addresses: &[IpAddr], kind: RecordType) -> Answer {
    let wanted = |address: &&IpAddr| match kind {
        RecordType::A => address.is_ipv4(),
        RecordType::AAAA => address.is_ipv6(),
        kind => kind == RecordType::ANY,
    };
    let answers =
        addresses.iter().filter(wanted).map(|&address| address_record(name.clone(), zone.ttl(), address));
    Answer { answers: answers.collect(), ..Answer::default() }
}

/// `None`: the name does not exist. An answer without records: it does, and has none of this type.
fn below(
    zone: &Zone,
    directory: &Directory,
    owner: &OwnerName,
    name: &Name,
    kind: RecordType,
    chance: Chance<'_>,
) -> Option<Answer> {
    let topology = &directory.app(owner.appid())?.topology;
    let served = |shard| match services(zone, topology, shard) {
        all if all.is_empty() => None,
        all => Some(all),
    };
    let any = kind == RecordType::ANY;
    match owner {
        OwnerName::AppService(_) | OwnerName::ShardService(..) => {
            let all = served(shard_of(owner))?;
            let wanted = any || kind == RecordType::SRV;
            Some(if wanted { listed(zone, name, all, chance) } else { Answer::default() })
        }
        OwnerName::Replica(_, number, site) => {
            let shard = topology.shards.iter().find(|shard| shard.name == *number)?;
            let replica = shard.replicas.iter().find(|one| one.site == *site)?;
            Some(host(zone, name, replica, kind))
        }
        OwnerName::App(_) if any || kind == RecordType::TXT => Some(described(zone, name, topology)),
        OwnerName::App(_) => Some(Answer::default()),
        // They exist while something below them does.
        OwnerName::AppProtocol(_) | OwnerName::Shard(..) | OwnerName::ShardProtocol(..) => {
            served(shard_of(owner)).map(|_| Answer::default())
        }
    }
}

/// The one shard that a name is about.
fn shard_of(owner: &OwnerName) -> Option<ShardName> {
    match *owner {
        OwnerName::ShardService(_, shard)
        | OwnerName::Shard(_, shard)
        | OwnerName::ShardProtocol(_, shard)
        | OwnerName::Replica(_, shard, _) => Some(shard),
        OwnerName::AppService(_) | OwnerName::App(_) | OwnerName::AppProtocol(_) => None,
    }
}

/// SRV records, by priority; among equals in an order that follows their weights (RFC 2782, "Usage rules"), since many clients take
/// the first. All targets' addresses follow.
fn listed(zone: &Zone, name: &Name, all: Vec<Service<'_>>, chance: Chance<'_>) -> Answer {
    let mut answer = Answer::default();
    for Service { replica, target, address, .. } in in_order(all, chance) {
        if let Some(address) = address {
            answer.additionals.push(address_record(target.clone(), zone.ttl(), address));
        }
        let data = SRV::new(replica.priority, replica.weight, replica.port, target);
        answer.answers.push(Record::from_rdata(name.clone(), zone.ttl(), RData::SRV(data)));
    }
    answer
}

fn in_order<'a>(mut all: Vec<Service<'a>>, chance: Chance<'_>) -> Vec<Service<'a>> {
    all.sort_by_key(|one| one.replica.priority);
    for first in 0..all.len() {
        let left = &all[first..];
        let equals = left.iter().take_while(|one| one.replica.priority == left[0].replica.priority);
        let weights: u32 = equals.map(|one| u32::from(one.replica.weight)).sum();
        let drawn = chance(weights.saturating_add(1));
        let mut sum = 0;
        let at = left.iter().position(|one| {
            sum += u32::from(one.replica.weight);
            sum >= drawn
        });
        all[first..=first + at.unwrap_or(0)].rotate_right(1);
    }
    all
}

fn host(zone: &Zone, name: &Name, replica: &Replica, kind: RecordType) -> Answer {
    match replica.host.parse::<IpAddr>() {
        Ok(address) => addressed(name, zone, &[address], kind),
        // They would stand beside the alias themselves (RFC 2181 section 10.1), and there are none.
        Err(_) if matches!(kind, RecordType::NSEC | RecordType::RRSIG) => Answer::default(),
        Err(_) => {
            let alias = foreign(&replica.host).map(|target| RData::CNAME(CNAME(target)));
            let record = alias.map(|data| Record::from_rdata(name.clone(), zone.ttl(), data));
            Answer { answers: record.into_iter().collect(), ..Answer::default() }
        }
    }
}

fn described(zone: &Zone, name: &Name, topology: &Topology) -> Answer {
    let hash = match topology.hash {
        HashMethod::Ketama => "ketama",
    };
    let texts = vec![
        "v=memcloud1".to_owned(),
        format!("revision={}", topology.revision),
        format!("shards={}", topology.shards.len()),
        format!("hash={hash}"),
    ];
    let record = Record::from_rdata(name.clone(), zone.ttl(), RData::TXT(TXT::new(texts)));
    Answer { answers: vec![record], ..Answer::default() }
}
