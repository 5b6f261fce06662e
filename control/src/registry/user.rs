//! Users, their roles and their tokens. No secret stands here: passwords are argon2 strings, tokens are digests.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::number::TokenId;

/// A user's name: what people log in with, and what the audit log says.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, ToSchema)]
#[serde(try_from = "String", into = "String")]
#[schema(value_type = String, pattern = "^[A-Za-z0-9][A-Za-z0-9._@-]{0,63}$")]
pub struct UserName(String);

/// Somebody who may ask.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct User {
    pub name: UserName,
    pub role: Role,
    /// In PHC form; `None`: tokens only.
    pub password: Option<String>,
    pub email: Option<String>,
    /// What a disabled user asks is refused; what they own stays.
    pub disabled: bool,
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
}

/// What a user may do; [`super::policy`] has the table.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything.
    Admin,
    /// Everything but users, other people's tokens, and the whole store.
    Operator,
    /// Their own apps.
    Owner,
    /// Reads, and changes nothing.
    Viewer,
}

impl Role {
    pub const ALL: [Self; 4] = [Self::Admin, Self::Operator, Self::Owner, Self::Viewer];
}

/// What opens the API. The secret was shown once; its SHA-256 is kept.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct Token {
    pub id: TokenId,
    pub user: UserName,
    /// In hexadecimal.
    pub digest: String,
    pub scope: Scope,
    pub purpose: String,
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub expires_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    pub revoked_at: Option<Timestamp>,
}

/// How much of its user's rights a token carries.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// All of them.
    Full,
    /// What only reads.
    Read,
    /// Registering replicas and sending their heartbeats, and nothing else.
    Agent,
}

impl Scope {
    pub const ALL: [Self; 3] = [Self::Full, Self::Read, Self::Agent];
}

impl Token {
    /// Whether it still opens anything.
    #[must_use]
    pub fn is_valid(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|end| now < end)
    }
}

impl UserName {
    pub const BYTES_MAX: usize = 64;

    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Letters, digits, and `. _ - @`, beginning with a letter or a digit.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error(
    "a user's name is 1 to {} letters, digits or . _ - @, beginning with a letter or a digit",
    UserName::BYTES_MAX
)]
pub struct BadUserName;

impl std::str::FromStr for UserName {
    type Err = BadUserName;

    fn from_str(text: &str) -> Result<Self, BadUserName> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-@".contains(&byte);
        let begins = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric());
        let good = begins && text.len() <= Self::BYTES_MAX && text.bytes().all(allowed);
        if good { Ok(Self(text.to_ascii_lowercase())) } else { Err(BadUserName) }
    }
}

impl TryFrom<String> for UserName {
    type Error = BadUserName;

    fn try_from(text: String) -> Result<Self, BadUserName> {
        text.parse()
    }
}

impl From<UserName> for String {
    fn from(name: UserName) -> Self {
        name.0
    }
}

impl std::fmt::Display for UserName {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(out)
    }
}
