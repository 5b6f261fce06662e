//! `user`

use std::path::{Path, PathBuf};

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, Subcommand};
use hyper::Method;
use serde_json::Value;

use super::{Asking, CommandError, Once};
use crate::api::documents::{NewUserDocument, UserDocument, UserPatchDocument};
use crate::registry::user::{Role, UserName};

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// All that you may see
    List {
        #[command(flatten)]
        asking: Asking,
    },
    /// One
    Show {
        name: UserName,
        #[command(flatten)]
        asking: Asking,
    },
    /// Make one
    Create {
        name: UserName,
        /// What they may do
        #[arg(long, default_value = "owner", value_parser = role())]
        role: Role,
        #[command(flatten)]
        told: Told,
        #[command(flatten)]
        once: Once,
        #[command(flatten)]
        asking: Asking,
    },
    /// Change what is given; the rest stays
    Change {
        name: UserName,
        /// What they may do
        #[arg(long, value_parser = role())]
        role: Option<Role>,
        /// What they ask is refused from now on
        #[arg(long, conflicts_with = "enable")]
        disable: bool,
        /// They may ask again
        #[arg(long)]
        enable: bool,
        #[command(flatten)]
        told: Told,
        #[command(flatten)]
        asking: Asking,
    },
    /// Remove one who owns nothing, with all their tokens
    Delete {
        name: UserName,
        #[command(flatten)]
        asking: Asking,
    },
}

#[derive(Args, Clone, Debug)]
pub struct Told {
    /// Where they are written to
    #[arg(long)]
    email: Option<String>,
    /// A file with the password, for the console: a command line is seen by everybody on the machine
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

impl Verb {
    pub(super) async fn run(self) -> Result<(), CommandError> {
        match self {
            Self::List { asking } => match asking.client()?.get("/v1/users").await? {
                Value::Array(users) => asking.tell_all::<UserDocument>(&users),
                other => asking.tell::<UserDocument>(&other),
            },
            Self::Show { name, asking } => {
                asking.tell::<UserDocument>(&asking.client()?.get(&format!("/v1/users/{name}")).await?)
            }
            Self::Create { name, role, told, once, asking } => {
                let password = told.password_file.as_deref().map(password).transpose()?;
                let document = NewUserDocument { name, role, password, email: told.email };
                let made =
                    asking.client()?.create("/v1/users", once.idempotency_key.as_deref(), &document).await?;
                asking.tell::<UserDocument>(&made)
            }
            Self::Change { name, role, disable, enable, told, asking } => {
                let password = told.password_file.as_deref().map(password).transpose()?;
                let disabled = (disable || enable).then_some(disable);
                let document = UserPatchDocument { role, password, email: told.email, disabled };
                let path = format!("/v1/users/{name}");
                asking.tell::<UserDocument>(&asking.client()?.send(Method::PATCH, &path, &document).await?)
            }
            Self::Delete { name, asking } => {
                asking.client()?.delete(&format!("/v1/users/{name}")).await?;
                asking.tell_done(&format!("user {name} is gone"))
            }
        }
    }
}

/// The first line.
fn password(file: &Path) -> Result<String, CommandError> {
    let says = |error| CommandError::File { file: file.display().to_string(), error };
    let text = std::fs::read_to_string(file).map_err(says)?;
    Ok(text.lines().next().unwrap_or_default().to_owned())
}

fn role() -> impl TypedValueParser<Value = Role> {
    let words = PossibleValuesParser::new(["admin", "operator", "owner", "viewer"]);
    words.try_map(|word| serde_json::from_value::<Role>(word.into()))
}
