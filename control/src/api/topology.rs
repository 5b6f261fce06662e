//! The lookup: open to all, answered from memory, and on request only when it has changed.

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use memcloud_protocol::topology::{AppId, Topology};
use serde::Deserialize;
use tokio::time::Instant;
use utoipa::IntoParams;

use super::Api;
use super::body::{Asked, In};
use super::problem::Problem;
use crate::directory::Entry;

/// Longer than that nobody waits: proxies between would cut the connection.
const WAIT_MAX: Duration = Duration::from_secs(60);

/// A long poll.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Wait {
    /// As `30s`: answer when the topology is another one than `revision`, at the latest after that long.
    #[param(value_type = Option<String>, pattern = "^[0-9]{1,5}(ms|s)?$")]
    wait: Option<String>,
    /// What the client has: a revision, or a whole `ETag` without its quotes.
    revision: Option<String>,
}

/// What clients of the app are told
#[utoipa::path(get, path = "/v1/apps/{appid}/topology", tag = "lookup",
    params(("appid" = u32, Path, minimum = 10001), Wait),
    responses((status = 200, body = Topology), (status = 304, description = "the client has it")))]
pub(super) async fn look_up(
    State(api): State<Api>,
    In(appid): In<AppId>,
    Asked(wait): Asked<Wait>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let patience = wait.wait.as_deref().map(duration).transpose()?;
    let mut changed = api.registrar.changed();
    let deadline = Instant::now() + patience.unwrap_or_default();
    loop {
        changed.borrow_and_update();
        let entry = api.registrar.view().directory.app(appid).cloned();
        let is_known = entry.as_ref().is_some_and(|entry| knows(entry, wait.revision.as_deref()));
        if patience.is_none() || !is_known || !api.changes(&mut changed, deadline).await {
            let entry = entry.ok_or_else(|| Problem::missing(format_args!("published app {appid}")))?;
            return Ok(answer(&entry, &headers));
        }
    }
}

fn knows(entry: &Entry, revision: Option<&str>) -> bool {
    let etag = entry.etag();
    revision.is_some_and(|has| has == etag.trim_matches('"') || has == entry.topology.revision.to_string())
}

fn answer(entry: &Entry, headers: &HeaderMap) -> Response {
    let etag = entry.etag();
    let has = headers.get(header::IF_NONE_MATCH).and_then(|value| value.to_str().ok());
    let is_known = has.is_some_and(|has| {
        has == "*" || has.split(',').any(|one| one.trim().trim_start_matches("W/") == etag)
    });
    let mut response = if is_known {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        Json(&entry.topology).into_response()
    };
    if let Ok(value) = HeaderValue::from_str(&etag) {
        response.headers_mut().insert(header::ETAG, value);
    }
    response
}

/// A wait, as a client writes it.
pub(super) fn duration(text: &str) -> Result<Duration, Problem> {
    let (digits, unit) = match text.strip_suffix("ms") {
        Some(digits) => (digits, 1),
        None => (text.strip_suffix('s').unwrap_or(text), 1_000),
    };
    let bad = |_| {
        Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", "wait is a time as 30s, one minute at most")
    };
    let number: u32 = digits.parse().map_err(bad)?;
    Ok(Duration::from_millis(u64::from(number) * unit).min(WAIT_MAX))
}
