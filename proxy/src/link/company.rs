//! The company in which states go between us and one peer: agreed upon by name, watched, and doubted in the end.
//!
//! The taker says whom it hears, the giver answers whom it hears, and each leaves out of its states whom neither does
//! (`replication/company.rs`). That holds until somebody comes who was not counted, or stays away who was; then the
//! connection ends, and the next one agrees anew.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::sleep;

use super::Context;
use super::hold::is_linked;
use crate::replication::{Company, Origin, PeerId};

/// What is agreed upon with one peer. Whoever was left out of states that went is doubted when this is dropped.
pub(in crate::link) struct Companions<'a> {
    context: &'a Context,
    peer: PeerId,
    agreed: Mutex<Option<Company>>,
    /// States have been given or taken.
    begun: AtomicBool,
}

impl<'a> Companions<'a> {
    pub(in crate::link) fn with(context: &'a Context, peer: PeerId) -> Self {
        Self { context, peer, agreed: Mutex::new(None), begun: AtomicBool::new(false) }
    }

    /// Whom we hear.
    pub(in crate::link) fn heard(&self) -> Vec<Origin> {
        self.context.shared.lock().heard_sites()
    }

    /// The peer has said whom it hears; before that nobody is left out.
    pub(in crate::link) fn agree(&self, heard_there: &[Origin]) -> Company {
        let company = self.context.shared.lock().company(self.peer, heard_there);
        self.doubt();
        *self.lock() = Some(company);
        company
    }

    /// From now on states go between us.
    pub(in crate::link) fn begin(&self) {
        self.begun.store(true, Ordering::Relaxed);
    }

    /// Somebody is left out who was here a moment ago, and may be back in a moment.
    pub(in crate::link) fn are_hasty(&self) -> bool {
        let company = self.agreed();
        self.context.shared.lock().left_out_lately(&company)
    }

    pub(in crate::link) fn agreed(&self) -> Company {
        self.lock().unwrap_or_default()
    }

    /// Resolves when a link with the peer, either way, is down, or what was agreed upon does not hold any more.
    pub(in crate::link) async fn broken(&self) {
        let mut missed = Duration::ZERO;
        while is_linked(self.context, self.peer) && missed < MISSED_FOR {
            let agreed = *self.lock();
            if let Some(company) = agreed {
                let replica = self.context.shared.lock();
                if replica.has_grown(&company, self.peer) {
                    return;
                }
                missed = if replica.has_shrunk(&company) { missed + LOOK_AGAIN } else { Duration::ZERO };
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    /// What sites that were away wrote, and only one of us had heard of, was decided without them. True: there are some.
    pub(in crate::link) fn doubt(&self) -> bool {
        let agreed = self.lock().take().filter(|_| self.begun.load(Ordering::Relaxed));
        agreed.is_some_and(|company| self.context.shared.lock().doubt_absent(&company))
    }

    fn lock(&self) -> MutexGuard<'_, Option<Company>> {
        self.agreed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Companions<'_> {
    fn drop(&mut self) {
        self.doubt();
    }
}

const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Less than it takes until keys whose states do not get on are dropped.
const MISSED_FOR: Duration = Duration::from_secs(2);
