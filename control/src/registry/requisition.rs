//! A request for shards, and what became of it. Its steps consume the state they leave, so that no step can be taken twice.

use jiff::Timestamp;
use memcloud_protocol::topology::{AppId, ShardName};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::number::{RequisitionId, RevisionNumber};
use super::user::UserName;

#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct Requisition {
    pub id: RequisitionId,
    pub appid: AppId,
    pub asked: Size,
    pub asked_by: UserName,
    #[schema(value_type = String, format = DateTime)]
    pub asked_at: Timestamp,
    pub reason: String,
    pub state: State,
}

/// So many shards, each of so many replicas, each with so much memory.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Size {
    pub shards: u16,
    pub replicas: u16,
    pub memory_bytes: u64,
}

/// ```text
///                ┌─► Rejected
///   Pending ─────┼─► Withdrawn
///                └─► Approved ─── its shards are published ───► Fulfilled
/// ```
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum State {
    Pending,
    Rejected(Decision),
    Withdrawn(Decision),
    Approved(Grant),
    Fulfilled {
        grant: Grant,
        revision: RevisionNumber,
        #[schema(value_type = String, format = DateTime)]
        at: Timestamp,
    },
}

/// Who, when and why.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct Decision {
    pub by: UserName,
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    pub reason: String,
}

/// What was given, which may differ from what was asked.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct Grant {
    pub decision: Decision,
    pub size: Size,
    pub shards: Vec<ShardName>,
}

/// A step that a requisition in this state cannot take.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the requisition is {0}")]
pub struct Decided(pub &'static str);

impl State {
    /// The word for it.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Rejected(_) => "rejected",
            Self::Withdrawn(_) => "withdrawn",
            Self::Approved(_) => "approved",
            Self::Fulfilled { .. } => "fulfilled",
        }
    }

    /// # Errors
    /// It was decided before.
    pub fn reject(self, decision: Decision) -> Result<Self, Decided> {
        self.pending().map(|()| Self::Rejected(decision))
    }

    /// # Errors
    /// It was decided before.
    pub fn withdraw(self, decision: Decision) -> Result<Self, Decided> {
        self.pending().map(|()| Self::Withdrawn(decision))
    }

    /// # Errors
    /// It was decided before.
    pub fn approve(self, grant: Grant) -> Result<Self, Decided> {
        self.pending().map(|()| Self::Approved(grant))
    }

    /// # Errors
    /// Nothing was granted, or it is published already.
    pub fn fulfil(self, revision: RevisionNumber, at: Timestamp) -> Result<Self, Decided> {
        match self {
            Self::Approved(grant) => Ok(Self::Fulfilled { grant, revision, at }),
            other => Err(Decided(other.word())),
        }
    }

    fn pending(&self) -> Result<(), Decided> {
        if *self == Self::Pending { Ok(()) } else { Err(Decided(self.word())) }
    }
}
