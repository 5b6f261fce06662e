//! The directory on disk: what a process serves that starts while its database is away.
//!
//! ```text
//!   directory ──changed──► encode ──► FILE.new, fsync ──► rename over FILE, fsync of its folder
//!   start: the database is away ──► decode(FILE) ──► lookups and DNS from it, everything else waits for the database
//! ```
//!
//! Promises that the file is one whole directory at every moment, whatever fails, and that a file which is none is refused with a
//! sentence and believed in nothing. Nothing in it is secret: it holds what DNS tells everybody.
//!
//! It is written after changes, not with them: the last second's may be missing. What was decided is in the database.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::directory::{Directory, Entry};
use crate::registrar::View;
use crate::registry::number::Sequence;

/// Changes are gathered for so long.
const PAUSE: Duration = Duration::from_secs(1);
/// Of the time, at most one part in so many is spent on writing: a directory of 100,000 apps takes a while.
const PAUSES_PER_WRITE: u32 = 10;
/// A directory of a million apps has some 500 MB; what is larger is not read into memory.
const BYTES_MAX: u64 = 1 << 30;
/// The first word of the first line, and the version of the form.
const MAGIC: &str = "memcloud-directory";
const VERSION: &str = "1";

/// Why a file is not believed.
#[derive(Debug, thiserror::Error)]
pub enum Unkept {
    #[error("{file} cannot be read: {error}")]
    Unreadable { file: String, error: io::Error },
    #[error("{file} is no directory that was kept whole ({why}): remove it, it is written anew")]
    Broken { file: String, why: String },
}

/// What is kept, behind the line with its checksum.
#[derive(Deserialize)]
struct Kept {
    sequence: Sequence,
    serial: u32,
    apps: Vec<Entry>,
}

#[derive(Serialize)]
struct Keeping<'a> {
    sequence: Sequence,
    serial: u32,
    apps: Vec<&'a Entry>,
}

/// The file of a directory.
#[derive(Clone, Debug)]
pub struct Keeper {
    file: PathBuf,
}

impl Keeper {
    #[must_use]
    pub fn new(file: PathBuf) -> Self {
        Self { file }
    }

    /// What was kept; `None`: nothing ever was.
    ///
    /// # Errors
    /// The file is not one that was kept whole.
    pub fn read(&self) -> Result<Option<Directory>, Unkept> {
        let unreadable = |error| Unkept::Unreadable { file: self.file.display().to_string(), error };
        let file = match File::open(&self.file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(unreadable)?,
        };
        let mut bytes = Vec::new();
        file.take(BYTES_MAX).read_to_end(&mut bytes).map_err(unreadable)?;
        let broken = |why| Unkept::Broken { file: self.file.display().to_string(), why };
        decode(&bytes).map(Some).map_err(broken)
    }

    /// Puts this directory in the place of the one that is kept.
    ///
    /// # Errors
    /// It cannot be written; the one before is still there.
    pub fn write(&self, directory: &Directory) -> io::Result<()> {
        let bytes = encode(directory)?;
        let mut name = self.file.clone().into_os_string();
        name.push(".new");
        let new = PathBuf::from(name);
        let mut file = File::create(&new)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&new, &self.file)?;
        let folder = self.file.parent().filter(|folder| !folder.as_os_str().is_empty());
        File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
    }

    /// Keeps what is shown, until it is told to stop, and then once more.
    pub async fn keep(
        self,
        view: Arc<ArcSwap<View>>,
        mut changed: watch::Receiver<u64>,
        stop: CancellationToken,
    ) {
        let mut said = false;
        let mut pause = PAUSE;
        loop {
            let began = Instant::now();
            // A restored directory came from this very file.
            if view.load().restored.is_none() {
                self.keep_once(&view, &mut said).await;
            }
            pause = pause.max(began.elapsed() * PAUSES_PER_WRITE);
            if stop.is_cancelled() {
                return;
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                ended = changed.changed() => {
                    if ended.is_err() {
                        return;
                    }
                    let _ = stop.run_until_cancelled(sleep(pause)).await;
                    pause = PAUSE;
                }
            }
        }
    }

    async fn keep_once(&self, view: &ArcSwap<View>, said: &mut bool) {
        let (keeper, directory) = (self.clone(), view.load().directory.clone());
        let written = tokio::task::spawn_blocking(move || keeper.write(&directory)).await;
        match written.unwrap_or_else(|error| Err(io::Error::other(error))) {
            Ok(()) => {
                *said = false;
                let now = Timestamp::now().as_millisecond() as f64 / 1_000.0;
                metrics::gauge!("memcloud_control_directory_kept_timestamp_seconds").set(now);
            }
            Err(error) => {
                metrics::counter!("memcloud_control_directory_keep_errors_total").increment(1);
                if !std::mem::replace(said, true) {
                    let file = self.file.display();
                    tracing::error!(%file, %error, "the directory cannot be kept: a restart without the database would serve an older one");
                }
            }
        }
    }
}

fn encode(directory: &Directory) -> io::Result<Vec<u8>> {
    let keeping = Keeping {
        sequence: directory.sequence(),
        serial: directory.serial(),
        apps: directory.apps().map(|entry| &**entry).collect(),
    };
    let body = serde_json::to_vec(&keeping)?;
    let mut bytes = format!("{MAGIC} {VERSION} {}\n", checksum(&body)).into_bytes();
    bytes.extend_from_slice(&body);
    Ok(bytes)
}

fn decode(bytes: &[u8]) -> Result<Directory, String> {
    let end = bytes.iter().position(|&byte| byte == b'\n').ok_or("it has no first line")?;
    let (line, body) = (String::from_utf8_lossy(&bytes[..end]), &bytes[end + 1..]);
    let words: Vec<&str> = line.split(' ').collect();
    let [MAGIC, version, sum] = words[..] else { return Err("it begins otherwise".into()) };
    if version != VERSION {
        return Err(format!("it is of form {version}, and form {VERSION} is understood"));
    }
    if sum != checksum(body) {
        return Err("its checksum is another".into());
    }
    let kept: Kept = serde_json::from_slice(body).map_err(|error| error.to_string())?;
    Ok(Directory::restored(kept.sequence, kept.serial, kept.apps))
}

fn checksum(body: &[u8]) -> String {
    Sha256::digest(body).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use memcloud_protocol::topology::{AppId, HashMethod, Topology};

    use super::*;

    fn directory() -> Directory {
        let topology = Topology {
            appid: AppId::FIRST,
            name: "shop".into(),
            revision: 7,
            ttl_seconds: 5,
            hash: HashMethod::Ketama,
            shards: Vec::new(),
        };
        Directory::restored(Sequence(41), 99, [Entry { topology, edition: 2 }])
    }

    #[test]
    fn what_was_kept_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let keeper = Keeper::new(folder.path().join("directory"));
        assert!(keeper.read().unwrap().is_none(), "nothing ever was");
        keeper.write(&directory()).unwrap();
        keeper.write(&directory()).unwrap();
        let read = keeper.read().unwrap().unwrap();
        assert_eq!((read.sequence(), read.serial(), read.len()), (Sequence(41), 99, 1));
        assert_eq!(read.app(AppId::FIRST).unwrap().etag(), "\"7-2\"");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "nothing else is left");
    }

    #[test]
    fn what_is_not_whole_is_not_believed() {
        let whole = encode(&directory()).unwrap();
        for length in 0..whole.len() {
            assert!(decode(&whole[..length]).is_err(), "cut at {length}");
        }
        for at in 0..whole.len() {
            let mut other = whole.clone();
            other[at] ^= 1;
            assert!(decode(&other).is_err(), "another byte at {at}");
        }
        let later = String::from_utf8(whole).unwrap().replacen(" 1 ", " 2 ", 1);
        assert!(decode(later.as_bytes()).unwrap_err().contains("form 2"));
    }
}
