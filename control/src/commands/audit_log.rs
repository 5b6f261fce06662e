//! `audit-log`

use clap::{Args, Subcommand};
use memcloud_protocol::topology::AppId;
use serde_json::Value;

use super::{Asking, CommandError};
use crate::api::documents::AuditLine;
use crate::registry::user::UserName;

/// The API gives no more at once.
const PAGE: u64 = 1_000;

#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Lines, the newest first
    List(Which),
}

#[derive(Args, Clone, Debug)]
pub struct Which {
    /// Of this app, its requisitions and revisions; owners have to name one of theirs
    #[arg(long, value_name = "APPID")]
    app: Option<AppId>,
    /// Of this record only, as `replica/7`
    #[arg(long, value_parser = record)]
    subject: Option<String>,
    /// What this user did
    #[arg(long, value_name = "USER")]
    actor: Option<UserName>,
    /// Older than this number
    #[arg(long, value_name = "NUMBER")]
    before: Option<u64>,
    /// At most so many
    #[arg(long, default_value_t = 100)]
    limit: u64,
    #[command(flatten)]
    asking: Asking,
}

impl Verb {
    pub(super) async fn run(self) -> Result<(), CommandError> {
        let Self::List(which) = self;
        let mut client = which.asking.client()?;
        let (mut lines, mut before) = (Vec::new(), which.before);
        loop {
            let wanted = which.limit.saturating_sub(lines.len() as u64).min(PAGE);
            if wanted == 0 {
                break;
            }
            let Value::Array(page) = client.get(&which.path(before, wanted)).await? else { break };
            let got = page.len() as u64;
            before = page.last().and_then(|line| line["number"].as_u64());
            lines.extend(page);
            if got < wanted || before.is_none() {
                break;
            }
        }
        which.asking.tell_all::<AuditLine>(&lines)
    }
}

impl Which {
    fn path(&self, before: Option<u64>, limit: u64) -> String {
        let mut path = format!("/v1/audit-log?limit={limit}");
        let given = [
            ("appid", self.app.map(|appid| appid.to_string())),
            ("subject", self.subject.clone()),
            ("actor", self.actor.as_ref().map(ToString::to_string)),
            ("before", before.map(|number| number.to_string())),
        ];
        for (name, value) in given {
            if let Some(value) = value {
                path.push_str(&format!("&{name}={value}"));
            }
        }
        path
    }
}

/// What can stand in an address as it is.
fn record(text: &str) -> Result<String, String> {
    let good = |letter: char| letter.is_ascii_alphanumeric() || "/._@-".contains(letter);
    if text.contains('/') && text.chars().all(good) {
        Ok(text.to_owned())
    } else {
        Err(format!("`{text}` names no record: write KIND/NAME, as replica/7"))
    }
}
