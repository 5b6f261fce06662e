//! `revision`

use clap::Subcommand;
use memcloud_protocol::topology::AppId;

use super::{Asking, CommandError};
use crate::api::documents::{PublishDocument, RollbackDocument};
use crate::registry::number::RevisionNumber;
use crate::registry::revision::Revision;
use crate::rules::revisions::Difference;

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Those of an app, the oldest first
    List {
        appid: AppId,
        #[command(flatten)]
        asking: Asking,
    },
    /// One, with its shards
    Show {
        appid: AppId,
        revision: RevisionNumber,
        #[command(flatten)]
        asking: Asking,
    },
    /// What publishing would change: `+` comes, `-` goes, `~` changes
    Diff {
        appid: AppId,
        #[command(flatten)]
        asking: Asking,
    },
    /// Put what is staged in force
    Publish {
        appid: AppId,
        /// Only if this one is staged
        #[arg(long)]
        revision: Option<RevisionNumber>,
        #[command(flatten)]
        asking: Asking,
    },
    /// Publish what an earlier revision said, as a new one
    Rollback {
        appid: AppId,
        /// The earlier one
        revision: RevisionNumber,
        /// For the audit log
        #[arg(long, default_value = "")]
        reason: String,
        #[command(flatten)]
        asking: Asking,
    },
}

impl Verb {
    pub(super) async fn run(self) -> Result<(), CommandError> {
        match self {
            Self::List { appid, asking } => {
                let path = format!("/v1/apps/{appid}/revisions");
                asking.tell_all::<Revision>(&asking.client()?.list(&path).await?)
            }
            Self::Show { appid, revision, asking } => {
                let path = format!("/v1/apps/{appid}/revisions/{revision}");
                asking.tell::<Revision>(&asking.client()?.get(&path).await?)
            }
            Self::Diff { appid, asking } => {
                let path = format!("/v1/apps/{appid}/diff");
                asking.tell::<Difference>(&asking.client()?.get(&path).await?)
            }
            Self::Publish { appid, revision, asking } => {
                let path = format!("/v1/apps/{appid}/publish");
                let document = PublishDocument { revision };
                asking.tell::<Option<Revision>>(&asking.client()?.post(&path, &document).await?)
            }
            Self::Rollback { appid, revision, reason, asking } => {
                let path = format!("/v1/apps/{appid}/rollback");
                let document = RollbackDocument { revision, reason };
                asking.tell::<Revision>(&asking.client()?.post(&path, &document).await?)
            }
        }
    }
}
