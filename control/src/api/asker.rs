//! Who asks: the bearer token, looked up by its digest. The token itself is nowhere but in the request.

use axum::extract::FromRequestParts;
use axum::http::header;
use axum::http::request::Parts;
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::Api;
use super::problem::Problem;
use crate::registry::policy::Actor;

/// Every token begins so: secret scanners find it, and people see what it is.
const PREFIX: &str = "memcloud_";

/// Somebody with a valid token.
#[derive(Clone, Debug)]
pub(super) struct Asker(pub(super) Actor);

impl FromRequestParts<Api> for Asker {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Self, Problem> {
        let header = parts.headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let secret = header
            .and_then(bearer)
            .ok_or_else(|| Problem::unauthorized("send `Authorization: Bearer TOKEN`"))?;
        let view = api.registrar.view();
        if let Some(trouble) = &view.restored {
            return Err(trouble.clone().into());
        }
        let unknown = || Problem::unauthorized("this token is unknown, expired or revoked: ask for another");
        let token = view.registry.token_of_digest(&digest(secret)).ok_or_else(unknown)?;
        if !token.is_valid(Timestamp::now()) {
            return Err(unknown());
        }
        match view.registry.user(&token.user) {
            Some(user) if !user.disabled => {
                Ok(Self(Actor { user: user.name.clone(), role: user.role, scope: token.scope }))
            }
            _ => Err(unknown()),
        }
    }
}

/// RFC 6750 section 2.1; the scheme's case does not matter.
fn bearer(header: &str) -> Option<&str> {
    let (scheme, token) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// What is kept of a token. Its 256 bits are chance, so one round of a fast hash is enough.
#[must_use]
pub fn digest(secret: &str) -> String {
    hex(&Sha256::digest(secret.as_bytes()))
}

/// A new secret.
///
/// # Errors
/// The system has no randomness.
pub fn secret() -> Result<String, getrandom::Error> {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes)?;
    Ok(format!("{PREFIX}{}", hex(&bytes)))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
