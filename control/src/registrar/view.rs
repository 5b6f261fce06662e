//! What is in force: registry, leases and directory of one moment, swapped together.

use jiff::Timestamp;

use super::Terms;
use crate::directory::Directory;
use crate::leases::{Heard, Leases};
use crate::registry::Registry;
use crate::registry::number::{ReplicaId, Sequence};
use crate::store::{Beat, Store, StoreError};

/// A clone costs nothing.
#[derive(Clone, Debug)]
pub struct View {
    pub registry: Registry,
    pub leases: Leases,
    pub directory: Directory,
    /// Why changes are refused, if they are.
    pub trouble: Option<StoreError>,
    /// The database was away when this process began, and was not read yet: there is the directory that was kept, and nothing else.
    pub restored: Option<StoreError>,
}

impl View {
    pub(super) async fn read(store: &Store, terms: Terms, now: Timestamp) -> Result<Self, StoreError> {
        let since = store.since(Sequence(0)).await?;
        let mut registry = Registry::default();
        registry.catch_up(since.head, &since.writes);
        let mut leases = Leases::new(terms.lease, now);
        for beat in store.beats_since(0).await? {
            hear(&mut leases, &beat);
        }
        // Serials of several processes on one store begin alike, and rise.
        let serial = u32::try_from(since.head.0 & u64::from(u32::MAX)).unwrap_or(0);
        let mut directory = Directory::restored(since.head, serial, []);
        let apps: Vec<_> = registry.apps(None).map(|app| app.appid).collect();
        directory.refresh(&registry, &leases, terms.ttl_seconds, now, apps);
        Ok(Self { registry, leases, directory, trouble: None, restored: None })
    }

    /// What lookups go on from while the database cannot be read.
    pub(super) fn restored(directory: Directory, terms: Terms, now: Timestamp, why: StoreError) -> Self {
        let leases = Leases::new(terms.lease, now);
        Self {
            registry: Registry::default(),
            leases,
            directory,
            trouble: Some(why.clone()),
            restored: Some(why),
        }
    }

    /// Whether a replica has its copy, and its peers have what it has.
    #[must_use]
    pub fn is_whole(&self, id: ReplicaId, now: Timestamp) -> bool {
        let peers = crate::rules::replicas::peers(&self.registry, id);
        self.leases.is_whole(id, peers.map(|peer| (peer.id, &peer.registration.site)), now)
    }
}

/// Takes what another process has heard. One that cannot be read is as good as none.
pub(super) fn hear(leases: &mut Leases, beat: &Beat) -> bool {
    let Ok(heartbeat) = serde_json::from_str(&beat.body) else { return false };
    let Ok(at) = Timestamp::from_millisecond(beat.at_ms) else { return false };
    leases.hear(beat.replica, Heard { at, heartbeat });
    true
}
