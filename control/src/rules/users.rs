//! Users and tokens. Secrets are made and digested outside: here they are digests already.

use jiff::Timestamp;
use serde::Deserialize;

use super::{Refusal, Wish, unchanged};
use crate::registry::change::{Change, Kind, Numbers, Record, RecordKey};
use crate::registry::number::{Sequence, TokenId};
use crate::registry::policy::Action;
use crate::registry::user::{Role, Scope, Token, User, UserName};

/// A user as asked for.
#[derive(Clone, Debug)]
pub struct NewUser {
    pub name: UserName,
    pub role: Role,
    /// A PHC string.
    pub password: Option<String>,
    pub email: Option<String>,
}

/// What is to change of a user; `None` leaves it.
#[derive(Clone, Debug, Default)]
pub struct UserPatch {
    pub role: Option<Role>,
    pub password: Option<String>,
    pub email: Option<String>,
    pub disabled: Option<bool>,
}

/// A token as asked for.
#[derive(Clone, Debug)]
pub struct NewToken {
    pub user: UserName,
    pub digest: String,
    pub scope: Scope,
    pub purpose: String,
    pub expires_at: Option<Timestamp>,
}

/// Which tokens go.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq)]
pub struct Revoke(pub TokenId);

/// # Errors
/// The name is taken, or the actor may not.
pub fn create(wish: Wish<'_>, new: NewUser) -> Result<(Change, User), Refusal> {
    wish.allow(Action::ChangeUser, None)?;
    if wish.registry.user(&new.name).is_some() {
        return Err(Refusal::Conflict(format!("there is a user {} already", new.name)));
    }
    let user = User {
        name: new.name,
        role: new.role,
        password: new.password,
        email: new.email,
        disabled: false,
        created_at: wish.now,
    };
    let mut draft = wish.draft();
    draft.put("user.create", Record::User(user.clone()), None);
    Ok((draft.finish(), user))
}

/// # Errors
/// There is no such user, the actor may not, or no admin would be left.
pub fn change(
    wish: Wish<'_>,
    name: &UserName,
    patch: UserPatch,
    read: Option<Sequence>,
) -> Result<(Change, User), Refusal> {
    let user = find(wish, name)?;
    unchanged(wish.registry, &RecordKey::new(Kind::User, name), read)?;
    let of_self = patch.role.is_none() && patch.disabled.is_none();
    let action = if of_self && *name == wish.actor.user { Action::ChangeSelf } else { Action::ChangeUser };
    wish.allow(action, Some(name))?;
    let mut user = user.clone();
    user.role = patch.role.unwrap_or(user.role);
    user.disabled = patch.disabled.unwrap_or(user.disabled);
    user.password = patch.password.or(user.password);
    user.email = patch.email.or(user.email);
    if user.role != Role::Admin || user.disabled {
        another_admin(wish, name)?;
    }
    let mut draft = wish.draft();
    draft.put("user.change", Record::User(user.clone()), None);
    Ok((draft.finish(), user))
}

/// The user's tokens go too.
///
/// # Errors
/// There is no such user, the actor may not, apps belong to them, or no admin would be left.
pub fn delete(wish: Wish<'_>, name: &UserName, read: Option<Sequence>) -> Result<(Change, ()), Refusal> {
    wish.allow(Action::ChangeUser, None)?;
    find(wish, name)?;
    let key = RecordKey::new(Kind::User, name);
    unchanged(wish.registry, &key, read)?;
    another_admin(wish, name)?;
    if let Some(app) = wish.registry.apps(None).find(|app| app.owner == *name) {
        return Err(Refusal::Conflict(format!(
            "{name} owns app {}: give it to somebody else first",
            app.appid
        )));
    }
    let mut draft = wish.draft();
    for token in wish.registry.tokens().filter(|token| token.user == *name) {
        draft.delete("token.delete", RecordKey::new(Kind::Token, token.id), None);
    }
    draft.delete("user.delete", key, None);
    Ok((draft.finish(), ()))
}

/// # Errors
/// The actor may not, or there is no such user.
pub fn create_token(wish: Wish<'_>, new: NewToken) -> Result<(Change, Token), Refusal> {
    wish.allow(Action::CreateToken, Some(&new.user))?;
    find(wish, &new.user)?;
    if new.expires_at.is_some_and(|end| end <= wish.now) {
        return Err(Refusal::Invalid("the token would be expired at once: give a later time".into()));
    }
    let numbers = wish.registry.numbers();
    let token = Token {
        id: numbers.token,
        user: new.user,
        digest: new.digest,
        scope: new.scope,
        purpose: new.purpose,
        created_at: wish.now,
        expires_at: new.expires_at,
        revoked_at: None,
    };
    let mut draft = wish.draft();
    draft.put_quietly(Record::Numbers(Numbers { token: TokenId(numbers.token.0 + 1), ..numbers }));
    draft.put("token.create", Record::Token(token.clone()), None);
    Ok((draft.finish(), token))
}

/// # Errors
/// There is no such token, or the actor may not.
pub fn revoke_token(wish: Wish<'_>, id: TokenId) -> Result<(Change, Token), Refusal> {
    let missing = || Refusal::Missing(format!("token {id}"));
    let token = wish.registry.token(id).ok_or_else(missing)?;
    if !wish.actor.may(Action::ReadToken, Some(&token.user)) {
        return Err(missing());
    }
    wish.allow(Action::RevokeToken, Some(&token.user))?;
    let mut token = (**token).clone();
    if token.revoked_at.is_some() {
        return Ok((Change::default(), token));
    }
    token.revoked_at = Some(wish.now);
    let mut draft = wish.draft();
    draft.put("token.revoke", Record::Token(token.clone()), None);
    Ok((draft.finish(), token))
}

/// The very first user, when there is none: nobody can be asked whether that is allowed.
///
/// # Errors
/// There are users.
pub fn found(wish: Wish<'_>, name: UserName, digest: String) -> Result<(Change, Token), Refusal> {
    if wish.registry.users().next().is_some() {
        return Err(Refusal::Conflict("this store has users already: log in as one of them".into()));
    }
    let admin = User {
        name: name.clone(),
        role: Role::Admin,
        password: None,
        email: None,
        disabled: false,
        created_at: wish.now,
    };
    let numbers = wish.registry.numbers();
    let token = Token {
        id: numbers.token,
        user: name,
        digest,
        scope: Scope::Full,
        purpose: "the first token".into(),
        created_at: wish.now,
        expires_at: None,
        revoked_at: None,
    };
    let mut draft = wish.draft();
    draft.put_quietly(Record::Numbers(Numbers { token: TokenId(numbers.token.0 + 1), ..numbers }));
    draft.put("user.create", Record::User(admin), None);
    draft.put("token.create", Record::Token(token.clone()), None);
    Ok((draft.finish(), token))
}

fn find<'a>(wish: Wish<'a>, name: &UserName) -> Result<&'a User, Refusal> {
    let missing = || Refusal::Missing(format!("user {name}"));
    let user = wish.registry.user(name).ok_or_else(missing)?;
    if wish.actor.may(Action::ReadUser, Some(name)) { Ok(user) } else { Err(missing()) }
}

/// Somebody has to be left who can let others in.
fn another_admin(wish: Wish<'_>, but: &UserName) -> Result<(), Refusal> {
    let is_last = |user: &User| user.role == Role::Admin && !user.disabled && user.name == *but;
    let mut users = wish.registry.users();
    if !users.any(|user| is_last(user)) {
        return Ok(());
    }
    let mut users = wish.registry.users();
    if users.any(|user| user.role == Role::Admin && !user.disabled && user.name != *but) {
        return Ok(());
    }
    Err(Refusal::Conflict(format!("{but} is the last admin: make somebody else an admin first")))
}
