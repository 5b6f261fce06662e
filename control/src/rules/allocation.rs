//! Which free replicas become which shards (pure): best fit by memory, replicas of one shard on different machines, and in different
//! zones where there is a choice.
//!
//! Taking for each shard one replica from each of the machines that have the most left succeeds whenever anything can (it is the
//! greedy schedule of unit tasks). Zones and names narrow the choice: they are tried first, and given up one after the other, which the
//! answer says.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::registry::number::ReplicaId;
use crate::registry::replica::Replica;

/// How far apart the replicas of a shard have to be.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Spread {
    /// Different machines, or the wish is refused; different zones where possible.
    #[default]
    Machines,
    /// Anywhere: for a machine that stands alone, as in a demonstration.
    Anywhere,
}

/// What is asked of the pool.
#[derive(Clone, Copy, Debug)]
pub struct Demand {
    pub shards: usize,
    pub replicas: usize,
    pub memory_bytes: u64,
    pub spread: Spread,
}

/// Replicas for each shard, and what had to be given up.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Allotment {
    pub shards: Vec<Vec<ReplicaId>>,
    pub remarks: Vec<String>,
}

/// Those that are in a shard already, when it grows: newcomers are kept apart from them.
#[derive(Clone, Debug, Default)]
pub struct Present<'a> {
    pub members: Vec<&'a Replica>,
}

/// Chooses among `pool`, of which every one is free and alive.
///
/// # Errors
/// It cannot be had; the sentence says what is missing.
pub fn allot(pool: &[&Replica], demand: Demand, present: &Present<'_>) -> Result<Allotment, String> {
    let mut fitting: Vec<&Replica> = pool
        .iter()
        .copied()
        .filter(|replica| replica.registration.memory_bytes >= demand.memory_bytes)
        .collect();
    fitting.sort_by_key(|replica| (replica.registration.memory_bytes, replica.id));
    let wanted = demand.shards * demand.replicas;
    for apart in [Apart::Zones, Apart::Machines] {
        // The smallest memory that suffices: whatever is larger stays free for who needs it.
        for smallest in prefixes(&fitting).filter(|prefix| prefix.len() >= wanted) {
            if let Some(shards) = distribute(smallest, demand, apart, present) {
                return Ok(Allotment {
                    remarks: remarks(&shards, demand, present),
                    shards: numbers(&shards),
                });
            }
        }
    }
    Err(shortage(pool.len(), fitting.len(), demand))
}

/// Those of the smallest size, those of the two smallest, and so on.
fn prefixes<'a, 'b>(sorted: &'b [&'a Replica]) -> impl Iterator<Item = &'b [&'a Replica]> {
    let size = |at: usize| sorted.get(at).map(|replica| replica.registration.memory_bytes);
    (1..=sorted.len()).filter(move |&end| size(end) != size(end - 1)).filter_map(|end| sorted.get(..end))
}

#[derive(Clone, Copy, PartialEq)]
enum Apart {
    Zones,
    Machines,
}

fn distribute<'a>(
    fitting: &[&'a Replica],
    demand: Demand,
    apart: Apart,
    present: &Present<'_>,
) -> Option<Vec<Vec<&'a Replica>>> {
    let mut free: Vec<&Replica> = fitting.to_vec();
    let mut shards = Vec::with_capacity(demand.shards);
    for _ in 0..demand.shards {
        let mut shard: Vec<&Replica> = Vec::with_capacity(demand.replicas);
        for _ in 0..demand.replicas {
            let left = left_on_machines(&free);
            let allowed = |one: &&&Replica| {
                shard
                    .iter()
                    .chain(&present.members)
                    .all(|other| may_stand_beside(one, other, demand.spread, apart))
            };
            // The machine with the most left; of its replicas the smallest.
            let best = free.iter().filter(allowed).max_by_key(|one| {
                let count = left.get(one.registration.machine.as_str()).copied().unwrap_or(0);
                (count, std::cmp::Reverse((one.registration.memory_bytes, one.id)))
            });
            let chosen = *best?;
            free.retain(|one| one.id != chosen.id);
            shard.push(chosen);
        }
        shards.push(shard);
    }
    Some(shards)
}

fn left_on_machines<'a>(free: &[&'a Replica]) -> BTreeMap<&'a str, usize> {
    let mut left = BTreeMap::new();
    for replica in free {
        *left.entry(replica.registration.machine.as_str()).or_insert(0) += 1;
    }
    left
}

/// Two of one name would take each other's mutations for their own.
fn may_stand_beside(one: &Replica, other: &Replica, spread: Spread, apart: Apart) -> bool {
    let (one, other) = (&one.registration, &other.registration);
    let machines = spread == Spread::Anywhere || one.machine != other.machine;
    let zones = apart == Apart::Machines || one.zone.is_none() || one.zone != other.zone;
    one.site != other.site && machines && zones
}

fn numbers(shards: &[Vec<&Replica>]) -> Vec<Vec<ReplicaId>> {
    shards.iter().map(|shard| shard.iter().map(|replica| replica.id).collect()).collect()
}

fn remarks(shards: &[Vec<&Replica>], demand: Demand, present: &Present<'_>) -> Vec<String> {
    let mut remarks = Vec::new();
    let together = |same: fn(&Replica, &Replica) -> bool| {
        shards.iter().filter(|shard| has_pair(shard, present, same)).count()
    };
    let zones = together(|one, other| {
        one.registration.zone.is_some() && one.registration.zone == other.registration.zone
    });
    if zones > 0 {
        remarks.push(format!(
            "{zones} of {} shards have replicas in one zone: the pool had no others",
            demand.shards
        ));
    }
    let machines = together(|one, other| one.registration.machine == other.registration.machine);
    if machines > 0 {
        remarks.push(format!(
            "{machines} of {} shards have replicas on one machine, as was allowed",
            demand.shards
        ));
    }
    remarks
}

fn has_pair(shard: &[&Replica], present: &Present<'_>, same: fn(&Replica, &Replica) -> bool) -> bool {
    let all: Vec<&Replica> = shard.iter().chain(&present.members).copied().collect();
    all.iter().enumerate().any(|(at, one)| all.iter().skip(at + 1).any(|other| same(one, other)))
}

fn shortage(free: usize, fitting: usize, demand: Demand) -> String {
    let wanted = demand.shards * demand.replicas;
    let size = format!(
        "{} shards of {} replicas with {} bytes each",
        demand.shards, demand.replicas, demand.memory_bytes
    );
    if fitting < wanted {
        return format!(
            "{size} need {wanted} free replicas: the pool has {free} that are alive, {fitting} of them large enough; start more, or ask for less"
        );
    }
    format!(
        "{size} cannot be kept apart: the pool has {fitting} replicas that are large enough, but too few machines or site names; \
         start some elsewhere, or allow the spread `anywhere`"
    )
}
