//! `/v1/apps`

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use memcloud_protocol::topology::AppId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Api;
use super::asker::Asker;
use super::body::{Asked, Body, IfMatch, In, Page, Paging, etag};
use super::idempotency::IdempotencyKey;
use super::problem::Problem;
use crate::registry::app::{App, Contact, Quota};
use crate::registry::change::RecordKey;
use crate::registry::policy::Action;
use crate::registry::user::UserName;
use crate::rules::{Wish, apps as rules};

/// What may be said of an app; what is left out stays as it is.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AppDocument {
    /// Unique; needed to create one.
    #[schema(pattern = "^[A-Za-z][A-Za-z0-9_.-]{0,63}$")]
    pub name: Option<String>,
    /// Without it: whoever creates it.
    pub owner: Option<UserName>,
    pub description: Option<String>,
    pub contacts: Option<Vec<Contact>>,
    pub labels: Option<BTreeMap<String, String>>,
    /// For admins and operators.
    pub quota: Option<Quota>,
    /// For admins and operators: requisitions within the quota need no approval.
    pub auto_approve: Option<bool>,
    /// For admins and operators: what is allocated is published at once.
    pub auto_publish: Option<bool>,
}

impl AppDocument {
    fn described(&self) -> rules::Description {
        rules::Description {
            description: self.description.clone(),
            contacts: self.contacts.clone(),
            labels: self.labels.clone(),
        }
    }

    fn governed(&self) -> rules::Government {
        rules::Government {
            quota: self.quota,
            auto_approve: self.auto_approve,
            auto_publish: self.auto_publish,
        }
    }
}

/// Apps that the asker may see, by number
#[utoipa::path(get, path = "/v1/apps", tag = "apps", params(Paging), security(("token" = [])),
    responses((status = 200, body = Page<App>)))]
pub(super) async fn list(
    State(api): State<Api>,
    Asker(actor): Asker,
    Asked(paging): Asked<Paging>,
) -> Result<Json<Page<App>>, Problem> {
    let view = api.registrar.view();
    let after = paging.after.map(|after| u32::try_from(after).unwrap_or(u32::MAX));
    // Numbers below the first are before all.
    let after = after.and_then(|after| AppId::try_from(after).ok());
    let seen = view.registry.apps(after).filter(|app| actor.may(Action::ReadApp, Some(&app.owner)));
    Ok(Json(paging.page(seen.map(|app| (**app).clone()), |app| u64::from(app.appid.number()))))
}

/// A new app
#[utoipa::path(post, path = "/v1/apps", tag = "apps", request_body = AppDocument, security(("token" = [])),
    params(("Idempotency-Key" = Option<String>, Header)), responses((status = 201, body = App)))]
pub(super) async fn create(
    State(api): State<Api>,
    Asker(actor): Asker,
    key: IdempotencyKey,
    Body(document): Body<AppDocument>,
) -> Result<(StatusCode, Json<App>), Problem> {
    let rule = move |wish: Wish<'_>, _: &_| {
        let new = rules::NewApp {
            name: document.name.clone().unwrap_or_default(),
            owner: document.owner.clone(),
            described: document.described(),
            governed: document.governed(),
        };
        key.once(wish, &document, || rules::create(wish, new))
    };
    Ok((StatusCode::CREATED, Json(api.registrar.ask(actor, rule).await?)))
}

/// One app
#[utoipa::path(get, path = "/v1/apps/{appid}", tag = "apps", params(("appid" = u32, Path)), security(("token" = [])),
    responses((status = 200, body = App)))]
pub(super) async fn show(
    State(api): State<Api>,
    Asker(actor): Asker,
    In(appid): In<AppId>,
) -> Result<(HeaderMap, Json<App>), Problem> {
    let view = api.registrar.view();
    let wish = Wish { registry: &view.registry, actor: &actor, now: jiff::Timestamp::now() };
    let app = wish.app(appid, Action::ReadApp)?.clone();
    Ok((etag(view.registry.version(&RecordKey::app(appid))), Json(app)))
}

/// What is given changes, the rest stays
#[utoipa::path(patch, path = "/v1/apps/{appid}", tag = "apps", request_body = AppDocument, security(("token" = [])),
    params(("appid" = u32, Path), ("If-Match" = Option<String>, Header)), responses((status = 200, body = App)))]
pub(super) async fn change(
    State(api): State<Api>,
    Asker(actor): Asker,
    In(appid): In<AppId>,
    IfMatch(read): IfMatch,
    Body(document): Body<AppDocument>,
) -> Result<Json<App>, Problem> {
    let patch = rules::AppPatch {
        name: document.name.clone(),
        owner: document.owner.clone(),
        described: document.described(),
        governed: document.governed(),
    };
    Ok(Json(api.registrar.ask(actor, move |wish, _| rules::change(wish, appid, patch.clone(), read)).await?))
}

/// An app without shards goes, with its requisitions and revisions
#[utoipa::path(delete, path = "/v1/apps/{appid}", tag = "apps", security(("token" = [])),
    params(("appid" = u32, Path), ("If-Match" = Option<String>, Header)), responses((status = 204)))]
pub(super) async fn delete(
    State(api): State<Api>,
    Asker(actor): Asker,
    In(appid): In<AppId>,
    IfMatch(read): IfMatch,
) -> Result<StatusCode, Problem> {
    api.registrar.ask(actor, move |wish, _| rules::delete(wish, appid, read)).await?;
    Ok(StatusCode::NO_CONTENT)
}
