//! What a decision changes: records written and deleted, and what the audit log says of it. A change is taken whole or not at all.

use std::fmt;

use jiff::Timestamp;
use memcloud_protocol::topology::AppId;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::app::App;
use super::audit::AuditEntry;
use super::number::{ReplicaId, RequisitionId, RevisionNumber, TokenId};
use super::replica::Replica;
use super::requisition::Requisition;
use super::revision::Revision;
use super::user::{Token, User};

/// The outcome of a rule.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Change {
    pub writes: Vec<Write>,
    pub audit: Vec<AuditEntry>,
}

#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "nearly all are puts, and changes are short")]
pub enum Write {
    Put(Record),
    Delete(RecordKey),
}

/// One record, whole: stores keep it as JSON under its key, and need to know nothing else of it.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    Numbers(Numbers),
    User(User),
    Token(Token),
    App(App),
    Replica(Replica),
    Requisition(Requisition),
    Revision(Revision),
    Receipt(Receipt),
}

#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Numbers,
    User,
    Token,
    App,
    Replica,
    Requisition,
    Revision,
    Receipt,
}

/// Where a record is kept.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct RecordKey {
    pub kind: Kind,
    pub name: String,
}

/// The numbers that are given next. They are a record of their own, so that what is deleted never lends its number to another.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Numbers {
    pub app: AppId,
    pub replica: ReplicaId,
    pub requisition: RequisitionId,
    pub token: TokenId,
}

impl Default for Numbers {
    fn default() -> Self {
        Self { app: AppId::FIRST, replica: ReplicaId(1), requisition: RequisitionId(1), token: TokenId(1) }
    }
}

/// What a request with an idempotency key was answered, written in the transaction of the change that it made: whoever repeats it
/// gets the same answer and changes nothing.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Receipt {
    /// The user and the idempotency key.
    pub key: String,
    /// Of method, path and body: the key cannot be used for something else.
    pub request_digest: String,
    pub status: u16,
    pub body: Value,
    pub at: Timestamp,
}

impl Write {
    /// What is written.
    #[must_use]
    pub fn key(&self) -> RecordKey {
        match self {
            Self::Put(record) => record.key(),
            Self::Delete(key) => key.clone(),
        }
    }
}

impl Kind {
    pub const ALL: [Self; 8] = [
        Self::Numbers,
        Self::User,
        Self::Token,
        Self::App,
        Self::Replica,
        Self::Requisition,
        Self::Revision,
        Self::Receipt,
    ];

    /// As stores and the audit log write it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Numbers => "numbers",
            Self::User => "user",
            Self::Token => "token",
            Self::App => "app",
            Self::Replica => "replica",
            Self::Requisition => "requisition",
            Self::Revision => "revision",
            Self::Receipt => "receipt",
        }
    }

    /// The kind that is written so.
    #[must_use]
    pub fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.word() == word)
    }
}

impl RecordKey {
    #[must_use]
    pub fn new(kind: Kind, name: impl fmt::Display) -> Self {
        Self { kind, name: name.to_string() }
    }

    #[must_use]
    pub fn app(appid: AppId) -> Self {
        Self::new(Kind::App, appid)
    }

    #[must_use]
    pub fn replica(id: ReplicaId) -> Self {
        Self::new(Kind::Replica, id)
    }

    #[must_use]
    pub fn requisition(id: RequisitionId) -> Self {
        Self::new(Kind::Requisition, id)
    }

    #[must_use]
    pub fn revision(appid: AppId, number: RevisionNumber) -> Self {
        Self::new(Kind::Revision, format_args!("{appid}/{number}"))
    }
}

impl fmt::Display for RecordKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{}", self.kind.word(), self.name)
    }
}

/// Reads what [`RecordKey::revision`] wrote.
#[must_use]
pub fn revision_key(name: &str) -> Option<(AppId, RevisionNumber)> {
    let (appid, number) = name.split_once('/')?;
    Some((appid.parse().ok()?, number.parse().ok()?))
}

impl Record {
    #[must_use]
    pub fn key(&self) -> RecordKey {
        match self {
            Self::Numbers(_) => RecordKey::new(Kind::Numbers, "next"),
            Self::User(user) => RecordKey::new(Kind::User, &user.name),
            Self::Token(token) => RecordKey::new(Kind::Token, token.id),
            Self::App(app) => RecordKey::app(app.appid),
            Self::Replica(replica) => RecordKey::replica(replica.id),
            Self::Requisition(one) => RecordKey::requisition(one.id),
            Self::Revision(one) => RecordKey::revision(one.appid, one.number),
            Self::Receipt(one) => RecordKey::new(Kind::Receipt, &one.key),
        }
    }

    /// As a store keeps it.
    #[must_use]
    pub fn body(&self) -> Value {
        let value = match self {
            Self::Numbers(one) => serde_json::to_value(one),
            Self::User(one) => serde_json::to_value(one),
            Self::Token(one) => serde_json::to_value(one),
            Self::App(one) => serde_json::to_value(one),
            Self::Replica(one) => serde_json::to_value(one),
            Self::Requisition(one) => serde_json::to_value(one),
            Self::Revision(one) => serde_json::to_value(one),
            Self::Receipt(one) => serde_json::to_value(one),
        };
        // Records have string keys and finite numbers only: nothing in them can fail to be JSON.
        value.unwrap_or_default()
    }

    /// Reads what [`Record::body`] gave.
    ///
    /// # Errors
    /// The body is not one of this kind.
    pub fn of_body(kind: Kind, body: Value) -> Result<Self, serde_json::Error> {
        Ok(match kind {
            Kind::Numbers => Self::Numbers(serde_json::from_value(body)?),
            Kind::User => Self::User(serde_json::from_value(body)?),
            Kind::Token => Self::Token(serde_json::from_value(body)?),
            Kind::App => Self::App(serde_json::from_value(body)?),
            Kind::Replica => Self::Replica(serde_json::from_value(body)?),
            Kind::Requisition => Self::Requisition(serde_json::from_value(body)?),
            Kind::Revision => Self::Revision(serde_json::from_value(body)?),
            Kind::Receipt => Self::Receipt(serde_json::from_value(body)?),
        })
    }

    /// What the audit log may say of it: everything but what opens something.
    #[must_use]
    pub fn public_body(&self) -> Value {
        let mut body = self.body();
        if let Value::Object(fields) = &mut body {
            for secret in ["password", "digest"] {
                if fields.get(secret).is_some_and(|value| !value.is_null()) {
                    fields.insert(secret.into(), "…".into());
                }
            }
        }
        body
    }
}
