//! The operator's commands: each is one request to the API of a running control, or a few, and what came back, told to people as
//! a table or to programs as the very JSON of the API.
//!
//! ```text
//!   noun verb flags ──► documents of the API ──► client ──HTTP──► control
//!                                                   │
//!   stdout ◄── shown (tables) or --json ◄───────────┘      a problem document: its sentence on stderr, exit 1
//! ```
//!
//! They decide nothing and check nothing that control checks: what is wrong is said by control, in one place. No command reads the
//! database; who may do what is the token's.

mod app;
mod audit_log;
pub mod client;
mod replica;
mod requisition;
mod revision;
mod shown;
mod size;
mod table;
mod token;
mod user;
mod whole;

use std::io::{self, Write};
use std::path::PathBuf;

use clap::{Args, Subcommand};
use serde_json::Value;

use client::{Client, Failure};
use shown::Shown;

/// What operators and owners ask of a running control.
#[derive(Debug, Subcommand)]
pub enum Operator {
    /// Apps: who has a cache, and what it may hold
    #[command(subcommand)]
    App(app::Verb),
    /// Requisitions: shards that are asked for, and who decided
    #[command(subcommand)]
    Requisition(requisition::Verb),
    /// Revisions: what clients are told, published and rolled back
    #[command(subcommand)]
    Revision(revision::Verb),
    /// Replicas: the pool, and the members of shards
    #[command(subcommand)]
    Replica(replica::Verb),
    /// Users and their roles
    #[command(subcommand)]
    User(user::Verb),
    /// Tokens, which open the API
    #[command(subcommand)]
    Token(token::Verb),
    /// Who changed what
    #[command(subcommand)]
    AuditLog(audit_log::Verb),
    /// Keep the whole registry in a file
    Export(whole::Export),
    /// Put an exported registry in the place of this one
    Import(whole::Import),
    /// Print all that is published as a master file, for other name servers
    Zone(whole::Zone),
}

/// Whom to ask, and how to answer
#[derive(Args, Clone, Debug)]
pub struct Asking {
    /// The API of control
    #[arg(
        long,
        env = "MEMCLOUD_SERVER",
        value_name = "URL",
        default_value = "http://127.0.0.1:8053",
        help_heading = "Control"
    )]
    pub server: String,

    /// With https://: the file of the CA that has signed control's certificate; none: those that this machine knows
    #[arg(long, env = "MEMCLOUD_CA", value_name = "FILE", help_heading = "Control")]
    pub ca: Option<PathBuf>,

    /// A file with the token; without it MEMCLOUD_TOKEN holds the token itself
    #[arg(long, env = "MEMCLOUD_TOKEN_FILE", value_name = "FILE", help_heading = "Control")]
    pub token_file: Option<PathBuf>,

    /// The JSON of the API instead of tables
    #[arg(long, help_heading = "Control")]
    pub json: bool,
}

/// Repeated with the same key, a create is answered as the first time and makes nothing twice
#[derive(Args, Clone, Debug)]
pub struct Once {
    /// For scripts that may run twice; without it chance chooses one for each run
    #[arg(long, value_name = "KEY")]
    pub idempotency_key: Option<String>,
}

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    #[error(transparent)]
    Asked(#[from] Failure),
    #[error("{file}: {error}")]
    File { file: String, error: io::Error },
    #[error("the answer cannot be written: {0}")]
    Output(io::Error),
    #[error("control answered what this version does not understand ({0}): use the same version of both")]
    Unknown(#[from] serde_json::Error),
}

impl Operator {
    /// Asks, and tells on standard output.
    ///
    /// # Errors
    /// Control is away or refuses, or a file cannot be read or written.
    pub async fn run(self) -> Result<(), CommandError> {
        match self {
            Self::App(verb) => verb.run().await,
            Self::Requisition(verb) => verb.run().await,
            Self::Revision(verb) => verb.run().await,
            Self::Replica(verb) => verb.run().await,
            Self::User(verb) => verb.run().await,
            Self::Token(verb) => verb.run().await,
            Self::AuditLog(verb) => verb.run().await,
            Self::Export(export) => export.run().await,
            Self::Import(import) => import.run().await,
            Self::Zone(zone) => zone.run().await,
        }
    }
}

impl Asking {
    fn client(&self) -> Result<Client, CommandError> {
        Ok(Client::new(&self.server, self.ca.clone(), self.token_file.as_deref())?)
    }

    /// One document, told as `Document` tells itself.
    fn tell<Document: Shown>(&self, answer: &Value) -> Result<(), CommandError> {
        if self.json {
            return tell_json(answer);
        }
        let document: Document = serde_json::from_value(answer.clone())?;
        print(document.whole().as_bytes())
    }

    /// A list, each with a line.
    fn tell_all<Document: Shown>(&self, answers: &[Value]) -> Result<(), CommandError> {
        if self.json {
            return tell_json(&Value::Array(answers.to_vec()));
        }
        let mut lines = Vec::with_capacity(answers.len());
        for answer in answers {
            lines.push(serde_json::from_value::<Document>(answer.clone())?.cells());
        }
        print(table::table(Document::TITLES, &lines).as_bytes())
    }

    /// What has no document: one sentence, or the empty object.
    fn tell_done(&self, says: &str) -> Result<(), CommandError> {
        if self.json { print(b"{}\n") } else { print(format!("{says}\n").as_bytes()) }
    }
}

fn tell_json(answer: &Value) -> Result<(), CommandError> {
    let mut text = serde_json::to_vec_pretty(answer)?;
    text.push(b'\n');
    print(&text)
}

fn print(bytes: &[u8]) -> Result<(), CommandError> {
    let mut out = io::stdout().lock();
    match out.write_all(bytes).and_then(|()| out.flush()) {
        // Whoever closes the pipe has read enough.
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(CommandError::Output(error)),
        _ => Ok(()),
    }
}
