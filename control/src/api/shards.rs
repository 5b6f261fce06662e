//! Members of shards by hand: `/v1/apps/{appid}/shards/{shard}/replicas`.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use memcloud_protocol::topology::{AppId, Preference, ShardName};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Api;
use super::asker::Asker;
use super::body::{Body, In};
use super::idempotency::IdempotencyKey;
use super::problem::Problem;
use crate::registry::app::App;
use crate::registry::number::ReplicaId;
use crate::rules::allocation::Spread;
use crate::rules::{Wish, members as rules};

/// Who comes.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewcomerDocument {
    /// Without it: the best of the pool.
    pub replica: Option<ReplicaId>,
    /// The member that goes when the newcomer is whole.
    pub replaces: Option<ReplicaId>,
    #[serde(default)]
    pub spread: Spread,
}

/// In which order clients ask it, and how often.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PreferenceDocument {
    pub preference: Option<Preference>,
    pub weight: Option<u16>,
}

/// How many shards are to stay.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ShrinkDocument {
    pub shards: u16,
}

/// What had to be given up.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct Remarks {
    pub app: App,
    pub remarks: Vec<String>,
}

/// Take shards away, from the end
#[utoipa::path(post, path = "/v1/apps/{appid}/shrink", tag = "shards", params(("appid" = u32, Path)),
    request_body = ShrinkDocument, security(("token" = [])), responses((status = 200, body = App)))]
pub(super) async fn shrink(
    State(api): State<Api>,
    Asker(actor): Asker,
    In(appid): In<AppId>,
    Body(document): Body<ShrinkDocument>,
) -> Result<Json<App>, Problem> {
    Ok(Json(
        api.registrar.ask(actor, move |wish, _| rules::shrink(wish, appid, document.shards.into())).await?,
    ))
}

/// Add a replica to a shard, or replace one
#[utoipa::path(post, path = "/v1/apps/{appid}/shards/{shard}/replicas", tag = "shards",
    params(("appid" = u32, Path), ("shard" = String, Path), ("Idempotency-Key" = Option<String>, Header)),
    request_body = NewcomerDocument, security(("token" = [])),
    responses((status = 201, body = Remarks)))]
pub(super) async fn add(
    State(api): State<Api>,
    Asker(actor): Asker,
    In((appid, shard)): In<(AppId, ShardName)>,
    key: IdempotencyKey,
    Body(document): Body<NewcomerDocument>,
) -> Result<(StatusCode, Json<Remarks>), Problem> {
    let newcomer =
        rules::Newcomer { replica: document.replica, replaces: document.replaces, spread: document.spread };
    let rule = move |wish: Wish<'_>, view: &crate::registrar::View| {
        key.once(wish, &(appid, shard, &document), || {
            let alive = |id| view.leases.is_alive(id, wish.now);
            let (change, (app, remarks)) = rules::add(wish, appid, shard, newcomer, &alive)?;
            Ok((change, Remarks { app, remarks }))
        })
    };
    Ok((StatusCode::CREATED, Json(api.registrar.ask(actor, rule).await?)))
}

/// Preference and weight of a member
#[utoipa::path(patch, path = "/v1/apps/{appid}/shards/{shard}/replicas/{id}", tag = "shards",
    params(("appid" = u32, Path), ("shard" = String, Path), ("id" = u64, Path)), request_body = PreferenceDocument,
    security(("token" = [])), responses((status = 200, body = App)))]
pub(super) async fn change(
    State(api): State<Api>,
    Asker(actor): Asker,
    In((appid, shard, id)): In<(AppId, ShardName, ReplicaId)>,
    Body(document): Body<PreferenceDocument>,
) -> Result<Json<App>, Problem> {
    let rule = move |wish: Wish<'_>, _: &_| {
        rules::prefer(wish, appid, shard, id, document.preference, document.weight)
    };
    Ok(Json(api.registrar.ask(actor, rule).await?))
}

/// Take a member out of its shard
#[utoipa::path(delete, path = "/v1/apps/{appid}/shards/{shard}/replicas/{id}", tag = "shards",
    params(("appid" = u32, Path), ("shard" = String, Path), ("id" = u64, Path)), security(("token" = [])),
    responses((status = 200, body = App)))]
pub(super) async fn remove(
    State(api): State<Api>,
    Asker(actor): Asker,
    In((appid, shard, id)): In<(AppId, ShardName, ReplicaId)>,
) -> Result<Json<App>, Problem> {
    Ok(Json(api.registrar.ask(actor, move |wish, _| rules::remove(wish, appid, shard, id)).await?))
}
