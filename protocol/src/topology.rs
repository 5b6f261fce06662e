//! Where an app's cache is: shards, the replicas of each, and in which order to ask them.
//!
//! The document that control answers on `GET /v1/apps/{appid}/topology`, and the names under which the same answer stands in
//! the DNS ([`names`]). Whoever reads a topology knows nothing of how it came about: who asked for it, who approved it, what was
//! there before.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub mod names;

#[cfg(test)]
mod tests;

/// An app's number, given by control: 10001 and up.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "u32", into = "u32")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(value_type = u32, minimum = 10001))]
pub struct AppId(u32);

impl AppId {
    /// The first number that control gives.
    pub const FIRST: Self = Self(10_001);

    /// The number as it is written in names.
    #[must_use]
    pub fn number(self) -> u32 {
        self.0
    }

    /// The number after this one; `None` after the last.
    #[must_use]
    pub fn next(self) -> Option<Self> {
        self.0.checked_add(1).map(Self)
    }
}

/// The shard numbers of an app: `s0`, `s1`, … They are never given twice, so that a ring of names keeps its points.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(value_type = String, pattern = "^s[0-9]{1,5}$"))]
pub struct ShardName(u16);

impl ShardName {
    /// `s0`.
    pub const FIRST: Self = Self(0);

    /// The shard with this number.
    #[must_use]
    pub fn numbered(number: u16) -> Self {
        Self(number)
    }

    /// The number in the name.
    #[must_use]
    pub fn number(self) -> u16 {
        self.0
    }
}

/// A replica's name, unique in its shard: one DNS label (RFC 1035 section 2.3.1, digits first allowed by RFC 1123), in small letters.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(try_from = "String", into = "String")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema), schema(value_type = String, min_length = 1, max_length = 63))]
pub struct Site(String);

impl Site {
    /// A label of the DNS has at most 63 bytes (RFC 1035 section 2.3.4).
    pub const BYTES_MAX: usize = 63;

    /// The name as it stands in owner names.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Why a text names no app, shard or site.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NameError {
    /// Below [`AppId::FIRST`], too large, or no number.
    #[error("an appid is a number from {} on", AppId::FIRST.0)]
    AppId,
    /// Neither `s0` nor `s1` nor …
    #[error("a shard is named s0, s1, s2 and so on, up to s{}", u16::MAX)]
    Shard,
    /// No label of the DNS.
    #[error("a site is 1 to {} letters, digits and hyphens, without a hyphen at an end", Site::BYTES_MAX)]
    Site,
}

/// The published replicas of an app.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Topology {
    /// Whose it is.
    pub appid: AppId,
    /// The app's name, for people.
    pub name: String,
    /// Rises with every publication; never falls.
    pub revision: u64,
    /// How long an answer may be used before it is asked for again.
    pub ttl_seconds: u32,
    /// How keys are mapped to shard names.
    pub hash: HashMethod,
    /// In the order of their numbers.
    pub shards: Vec<Shard>,
}

/// How keys are mapped to shards.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum HashMethod {
    /// The continuum of libmemcached's `MEMCACHED_BEHAVIOR_KETAMA`, over shard names.
    #[default]
    Ketama,
}

/// One slice of an app's keys.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Shard {
    /// Stable: a ring is built of these names.
    pub name: ShardName,
    /// At least one.
    pub replicas: Vec<Replica>,
}

/// One memcached with its proxy.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub struct Replica {
    /// Unique in its shard.
    pub site: Site,
    /// An address, or a name for somebody else's resolver.
    pub host: String,
    /// Where its proxy listens for apps.
    pub port: u16,
    /// What control believes of it.
    pub state: ReplicaState,
    /// RFC 2782: the lowest is asked first. See [`ReplicaState::priority`].
    pub priority: u16,
    /// RFC 2782: the share among equal priorities.
    pub weight: u16,
}

/// What control believes of a published replica.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum ReplicaState {
    /// It serves.
    Up,
    /// It answers, but has not got its copy yet.
    Warming,
    /// Nothing was heard of it for longer than its lease, or it says itself that its memcached is away.
    Down,
}

/// What a replica is for while it is well.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
#[cfg_attr(feature = "schema", derive(utoipa::ToSchema))]
pub enum Preference {
    /// Asked first.
    #[default]
    Preferred,
    /// Asked when no preferred one answers.
    Standby,
}

impl ReplicaState {
    /// The SRV priority: 0 preferred, 10 standby, 20 unhealthy.
    #[must_use]
    pub fn priority(self, preference: Preference) -> u16 {
        match (self, preference) {
            (Self::Up, Preference::Preferred) => 0,
            (Self::Up, Preference::Standby) => 10,
            (Self::Warming | Self::Down, _) => 20,
        }
    }
}

impl TryFrom<u32> for AppId {
    type Error = NameError;

    fn try_from(number: u32) -> Result<Self, NameError> {
        if number < Self::FIRST.0 { Err(NameError::AppId) } else { Ok(Self(number)) }
    }
}

impl From<AppId> for u32 {
    fn from(appid: AppId) -> Self {
        appid.0
    }
}

impl FromStr for AppId {
    type Err = NameError;

    /// Digits only, and none in vain: there is one way to write an appid.
    fn from_str(text: &str) -> Result<Self, NameError> {
        digits::<u32>(text).ok_or(NameError::AppId)?.try_into()
    }
}

impl fmt::Display for AppId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

impl FromStr for ShardName {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let number = text.strip_prefix(['s', 'S']).and_then(digits::<u16>);
        number.map(Self).ok_or(NameError::Shard)
    }
}

impl TryFrom<String> for ShardName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<ShardName> for String {
    fn from(name: ShardName) -> Self {
        name.to_string()
    }
}

impl fmt::Display for ShardName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "s{}", self.0)
    }
}

impl FromStr for Site {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
        let label = !text.is_empty() && text.len() <= Self::BYTES_MAX && text.bytes().all(allowed);
        if !label || text.starts_with('-') || text.ends_with('-') {
            return Err(NameError::Site);
        }
        Ok(Self(text.to_ascii_lowercase()))
    }
}

impl TryFrom<String> for Site {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}

impl From<Site> for String {
    fn from(site: Site) -> Self {
        site.0
    }
}

impl fmt::Display for Site {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

/// A number as it is printed: digits without a zero before them.
fn digits<Number: FromStr>(text: &str) -> Option<Number> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    if plain { text.parse().ok() } else { None }
}
