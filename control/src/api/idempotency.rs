//! `Idempotency-Key`: a create that is repeated with the same key is answered as the first time, and changes nothing. The receipt is
//! written in the transaction of the change, so a process that dies in between has done both or neither.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::Api;
use super::asker::hex;
use super::problem::Problem;
use crate::registry::change::{Change, Receipt, Record, Write};
use crate::registry::policy::Actor;
use crate::rules::{Refusal, Wish, receipts};

const KEY_BYTES_MAX: usize = 128;

/// The key of a request, if it has one.
#[derive(Clone)]
pub(super) struct IdempotencyKey(Option<String>);

impl FromRequestParts<Api> for IdempotencyKey {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &Api) -> Result<Self, Problem> {
        let Some(value) = parts.headers.get("idempotency-key") else { return Ok(Self(None)) };
        let text = value.to_str().ok().filter(|text| !text.is_empty() && text.len() <= KEY_BYTES_MAX);
        let says = format!("Idempotency-Key has to have 1 to {KEY_BYTES_MAX} printable bytes");
        let bad = || Problem::new(axum::http::StatusCode::BAD_REQUEST, "invalid", says);
        Ok(Self(Some(text.ok_or_else(bad)?.to_owned())))
    }
}

impl IdempotencyKey {
    /// Has the rule decide once for each key. `request` is what must be the same when the key is.
    pub(super) fn once<Answer: Serialize + DeserializeOwned>(
        &self,
        wish: Wish<'_>,
        request: &impl Serialize,
        rule: impl FnOnce() -> Result<(Change, Answer), Refusal>,
    ) -> Result<(Change, Answer), Refusal> {
        let Some(key) = &self.0 else { return rule() };
        let Actor { user, .. } = wish.actor;
        let key = format!("{user} {key}");
        let request_digest = digest(request);
        let known = wish.registry.receipt(&key).filter(|receipt| receipts::is_valid(receipt, wish.now));
        if let Some(receipt) = known {
            if receipt.request_digest != request_digest {
                return Err(Refusal::Invalid(
                    "this Idempotency-Key was used for another request: choose another".into(),
                ));
            }
            let unreadable = |_| {
                Refusal::Conflict(
                    "this request was answered by another version: look at what is there".into(),
                )
            };
            return Ok((
                Change::default(),
                serde_json::from_value(receipt.body.clone()).map_err(unreadable)?,
            ));
        }
        let (mut change, answer) = rule()?;
        let body = serde_json::to_value(&answer).unwrap_or_default();
        change.writes.extend(receipts::make_room(wish.registry));
        change.writes.push(Write::Put(Record::Receipt(Receipt {
            key,
            request_digest,
            status: 201,
            body,
            at: wish.now,
        })));
        Ok((change, answer))
    }
}

fn digest(request: &impl Serialize) -> String {
    hex(&Sha256::digest(serde_json::to_vec(request).unwrap_or_default()))
}
