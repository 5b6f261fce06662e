//! The domain: apps, the shards given to them, the replicas that serve those, and who may decide about it.
//!
//! ```text
//!   user ──owns──► app ──has──► shard s0, s1, … ──has members──► replica ◄── registers itself
//!     └─ token     │ ▲                                             ▲
//!                  │ └── requisition: n shards × memory × replicas │ allocated from the pool
//!                  └──► revision 1, 2, …: what clients are told ───┘
//! ```
//!
//! [`Registry`] is a value: a clone costs nothing, shares what did not change, and is what everybody reads. [`crate::rules`]
//! turn a wish into a [`change::Change`] or refuse it; [`Registry::apply`] is the only way in which one registry becomes the next. There is
//! no SQL, HTTP, clock or runtime here: the present is an argument.
//!
//! What it refuses to know: whether a replica is alive ([`crate::leases`]), and how anything is stored ([`crate::store`]).

pub mod app;
pub mod audit;
pub mod change;
mod invariants;
pub mod number;
pub mod policy;
pub mod replica;
pub mod requisition;
pub mod revision;
pub mod user;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use memcloud_protocol::topology::AppId;
use rpds::{HashTrieMapSync, RedBlackTreeMapSync};

use app::App;
use change::{Kind, Numbers, Receipt, Record, RecordKey, Write};
use number::{ReplicaId, RequisitionId, RevisionNumber, Sequence, TokenId};
use replica::Replica;
use requisition::Requisition;
use revision::Revision;
use user::{Token, User, UserName};

/// Everything that was decided, as of a sequence.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    sequence: Sequence,
    numbers: Numbers,
    users: RedBlackTreeMapSync<UserName, Arc<User>>,
    tokens: RedBlackTreeMapSync<TokenId, Arc<Token>>,
    apps: RedBlackTreeMapSync<AppId, Arc<App>>,
    replicas: RedBlackTreeMapSync<ReplicaId, Arc<Replica>>,
    requisitions: RedBlackTreeMapSync<RequisitionId, Arc<Requisition>>,
    revisions: RedBlackTreeMapSync<(AppId, RevisionNumber), Arc<Revision>>,
    receipts: HashTrieMapSync<String, Arc<Receipt>>,
    /// With which change each record was written last: what `If-Match` compares.
    versions: HashTrieMapSync<RecordKey, Sequence>,
    app_names: HashTrieMapSync<String, AppId>,
    identities: HashTrieMapSync<String, ReplicaId>,
    digests: HashTrieMapSync<String, TokenId>,
}

impl Registry {
    /// As of which change.
    #[must_use]
    pub fn sequence(&self) -> Sequence {
        self.sequence
    }

    /// The numbers that come next.
    #[must_use]
    pub fn numbers(&self) -> Numbers {
        self.numbers
    }

    #[must_use]
    pub fn user(&self, name: &UserName) -> Option<&Arc<User>> {
        self.users.get(name)
    }

    pub fn users(&self) -> impl Iterator<Item = &Arc<User>> {
        self.users.values()
    }

    #[must_use]
    pub fn token(&self, id: TokenId) -> Option<&Arc<Token>> {
        self.tokens.get(&id)
    }

    pub fn tokens(&self) -> impl Iterator<Item = &Arc<Token>> {
        self.tokens.values()
    }

    /// The token whose secret has this SHA-256, in hexadecimal.
    #[must_use]
    pub fn token_of_digest(&self, digest: &str) -> Option<&Arc<Token>> {
        self.digests.get(digest).and_then(|id| self.tokens.get(id))
    }

    #[must_use]
    pub fn app(&self, appid: AppId) -> Option<&Arc<App>> {
        self.apps.get(&appid)
    }

    #[must_use]
    pub fn app_named(&self, name: &str) -> Option<&Arc<App>> {
        self.app_names.get(name).and_then(|appid| self.apps.get(appid))
    }

    /// By number; `after` for the next page.
    pub fn apps(&self, after: Option<AppId>) -> impl Iterator<Item = &Arc<App>> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, Excluded);
        self.apps.range((from, Unbounded)).map(|(_, app)| app)
    }

    #[must_use]
    pub fn replica(&self, id: ReplicaId) -> Option<&Arc<Replica>> {
        self.replicas.get(&id)
    }

    #[must_use]
    pub fn replica_of_identity(&self, identity: &str) -> Option<&Arc<Replica>> {
        self.identities.get(identity).and_then(|id| self.replicas.get(id))
    }

    /// By number; `after` for the next page.
    pub fn replicas(&self, after: Option<ReplicaId>) -> impl Iterator<Item = &Arc<Replica>> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, Excluded);
        self.replicas.range((from, Unbounded)).map(|(_, replica)| replica)
    }

    #[must_use]
    pub fn requisition(&self, id: RequisitionId) -> Option<&Arc<Requisition>> {
        self.requisitions.get(&id)
    }

    /// By number; `after` for the next page.
    pub fn requisitions(&self, after: Option<RequisitionId>) -> impl Iterator<Item = &Arc<Requisition>> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = after.map_or(Unbounded, Excluded);
        self.requisitions.range((from, Unbounded)).map(|(_, requisition)| requisition)
    }

    #[must_use]
    pub fn revision(&self, appid: AppId, number: RevisionNumber) -> Option<&Arc<Revision>> {
        self.revisions.get(&(appid, number))
    }

    /// All that are kept of an app, the oldest first.
    pub fn revisions(&self, appid: AppId) -> impl DoubleEndedIterator<Item = &Arc<Revision>> {
        let (first, last) = ((appid, RevisionNumber(0)), (appid, RevisionNumber(u64::MAX)));
        self.revisions.range(first..=last).map(|(_, revision)| revision)
    }

    /// What clients of the app are told.
    #[must_use]
    pub fn published(&self, appid: AppId) -> Option<&Arc<Revision>> {
        self.revision(appid, self.app(appid)?.published?)
    }

    /// What a request with this idempotency key was answered.
    #[must_use]
    pub fn receipt(&self, key: &str) -> Option<&Arc<Receipt>> {
        self.receipts.get(key)
    }

    #[must_use]
    pub fn receipt_count(&self) -> usize {
        self.receipts.size()
    }

    pub fn receipts(&self) -> impl Iterator<Item = &Arc<Receipt>> {
        self.receipts.values()
    }

    /// With which change the record was written last; 0: it does not exist.
    #[must_use]
    pub fn version(&self, key: &RecordKey) -> Sequence {
        self.versions.get(key).copied().unwrap_or_default()
    }

    /// The record of this key.
    #[must_use]
    pub fn record(&self, key: &RecordKey) -> Option<Record> {
        let name = &key.name;
        match key.kind {
            Kind::Numbers => Some(Record::Numbers(self.numbers)),
            Kind::User => self.users.get(&name.parse().ok()?).map(|one| Record::User((**one).clone())),
            Kind::Token => self.tokens.get(&name.parse().ok()?).map(|one| Record::Token((**one).clone())),
            Kind::App => self.apps.get(&name.parse().ok()?).map(|one| Record::App((**one).clone())),
            Kind::Replica => {
                self.replicas.get(&name.parse().ok()?).map(|one| Record::Replica((**one).clone()))
            }
            Kind::Requisition => {
                self.requisitions.get(&name.parse().ok()?).map(|one| Record::Requisition((**one).clone()))
            }
            Kind::Revision => {
                self.revisions.get(&change::revision_key(name)?).map(|one| Record::Revision((**one).clone()))
            }
            Kind::Receipt => self.receipts.get(name).map(|one| Record::Receipt((**one).clone())),
        }
    }

    /// Every record, in an order in which a store may be filled with them.
    pub fn records(&self) -> impl Iterator<Item = Record> + '_ {
        let numbers = std::iter::once(Record::Numbers(self.numbers));
        let users = self.users.values().map(|user| Record::User((**user).clone()));
        let tokens = self.tokens.values().map(|token| Record::Token((**token).clone()));
        let apps = self.apps.values().map(|app| Record::App((**app).clone()));
        let replicas = self.replicas.values().map(|replica| Record::Replica((**replica).clone()));
        let requisitions = self.requisitions.values().map(|one| Record::Requisition((**one).clone()));
        let revisions = self.revisions.values().map(|one| Record::Revision((**one).clone()));
        let receipts = self.receipts.values().map(|one| Record::Receipt((**one).clone()));
        numbers
            .chain(users)
            .chain(tokens)
            .chain(apps)
            .chain(replicas)
            .chain(requisitions)
            .chain(revisions)
            .chain(receipts)
    }

    /// Takes what was decided. The indexes follow, and what is written bears the number of the change.
    pub fn apply(&mut self, sequence: Sequence, writes: &[Write]) {
        for write in writes {
            self.take(sequence, write);
        }
        self.sequence = sequence;
    }

    /// Takes what somebody else decided, in the order of the changes; afterwards the registry is as of `head`.
    pub fn catch_up(&mut self, head: Sequence, writes: &[(Sequence, Write)]) {
        for (sequence, write) in writes {
            self.take(*sequence, write);
        }
        self.sequence = head;
    }

    fn take(&mut self, sequence: Sequence, write: &Write) {
        match write {
            Write::Put(record) => self.put(sequence, record),
            Write::Delete(key) => self.delete(key),
        }
    }

    fn put(&mut self, sequence: Sequence, record: &Record) {
        self.versions.insert_mut(record.key(), sequence);
        match record.clone() {
            Record::Numbers(numbers) => self.numbers = numbers,
            Record::User(user) => self.users.insert_mut(user.name.clone(), Arc::new(user)),
            Record::Token(token) => {
                self.digests.insert_mut(token.digest.clone(), token.id);
                self.tokens.insert_mut(token.id, Arc::new(token));
            }
            Record::App(app) => {
                if let Some(old) = self.apps.get(&app.appid) {
                    self.app_names.remove_mut(&old.name.clone());
                }
                self.app_names.insert_mut(app.name.clone(), app.appid);
                self.apps.insert_mut(app.appid, Arc::new(app));
            }
            Record::Replica(replica) => {
                if let Some(old) = self.replicas.get(&replica.id) {
                    self.identities.remove_mut(&old.registration.identity.clone());
                }
                self.identities.insert_mut(replica.registration.identity.clone(), replica.id);
                self.replicas.insert_mut(replica.id, Arc::new(replica));
            }
            Record::Requisition(one) => self.requisitions.insert_mut(one.id, Arc::new(one)),
            Record::Revision(one) => self.revisions.insert_mut((one.appid, one.number), Arc::new(one)),
            Record::Receipt(one) => self.receipts.insert_mut(one.key.clone(), Arc::new(one)),
        }
    }

    fn delete(&mut self, key: &RecordKey) {
        self.versions.remove_mut(key);
        let name = &key.name;
        match key.kind {
            Kind::Numbers => self.numbers = Numbers::default(),
            Kind::User => drop(name.parse().map(|name: UserName| self.users.remove_mut(&name))),
            Kind::Token => self.delete_token(name),
            Kind::App => self.delete_app(name),
            Kind::Replica => self.delete_replica(name),
            Kind::Requisition => drop(name.parse().map(|id| self.requisitions.remove_mut(&id))),
            Kind::Revision => drop(change::revision_key(name).map(|key| self.revisions.remove_mut(&key))),
            Kind::Receipt => drop(self.receipts.remove_mut(name)),
        }
    }

    fn delete_token(&mut self, name: &str) {
        let Some(token) = name.parse().ok().and_then(|id| self.tokens.get(&id).cloned()) else { return };
        self.digests.remove_mut(&token.digest);
        self.tokens.remove_mut(&token.id);
    }

    fn delete_app(&mut self, name: &str) {
        let Some(app) = name.parse().ok().and_then(|appid| self.apps.get(&appid).cloned()) else { return };
        self.app_names.remove_mut(&app.name);
        self.apps.remove_mut(&app.appid);
    }

    fn delete_replica(&mut self, name: &str) {
        let Some(replica) = name.parse().ok().and_then(|id| self.replicas.get(&id).cloned()) else { return };
        self.identities.remove_mut(&replica.registration.identity);
        self.replicas.remove_mut(&replica.id);
    }
}
