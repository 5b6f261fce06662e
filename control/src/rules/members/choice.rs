//! Which replica of the pool comes into a shard.

use super::Newcomer;
use crate::registry::Registry;
use crate::registry::app::Shard;
use crate::registry::replica::{Allocation, Replica};
use crate::rules::Refusal;
use crate::rules::allocation::{self, Demand, Present};
use crate::rules::requisitions::Alive;

/// Alive, in the pool.
#[must_use]
pub fn free_replicas<'a>(registry: &'a Registry, alive: Alive<'_>) -> Vec<&'a Replica> {
    let free =
        registry.replicas(None).filter(|replica| replica.allocation == Allocation::Pool && alive(replica.id));
    free.map(|replica| &**replica).collect()
}

pub(super) fn choose<'a>(
    registry: &'a Registry,
    place: &Shard,
    newcomer: Newcomer,
    alive: Alive<'_>,
) -> Result<(&'a Replica, Vec<String>), Refusal> {
    let free = free_replicas(registry, alive);
    let staying = place.members.iter().filter(|member| Some(member.replica) != newcomer.replaces);
    let members =
        staying.filter_map(|member| registry.replica(member.replica)).map(|replica| &**replica).collect();
    let present = Present { members };
    let demand = Demand { shards: 1, replicas: 1, memory_bytes: place.memory_bytes, spread: newcomer.spread };
    let candidates: Vec<&Replica> = match newcomer.replica {
        Some(id) => free.into_iter().filter(|replica| replica.id == id).collect(),
        None => free,
    };
    if let (Some(id), true) = (newcomer.replica, candidates.is_empty()) {
        return Err(Refusal::Conflict(format!("replica {id} is not in the pool, or its lease has run out")));
    }
    // The one that goes has a name as well, and both are members for a while.
    let leaving =
        newcomer.replaces.and_then(|old| registry.replica(old)).map(|old| old.registration.site.clone());
    let candidates: Vec<&Replica> =
        candidates.into_iter().filter(|one| Some(&one.registration.site) != leaving.as_ref()).collect();
    let allotment = allocation::allot(&candidates, demand, &present).map_err(Refusal::PoolTooSmall)?;
    let chosen =
        allotment.shards.first().and_then(|shard| shard.first()).and_then(|&id| registry.replica(id));
    chosen
        .map(|replica| (&**replica, allotment.remarks))
        .ok_or_else(|| Refusal::PoolTooSmall("the pool is empty".into()))
}
