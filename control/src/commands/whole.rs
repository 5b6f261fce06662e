//! `export`, `import`, `zone`

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::Value;

use super::{Asking, CommandError, print};

/// Everything that was decided; it holds digests of tokens and passwords
#[derive(Args, Debug)]
pub struct Export {
    /// A file that does not exist yet; only its owner may read it. Without it: standard output
    #[arg(long, value_name = "FILE")]
    to: Option<PathBuf>,
    #[command(flatten)]
    asking: Asking,
}

/// Revisions never go backwards: what is older than what is published here is refused
#[derive(Args, Debug)]
pub struct Import {
    /// What `export` wrote
    file: PathBuf,
    #[command(flatten)]
    asking: Asking,
}

/// As RFC 1035 has it
#[derive(Args, Debug)]
pub struct Zone {
    #[command(flatten)]
    asking: Asking,
}

impl Export {
    pub(super) async fn run(self) -> Result<(), CommandError> {
        let bytes = self.asking.client()?.get_bytes("/v1/export").await?;
        let Some(file) = &self.to else { return print(&bytes) };
        keep(file, &bytes).map_err(|error| named(file, error))?;
        self.asking.tell_done(&format!("{} bytes are in {}", bytes.len(), file.display()))
    }
}

impl Import {
    pub(super) async fn run(self) -> Result<(), CommandError> {
        let text = std::fs::read(&self.file).map_err(|error| named(&self.file, error))?;
        let export: Value = serde_json::from_slice(&text).map_err(|error| named(&self.file, error.into()))?;
        self.asking.client()?.post("/v1/import", &export).await?;
        self.asking.tell_done(&format!("{} is in force", self.file.display()))
    }
}

impl Zone {
    pub(super) async fn run(self) -> Result<(), CommandError> {
        print(&self.asking.client()?.get_bytes("/v1/zone").await?)
    }
}

/// A backup that is not whole on the disk is none.
fn keep(file: &Path, bytes: &[u8]) -> std::io::Result<()> {
    let mut made = File::options().write(true).create_new(true).mode(0o600).open(file)?;
    made.write_all(bytes)?;
    made.sync_all()
}

fn named(file: &Path, error: std::io::Error) -> CommandError {
    CommandError::File { file: file.display().to_string(), error }
}
