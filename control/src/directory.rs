//! What lookups read: for each app the published topology, with the addresses and states of now. An immutable value that is swapped;
//! DNS and HTTP read the same one, and never a database.
//!
//! ```text
//!   registry ──(changed apps)──┐
//!                              ├─► Directory::refresh ──► swap ──► dns, topology lookup, long polls
//!   leases ──(changed states)──┘
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use memcloud_protocol::topology::{AppId, HashMethod, Replica, ReplicaState, Shard, Topology};
use rpds::RedBlackTreeMapSync;
use serde::{Deserialize, Serialize};

use crate::leases::Leases;
use crate::registry::Registry;
use crate::registry::change::{Kind, RecordKey, revision_key};
use crate::registry::number::Sequence;
use crate::registry::replica::Allocation;
use crate::registry::revision::{RevisionMember, RevisionShard};

#[cfg(test)]
mod tests;

/// As of one moment.
#[derive(Clone, Debug, Default)]
pub struct Directory {
    sequence: Sequence,
    /// Rises with everything that clients could see: the serial of the zone.
    serial: u32,
    apps: RedBlackTreeMapSync<AppId, Arc<Entry>>,
}

/// What is told of an app.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Entry {
    pub topology: Topology,
    /// How often anything but the revision has changed since: a replica that went down, an address. Part of the `ETag`.
    pub edition: u64,
}

impl Directory {
    /// Where a process begins that knows an earlier one's last directory, and no database.
    #[must_use]
    pub fn restored(sequence: Sequence, serial: u32, entries: impl IntoIterator<Item = Entry>) -> Self {
        let apps = entries.into_iter().map(|entry| (entry.topology.appid, Arc::new(entry))).collect();
        Self { sequence, serial, apps }
    }

    #[must_use]
    pub fn sequence(&self) -> Sequence {
        self.sequence
    }

    /// RFC 1982 arithmetic: it may wrap.
    #[must_use]
    pub fn serial(&self) -> u32 {
        self.serial
    }

    /// Never below what clients have seen.
    pub fn raise_serial(&mut self, least: u32) {
        self.serial = self.serial.max(least);
    }

    #[must_use]
    pub fn app(&self, appid: AppId) -> Option<&Arc<Entry>> {
        self.apps.get(&appid)
    }

    /// By number.
    pub fn apps(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.apps.values()
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.apps.size()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.apps.is_empty()
    }

    /// Brings these apps up to date. Says whether anything that clients see has changed.
    pub fn refresh(
        &mut self,
        registry: &Registry,
        leases: &Leases,
        ttl_seconds: u32,
        now: Timestamp,
        apps: impl IntoIterator<Item = AppId>,
    ) -> bool {
        let mut changed = false;
        for appid in apps {
            let known = self.apps.get(&appid);
            match topology(registry, leases, ttl_seconds, now, appid) {
                Some(topology) if known.is_some_and(|known| known.topology == topology) => {}
                Some(topology) => {
                    let edition = match known {
                        Some(known) if known.topology.revision == topology.revision => known.edition + 1,
                        _ => 0,
                    };
                    self.apps.insert_mut(appid, Arc::new(Entry { topology, edition }));
                    changed = true;
                }
                None => changed |= self.apps.remove_mut(&appid),
            }
        }
        self.sequence = registry.sequence();
        self.serial = self.serial.wrapping_add(u32::from(changed));
        changed
    }
}

impl Entry {
    /// The revision, and behind it the edition, if it is not the first: whoever holds this value holds this very topology.
    #[must_use]
    pub fn etag(&self) -> String {
        match self.edition {
            0 => format!("\"{}\"", self.topology.revision),
            edition => format!("\"{}-{edition}\"", self.topology.revision),
        }
    }
}

/// Which apps a change of these records may show in.
#[must_use]
pub fn touched<'a>(registry: &Registry, keys: impl IntoIterator<Item = &'a RecordKey>) -> BTreeSet<AppId> {
    let app_of = |key: &RecordKey| match key.kind {
        Kind::App => key.name.parse().ok(),
        Kind::Revision => revision_key(&key.name).map(|(appid, _)| appid),
        Kind::Replica => key.name.parse().ok().and_then(|id| app_of_replica(registry, id)),
        Kind::Numbers | Kind::User | Kind::Token | Kind::Requisition | Kind::Receipt => None,
    };
    keys.into_iter().filter_map(app_of).collect()
}

/// Whose a replica is.
#[must_use]
pub fn app_of_replica(registry: &Registry, id: crate::registry::number::ReplicaId) -> Option<AppId> {
    match registry.replica(id)?.allocation {
        Allocation::Allocated { appid, .. } => Some(appid),
        Allocation::Pool | Allocation::Released | Allocation::Retired => None,
    }
}

/// What is published of an app, with what is known of its replicas now.
fn topology(
    registry: &Registry,
    leases: &Leases,
    ttl_seconds: u32,
    now: Timestamp,
    appid: AppId,
) -> Option<Topology> {
    let app = registry.app(appid)?;
    let revision = registry.published(appid)?;
    let shards = revision.shards.iter().map(|shard| shard_of(registry, leases, now, shard)).collect();
    Some(Topology {
        appid,
        name: app.name.clone(),
        revision: revision.number.0,
        ttl_seconds,
        hash: HashMethod::default(),
        shards,
    })
}

fn shard_of(registry: &Registry, leases: &Leases, now: Timestamp, shard: &RevisionShard) -> Shard {
    let replicas =
        shard.members.iter().filter_map(|member| replica_of(registry, leases, now, member)).collect();
    Shard { name: shard.name, replicas }
}

fn replica_of(
    registry: &Registry,
    leases: &Leases,
    now: Timestamp,
    member: &RevisionMember,
) -> Option<Replica> {
    let registration = &registry.replica(member.replica)?.registration;
    let state: ReplicaState = leases.state(member.replica, now);
    Some(Replica {
        site: registration.site.clone(),
        host: registration.address.host.clone(),
        port: registration.address.port,
        state,
        priority: state.priority(member.preference),
        weight: member.weight,
    })
}
