//! `/v1/replicas`: proxies register and send heartbeats, operators look and retire.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use jiff::Timestamp;
use memcloud_protocol::registration::{Assignment, Heartbeat, Register, Registered};
use memcloud_protocol::topology::ReplicaState;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use utoipa::{IntoParams, ToSchema};

use super::Api;
use super::asker::{Asker, digest};
use super::body::{Asked, Body, In, Page, Paging, etag};
use super::problem::Problem;
use super::topology::duration;
use crate::leases::Heard;
use crate::registrar::View;
use crate::registry::change::{Change, RecordKey};
use crate::registry::number::ReplicaId;
use crate::registry::policy::{Action, Actor};
use crate::registry::replica::{Allocation, Replica};
use crate::rules::{Refusal, Wish, replicas as rules};

/// A replica as it registered, where it stands, and what was heard of it last.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct ReplicaDocument {
    pub id: ReplicaId,
    pub registration: Register,
    pub allocation: Allocation,
    #[schema(value_type = String, format = DateTime)]
    pub registered_at: Timestamp,
    pub state: ReplicaState,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub heard_at: Option<Timestamp>,
    pub heartbeat: Option<Heartbeat>,
}

impl ReplicaDocument {
    fn of(view: &View, replica: &Replica, now: Timestamp) -> Self {
        let heard = view.leases.heard(replica.id);
        Self {
            id: replica.id,
            registration: replica.registration.clone(),
            allocation: replica.allocation,
            registered_at: replica.registered_at,
            state: view.leases.state(replica.id, now),
            heard_at: heard.map(|heard| heard.at),
            heartbeat: heard.map(|heard| heard.heartbeat.clone()),
        }
    }
}

/// Which replicas.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// pool, allocated, released or retired.
    allocation: Option<String>,
    /// Of this app only.
    appid: Option<u32>,
    after: Option<u64>,
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

impl Which {
    fn is(&self, replica: &Replica) -> bool {
        let (word, appid) = match replica.allocation {
            Allocation::Pool => ("pool", None),
            Allocation::Allocated { appid, .. } => ("allocated", Some(appid.number())),
            Allocation::Released => ("released", None),
            Allocation::Retired => ("retired", None),
        };
        self.allocation.as_deref().is_none_or(|wanted| wanted == word)
            && self.appid.is_none_or(|wanted| appid == Some(wanted))
    }
}

/// A long poll.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Patience {
    /// As `30s`: answer when it is another one than `If-None-Match` names, at the latest after that long.
    #[param(value_type = Option<String>, pattern = "^[0-9]{1,5}(ms|s)?$")]
    wait: Option<String>,
}

/// Replicas that the asker may see, by number
#[utoipa::path(get, path = "/v1/replicas", tag = "replicas", params(Which), security(("token" = [])),
    responses((status = 200, body = Page<ReplicaDocument>)))]
pub(super) async fn list(
    State(api): State<Api>,
    Asker(actor): Asker,
    Asked(which): Asked<Which>,
) -> Result<Json<Page<ReplicaDocument>>, Problem> {
    let (view, now) = (api.registrar.view(), Timestamp::now());
    let may = |replica: &Replica| actor.may(Action::ReadReplica, rules::owner(&view.registry, replica));
    let seen = view
        .registry
        .replicas(which.after.map(ReplicaId))
        .filter(|replica| which.is(replica) && may(replica));
    let paging = Paging::of(which.after, which.limit);
    Ok(Json(
        paging.page(seen.map(|replica| ReplicaDocument::of(&view, replica, now)), |replica| replica.id.0),
    ))
}

/// A proxy says who it is; said again it is the same replica
#[utoipa::path(post, path = "/v1/replicas", tag = "replicas", request_body = Register, security(("token" = [])),
    responses((status = 200, body = Registered)))]
pub(super) async fn register(
    State(api): State<Api>,
    Asker(actor): Asker,
    Body(told): Body<Register>,
) -> Result<Json<Registered>, Problem> {
    let rule = move |wish: Wish<'_>, view: &View| {
        rules::register(wish, told.clone(), &|id| view.leases.is_alive(id, wish.now))
    };
    let id = api.registrar.ask(actor, rule).await?;
    Ok(Json(Registered { replica: id.0, assignment: assignment(&api, id) }))
}

/// A proxy says how it is, and hears what it is for
#[utoipa::path(post, path = "/v1/replicas/{id}/heartbeat", tag = "replicas", params(("id" = u64, Path)),
    request_body = Heartbeat, security(("token" = [])), responses((status = 200, body = Assignment)))]
pub(super) async fn heartbeat(
    State(api): State<Api>,
    Asker(actor): Asker,
    In(id): In<ReplicaId>,
    Body(heartbeat): Body<Heartbeat>,
) -> Result<Json<Assignment>, Problem> {
    let view = api.registrar.view();
    let known = spoken_for(&view, &actor, id)?;
    rules::check_speaker(known, heartbeat.peer_address.as_ref())?;
    api.registrar.hear(id, Heard { at: Timestamp::now(), heartbeat });
    Ok(Json(assignment(&api, id)))
}

/// What a replica is for; with `wait`, when that is another than the client has
#[utoipa::path(get, path = "/v1/replicas/{id}/assignment", tag = "replicas",
    params(("id" = u64, Path), Patience, ("If-None-Match" = Option<String>, Header)), security(("token" = [])),
    responses((status = 200, body = Assignment), (status = 304, description = "the client has it")))]
pub(super) async fn assigned(
    State(api): State<Api>,
    Asker(actor): Asker,
    In(id): In<ReplicaId>,
    Asked(patience): Asked<Patience>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let patience = patience.wait.as_deref().map(duration).transpose()?;
    let deadline = Instant::now() + patience.unwrap_or_default();
    let mut decided = api.registrar.decided();
    loop {
        decided.borrow_and_update();
        let view = api.registrar.view();
        spoken_for(&view, &actor, id)?;
        let assignment = assignment(&api, id);
        let etag = etag_of(&assignment);
        let has = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
        let is_known = has.is_some_and(|has| has.trim_start_matches("W/") == etag);
        if patience.is_none() || !is_known || !api.changes(&mut decided, deadline).await {
            let etag = [(header::ETAG, etag)];
            return Ok(match is_known {
                true => (StatusCode::NOT_MODIFIED, etag).into_response(),
                false => (etag, Json(assignment)).into_response(),
            });
        }
    }
}

/// One replica
#[utoipa::path(get, path = "/v1/replicas/{id}", tag = "replicas", params(("id" = u64, Path)), security(("token" = [])),
    responses((status = 200, body = ReplicaDocument)))]
pub(super) async fn show(
    State(api): State<Api>,
    Asker(actor): Asker,
    In(id): In<ReplicaId>,
) -> Result<(HeaderMap, Json<ReplicaDocument>), Problem> {
    let (view, now) = (api.registrar.view(), Timestamp::now());
    let replica = Wish { registry: &view.registry, actor: &actor, now }.replica(id, Action::ReadReplica)?;
    Ok((etag(view.registry.version(&RecordKey::replica(id))), Json(ReplicaDocument::of(&view, replica, now))))
}

/// Never to be allocated again
#[utoipa::path(post, path = "/v1/replicas/{id}/retire", tag = "replicas", params(("id" = u64, Path)), security(("token" = [])),
    responses((status = 200, body = ReplicaDocument)))]
pub(super) async fn retire(
    State(api): State<Api>,
    Asker(actor): Asker,
    In(id): In<ReplicaId>,
) -> Result<Json<ReplicaDocument>, Problem> {
    moved(&api, actor, id, rules::retire).await
}

/// Back into the pool, by whoever has seen to it that it is empty
#[utoipa::path(post, path = "/v1/replicas/{id}/recycle", tag = "replicas", params(("id" = u64, Path)), security(("token" = [])),
    responses((status = 200, body = ReplicaDocument)))]
pub(super) async fn recycle(
    State(api): State<Api>,
    Asker(actor): Asker,
    In(id): In<ReplicaId>,
) -> Result<Json<ReplicaDocument>, Problem> {
    moved(&api, actor, id, rules::recycle).await
}

/// Forget a replica that serves nobody
#[utoipa::path(delete, path = "/v1/replicas/{id}", tag = "replicas", params(("id" = u64, Path)), security(("token" = [])),
    responses((status = 204)))]
pub(super) async fn delete(
    State(api): State<Api>,
    Asker(actor): Asker,
    In(id): In<ReplicaId>,
) -> Result<StatusCode, Problem> {
    api.registrar.ask(actor, move |wish, _| rules::delete(wish, id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn assignment(api: &Api, id: ReplicaId) -> Assignment {
    let terms = api.registrar.terms();
    let lease = u32::try_from(terms.lease.as_secs()).unwrap_or(u32::MAX);
    rules::assignment(&api.registrar.view().registry, id, lease, terms.heartbeat_seconds)
}

/// Of what it says, not of when that was decided.
fn etag_of(assignment: &Assignment) -> String {
    let says = serde_json::to_string(&assignment.place).unwrap_or_default();
    format!("\"{}\"", digest(&says))
}

/// The replica, if the asker may speak for it: whoever may register it may.
fn spoken_for<'a>(view: &'a View, actor: &Actor, id: ReplicaId) -> Result<&'a Replica, Problem> {
    let known = view.registry.replica(id);
    let known = known.ok_or_else(|| Problem::missing(format_args!("replica {id}: register again")))?;
    let wish = Wish { registry: &view.registry, actor, now: Timestamp::now() };
    wish.allow(Action::RegisterReplica, rules::owner(&view.registry, known))?;
    Ok(known)
}

/// Has a rule move it, and shows it as it is then.
async fn moved(
    api: &Api,
    actor: Actor,
    id: ReplicaId,
    rule: fn(Wish<'_>, ReplicaId) -> Result<(Change, Replica), Refusal>,
) -> Result<Json<ReplicaDocument>, Problem> {
    let replica = api.registrar.ask(actor, move |wish, _| rule(wish, id)).await?;
    Ok(Json(ReplicaDocument::of(&api.registrar.view(), &replica, Timestamp::now())))
}
