//! What lies in `--backlog-dir`: whose it is, how the last run ended, and a file for each peer's list.
//!
//! ```text
//!   lock            held while a proxy runs; says the name of the site
//!   stopped.json    written when a proxy stops in order, taken away when the next one starts
//!   HOST_PORT-HASH.keys              the list of the peer at this address
//!   HOST_PORT-HASH.keys.damaged      one that could not be read
//! ```

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{SpillError, disk};

/// The folder, ours while this lives.
#[derive(Debug)]
pub(super) struct Folder {
    path: PathBuf,
    _lock: File,
}

/// How a run ended in order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Stopped {
    /// When, in milliseconds since 1970.
    pub(super) at_ms: u64,
    /// The peers whose lists say all that they are owed, by address.
    pub(super) whole: BTreeMap<String, bool>,
}

impl Folder {
    /// Takes the folder for `site`, making it where there is none.
    pub(super) fn open(path: &Path, site: &str) -> Result<Self, SpillError> {
        let unusable = |source| SpillError::Unusable { dir: path.to_owned(), source };
        fs::DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(unusable)?;
        let lock = File::options().read(true).write(true).create(true).truncate(false).open(path.join(LOCK));
        let mut lock = lock.map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(SpillError::Locked { dir: path.to_owned() }),
            Err(TryLockError::Error(source)) => return Err(unusable(source)),
        }
        let mut owner = String::new();
        lock.read_to_string(&mut owner).map_err(unusable)?;
        if !owner.is_empty() && owner != site {
            return Err(SpillError::Foreign { dir: path.to_owned(), owner });
        }
        if owner.is_empty() {
            lock.rewind().and_then(|()| lock.write_all(site.as_bytes())).map_err(unusable)?;
        }
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// How the last run ended, if it did so in order. It is said once: should this run be killed, nothing is left
    /// of it.
    pub(super) fn take_stopped(&self) -> Option<Stopped> {
        let path = self.path.join(STOPPED);
        let text = fs::read(&path).ok()?;
        fs::remove_file(&path).and_then(|()| disk::sync(&self.path)).ok()?;
        serde_json::from_slice(&text).ok()
    }

    /// This run ends in order, and its lists are closed.
    pub(super) fn put_stopped(&self, stopped: &Stopped) -> io::Result<()> {
        let (fresh, path) = (self.path.join(STOPPED_FRESH), self.path.join(STOPPED));
        fs::write(&fresh, serde_json::to_vec(stopped)?)?;
        disk::sync(&fresh)?;
        fs::rename(&fresh, &path)?;
        disk::sync(&self.path)
    }

    /// The file of a peer's list.
    pub(super) fn list(&self, peer: &str) -> PathBuf {
        self.path.join(file_name(peer))
    }

    /// Puts a list aside that cannot be read, for whoever wants to know why; an older one makes room.
    pub(super) fn put_aside(&self, peer: &str) -> io::Result<()> {
        let path = self.list(peer);
        fs::rename(&path, path.with_extension("keys.damaged"))
    }

    /// Takes away the lists of peers that are not named any more: nobody would bring them up to date.
    pub(super) fn forget_all_but(&self, peers: &[String]) -> io::Result<usize> {
        let kept: Vec<_> = peers.iter().map(|peer| file_name(peer)).collect();
        let mut forgotten = 0;
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(name) = name.to_str().filter(|name| name.ends_with(LIST_END)) else { continue };
            if !kept.iter().any(|kept| kept == name) {
                fs::remove_file(entry.path())?;
                forgotten += 1;
            }
        }
        Ok(forgotten)
    }
}

/// Readable for people, and told apart by the hash whatever the address is made of.
fn file_name(peer: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '.' || c == '-' { c } else { '_' };
    let shown: String = peer.chars().take(SHOWN_MAX).map(plain).collect();
    format!("{shown}-{:016x}{LIST_END}", hash(peer))
}

/// FNV-1a: the same in every version, as the names of files must be.
fn hash(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

const LOCK: &str = "lock";
const STOPPED: &str = "stopped.json";
const STOPPED_FRESH: &str = "stopped.json.new";
const LIST_END: &str = ".keys";
/// File names end at 255 bytes.
const SHOWN_MAX: usize = 128;
