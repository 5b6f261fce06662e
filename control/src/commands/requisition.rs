//! `requisition`

use clap::{Args, Subcommand};
use memcloud_protocol::topology::AppId;

use super::{Asking, CommandError, Once, size};
use crate::api::documents::{ApprovalDocument, Outcome, ReasonDocument, RequisitionDocument};
use crate::registry::number::RequisitionId;
use crate::registry::requisition::{Requisition, Size};
use crate::rules::allocation::Spread;

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// All that you may see
    List {
        /// Only those
        #[arg(long, value_parser = ["pending", "approved", "rejected", "withdrawn", "fulfilled"])]
        state: Option<String>,
        /// Of this app only
        #[arg(long, value_name = "APPID")]
        app: Option<AppId>,
        #[command(flatten)]
        asking: Asking,
    },
    /// One, with who decided what
    Show {
        id: RequisitionId,
        #[command(flatten)]
        asking: Asking,
    },
    /// Ask for shards
    Create {
        appid: AppId,
        /// How many, beside those that the app has
        #[arg(long, default_value_t = 1)]
        shards: u16,
        /// Of each shard
        #[arg(long, default_value_t = 2)]
        replicas: u16,
        /// Of each replica, as `1GiB`
        #[arg(long, value_name = "SIZE", value_parser = size::parse)]
        memory: u64,
        /// For whoever decides
        #[arg(long, default_value = "")]
        reason: String,
        #[command(flatten)]
        once: Once,
        #[command(flatten)]
        asking: Asking,
    },
    /// Allocate what is asked, or another size
    Approve {
        id: RequisitionId,
        #[command(flatten)]
        other: OtherSize,
        /// Replicas of a shard on one machine, for one that stands alone
        #[arg(long)]
        anywhere: bool,
        #[command(flatten)]
        why: Why,
    },
    /// Refuse it
    Reject {
        id: RequisitionId,
        #[command(flatten)]
        why: Why,
    },
    /// Take it back
    Withdraw {
        id: RequisitionId,
        #[command(flatten)]
        why: Why,
    },
}

/// All three, or as asked
#[derive(Args, Clone, Debug)]
pub struct OtherSize {
    /// Other than asked
    #[arg(long, requires_all = ["replicas", "memory"])]
    shards: Option<u16>,
    /// Other than asked
    #[arg(long, requires = "shards")]
    replicas: Option<u16>,
    /// Other than asked
    #[arg(long, value_name = "SIZE", value_parser = size::parse, requires = "shards")]
    memory: Option<u64>,
}

#[derive(Args, Clone, Debug)]
pub struct Why {
    /// For whoever asked, and the audit log
    #[arg(long, default_value = "")]
    reason: String,
    #[command(flatten)]
    asking: Asking,
}

impl OtherSize {
    fn size(&self) -> Option<Size> {
        let (shards, replicas, memory_bytes) = (self.shards?, self.replicas?, self.memory?);
        Some(Size { shards, replicas, memory_bytes })
    }
}

impl Verb {
    pub(super) async fn run(self) -> Result<(), CommandError> {
        match self {
            Self::List { state, app, asking } => {
                let state = state.map(|state| format!("state={state}"));
                let app = app.map(|appid| format!("appid={appid}"));
                let query = [state, app].into_iter().flatten().collect::<Vec<_>>().join("&");
                let path = format!("/v1/requisitions?{query}");
                asking.tell_all::<Requisition>(&asking.client()?.list(&path).await?)
            }
            Self::Show { id, asking } => {
                asking.tell::<Requisition>(&asking.client()?.get(&format!("/v1/requisitions/{id}")).await?)
            }
            Self::Create { appid, shards, replicas, memory, reason, once, asking } => {
                let size = Size { shards, replicas, memory_bytes: memory };
                let (key, path) = (once.idempotency_key, format!("/v1/apps/{appid}/requisitions"));
                let document = RequisitionDocument { size, reason };
                asking.tell::<Outcome>(&asking.client()?.create(&path, key.as_deref(), &document).await?)
            }
            Self::Approve { id, other, anywhere, why } => {
                let spread = if anywhere { Spread::Anywhere } else { Spread::Machines };
                let document = ApprovalDocument { size: other.size(), spread, reason: why.reason };
                let path = format!("/v1/requisitions/{id}/approve");
                why.asking.tell::<Outcome>(&why.asking.client()?.post(&path, &document).await?)
            }
            Self::Reject { id, why } => why.decide(&format!("/v1/requisitions/{id}/reject")).await,
            Self::Withdraw { id, why } => why.decide(&format!("/v1/requisitions/{id}/withdraw")).await,
        }
    }
}

impl Why {
    async fn decide(self, path: &str) -> Result<(), CommandError> {
        let document = ReasonDocument { reason: self.reason };
        self.asking.tell::<Requisition>(&self.asking.client()?.post(path, &document).await?)
    }
}
