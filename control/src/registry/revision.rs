//! A revision: what clients of an app are told. Numbered, and never changed once it is published; going back is a new revision
//! with old content, so numbers only rise.

use jiff::Timestamp;
use memcloud_protocol::topology::{AppId, Preference, ShardName};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::number::{ReplicaId, RevisionNumber};
use super::user::UserName;

/// Members by number: their addresses are what they last registered, so that a replica that moved is found.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct Revision {
    pub appid: AppId,
    pub number: RevisionNumber,
    pub shards: Vec<RevisionShard>,
    pub state: RevisionState,
    pub staged_by: UserName,
    #[schema(value_type = String, format = DateTime)]
    pub staged_at: Timestamp,
    /// Whose content it repeats.
    pub rollback_of: Option<RevisionNumber>,
}

#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct RevisionShard {
    pub name: ShardName,
    pub members: Vec<RevisionMember>,
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct RevisionMember {
    pub replica: ReplicaId,
    pub preference: Preference,
    pub weight: u16,
}

/// ```text
///   Staged ──► Published ──► Superseded (by a later one) or RolledBack (by one that repeats an earlier one)
///     └──► Discarded
/// ```
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum RevisionState {
    Staged,
    Discarded,
    Published {
        by: UserName,
        #[schema(value_type = String, format = DateTime)]
        at: Timestamp,
    },
    Superseded {
        by: UserName,
        #[schema(value_type = String, format = DateTime)]
        at: Timestamp,
        #[schema(value_type = String, format = DateTime)]
        until: Timestamp,
    },
    RolledBack {
        by: UserName,
        #[schema(value_type = String, format = DateTime)]
        at: Timestamp,
        #[schema(value_type = String, format = DateTime)]
        until: Timestamp,
    },
}
