//! `token`

use clap::Subcommand;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use jiff::{SignedDuration, Timestamp};

use super::{Asking, CommandError};
use crate::api::documents::{NewTokenDocument, SecretDocument, TokenDocument};
use crate::registry::number::TokenId;
use crate::registry::user::{Scope, UserName};

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// All that you may see, without their secrets
    List {
        #[command(flatten)]
        asking: Asking,
    },
    /// Make one; its secret is printed, this once
    Create {
        /// Whose; without it your own
        #[arg(long)]
        user: Option<UserName>,
        /// How much of the user's rights it carries
        #[arg(long, default_value = "full", value_parser = scope())]
        scope: Scope,
        /// For whoever finds it in the list
        #[arg(long, default_value = "")]
        purpose: String,
        /// How long it opens anything, as `30d` or `12h`; without it until it is revoked
        #[arg(long, value_name = "TIME", value_parser = time)]
        expires: Option<SignedDuration>,
        #[command(flatten)]
        asking: Asking,
    },
    /// From now on it opens nothing
    Revoke {
        id: TokenId,
        #[command(flatten)]
        asking: Asking,
    },
}

impl Verb {
    pub(super) async fn run(self) -> Result<(), CommandError> {
        match self {
            Self::List { asking } => {
                asking.tell_all::<TokenDocument>(&asking.client()?.list("/v1/tokens").await?)
            }
            Self::Create { user, scope, purpose, expires, asking } => {
                let expires_at = expires.and_then(|time| Timestamp::now().checked_add(time).ok());
                let document = NewTokenDocument { user, scope, purpose, expires_at };
                // Tried again after it was made, it is refused by a sentence with the number of a token that nobody has.
                asking.tell::<SecretDocument>(&asking.client()?.create("/v1/tokens", None, &document).await?)
            }
            Self::Revoke { id, asking } => {
                asking.tell::<TokenDocument>(&asking.client()?.delete(&format!("/v1/tokens/{id}")).await?)
            }
        }
    }
}

fn scope() -> impl TypedValueParser<Value = Scope> {
    PossibleValuesParser::new(["full", "read", "agent"])
        .try_map(|word| serde_json::from_value::<Scope>(word.into()))
}

fn time(text: &str) -> Result<SignedDuration, String> {
    let says = || format!("`{text}` is no time: write 30d, 12h or 15m");
    let split = text.len().checked_sub(1).filter(|&at| text.is_char_boundary(at)).ok_or_else(says)?;
    let (digits, unit) = text.split_at(split);
    let number: u32 = digits.parse().map_err(|_| says())?;
    let seconds = match unit {
        "d" => 86_400,
        "h" => 3_600,
        "m" => 60,
        _ => return Err(says()),
    };
    Ok(SignedDuration::from_secs(i64::from(number) * seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        assert_eq!(time("30d"), Ok(SignedDuration::from_hours(720)));
        assert_eq!(time("15m"), Ok(SignedDuration::from_mins(15)));
        for bad in ["", "d", "30", "-1d", "1w", "5ü"] {
            assert!(time(bad).is_err(), "{bad}");
        }
    }
}
