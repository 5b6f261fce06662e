//! The last place, on disk: a proxy that starts while control is away begins where it was.
//!
//! `place.json` in `--backlog-dir`, whose lock makes it this proxy's alone. What cannot be read is as good as none, and what cannot
//! be written is said once more by control at the next start.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use memcloud_protocol::registration::Place;
use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;

/// Where the last place is kept, and whose it is.
#[derive(Clone, Debug)]
pub struct Memory {
    dir: PathBuf,
    identity: String,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    identity: String,
    place: Option<Place>,
}

impl Memory {
    /// Of the replica that control knows by `identity`.
    #[must_use]
    pub fn new(dir: &Path, identity: &str) -> Self {
        Self { dir: dir.to_owned(), identity: identity.to_owned() }
    }

    /// The last place, if it was this replica's.
    #[must_use]
    pub fn recall(&self) -> Option<Place> {
        let text = fs::read(self.dir.join(FILE)).ok()?;
        let kept: Kept = serde_json::from_slice(&text).ok()?;
        kept.place.filter(|_| kept.identity == self.identity)
    }

    /// Keeps it, away from the event loop.
    pub(super) fn keep(&self, place: Option<Place>) {
        let memory = self.clone();
        // Whoever stops in this moment has the place before; control says the new one.
        drop(spawn_blocking(move || {
            if let Err(error) = memory.write(place) {
                tracing::warn!(%error, dir = %memory.dir.display(), "the last place cannot be kept");
            }
        }));
    }

    /// All of it, or what was there before.
    fn write(&self, place: Option<Place>) -> io::Result<()> {
        let fresh = self.dir.join(FRESH);
        fs::write(&fresh, serde_json::to_vec(&Kept { identity: self.identity.clone(), place })?)?;
        fs::rename(fresh, self.dir.join(FILE))
    }
}

const FILE: &str = "place.json";
const FRESH: &str = "place.json.new";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_had_back_by_whose_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let memory = Memory::new(folder.path(), "10001/s0/a");
        assert_eq!(memory.recall(), None);
        let place = Place {
            appid: 10_001.try_into().unwrap(),
            shard: "s0".parse().unwrap(),
            peers: Vec::new(),
            joining: true,
        };
        memory.write(Some(place.clone())).unwrap();
        assert_eq!(memory.recall(), Some(place));
        assert_eq!(Memory::new(folder.path(), "10001/s1/a").recall(), None);
        memory.write(None).unwrap();
        assert_eq!(memory.recall(), None);
        fs::write(folder.path().join(FILE), "{").unwrap();
        assert_eq!(memory.recall(), None);
    }
}
