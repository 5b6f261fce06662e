//! `replica`

use clap::{Args, Subcommand};
use hyper::Method;
use memcloud_protocol::topology::{AppId, Preference, ShardName};
use serde_json::Value;

use super::{Asking, CommandError, Once};
use crate::api::documents::{NewcomerDocument, PreferenceDocument, Remarks, ReplicaDocument};
use crate::registry::app::App;
use crate::registry::number::ReplicaId;
use crate::rules::allocation::Spread;

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// All that you may see
    List {
        /// Only those
        #[arg(long, value_parser = ["pool", "allocated", "released", "retired"])]
        allocation: Option<String>,
        /// Of this app only
        #[arg(long, value_name = "APPID")]
        app: Option<AppId>,
        #[command(flatten)]
        asking: Asking,
    },
    /// One, with what was heard of it last
    Show(One),
    /// Bring one into a shard; it is published when it is whole
    Add {
        #[command(flatten)]
        place: Place,
        /// Without it the best of the pool
        #[arg(long, value_name = "ID")]
        replica: Option<ReplicaId>,
        #[command(flatten)]
        coming: Coming,
    },
    /// Bring another in the place of a member, which goes when the newcomer is whole
    Replace {
        #[command(flatten)]
        place: Place,
        /// Who goes
        member: ReplicaId,
        /// Who comes; without it the best of the pool
        #[arg(long = "by", value_name = "ID")]
        replica: Option<ReplicaId>,
        #[command(flatten)]
        coming: Coming,
    },
    /// In which order clients ask a member, and how often
    Prefer {
        #[command(flatten)]
        place: Place,
        member: ReplicaId,
        /// Asked only when no preferred one answers
        #[arg(long, conflicts_with = "preferred")]
        standby: bool,
        /// Asked first
        #[arg(long)]
        preferred: bool,
        /// Its share among equals
        #[arg(long)]
        weight: Option<u16>,
        #[command(flatten)]
        asking: Asking,
    },
    /// Take a member out of its shard
    Remove {
        #[command(flatten)]
        place: Place,
        member: ReplicaId,
        #[command(flatten)]
        asking: Asking,
    },
    /// Never allocate it again
    Retire(One),
    /// Back into the pool, by whoever has seen to it that it is empty
    Recycle(One),
    /// Forget one that serves nobody
    Delete(One),
}

#[derive(Args, Clone, Debug)]
pub struct One {
    id: ReplicaId,
    #[command(flatten)]
    asking: Asking,
}

#[derive(Args, Clone, Debug)]
pub struct Place {
    appid: AppId,
    /// As `s0`
    shard: ShardName,
}

#[derive(Args, Clone, Debug)]
pub struct Coming {
    /// On a machine that has a member of the shard already, too
    #[arg(long)]
    anywhere: bool,
    #[command(flatten)]
    once: Once,
    #[command(flatten)]
    asking: Asking,
}

impl Verb {
    pub(super) async fn run(self) -> Result<(), CommandError> {
        match self {
            Self::List { allocation, app, asking } => {
                let allocation = allocation.map(|word| format!("allocation={word}"));
                let app = app.map(|appid| format!("appid={appid}"));
                let query = [allocation, app].into_iter().flatten().collect::<Vec<_>>().join("&");
                let path = format!("/v1/replicas?{query}");
                asking.tell_all::<ReplicaDocument>(&asking.client()?.list(&path).await?)
            }
            Self::Show(One { id, asking }) => {
                asking.tell::<ReplicaDocument>(&asking.client()?.get(&format!("/v1/replicas/{id}")).await?)
            }
            Self::Add { place, replica, coming } => coming.bring(&place, replica, None).await,
            Self::Replace { place, member, replica, coming } => {
                coming.bring(&place, replica, Some(member)).await
            }
            Self::Prefer { place, member, standby, preferred, weight, asking } => {
                let preference = match (standby, preferred) {
                    (true, _) => Some(Preference::Standby),
                    (_, true) => Some(Preference::Preferred),
                    _ => None,
                };
                let (path, document) = (place.member(member), PreferenceDocument { preference, weight });
                asking.tell::<App>(&asking.client()?.send(Method::PATCH, &path, &document).await?)
            }
            Self::Remove { place, member, asking } => {
                asking.tell::<App>(&asking.client()?.delete(&place.member(member)).await?)
            }
            Self::Retire(one) => one.post("retire").await,
            Self::Recycle(one) => one.post("recycle").await,
            Self::Delete(One { id, asking }) => {
                asking.client()?.delete(&format!("/v1/replicas/{id}")).await?;
                asking.tell_done(&format!("replica {id} is forgotten"))
            }
        }
    }
}

impl One {
    async fn post(self, verb: &str) -> Result<(), CommandError> {
        let path = format!("/v1/replicas/{}/{verb}", self.id);
        self.asking.tell::<ReplicaDocument>(&self.asking.client()?.post(&path, &Value::Null).await?)
    }
}

impl Place {
    fn members(&self) -> String {
        format!("/v1/apps/{}/shards/{}/replicas", self.appid, self.shard)
    }

    fn member(&self, member: ReplicaId) -> String {
        format!("{}/{member}", self.members())
    }
}

impl Coming {
    async fn bring(
        self,
        place: &Place,
        replica: Option<ReplicaId>,
        replaces: Option<ReplicaId>,
    ) -> Result<(), CommandError> {
        let spread = if self.anywhere { Spread::Anywhere } else { Spread::Machines };
        let (key, document) = (self.once.idempotency_key, NewcomerDocument { replica, replaces, spread });
        let made = self.asking.client()?.create(&place.members(), key.as_deref(), &document).await?;
        self.asking.tell::<Remarks>(&made)
    }
}
