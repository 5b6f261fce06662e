//! What went wrong, as RFC 9457 has it: a status for programs, a sentence for people that says what to do.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::registrar::AskError;
use crate::rules::Refusal;
use crate::store::{CommitError, StoreError};

/// A problem document.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct Problem {
    /// The kind, which never changes its meaning: `about:blank` and a word of ours.
    #[serde(rename = "type")]
    pub kind: String,
    pub title: String,
    pub status: u16,
    /// What, where, and what to do.
    pub detail: String,
}

impl Problem {
    #[must_use]
    pub fn new(status: StatusCode, word: &str, detail: impl Into<String>) -> Self {
        let title = status.canonical_reason().unwrap_or("Error").to_owned();
        Self {
            kind: format!("urn:memcloud:problem:{word}"),
            title,
            status: status.as_u16(),
            detail: detail.into(),
        }
    }

    #[must_use]
    pub fn unauthorized(detail: &str) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
    }

    #[must_use]
    pub fn missing(what: impl std::fmt::Display) -> Self {
        Self::new(StatusCode::NOT_FOUND, "missing", format!("there is no {what}"))
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, axum::Json(self)).into_response();
        let json = HeaderValue::from_static("application/problem+json");
        response.headers_mut().insert(header::CONTENT_TYPE, json);
        match status {
            // RFC 9110 section 11.6.1.
            StatusCode::UNAUTHORIZED => {
                response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            StatusCode::SERVICE_UNAVAILABLE => {
                response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
            }
            _ => {}
        }
        response
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let (status, word) = match refusal {
            Refusal::Missing(_) => (StatusCode::NOT_FOUND, "missing"),
            Refusal::Forbidden { .. } => (StatusCode::FORBIDDEN, "forbidden"),
            Refusal::Invalid(_) => (StatusCode::UNPROCESSABLE_ENTITY, "invalid"),
            Refusal::Conflict(_) => (StatusCode::CONFLICT, "conflict"),
            Refusal::Changed { .. } => (StatusCode::PRECONDITION_FAILED, "changed"),
            Refusal::SecretGone(_) => (StatusCode::CONFLICT, "secret-gone"),
            Refusal::PoolTooSmall(_) => (StatusCode::CONFLICT, "pool-too-small"),
            Refusal::OverQuota(_) => (StatusCode::CONFLICT, "over-quota"),
        };
        Self::new(status, word, refusal.to_string())
    }
}

impl From<AskError> for Problem {
    fn from(error: AskError) -> Self {
        let unavailable = |word, detail: String| Self::new(StatusCode::SERVICE_UNAVAILABLE, word, detail);
        match error {
            AskError::Refused(refusal) => refusal.into(),
            AskError::Store(CommitError::Store(error)) => error.into(),
            AskError::Store(error @ CommitError::Unknown(_)) => {
                unavailable("unknown-outcome", error.to_string())
            }
            AskError::Store(CommitError::Conflict) | AskError::Busy | AskError::Stopping => {
                unavailable("busy", error.to_string())
            }
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, &format!("store-{}", error.word()), error.to_string())
    }
}
