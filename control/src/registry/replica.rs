//! A replica: one memcached with its proxy, as it registered itself, and where it stands.

use jiff::Timestamp;
use memcloud_protocol::registration::{Endpoint, Register};
use memcloud_protocol::topology::{AppId, ShardName};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::number::ReplicaId;

/// What the registry keeps of a replica. Whether it is alive is not here: that changes every few seconds, and [`crate::leases`]
/// knows it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct Replica {
    pub id: ReplicaId,
    /// As it registered last.
    pub registration: Register,
    pub allocation: Allocation,
    #[schema(value_type = String, format = DateTime)]
    pub registered_at: Timestamp,
}

/// Whose it is.
///
/// ```text
///             approve                      let go
///   Pool ───────────────► Allocated ──────────────► Released ─── recycle ───► Pool
///    └──────── retire ────────► Retired ◄──── retire ──┘
/// ```
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Allocation {
    /// Nobody's: it may be allocated while its lease lasts.
    Pool,
    /// A member of this shard, and of no other.
    Allocated { appid: AppId, shard: ShardName },
    /// It was let go, and may still hold items of its last app: it goes back to the pool when it is known to be empty.
    Released,
    /// Never to be allocated again.
    Retired,
}

impl Replica {
    /// Where apps reach it.
    #[must_use]
    pub fn address(&self) -> &Endpoint {
        &self.registration.address
    }
}
