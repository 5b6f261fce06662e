//! `/v1/apps/{appid}/revisions`, and what puts them in force.

use axum::Json;
use axum::extract::State;
use memcloud_protocol::topology::AppId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Api;
use super::asker::Asker;
use super::body::{Asked, Body, In, Page, Paging};
use super::problem::Problem;
use crate::registry::number::RevisionNumber;
use crate::registry::policy::Action;
use crate::registry::revision::Revision;
use crate::rules::revisions::{self as rules, Difference};
use crate::rules::{Refusal, Wish};

/// What to publish.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PublishDocument {
    /// The staged revision that was looked at: if another one is staged by now, nothing is published.
    pub revision: Option<RevisionNumber>,
}

/// Where to go back to.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct RollbackDocument {
    pub revision: RevisionNumber,
    #[serde(default)]
    pub reason: String,
}

/// Revisions of an app that are kept, the oldest first
#[utoipa::path(get, path = "/v1/apps/{appid}/revisions", tag = "revisions", params(("appid" = u32, Path), Paging),
    security(("token" = [])), responses((status = 200, body = Page<Revision>)))]
pub(super) async fn list(
    State(api): State<Api>,
    Asker(actor): Asker,
    In(appid): In<AppId>,
    Asked(paging): Asked<Paging>,
) -> Result<Json<Page<Revision>>, Problem> {
    let view = api.registrar.view();
    let wish = Wish { registry: &view.registry, actor: &actor, now: jiff::Timestamp::now() };
    wish.app(appid, Action::ReadApp)?;
    let after = RevisionNumber(paging.after.unwrap_or(0));
    let seen = view.registry.revisions(appid).filter(|one| one.number > after);
    Ok(Json(paging.page(seen.map(|one| (**one).clone()), |one| one.number.0)))
}

/// One revision
#[utoipa::path(get, path = "/v1/apps/{appid}/revisions/{number}", tag = "revisions",
    params(("appid" = u32, Path), ("number" = u64, Path)), security(("token" = [])), responses((status = 200, body = Revision)))]
pub(super) async fn show(
    State(api): State<Api>,
    Asker(actor): Asker,
    In((appid, number)): In<(AppId, RevisionNumber)>,
) -> Result<Json<Revision>, Problem> {
    let view = api.registrar.view();
    let wish = Wish { registry: &view.registry, actor: &actor, now: jiff::Timestamp::now() };
    wish.app(appid, Action::ReadApp)?;
    let missing = || Refusal::Missing(format!("revision {number} of app {appid}"));
    let revision = view.registry.revision(appid, number).ok_or_else(missing)?;
    Ok(Json((**revision).clone()))
}

/// Put what is staged in force; `null` if nothing was ever
#[utoipa::path(post, path = "/v1/apps/{appid}/publish", tag = "revisions", params(("appid" = u32, Path)),
    request_body = PublishDocument, security(("token" = [])), responses((status = 200, body = Option<Revision>)))]
pub(super) async fn publish(
    State(api): State<Api>,
    Asker(actor): Asker,
    In(appid): In<AppId>,
    Body(document): Body<PublishDocument>,
) -> Result<Json<Option<Revision>>, Problem> {
    let expected = document.revision;
    Ok(Json(api.registrar.ask(actor, move |wish, _| rules::publish(wish, appid, expected)).await?))
}

/// Publish the content of an earlier revision again, as a new one
#[utoipa::path(post, path = "/v1/apps/{appid}/rollback", tag = "revisions", params(("appid" = u32, Path)),
    request_body = RollbackDocument, security(("token" = [])), responses((status = 200, body = Revision)))]
pub(super) async fn roll_back(
    State(api): State<Api>,
    Asker(actor): Asker,
    In(appid): In<AppId>,
    Body(document): Body<RollbackDocument>,
) -> Result<Json<Revision>, Problem> {
    let rule =
        move |wish: Wish<'_>, _: &_| rules::roll_back(wish, appid, document.revision, &document.reason);
    Ok(Json(api.registrar.ask(actor, rule).await?))
}

/// What publishing what is allocated would change
#[utoipa::path(get, path = "/v1/apps/{appid}/diff", tag = "revisions", params(("appid" = u32, Path)), security(("token" = [])),
    responses((status = 200, body = Difference)))]
pub(super) async fn difference(
    State(api): State<Api>,
    Asker(actor): Asker,
    In(appid): In<AppId>,
) -> Result<Json<Difference>, Problem> {
    let view = api.registrar.view();
    let wish = Wish { registry: &view.registry, actor: &actor, now: jiff::Timestamp::now() };
    Ok(Json(rules::difference(wish, appid)?))
}
