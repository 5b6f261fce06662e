//! An app: the tenant of a cache, and the shards that were given to it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use memcloud_protocol::topology::{AppId, Preference, ShardName};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::number::{ReplicaId, RevisionNumber};
use super::user::UserName;

/// What is known of an app. What clients see of it is its published [`super::revision::Revision`].
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct App {
    pub appid: AppId,
    /// Unique.
    pub name: String,
    pub owner: UserName,
    pub description: String,
    pub contacts: Vec<Contact>,
    pub labels: BTreeMap<String, String>,
    pub quota: Quota,
    /// Requisitions within the quota need nobody's approval.
    pub auto_approve: bool,
    /// What is allocated is published at once.
    pub auto_publish: bool,
    /// By number; what is allocated, published or not.
    pub shards: Vec<Shard>,
    /// The number of the next shard: one that was removed is never given again, or clients' rings would disagree.
    pub next_shard: u16,
    /// The last revision that was made, staged ones included.
    pub last_revision: RevisionNumber,
    pub published: Option<RevisionNumber>,
    pub staged: Option<RevisionNumber>,
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

/// Whom to tell.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub struct Contact {
    pub kind: ContactKind,
    pub address: String,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ContactKind {
    Email,
    Phone,
    Webhook,
}

/// What an app may hold in all.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Quota {
    pub shards: u16,
    pub replicas_per_shard: u16,
    /// Of all replicas together.
    pub memory_bytes: u64,
}

impl Default for Quota {
    fn default() -> Self {
        Self { shards: 16, replicas_per_shard: 4, memory_bytes: 64 << 30 }
    }
}

/// One slice of the app's keys, as it is allocated.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
// The shard of a topology has the plain name.
#[schema(as = AllocatedShard)]
pub struct Shard {
    pub name: ShardName,
    /// What was asked for each replica.
    pub memory_bytes: u64,
    pub members: Vec<Member>,
}

/// A replica's part in a shard.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct Member {
    pub replica: ReplicaId,
    pub standing: Standing,
    pub preference: Preference,
    pub weight: u16,
}

/// How far a member has come.
///
/// ```text
///   allocated with its shard ─► Serving ─┐
///   allocated later ─► Joining ──────────┴─► (another takes its place) Leaving ─► gone
///                      copy whole, and published          unpublished, and the answers of clients have grown old
/// ```
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It is copied to, and published when it is whole. Then the one it replaces leaves.
    Joining { replaces: Option<ReplicaId> },
    /// It belongs to what is published next.
    Serving,
    /// It is not published any more; it goes when clients have had time to learn that.
    Leaving {
        #[schema(value_type = String, format = DateTime)]
        since: Timestamp,
    },
}

impl App {
    /// The shard of this name.
    #[must_use]
    pub fn shard(&self, name: ShardName) -> Option<&Shard> {
        self.shards.iter().find(|shard| shard.name == name)
    }

    /// The shard of this name, to be changed.
    pub fn shard_mut(&mut self, name: ShardName) -> Option<&mut Shard> {
        self.shards.iter_mut().find(|shard| shard.name == name)
    }

    /// All that is allocated, as the quota counts it.
    #[must_use]
    pub fn memory_bytes(&self) -> u64 {
        self.shards.iter().map(|shard| shard.memory_bytes.saturating_mul(shard.members.len() as u64)).sum()
    }
}

impl Shard {
    /// Those that belong to what is published next.
    pub fn serving(&self) -> impl Iterator<Item = &Member> {
        self.members.iter().filter(|member| member.standing == Standing::Serving)
    }
}

impl Member {
    /// The weight of the contract, unless somebody sets another.
    pub const WEIGHT: u16 = 100;

    #[must_use]
    pub fn new(replica: ReplicaId, standing: Standing) -> Self {
        Self { replica, standing, preference: Preference::Preferred, weight: Self::WEIGHT }
    }
}
