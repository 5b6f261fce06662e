//! The audit log: what was changed, by whom, from what, to what. Written in the transaction of the change itself, and never again.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::user::UserName;

/// One change of one record.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize, ToSchema)]
pub struct AuditEntry {
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    pub actor: UserName,
    /// A verb of the API, as `requisition.approve`.
    pub action: String,
    /// What was changed, as `app/10001`.
    pub subject: String,
    pub before: Option<Value>,
    pub after: Option<Value>,
    /// What the actor gave as a reason.
    pub reason: Option<String>,
}
