//! `/v1/requisitions`, and `/v1/apps/{appid}/requisitions` to file one.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use memcloud_protocol::topology::AppId;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Api;
use super::asker::Asker;
use super::body::{Asked, Body, IfMatch, In, Page, Paging, etag};
use super::idempotency::IdempotencyKey;
use super::problem::Problem;
use crate::registry::change::RecordKey;
use crate::registry::number::RequisitionId;
use crate::registry::policy::Action;
use crate::registry::requisition::{Requisition, Size};
use crate::rules::allocation::Spread;
use crate::rules::{Wish, requisitions as rules};

/// What is asked for.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RequisitionDocument {
    pub size: Size,
    #[serde(default)]
    pub reason: String,
}

/// How it is approved.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ApprovalDocument {
    /// Without it: as asked.
    pub size: Option<Size>,
    #[serde(default)]
    pub spread: Spread,
    #[serde(default)]
    pub reason: String,
}

/// Why.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReasonDocument {
    #[serde(default)]
    pub reason: String,
}

/// A requisition, and what had to be given up for it.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct Outcome {
    pub requisition: Requisition,
    pub remarks: Vec<String>,
}

/// Which requisitions.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// pending, approved, rejected, withdrawn or fulfilled.
    state: Option<String>,
    /// Of this app only.
    appid: Option<u32>,
    after: Option<u64>,
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// Requisitions that the asker may see, by number
#[utoipa::path(get, path = "/v1/requisitions", tag = "requisitions", params(Which), security(("token" = [])),
    responses((status = 200, body = Page<Requisition>)))]
pub(super) async fn list(
    State(api): State<Api>,
    Asker(actor): Asker,
    Asked(which): Asked<Which>,
) -> Result<Json<Page<Requisition>>, Problem> {
    let view = api.registrar.view();
    let paging = Paging::of(which.after, which.limit);
    let may = |appid: AppId| {
        view.registry.app(appid).is_some_and(|app| actor.may(Action::ReadApp, Some(&app.owner)))
    };
    let seen = view.registry.requisitions(which.after.map(RequisitionId)).filter(|one| {
        which.state.as_deref().is_none_or(|state| one.state.word() == state)
            && which.appid.is_none_or(|appid| one.appid.number() == appid)
            && may(one.appid)
    });
    Ok(Json(paging.page(seen.map(|one| (**one).clone()), |one| one.id.0)))
}

/// Ask for shards
#[utoipa::path(post, path = "/v1/apps/{appid}/requisitions", tag = "requisitions", request_body = RequisitionDocument,
    params(("appid" = u32, Path), ("Idempotency-Key" = Option<String>, Header)), security(("token" = [])),
    responses((status = 201, body = Outcome)))]
pub(super) async fn create(
    State(api): State<Api>,
    Asker(actor): Asker,
    In(appid): In<AppId>,
    key: IdempotencyKey,
    Body(document): Body<RequisitionDocument>,
) -> Result<(StatusCode, Json<Outcome>), Problem> {
    let rule = move |wish: Wish<'_>, view: &crate::registrar::View| {
        let new = rules::NewRequisition { appid, size: document.size, reason: document.reason.clone() };
        let alive = |id| view.leases.is_alive(id, wish.now);
        key.once(wish, &(appid, &document), || {
            let (change, (requisition, remarks)) = rules::create(wish, new, &alive)?;
            Ok((change, Outcome { requisition, remarks }))
        })
    };
    Ok((StatusCode::CREATED, Json(api.registrar.ask(actor, rule).await?)))
}

/// One requisition
#[utoipa::path(get, path = "/v1/requisitions/{id}", tag = "requisitions", params(("id" = u64, Path)), security(("token" = [])),
    responses((status = 200, body = Requisition)))]
pub(super) async fn show(
    State(api): State<Api>,
    Asker(actor): Asker,
    In(id): In<RequisitionId>,
) -> Result<(HeaderMap, Json<Requisition>), Problem> {
    let view = api.registrar.view();
    let wish = Wish { registry: &view.registry, actor: &actor, now: jiff::Timestamp::now() };
    let requisition = wish.requisition(id, Action::ReadApp)?.clone();
    Ok((etag(view.registry.version(&RecordKey::requisition(id))), Json(requisition)))
}

/// Allocate what is asked, or another size
#[utoipa::path(post, path = "/v1/requisitions/{id}/approve", tag = "requisitions", request_body = ApprovalDocument,
    params(("id" = u64, Path), ("If-Match" = Option<String>, Header)), security(("token" = [])),
    responses((status = 200, body = Outcome)))]
pub(super) async fn approve(
    State(api): State<Api>,
    Asker(actor): Asker,
    In(id): In<RequisitionId>,
    IfMatch(read): IfMatch,
    Body(document): Body<ApprovalDocument>,
) -> Result<Json<Outcome>, Problem> {
    let approval = rules::Approval { size: document.size, spread: document.spread, reason: document.reason };
    let rule = move |wish: Wish<'_>, view: &crate::registrar::View| {
        let alive = |id| view.leases.is_alive(id, wish.now);
        rules::approve(wish, id, &approval, read, &alive)
    };
    let (requisition, remarks) = api.registrar.ask(actor, rule).await?;
    Ok(Json(Outcome { requisition, remarks }))
}

/// Refuse it
#[utoipa::path(post, path = "/v1/requisitions/{id}/reject", tag = "requisitions", request_body = ReasonDocument,
    params(("id" = u64, Path)), security(("token" = [])), responses((status = 200, body = Requisition)))]
pub(super) async fn reject(
    State(api): State<Api>,
    Asker(actor): Asker,
    In(id): In<RequisitionId>,
    Body(document): Body<ReasonDocument>,
) -> Result<Json<Requisition>, Problem> {
    Ok(Json(api.registrar.ask(actor, move |wish, _| rules::reject(wish, id, &document.reason)).await?))
}

/// Take it back
#[utoipa::path(post, path = "/v1/requisitions/{id}/withdraw", tag = "requisitions", request_body = ReasonDocument,
    params(("id" = u64, Path)), security(("token" = [])), responses((status = 200, body = Requisition)))]
pub(super) async fn withdraw(
    State(api): State<Api>,
    Asker(actor): Asker,
    In(id): In<RequisitionId>,
    Body(document): Body<ReasonDocument>,
) -> Result<Json<Requisition>, Problem> {
    Ok(Json(api.registrar.ask(actor, move |wish, _| rules::withdraw(wish, id, &document.reason)).await?))
}
