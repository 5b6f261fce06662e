//! `/v1/audit-log`: who changed what, read where it is kept.

use axum::Json;
use axum::extract::State;
use memcloud_protocol::topology::AppId;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Api;
use super::asker::Asker;
use super::body::Asked;
use super::problem::Problem;
use crate::registry::audit::AuditEntry;
use crate::registry::change::RecordKey;
use crate::registry::policy::{Action, Reach};
use crate::rules::Refusal;
use crate::store::AuditQuery;

/// One line.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct AuditLine {
    pub number: u64,
    #[serde(flatten)]
    pub entry: AuditEntry,
}

/// Which lines, the newest first.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Which {
    /// Of this app and its requisitions and revisions. Owners have to name one of theirs.
    appid: Option<u32>,
    /// Of this record only, as `replica/7`.
    #[param(max_length = 200)]
    subject: Option<String>,
    /// What this user did.
    #[param(max_length = 64)]
    actor: Option<String>,
    /// Older than this number.
    before: Option<u64>,
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// Who changed what, the newest first
#[utoipa::path(get, path = "/v1/audit-log", tag = "audit", params(Which), security(("token" = [])),
    responses((status = 200, body = Vec<AuditLine>)))]
pub(super) async fn list(
    State(api): State<Api>,
    Asker(actor): Asker,
    Asked(which): Asked<Which>,
) -> Result<Json<Vec<AuditLine>>, Problem> {
    let view = api.registrar.view();
    let app = which
        .appid
        .and_then(|number| AppId::try_from(number).ok())
        .and_then(|appid| view.registry.app(appid));
    let may = match actor.reach(Action::ReadAuditLog) {
        Reach::All => true,
        Reach::Own => which.subject.is_none() && app.is_some_and(|app| app.owner == actor.user),
        Reach::None => false,
    };
    if !may {
        let what = "name an app of yours by `appid`".to_owned();
        return Err(Refusal::Forbidden { user: actor.user, what }.into());
    }
    let mut subjects: Vec<String> = which.subject.into_iter().collect();
    if let Some(number) = which.appid {
        let Some(app) = app else { return Err(Problem::missing(format_args!("app {number}"))) };
        subjects.push(RecordKey::app(app.appid).to_string());
        let requisitions = view.registry.requisitions(None).filter(|one| one.appid == app.appid);
        subjects.extend(requisitions.map(|one| RecordKey::requisition(one.id).to_string()));
        subjects.extend(
            view.registry
                .revisions(app.appid)
                .map(|one| RecordKey::revision(app.appid, one.number).to_string()),
        );
    }
    let limit = which.limit.unwrap_or(100).clamp(1, 1_000);
    let query = AuditQuery { subjects, actor: which.actor, before: which.before, limit };
    let lines = api.registrar.store().audit_log(&query).await?;
    Ok(Json(lines.into_iter().map(|line| AuditLine { number: line.number, entry: line.entry }).collect()))
}
