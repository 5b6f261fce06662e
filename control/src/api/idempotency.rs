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
    /// For a request that is done each time.
    pub(super) fn none() -> Self {
        Self(None)
    }

    /// Has the rule decide once for each key. `request` is what must be the same when the key is.
    pub(super) fn once<Answer: Serialize + DeserializeOwned>(
        &self,
        wish: Wish<'_>,
        request: &impl Serialize,
        rule: impl FnOnce() -> Result<(Change, Answer), Refusal>,
    ) -> Result<(Change, Answer), Refusal> {
        match self.first_answer(wish, request)? {
            Some(answer) => Ok((Change::default(), answer)),
            None => self.noted(wish, request, rule()?),
        }
    }

    /// The same for an answer that goes out with a secret: that is kept nowhere, so whoever repeats the request learns what came of
    /// it, and has no second one.
    pub(super) fn once_with_secret<Answer: Serialize + DeserializeOwned>(
        &self,
        wish: Wish<'_>,
        request: &impl Serialize,
        rule: impl FnOnce() -> Result<(Change, Answer), Refusal>,
        repeated: impl FnOnce(Answer) -> Refusal,
    ) -> Result<(Change, Answer), Refusal> {
        match self.first_answer(wish, request)? {
            Some(answer) => Err(repeated(answer)),
            None => self.noted(wish, request, rule()?),
        }
    }

    fn first_answer<Answer: DeserializeOwned>(
        &self,
        wish: Wish<'_>,
        request: &impl Serialize,
    ) -> Result<Option<Answer>, Refusal> {
        let known = self.name(wish).and_then(|key| wish.registry.receipt(&key));
        let Some(receipt) = known.filter(|receipt| receipts::is_valid(receipt, wish.now)) else {
            return Ok(None);
        };
        if receipt.request_digest != digest(request) {
            return Err(Refusal::Invalid(
                "this Idempotency-Key was used for another request: choose another".into(),
            ));
        }
        let unreadable = |_| {
            Refusal::Conflict("this request was answered by another version: look at what is there".into())
        };
        serde_json::from_value(receipt.body.clone()).map(Some).map_err(unreadable)
    }

    fn noted<Answer: Serialize>(
        &self,
        wish: Wish<'_>,
        request: &impl Serialize,
        (mut change, answer): (Change, Answer),
    ) -> Result<(Change, Answer), Refusal> {
        if let Some(key) = self.name(wish) {
            let body = serde_json::to_value(&answer).unwrap_or_default();
            let receipt = Receipt { key, request_digest: digest(request), status: 201, body, at: wish.now };
            change.writes.extend(receipts::make_room(wish.registry));
            change.writes.push(Write::Put(Record::Receipt(receipt)));
        }
        Ok((change, answer))
    }

    /// Keys of one user are nothing to another.
    fn name(&self, wish: Wish<'_>) -> Option<String> {
        let Actor { user, .. } = wish.actor;
        self.0.as_ref().map(|key| format!("{user} {key}"))
    }
}

fn digest(request: &impl Serialize) -> String {
    hex(&Sha256::digest(serde_json::to_vec(request).unwrap_or_default()))
}
