//! The only writer. It takes wishes one after the other, decides each on the registry of now, has the store take the change, and only
//! then shows it: what a reader sees is kept, and what was answered is seen by whoever reads afterwards.
//!
//! ```text
//!   api, agents, steward ──Ask──► registrar task ──► rule ──► store.commit(after = sequence) ──► registry, directory: swapped
//!                                    ▲    │                          │
//!                                    │    └── Conflict: catch up ◄───┤ another process was faster: decide anew
//!                                    └── changes of other processes ◄┘ (LISTEN, or a look each second)
//! ```
//!
//! While the database is away readers go on with what was decided last, and wishes are refused with a sentence that says so.

mod ask;
mod figures;
mod view;
mod work;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

pub use ask::AskError;
pub use view::View;

use ask::{Ask, asked};
use work::Work;

use crate::directory::Directory;
use crate::leases::Heard;
use crate::registry::change::Change;
use crate::registry::number::{ReplicaId, Sequence};
use crate::registry::policy::Actor;
use crate::rules::{Refusal, Wish};
use crate::store::{Store, StoreError};

/// Wishes that may wait; more are told that control is busy.
pub const WISHES_WAITING_MAX: usize = 1_024;
/// Heartbeats that may wait to be taken.
const HEARTBEATS_WAITING_MAX: usize = 4_096;
/// How long a wish waits for its turn.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the registrar is told once.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// Of DNS answers and topologies.
    pub ttl_seconds: u32,
    pub lease: SignedDuration,
    pub heartbeat_seconds: u32,
    /// How long a replica that left is kept after clients could have learnt it.
    pub leave_after: SignedDuration,
}

/// The way to the only writer, and to what it has published last. Cheap to clone.
#[derive(Clone)]
pub struct Registrar {
    wishes: mpsc::Sender<Box<dyn Ask>>,
    heartbeats: mpsc::Sender<(ReplicaId, Heard)>,
    view: Arc<ArcSwap<View>>,
    changed: watch::Receiver<u64>,
    decided: watch::Receiver<Sequence>,
    terms: Terms,
    store: Store,
}

impl Registrar {
    /// Reads all that was decided, and begins to take wishes.
    ///
    /// # Errors
    /// The store is away, or holds what cannot be read.
    pub async fn start(store: Store, terms: Terms, stop: CancellationToken) -> Result<Self, StoreError> {
        let view = View::read(&store, terms, Timestamp::now()).await?;
        Ok(Self::begin(store, view, terms, stop))
    }

    /// The same beside the directory that was kept: serials go on from it, and lookups too, should the store be away.
    ///
    /// # Errors
    /// The store holds what cannot be read.
    pub async fn start_with(
        store: Store,
        kept: Directory,
        terms: Terms,
        stop: CancellationToken,
    ) -> Result<Self, StoreError> {
        let now = Timestamp::now();
        let read = async {
            store.migrate().await?;
            View::read(&store, terms, now).await
        };
        let view = match read.await {
            Ok(mut view) => {
                view.directory.raise_serial(kept.serial().wrapping_add(1));
                view
            }
            Err(error @ StoreError::Unreadable(_)) => return Err(error),
            Err(error) => {
                tracing::error!(%error, apps = kept.len(), "lookups go on from the directory that was kept");
                View::restored(kept, terms, now, error)
            }
        };
        Ok(Self::begin(store, view, terms, stop))
    }

    fn begin(store: Store, view: View, terms: Terms, stop: CancellationToken) -> Self {
        let (wishes, inbox) = mpsc::channel(WISHES_WAITING_MAX);
        let (heartbeats, pulses) = mpsc::channel(HEARTBEATS_WAITING_MAX);
        let view = Arc::new(ArcSwap::from_pointee(view));
        let (publish, changed) = watch::channel(0);
        let (decide, decided) = watch::channel(view.load().registry.sequence());
        let work = Work::new(store.clone(), terms, Arc::clone(&view), publish, decide);
        tokio::spawn(work.run(inbox, pulses, stop));
        Self { wishes, heartbeats, view, changed, decided, terms, store }
    }

    /// What is in force now.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        self.view.load_full()
    }

    /// The same, for those who read at every packet.
    #[must_use]
    pub fn shared(&self) -> Arc<ArcSwap<View>> {
        Arc::clone(&self.view)
    }

    #[must_use]
    pub fn terms(&self) -> Terms {
        self.terms
    }

    /// For the audit log, which is read where it is kept.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Changes its value whenever the view does.
    #[must_use]
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.changed.clone()
    }

    /// Changes its value whenever anything was decided, whether clients hear of it or not.
    #[must_use]
    pub fn decided(&self) -> watch::Receiver<Sequence> {
        self.decided.clone()
    }

    /// Has a rule decide, and answers when its change is kept. The rule may be asked several times, on newer and newer registries.
    ///
    /// # Errors
    /// The rule refuses, or the store does not take it.
    pub async fn ask<Answer, Rule>(&self, actor: Actor, rule: Rule) -> Result<Answer, AskError>
    where
        Answer: Send + 'static,
        Rule: FnMut(Wish<'_>, &View) -> Result<(Change, Answer), Refusal> + Send + 'static,
    {
        let (ask, answer) = asked(actor, rule);
        self.wishes.send_timeout(ask, PATIENCE).await.map_err(|_| AskError::Busy)?;
        answer.await.unwrap_or(Err(AskError::Stopping))
    }

    /// Takes a heartbeat. When too many wait, the next one will do.
    pub fn hear(&self, id: ReplicaId, heard: Heard) {
        if self.heartbeats.try_send((id, heard)).is_err() {
            metrics::counter!("memcloud_control_heartbeats_dropped_total").increment(1);
        }
    }
}
