//! The whole: the zone as a master file, and the registry to be kept elsewhere.

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::Api;
use super::asker::Asker;
use super::body::Body;
use super::problem::Problem;
use crate::dns::master_file;
use crate::registry::change::{Kind, Record};
use crate::registry::number::Sequence;
use crate::registry::policy::{Action, Reach};
use crate::rules::Refusal;
use crate::rules::whole;

/// Everything that was decided, as of a sequence. It holds digests of tokens and passwords: keep it as you keep the database.
#[derive(Clone, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Export {
    /// Of this form.
    pub version: u32,
    pub sequence: Sequence,
    pub records: Vec<ExportedRecord>,
}

/// One record.
#[derive(Clone, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExportedRecord {
    pub kind: String,
    pub body: Value,
}

const VERSION: u32 = 1;

/// All that is published, as a master file (RFC 1035)
#[utoipa::path(get, path = "/v1/zone", tag = "lookup", security(("token" = [])),
    responses((status = 200, body = String, content_type = "text/dns")))]
pub(super) async fn zone(State(api): State<Api>, Asker(actor): Asker) -> Result<Response, Problem> {
    if actor.reach(Action::ReadApp) != Reach::All {
        let what = "the zone shows all apps".to_owned();
        return Err(Refusal::Forbidden { user: actor.user, what }.into());
    }
    let mut text = String::new();
    let view = api.registrar.view();
    if master_file::write(&api.zone, &view.directory, &mut text).is_err() {
        return Err(Problem::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "unwritable",
            "the zone could not be written",
        ));
    }
    // RFC 4027.
    Ok(([(header::CONTENT_TYPE, HeaderValue::from_static("text/dns"))], text).into_response())
}

/// The whole registry
#[utoipa::path(get, path = "/v1/export", tag = "store", security(("token" = [])), responses((status = 200, body = Export)))]
pub(super) async fn export(State(api): State<Api>, Asker(actor): Asker) -> Result<Json<Export>, Problem> {
    if actor.reach(Action::ReadStore) != Reach::All {
        let what = "an export holds all that is secret".to_owned();
        return Err(Refusal::Forbidden { user: actor.user, what }.into());
    }
    let view = api.registrar.view();
    let records = view
        .registry
        .records()
        .map(|record| ExportedRecord { kind: record.key().kind.word().into(), body: record.body() });
    Ok(Json(Export { version: VERSION, sequence: view.registry.sequence(), records: records.collect() }))
}

/// Put an exported registry in the place of this one
#[utoipa::path(post, path = "/v1/import", tag = "store", request_body = Export, security(("token" = [])), responses((status = 204)))]
pub(super) async fn import(
    State(api): State<Api>,
    Asker(actor): Asker,
    Body(export): Body<Export>,
) -> Result<StatusCode, Problem> {
    let invalid = |says: String| Problem::from(Refusal::Invalid(says));
    if export.version != VERSION {
        return Err(invalid(format!(
            "this is an export of form {}, and form {VERSION} is understood",
            export.version
        )));
    }
    let mut records = Vec::with_capacity(export.records.len());
    for one in export.records {
        let kind = Kind::of_word(&one.kind)
            .ok_or_else(|| invalid(format!("records of kind {} are unknown", one.kind)))?;
        records.push(
            Record::of_body(kind, one.body).map_err(|error| invalid(format!("a {}: {error}", one.kind)))?,
        );
    }
    api.registrar.ask(actor, move |wish, _| whole::import(wish, &records)).await?;
    Ok(StatusCode::NO_CONTENT)
}
