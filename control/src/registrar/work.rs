//! The registrar's task: one event, one answer.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use memcloud_protocol::topology::AppId;
use tokio::sync::{mpsc, watch};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::Terms;
use super::ask::{Ask, AskError};
use super::figures;
use super::view::{View, hear};
use crate::directory::{app_of_replica, touched};
use crate::leases::Heard;
use crate::registry::app::Standing;
use crate::registry::change::{Change, RecordKey, Write};
use crate::registry::number::{ReplicaId, Sequence};
use crate::registry::policy::Actor;
use crate::registry::user::{Role, Scope, UserName};
use crate::rules::{Wish, members, receipts};
use crate::store::{Beat, Changes, CommitError, Store, StoreError, TOMBSTONES_KEPT};

/// How often a decision is made anew because another process was faster. Each round lets one wish of somebody through.
const ROUNDS_MAX: usize = 64;
/// Heartbeats are kept, leases looked at, and others' changes asked for, at this pace.
const TICK: Duration = Duration::from_secs(1);
/// Ticks between two clearings of old tombstones.
const TICKS_BETWEEN_CLEARINGS: u64 = 600;
/// Ticks between two looks at how much there is.
const TICKS_BETWEEN_FIGURES: u64 = 10;
/// What the registrar itself does is logged under this name.
const STEWARD: &str = "memcloud";

pub(super) struct Work {
    store: Store,
    terms: Terms,
    view: View,
    shown: Arc<ArcSwap<View>>,
    publish: watch::Sender<u64>,
    decide: watch::Sender<Sequence>,
    /// Heard here, and not kept yet.
    unsaved: BTreeMap<ReplicaId, Heard>,
    /// The latest heartbeat that was read from the store.
    beats_read_ms: i64,
    /// When leases end, the soonest first. A heartbeat adds an end and takes none away: an end that has moved on is looked at in vain.
    ends: BTreeSet<(Timestamp, ReplicaId)>,
    /// Apps with members that are on their way in or out.
    unsettled: BTreeSet<AppId>,
    ticks: u64,
}

impl Work {
    pub(super) fn new(
        store: Store,
        terms: Terms,
        shown: Arc<ArcSwap<View>>,
        publish: watch::Sender<u64>,
        decide: watch::Sender<Sequence>,
    ) -> Self {
        let view = (*shown.load_full()).clone();
        let mut work = Self {
            store,
            terms,
            view,
            shown,
            publish,
            decide,
            unsaved: BTreeMap::new(),
            beats_read_ms: 0,
            ends: BTreeSet::new(),
            unsettled: BTreeSet::new(),
            ticks: 0,
        };
        work.note_all();
        work
    }

    pub(super) async fn run(
        mut self,
        mut wishes: mpsc::Receiver<Box<dyn Ask>>,
        mut heartbeats: mpsc::Receiver<(ReplicaId, Heard)>,
        stop: CancellationToken,
    ) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut changes = Changes::Never;
        let mut listens = false;
        loop {
            if !listens && let Ok(open) = self.store.changes().await {
                (changes, listens) = (open, true);
                self.look().await;
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(ask) = wishes.recv() => self.grant(ask).await,
                heard = changes.heard() => match heard {
                    Ok(()) => self.look().await,
                    Err(_) => (changes, listens) = (Changes::Never, false),
                },
                Some((id, heard)) = heartbeats.recv() => self.take_heartbeat(id, heard),
                _ = tick.tick() => self.tick().await,
            }
        }
        let _ = self.save_beats().await;
    }

    /// Everything is new: what ends by itself is noted for all of it.
    fn note_all(&mut self) {
        let apps: Vec<AppId> = self.view.registry.apps(None).map(|app| app.appid).collect();
        self.note_unsettled(&apps);
        let ids: Vec<ReplicaId> = self.view.registry.replicas(None).map(|replica| replica.id).collect();
        for id in ids {
            self.note_end(id);
        }
    }

    async fn grant(&mut self, mut ask: Box<dyn Ask>) {
        let ended = self.decide(|view, now| ask.decide(view, now)).await;
        ask.end(ended);
    }

    /// Decides, and decides anew as long as others are faster.
    async fn decide(
        &mut self,
        mut rule: impl FnMut(&View, Timestamp) -> Result<Change, crate::rules::Refusal>,
    ) -> Result<(), AskError> {
        if self.view.restored.is_some() {
            self.catch_up().await?;
        }
        for _ in 0..ROUNDS_MAX {
            let change = rule(&self.view, Timestamp::now())?;
            if change.writes.is_empty() {
                return Ok(());
            }
            match self.store.commit(self.view.registry.sequence(), &change).await {
                Ok(sequence) => {
                    self.took(sequence, &change.writes);
                    return Ok(());
                }
                Err(CommitError::Conflict) => {
                    self.catch_up().await.inspect_err(|error| self.in_trouble(error))?
                }
                Err(CommitError::Store(error)) => {
                    self.in_trouble(&error);
                    return Err(error.into());
                }
                Err(error @ CommitError::Unknown(_)) => {
                    // If it was taken, it is seen at the next look.
                    return Err(error.into());
                }
            }
        }
        Err(AskError::Busy)
    }

    fn took(&mut self, sequence: Sequence, writes: &[Write]) {
        let keys: Vec<RecordKey> = writes.iter().map(Write::key).collect();
        let mut apps = touched(&self.view.registry, &keys);
        self.view.registry.apply(sequence, writes);
        apps.extend(touched(&self.view.registry, &keys));
        self.view.trouble = None;
        self.show(apps);
    }

    /// Reads what others have decided.
    async fn catch_up(&mut self) -> Result<(), StoreError> {
        if self.view.restored.is_some() {
            self.store.migrate().await?;
            return self.read_anew().await;
        }
        let from = self.view.registry.sequence();
        let since = self.store.since(from).await?;
        if since.head.0 < from.0 || since.head.0 - from.0 >= TOMBSTONES_KEPT {
            // Too far behind to hear of every deletion, or another store was put in its place.
            return self.read_anew().await;
        }
        let keys: Vec<RecordKey> = since.writes.iter().map(|(_, write)| write.key()).collect();
        let mut apps = touched(&self.view.registry, &keys);
        self.view.registry.catch_up(since.head, &since.writes);
        apps.extend(touched(&self.view.registry, &keys));
        let was_in_trouble = self.view.trouble.take().is_some();
        if was_in_trouble || since.head != from {
            self.show(apps);
        }
        Ok(())
    }

    async fn read_anew(&mut self) -> Result<(), StoreError> {
        let mut view = View::read(&self.store, self.terms, Timestamp::now()).await?;
        if self.view.restored.is_none() {
            view.leases = self.view.leases.clone();
        }
        view.directory.raise_serial(self.view.directory.serial().wrapping_add(1));
        self.view = view;
        self.note_all();
        let apps = self.view.registry.apps(None).map(|app| app.appid).collect();
        self.show(apps);
        // Another directory is another answer, also to those that wait for an app that is gone.
        self.publish.send_modify(|count| *count = count.wrapping_add(1));
        Ok(())
    }

    async fn look(&mut self) {
        if let Err(error) = self.catch_up().await {
            self.in_trouble(&error);
        }
    }

    fn take_heartbeat(&mut self, id: ReplicaId, heard: Heard) {
        self.unsaved.insert(id, heard.clone());
        self.view.leases.hear(id, heard);
        self.note_end(id);
        let app = app_of_replica(&self.view.registry, id);
        self.show(app.into_iter().collect());
    }

    async fn tick(&mut self) {
        self.ticks += 1;
        self.look().await;
        if self.save_beats().await.is_ok() {
            self.hear_others().await;
        }
        let now = Timestamp::now();
        let ended = self.ended_leases(now);
        self.show(ended);
        self.take_due_steps(now).await;
        if self.ticks % TICKS_BETWEEN_FIGURES == 1 {
            figures::show(&self.view, now);
        }
        if self.ticks.is_multiple_of(TICKS_BETWEEN_CLEARINGS) {
            let _ = self.decide(|view, now| Ok(receipts::forget_old(&view.registry, now))).await;
            let _ = self.store.forget_tombstones(self.view.registry.sequence()).await;
        }
    }

    /// Apps with a replica whose lease may have ended.
    fn ended_leases(&mut self, now: Timestamp) -> BTreeSet<AppId> {
        let later = self.ends.split_off(&(now, ReplicaId(u64::MAX)));
        let ended = std::mem::replace(&mut self.ends, later);
        ended.iter().filter_map(|&(_, id)| app_of_replica(&self.view.registry, id)).collect()
    }

    fn note_end(&mut self, id: ReplicaId) {
        if let Some(end) = self.view.leases.end(id) {
            self.ends.insert((end, id));
        }
    }

    fn note_unsettled<'a>(&mut self, apps: impl IntoIterator<Item = &'a AppId>) {
        for &appid in apps {
            let app = self.view.registry.app(appid);
            let mut members = app.into_iter().flat_map(|app| &app.shards).flat_map(|shard| &shard.members);
            if members.any(|member| member.standing != Standing::Serving) {
                self.unsettled.insert(appid);
            } else {
                self.unsettled.remove(&appid);
            }
        }
    }

    /// What is due by itself is decided like a wish, under the registrar's own name.
    async fn take_due_steps(&mut self, now: Timestamp) {
        let view = self.view.clone();
        let apps = self.unsettled.iter().filter_map(|&appid| view.registry.app(appid));
        let steps =
            members::due(&view.registry, apps, &|id| view.is_whole(id, now), self.terms.leave_after, now);
        let Some(actor) = steward() else { return };
        for step in steps {
            let taken = self
                .decide(|view, now| {
                    members::step(Wish { registry: &view.registry, actor: &actor, now }, step)
                        .map(|(change, ())| change)
                })
                .await;
            match taken {
                Ok(()) => tracing::info!(?step, "taken"),
                Err(error) => return tracing::warn!(?step, %error, "a step that is due cannot be taken"),
            }
        }
    }

    async fn save_beats(&mut self) -> Result<(), StoreError> {
        if self.unsaved.is_empty() {
            return Ok(());
        }
        let beats: Vec<Beat> = self.unsaved.iter().filter_map(|(&id, heard)| kept(id, heard)).collect();
        self.store.save_beats(&beats).await.inspect_err(|error| self.in_trouble(error))?;
        self.unsaved.clear();
        Ok(())
    }

    async fn hear_others(&mut self) {
        // Clocks of processes differ a little, and commits come late: some are read twice.
        let from = self.beats_read_ms.saturating_sub(10_000);
        let Ok(beats) = self.store.beats_since(from).await else { return };
        let mut heard = BTreeSet::new();
        for beat in beats {
            self.beats_read_ms = self.beats_read_ms.max(beat.at_ms);
            if hear(&mut self.view.leases, &beat) {
                self.note_end(beat.replica);
                heard.extend(app_of_replica(&self.view.registry, beat.replica));
            }
        }
        self.show(heard);
    }

    fn in_trouble(&mut self, error: &StoreError) {
        if self.view.trouble.is_none() {
            tracing::error!(%error, "the store is in trouble");
        }
        self.view.trouble = Some(error.clone());
        self.show(BTreeSet::new());
    }

    fn show(&mut self, apps: BTreeSet<AppId>) {
        self.note_unsettled(&apps);
        let View { registry, leases, directory, .. } = &mut self.view;
        let changed = directory.refresh(registry, leases, self.terms.ttl_seconds, Timestamp::now(), apps);
        self.shown.store(Arc::new(self.view.clone()));
        let sequence = self.view.registry.sequence();
        self.decide.send_if_modified(|shown| std::mem::replace(shown, sequence) != sequence);
        if changed {
            self.publish.send_modify(|count| *count = count.wrapping_add(1));
        }
    }
}

fn kept(id: ReplicaId, heard: &Heard) -> Option<Beat> {
    let body = serde_json::to_string(&heard.heartbeat).ok()?;
    Some(Beat { replica: id, at_ms: heard.at.as_millisecond(), body })
}

fn steward() -> Option<Actor> {
    let user: UserName = STEWARD.parse().ok()?;
    Some(Actor { user, role: Role::Operator, scope: Scope::Full })
}
