//! The rules: each turns a wish into a [`Change`], or refuses it and says what to do instead. Pure: the registry as it is, who asks,
//! and the present are arguments; nothing is written here.
//!
//! ```text
//!   api ──wish──► registrar ──► rule(&Registry, &Actor, now) ──► Ok(Change, answer) ──► store ──► Registry::apply
//!                                                           └──► Err(Refusal) ──► problem document
//! ```
//!
//! Since a change is committed only if nothing else was meanwhile (see [`crate::registrar`]), a rule may look at the whole
//! registry, and what it finds true is true when its change is taken.

pub mod allocation;
pub mod apps;
pub mod members;
pub mod receipts;
pub mod replicas;
pub mod requisitions;
pub mod revisions;
pub mod users;
pub mod whole;

#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use jiff::Timestamp;
use memcloud_protocol::topology::{AppId, ShardName};

use crate::registry::Registry;
use crate::registry::app::App;
use crate::registry::audit::AuditEntry;
use crate::registry::change::{Change, Record, RecordKey, Write};
use crate::registry::number::{ReplicaId, RequisitionId, Sequence, TokenId};
use crate::registry::policy::{Action, Actor};
use crate::registry::replica::Replica;
use crate::registry::requisition::Requisition;
use crate::registry::user::UserName;

/// Why a wish is not granted. Each has one sentence that says what, and what to do.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Refusal {
    /// It is not there, or the actor may not know that it is.
    #[error("there is no {0}")]
    Missing(String),
    /// The actor's role or token does not reach so far.
    #[error("{user} may not do that: {what}")]
    Forbidden { user: UserName, what: String },
    /// The wish contradicts itself or a limit.
    #[error("{0}")]
    Invalid(String),
    /// The wish contradicts what is there.
    #[error("{0}")]
    Conflict(String),
    /// Somebody changed the record after it was read.
    #[error("{record} was changed meanwhile: it is at version {is}, not {was}; read it again")]
    Changed { record: String, was: Sequence, is: Sequence },
    /// It was made by this request before, and its secret was in that answer only.
    #[error(
        "token {0} was made by this very request, and its secret was in that answer only: if you do not have it, revoke token {0} \
         and create another with a new Idempotency-Key"
    )]
    SecretGone(TokenId),
    /// The pool does not hold what is asked.
    #[error("{0}")]
    PoolTooSmall(String),
    /// The quota does not allow what is asked.
    #[error("{0}")]
    OverQuota(String),
}

/// What every rule is given.
#[derive(Clone, Copy)]
pub struct Wish<'a> {
    pub registry: &'a Registry,
    pub actor: &'a Actor,
    pub now: Timestamp,
}

/// A change that is being put together: later steps of the same wish see what earlier ones wrote.
#[derive(Clone)]
pub struct Draft<'a> {
    wish: Wish<'a>,
    registry: Registry,
    change: Change,
}

impl<'a> Wish<'a> {
    #[must_use]
    pub fn draft(self) -> Draft<'a> {
        Draft { wish: self, registry: self.registry.clone(), change: Change::default() }
    }

    /// The app, if the actor may do this to it. Whoever may not even read it learns nothing, not even that it exists.
    ///
    /// # Errors
    /// There is none, or the actor may not.
    pub fn app(&self, appid: AppId, action: Action) -> Result<&'a App, Refusal> {
        let missing = || Refusal::Missing(format!("app {appid}"));
        let app = self.registry.app(appid).ok_or_else(missing)?;
        if !self.actor.may(Action::ReadApp, Some(&app.owner)) {
            return Err(missing());
        }
        self.allow(action, Some(&app.owner))?;
        Ok(app)
    }

    /// # Errors
    /// There is none, or the actor may not.
    pub fn requisition(&self, id: RequisitionId, action: Action) -> Result<&'a Requisition, Refusal> {
        let missing = || Refusal::Missing(format!("requisition {id}"));
        let requisition = self.registry.requisition(id).ok_or_else(missing)?;
        match self.app(requisition.appid, action) {
            Err(Refusal::Missing(_)) => Err(missing()),
            other => other.map(|_| &**requisition),
        }
    }

    /// # Errors
    /// There is none, or the actor may not.
    pub fn replica(&self, id: ReplicaId, action: Action) -> Result<&'a Replica, Refusal> {
        let missing = || Refusal::Missing(format!("replica {id}"));
        let replica = self.registry.replica(id).ok_or_else(missing)?;
        let owner = replicas::owner(self.registry, replica);
        if !self.actor.may(Action::ReadReplica, owner) {
            return Err(missing());
        }
        self.allow(action, owner)?;
        Ok(replica)
    }

    /// # Errors
    /// The actor may not do this to what belongs to `owner`.
    pub fn allow(&self, action: Action, owner: Option<&UserName>) -> Result<(), Refusal> {
        if self.actor.may(action, owner) {
            return Ok(());
        }
        let Actor { role, scope, .. } = self.actor;
        let what =
            format!("{action:?} is not for a {role:?} with a token of scope {scope:?} here").to_lowercase();
        Err(Refusal::Forbidden { user: self.actor.user.clone(), what })
    }
}

impl<'a> Draft<'a> {
    /// The registry as it will be.
    #[must_use]
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.wish.now
    }

    #[must_use]
    pub fn actor(&self) -> &'a Actor {
        self.wish.actor
    }

    /// The app as it will be.
    ///
    /// # Errors
    /// There is none.
    pub fn app(&self, appid: AppId) -> Result<App, Refusal> {
        let app = self.registry.app(appid).ok_or_else(|| Refusal::Missing(format!("app {appid}")))?;
        Ok((**app).clone())
    }

    /// Writes a record and one line of the audit log.
    pub fn put(&mut self, action: &str, record: Record, reason: Option<&str>) {
        self.log(action, &record.key(), Some(record.public_body()), reason);
        self.write(Write::Put(record));
    }

    /// Writes what follows from another change that is in the audit log already.
    pub fn put_quietly(&mut self, record: Record) {
        self.write(Write::Put(record));
    }

    /// Deletes a record, with one line of the audit log.
    pub fn delete(&mut self, action: &str, key: RecordKey, reason: Option<&str>) {
        self.log(action, &key, None, reason);
        self.write(Write::Delete(key));
    }

    /// Another draft with all of this in it: for a step that may be refused without spoiling the rest.
    #[must_use]
    pub fn fork(&self) -> Self {
        self.clone()
    }

    /// What is to be committed.
    #[must_use]
    pub fn finish(self) -> Change {
        self.change
    }

    fn log(&mut self, action: &str, key: &RecordKey, after: Option<serde_json::Value>, reason: Option<&str>) {
        let before = self.registry.record(key).map(|record| record.public_body());
        self.change.audit.push(AuditEntry {
            at: self.wish.now,
            actor: self.wish.actor.user.clone(),
            action: action.to_owned(),
            subject: key.to_string(),
            before,
            after,
            reason: reason.filter(|reason| !reason.is_empty()).map(str::to_owned),
        });
    }

    fn write(&mut self, write: Write) {
        self.registry.apply(Sequence(self.wish.registry.sequence().0 + 1), std::slice::from_ref(&write));
        self.change.writes.push(write);
    }
}

/// Refuses when the record was written since the actor read it (`If-Match`).
///
/// # Errors
/// It was.
pub fn unchanged(registry: &Registry, key: &RecordKey, read: Option<Sequence>) -> Result<(), Refusal> {
    let is = registry.version(key);
    match read {
        Some(was) if was != is => Err(Refusal::Changed { record: key.to_string(), was, is }),
        _ => Ok(()),
    }
}

pub(crate) fn no_shard(appid: AppId, shard: ShardName) -> Refusal {
    Refusal::Missing(format!("shard {shard} of app {appid}"))
}
