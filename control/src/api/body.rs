//! What comes in with a request: bodies, queries and headers, each refused with a problem document.

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::extract::{FromRequest, FromRequestParts, Path, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::Api;
use super::problem::Problem;
use crate::registry::number::Sequence;

/// Items of a page, unless another number is asked for.
const PAGE: u32 = 100;
const PAGE_MAX: u32 = 1_000;

/// A body that has to be JSON of this form.
pub(super) struct Body<Document>(pub(super) Document);

impl<Document: DeserializeOwned> FromRequest<Api> for Body<Document> {
    type Rejection = Problem;

    async fn from_request(request: Request, api: &Api) -> Result<Self, Problem> {
        let Json(document) = Json::from_request(request, api)
            .await
            .map_err(|error: JsonRejection| refused(error.status(), error.body_text()))?;
        Ok(Self(document))
    }
}

/// What stands in the path.
pub(super) struct In<Parameters>(pub(super) Parameters);

impl<Parameters: DeserializeOwned + Send> FromRequestParts<Api> for In<Parameters> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        // What is no number or name of its kind names nothing.
        let found = Path::from_request_parts(parts, api).await;
        let Path(parameters) = found.map_err(|error: PathRejection| {
            Problem::new(StatusCode::NOT_FOUND, "missing", error.body_text())
        })?;
        Ok(Self(parameters))
    }
}

/// What stands behind the question mark.
pub(super) struct Asked<Parameters>(pub(super) Parameters);

impl<Parameters: DeserializeOwned> FromRequestParts<Api> for Asked<Parameters> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let found = Query::from_request_parts(parts, api).await;
        let Query(parameters) =
            found.map_err(|error: QueryRejection| refused(error.status(), error.body_text()))?;
        Ok(Self(parameters))
    }
}

fn refused(status: StatusCode, says: String) -> Problem {
    let word = match status {
        StatusCode::PAYLOAD_TOO_LARGE => "too-large",
        StatusCode::UNSUPPORTED_MEDIA_TYPE => "not-json",
        _ => "invalid",
    };
    Problem::new(status, word, says)
}

/// `If-Match`: the record must still be at the version that was read.
pub(super) struct IfMatch(pub(super) Option<Sequence>);

impl FromRequestParts<Api> for IfMatch {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Api) -> Result<Self, Problem> {
        let Some(value) = parts.headers.get(header::IF_MATCH) else { return Ok(Self(None)) };
        let version =
            value.to_str().ok().map(|text| text.trim().trim_matches('"')).and_then(|text| text.parse().ok());
        let bad = || {
            refused(
                StatusCode::BAD_REQUEST,
                "If-Match has to be the ETag of the record, as it was read".into(),
            )
        };
        version.map(|version| Self(Some(version))).ok_or_else(bad)
    }
}

/// The version of a record, as an `ETag`.
pub(super) fn etag(version: Sequence) -> HeaderMap {
    let mut headers = HeaderMap::new();
    if let Ok(value) = format!("\"{version}\"").parse() {
        headers.insert(header::ETAG, value);
    }
    headers
}

/// Which part of a list.
#[derive(Clone, Copy, Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Paging {
    /// Only what comes after this number: `next` of the page before.
    pub(super) after: Option<u64>,
    /// At most so many, 1000 at most.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

/// A part of a list.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct Page<Item> {
    pub items: Vec<Item>,
    /// What to give as `after` for the next part; without it this was the last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next: Option<u64>,
}

impl Paging {
    pub(super) fn of(after: Option<u64>, limit: Option<u32>) -> Self {
        Self { after, limit }
    }

    pub(super) fn limit(&self) -> usize {
        self.limit.unwrap_or(PAGE).clamp(1, PAGE_MAX) as usize
    }

    /// The first so many, and where the next page begins.
    pub(super) fn page<Item>(
        &self,
        items: impl Iterator<Item = Item>,
        number: impl Fn(&Item) -> u64,
    ) -> Page<Item> {
        let mut items: Vec<Item> = items.take(self.limit() + 1).collect();
        let more = items.len() > self.limit();
        items.truncate(self.limit());
        let next = items.last().filter(|_| more).map(number);
        Page { items, next }
    }
}
