//! `/v1/users`, `/v1/tokens`, `/v1/session`.

use argon2::Argon2;
use argon2::password_hash::rand_core::OsRng;
use argon2::password_hash::{PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Api;
use super::asker::{Asker, digest, secret};
use super::body::{Asked, Body, IfMatch, In, Page, Paging, etag};
use super::idempotency::IdempotencyKey;
use super::problem::Problem;
use crate::registry::change::{Kind, RecordKey};
use crate::registry::number::TokenId;
use crate::registry::policy::{Action, Actor};
use crate::registry::user::{Role, Scope, Token, User, UserName};
use crate::rules::{Refusal, Wish, users as rules};

const PASSWORD_BYTES_MIN: usize = 12;
const PASSWORD_BYTES_MAX: usize = 1_024;
/// How long somebody who logged in stays so.
const SESSION: SignedDuration = SignedDuration::from_hours(12);

/// A user, without anything that opens something.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct UserDocument {
    pub name: UserName,
    pub role: Role,
    pub email: Option<String>,
    pub has_password: bool,
    pub disabled: bool,
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

/// A new user.
#[derive(Clone, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewUserDocument {
    pub name: UserName,
    pub role: Role,
    #[schema(min_length = 12, max_length = 1024)]
    pub password: Option<String>,
    pub email: Option<String>,
}

/// What changes of a user; what is left out stays.
#[derive(Clone, Default, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct UserPatchDocument {
    pub role: Option<Role>,
    #[schema(min_length = 12, max_length = 1024)]
    pub password: Option<String>,
    pub email: Option<String>,
    pub disabled: Option<bool>,
}

/// A token, without its secret.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
pub struct TokenDocument {
    pub id: TokenId,
    pub user: UserName,
    pub scope: Scope,
    pub purpose: String,
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub revoked_at: Option<Timestamp>,
}

/// A new token.
#[derive(Clone, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewTokenDocument {
    /// Without it: the asker.
    pub user: Option<UserName>,
    pub scope: Scope,
    #[serde(default)]
    #[schema(max_length = 128)]
    pub purpose: String,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
}

/// A token with its secret, which is shown this once.
#[derive(Clone, Deserialize, Serialize, ToSchema)]
pub struct SecretDocument {
    pub token: TokenDocument,
    pub secret: String,
}

/// Who logs in.
#[derive(Clone, Deserialize, Serialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LogInDocument {
    pub name: UserName,
    pub password: String,
}

impl From<&User> for UserDocument {
    fn from(user: &User) -> Self {
        Self {
            name: user.name.clone(),
            role: user.role,
            email: user.email.clone(),
            has_password: user.password.is_some(),
            disabled: user.disabled,
            created_at: user.created_at,
        }
    }
}

impl From<&Token> for TokenDocument {
    fn from(token: &Token) -> Self {
        Self {
            id: token.id,
            user: token.user.clone(),
            scope: token.scope,
            purpose: token.purpose.clone(),
            created_at: token.created_at,
            expires_at: token.expires_at,
            revoked_at: token.revoked_at,
        }
    }
}

/// Users that the asker may see
#[utoipa::path(get, path = "/v1/users", tag = "users", security(("token" = [])), responses((status = 200, body = Vec<UserDocument>)))]
pub(super) async fn list(State(api): State<Api>, Asker(actor): Asker) -> Json<Vec<UserDocument>> {
    let view = api.registrar.view();
    let seen = view.registry.users().filter(|user| actor.may(Action::ReadUser, Some(&user.name)));
    Json(seen.map(|user| UserDocument::from(&**user)).collect())
}

/// A new user
#[utoipa::path(post, path = "/v1/users", tag = "users", request_body = NewUserDocument, security(("token" = [])),
    params(("Idempotency-Key" = Option<String>, Header)), responses((status = 201, body = UserDocument)))]
pub(super) async fn create(
    State(api): State<Api>,
    Asker(actor): Asker,
    key: IdempotencyKey,
    Body(document): Body<NewUserDocument>,
) -> Result<(StatusCode, Json<UserDocument>), Problem> {
    let password = hashed(document.password).await?;
    let new = rules::NewUser { name: document.name, role: document.role, password, email: document.email };
    let rule = move |wish: Wish<'_>, _: &_| {
        // A fast digest of the password would open what argon2 closes: only whether there is one has to be the same.
        let request = ("user", &new.name, new.role, &new.email, new.password.is_some());
        key.once(wish, &request, || {
            let (change, user) = rules::create(wish, new.clone())?;
            Ok((change, UserDocument::from(&user)))
        })
    };
    Ok((StatusCode::CREATED, Json(api.registrar.ask(actor, rule).await?)))
}

/// One user
#[utoipa::path(get, path = "/v1/users/{name}", tag = "users", params(("name" = String, Path)), security(("token" = [])),
    responses((status = 200, body = UserDocument)))]
pub(super) async fn show(
    State(api): State<Api>,
    Asker(actor): Asker,
    In(name): In<UserName>,
) -> Result<(HeaderMap, Json<UserDocument>), Problem> {
    let view = api.registrar.view();
    let user = view.registry.user(&name).filter(|user| actor.may(Action::ReadUser, Some(&user.name)));
    let user = user.ok_or_else(|| Problem::missing(format_args!("user {name}")))?;
    Ok((etag(view.registry.version(&RecordKey::new(Kind::User, &name))), Json((&**user).into())))
}

/// Role, password, address, or whether somebody may still ask
#[utoipa::path(patch, path = "/v1/users/{name}", tag = "users", request_body = UserPatchDocument, security(("token" = [])),
    params(("name" = String, Path), ("If-Match" = Option<String>, Header)), responses((status = 200, body = UserDocument)))]
pub(super) async fn change(
    State(api): State<Api>,
    Asker(actor): Asker,
    In(name): In<UserName>,
    IfMatch(read): IfMatch,
    Body(document): Body<UserPatchDocument>,
) -> Result<Json<UserDocument>, Problem> {
    let password = hashed(document.password).await?;
    let patch = rules::UserPatch {
        role: document.role,
        password,
        email: document.email,
        disabled: document.disabled,
    };
    let user =
        api.registrar.ask(actor, move |wish, _| rules::change(wish, &name, patch.clone(), read)).await?;
    Ok(Json((&user).into()))
}

/// A user who owns nothing goes, with all tokens
#[utoipa::path(delete, path = "/v1/users/{name}", tag = "users", security(("token" = [])),
    params(("name" = String, Path), ("If-Match" = Option<String>, Header)), responses((status = 204)))]
pub(super) async fn delete(
    State(api): State<Api>,
    Asker(actor): Asker,
    In(name): In<UserName>,
    IfMatch(read): IfMatch,
) -> Result<StatusCode, Problem> {
    api.registrar.ask(actor, move |wish, _| rules::delete(wish, &name, read)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Tokens that the asker may see, without their secrets
#[utoipa::path(get, path = "/v1/tokens", tag = "tokens", params(Paging), security(("token" = [])),
    responses((status = 200, body = Page<TokenDocument>)))]
pub(super) async fn list_tokens(
    State(api): State<Api>,
    Asker(actor): Asker,
    Asked(paging): Asked<Paging>,
) -> Result<Json<Page<TokenDocument>>, Problem> {
    let view = api.registrar.view();
    let after = paging.after.unwrap_or(0);
    let seen = view
        .registry
        .tokens()
        .filter(|one| one.id.0 > after && actor.may(Action::ReadToken, Some(&one.user)));
    Ok(Json(paging.page(seen.map(|token| TokenDocument::from(&**token)), |token| token.id.0)))
}

/// A new token; its secret is in this answer and nowhere else
///
/// Whoever repeats it with the same `Idempotency-Key` makes no second one, and is told by `409` which one there is.
#[utoipa::path(post, path = "/v1/tokens", tag = "tokens", request_body = NewTokenDocument, security(("token" = [])),
    params(("Idempotency-Key" = Option<String>, Header)), responses((status = 201, body = SecretDocument)))]
pub(super) async fn create_token(
    State(api): State<Api>,
    Asker(actor): Asker,
    key: IdempotencyKey,
    Body(document): Body<NewTokenDocument>,
) -> Result<(StatusCode, Json<SecretDocument>), Problem> {
    Ok((StatusCode::CREATED, Json(make_token(&api, actor, &key, document).await?)))
}

/// From now on it opens nothing
#[utoipa::path(delete, path = "/v1/tokens/{id}", tag = "tokens", params(("id" = u64, Path)), security(("token" = [])),
    responses((status = 200, body = TokenDocument)))]
pub(super) async fn revoke_token(
    State(api): State<Api>,
    Asker(actor): Asker,
    In(id): In<TokenId>,
) -> Result<Json<TokenDocument>, Problem> {
    let token = api.registrar.ask(actor, move |wish, _| rules::revoke_token(wish, id)).await?;
    Ok(Json((&token).into()))
}

/// A name and a password against a token for half a day
#[utoipa::path(post, path = "/v1/session", tag = "tokens", request_body = LogInDocument, responses((status = 201, body = SecretDocument)))]
pub(super) async fn log_in(
    State(api): State<Api>,
    Body(document): Body<LogInDocument>,
) -> Result<(StatusCode, Json<SecretDocument>), Problem> {
    let user = api.registrar.view().registry.user(&document.name).cloned();
    let kept = user.as_ref().filter(|user| !user.disabled).and_then(|user| user.password.clone());
    let is_right = in_the_background(move || verify(&document.password, kept.as_deref())).await?;
    let (Some(user), true) = (user, is_right) else {
        return Err(Problem::unauthorized("name or password is wrong"));
    };
    let actor = Actor { user: user.name.clone(), role: user.role, scope: Scope::Full };
    let end = Timestamp::now().checked_add(SESSION).ok();
    let purpose = "session".to_owned();
    let document = NewTokenDocument { user: None, scope: Scope::Full, purpose, expires_at: end };
    let made = make_token(&api, actor, &IdempotencyKey::none(), document).await?;
    Ok((StatusCode::CREATED, Json(made)))
}

/// The token of this very request opens nothing from now on
#[utoipa::path(delete, path = "/v1/session", tag = "tokens", security(("token" = [])), responses((status = 204)))]
pub(super) async fn log_out(
    State(api): State<Api>,
    headers: HeaderMap,
    Asker(actor): Asker,
) -> Result<StatusCode, Problem> {
    let header = headers
        .get(axum::http::header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    let digest = digest(header.split_once(' ').map_or("", |(_, secret)| secret.trim()));
    let id = api.registrar.view().registry.token_of_digest(&digest).map(|token| token.id).unwrap_or_default();
    // To give a token back is everybody's right, whatever its scope.
    let actor = Actor { scope: Scope::Full, ..actor };
    api.registrar.ask(actor, move |wish, _| rules::revoke_token(wish, id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn make_token(
    api: &Api,
    actor: Actor,
    key: &IdempotencyKey,
    document: NewTokenDocument,
) -> Result<SecretDocument, Problem> {
    let no_chance = |error: getrandom::Error| {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "no-randomness", error.to_string())
    };
    let secret = secret().map_err(no_chance)?;
    let (key, digest) = (key.clone(), digest(&secret));
    let rule = move |wish: Wish<'_>, _: &_| {
        let NewTokenDocument { user, scope, purpose, expires_at } = document.clone();
        let user = user.unwrap_or_else(|| wish.actor.user.clone());
        let new = rules::NewToken { user, digest: digest.clone(), scope, purpose, expires_at };
        let make = || {
            let (change, token) = rules::create_token(wish, new)?;
            Ok((change, TokenDocument::from(&token)))
        };
        key.once_with_secret(wish, &("token", &document), make, |token| Refusal::SecretGone(token.id))
    };
    Ok(SecretDocument { token: api.registrar.ask(actor, rule).await?, secret })
}

async fn hashed(password: Option<String>) -> Result<Option<String>, Problem> {
    let Some(password) = password else { return Ok(None) };
    if !(PASSWORD_BYTES_MIN..=PASSWORD_BYTES_MAX).contains(&password.len()) {
        let says = format!("a password has {PASSWORD_BYTES_MIN} to {PASSWORD_BYTES_MAX} bytes");
        return Err(Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "invalid", says));
    }
    let failed = |says: String| Problem::new(StatusCode::SERVICE_UNAVAILABLE, "no-randomness", says);
    in_the_background(move || password_hash(&password)).await?.map(Some).map_err(failed)
}

/// Takes tens of milliseconds, on purpose.
///
/// # Errors
/// argon2 refuses it.
pub fn password_hash(password: &str) -> Result<String, String> {
    let salt = SaltString::generate(&mut OsRng);
    Argon2::default()
        .hash_password(password.as_bytes(), &salt)
        .map(|hash| hash.to_string())
        .map_err(|error| error.to_string())
}

/// Whoever is unknown costs as much as who is known.
fn verify(password: &str, kept: Option<&str>) -> bool {
    const NOBODY: &str =
        "$argon2id$v=19$m=19456,t=2,p=1$c29tZXNhbHRzb21lc2FsdA$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    let parsed = PasswordHash::new(kept.unwrap_or(NOBODY));
    parsed.is_ok_and(|hash| Argon2::default().verify_password(password.as_bytes(), &hash).is_ok())
        && kept.is_some()
}

async fn in_the_background<Answer: Send + 'static>(
    work: impl FnOnce() -> Answer + Send + 'static,
) -> Result<Answer, Problem> {
    let stopping = |_| {
        Problem::new(StatusCode::SERVICE_UNAVAILABLE, "busy", "control is stopping: try again in a moment")
    };
    tokio::task::spawn_blocking(work).await.map_err(stopping)
}
