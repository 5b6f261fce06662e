//! `app`

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use hyper::Method;
use memcloud_protocol::topology::{AppId, Topology};

use super::{Asking, CommandError, Once, size};
use crate::api::documents::{AppDocument, ShrinkDocument};
use crate::registry::app::{App, Contact, Quota};
use crate::registry::user::UserName;

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// All that you may see
    List {
        #[command(flatten)]
        asking: Asking,
    },
    /// One, with its shards and their members
    Show {
        appid: AppId,
        #[command(flatten)]
        asking: Asking,
    },
    /// Make one; it gets its number
    Create {
        /// Unique
        name: String,
        #[command(flatten)]
        told: Told,
        #[command(flatten)]
        once: Once,
        #[command(flatten)]
        asking: Asking,
    },
    /// Change what is given; the rest stays
    Change {
        appid: AppId,
        /// Another name
        #[arg(long)]
        name: Option<String>,
        #[command(flatten)]
        told: Told,
        #[command(flatten)]
        asking: Asking,
    },
    /// Take shards away, from the end; their keys go to the others
    Shrink {
        appid: AppId,
        /// How many stay
        #[arg(long)]
        shards: u16,
        #[command(flatten)]
        asking: Asking,
    },
    /// What its clients are told now
    Topology {
        appid: AppId,
        #[command(flatten)]
        asking: Asking,
    },
    /// Remove one that has no shards
    Delete {
        appid: AppId,
        #[command(flatten)]
        asking: Asking,
    },
}

/// What is said of an app
#[derive(Args, Clone, Debug)]
pub struct Told {
    /// Whose it is; without it whoever creates it
    #[arg(long)]
    owner: Option<UserName>,

    /// For people
    #[arg(long)]
    description: Option<String>,

    /// Whom to tell: `email:ann@example.com`, `phone:…`, `webhook:https://…`
    #[arg(long = "contact", value_name = "KIND:ADDRESS", value_parser = contact)]
    contacts: Vec<Contact>,

    /// For people and programs
    #[arg(long = "label", value_name = "NAME=VALUE", value_parser = label)]
    labels: Vec<(String, String)>,

    /// What it may have in all, as `16,4,64GiB`: shards, replicas of each, memory of all together
    #[arg(long, value_name = "SHARDS,REPLICAS,MEMORY", value_parser = quota)]
    quota: Option<Quota>,

    /// Requisitions within the quota need no approval
    #[arg(long, value_name = "YES", num_args = 0..=1, default_missing_value = "true")]
    auto_approve: Option<bool>,

    /// What is allocated is published at once
    #[arg(long, value_name = "YES", num_args = 0..=1, default_missing_value = "true")]
    auto_publish: Option<bool>,
}

impl Told {
    fn document(self, name: Option<String>) -> AppDocument {
        let given = |labels: Vec<(String, String)>| {
            (!labels.is_empty()).then(|| labels.into_iter().collect::<BTreeMap<_, _>>())
        };
        AppDocument {
            name,
            owner: self.owner,
            description: self.description,
            contacts: (!self.contacts.is_empty()).then_some(self.contacts),
            labels: given(self.labels),
            quota: self.quota,
            auto_approve: self.auto_approve,
            auto_publish: self.auto_publish,
        }
    }
}

impl Verb {
    pub(super) async fn run(self) -> Result<(), CommandError> {
        match self {
            Self::List { asking } => asking.tell_all::<App>(&asking.client()?.list("/v1/apps").await?),
            Self::Show { appid, asking } => {
                asking.tell::<App>(&asking.client()?.get(&format!("/v1/apps/{appid}")).await?)
            }
            Self::Create { name, told, once, asking } => {
                let (key, document) = (once.idempotency_key, told.document(Some(name)));
                asking.tell::<App>(&asking.client()?.create("/v1/apps", key.as_deref(), &document).await?)
            }
            Self::Change { appid, name, told, asking } => {
                let path = format!("/v1/apps/{appid}");
                let made = asking.client()?.send(Method::PATCH, &path, &told.document(name)).await?;
                asking.tell::<App>(&made)
            }
            Self::Shrink { appid, shards, asking } => {
                let path = format!("/v1/apps/{appid}/shrink");
                asking.tell::<App>(&asking.client()?.post(&path, &ShrinkDocument { shards }).await?)
            }
            Self::Topology { appid, asking } => {
                let path = format!("/v1/apps/{appid}/topology");
                asking.tell::<Topology>(&asking.client()?.get(&path).await?)
            }
            Self::Delete { appid, asking } => {
                asking.client()?.delete(&format!("/v1/apps/{appid}")).await?;
                asking.tell_done(&format!("app {appid} is gone"))
            }
        }
    }
}

fn contact(text: &str) -> Result<Contact, String> {
    let says = || format!("`{text}`: write email:…, phone:… or webhook:…");
    let (kind, address) = text.split_once(':').ok_or_else(says)?;
    let kind = serde_json::from_value(kind.into()).map_err(|_| says())?;
    Ok(Contact { kind, address: address.to_owned() })
}

fn label(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("`{text}`: write NAME=VALUE"))?;
    Ok((name.to_owned(), value.to_owned()))
}

fn quota(text: &str) -> Result<Quota, String> {
    let says = || format!("`{text}`: write SHARDS,REPLICAS,MEMORY, as 16,4,64GiB");
    let parts: Vec<&str> = text.split(',').collect();
    let [shards, replicas, memory] = parts[..] else { return Err(says()) };
    let number = |text: &str| text.parse::<u16>().map_err(|_| says());
    Ok(Quota {
        shards: number(shards)?,
        replicas_per_shard: number(replicas)?,
        memory_bytes: size::parse(memory)?,
    })
}
