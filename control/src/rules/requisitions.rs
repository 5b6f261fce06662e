//! Requisitions: filed, withdrawn, rejected, approved. To approve is to allocate: what the pool cannot give is not approved.

use memcloud_protocol::topology::{AppId, ShardName};

use super::allocation::{self, Demand, Present, Spread};
use super::members::free_replicas;
use super::{Draft, Refusal, Wish, revisions, unchanged};
use crate::registry::app::{App, Member, Shard, Standing};
use crate::registry::change::{Change, Numbers, Record, RecordKey};
use crate::registry::number::{ReplicaId, RequisitionId, Sequence};
use crate::registry::policy::Action;
use crate::registry::replica::Allocation;
use crate::registry::requisition::{Decision, Grant, Requisition, Size, State};

/// More than any app wants, and small enough to be computed with.
const SHARDS_MAX: u16 = 1_000;
const REPLICAS_MAX: u16 = 16;
const REASON_BYTES_MAX: usize = 1_024;

/// A requisition as asked for.
#[derive(Clone, Debug)]
pub struct NewRequisition {
    pub appid: AppId,
    pub size: Size,
    pub reason: String,
}

/// How it is approved.
#[derive(Clone, Debug, Default)]
pub struct Approval {
    /// `None`: as asked.
    pub size: Option<Size>,
    pub spread: Spread,
    pub reason: String,
}

/// What came of it, and what had to be given up.
pub type Approved = (Requisition, Vec<String>);

/// Which replicas are alive: a replica whose lease ran out is never allocated.
pub type Alive<'a> = &'a dyn Fn(ReplicaId) -> bool;

/// An app that approves within its quota gets an answer at once, if the pool has it; otherwise somebody has to look.
///
/// # Errors
/// There is no such app, the actor may not, or the size is none.
pub fn create(wish: Wish<'_>, new: NewRequisition, alive: Alive<'_>) -> Result<(Change, Approved), Refusal> {
    let app = wish.app(new.appid, Action::CreateRequisition)?;
    check_size(new.size)?;
    check_reason(&new.reason)?;
    let numbers = wish.registry.numbers();
    let requisition = Requisition {
        id: numbers.requisition,
        appid: new.appid,
        asked: new.size,
        asked_by: wish.actor.user.clone(),
        asked_at: wish.now,
        reason: new.reason,
        state: State::Pending,
    };
    let mut draft = wish.draft();
    draft.put_quietly(Record::Numbers(Numbers {
        requisition: RequisitionId(numbers.requisition.0 + 1),
        ..numbers
    }));
    draft.put("requisition.create", Record::Requisition(requisition.clone()), None);
    let mut answer = (requisition, Vec::new());
    if app.auto_approve {
        let approval = Approval { reason: "within the quota".into(), ..Approval::default() };
        let mut attempt = draft.fork();
        match approve_in(&mut attempt, answer.0.clone(), &approval, alive) {
            Ok(approved) => (draft, answer) = (attempt, approved),
            Err(why) => answer.1.push(format!("not approved by itself: {why}")),
        }
    }
    Ok((draft.finish(), answer))
}

/// # Errors
/// There is none, the actor may not, or it is decided.
pub fn withdraw(wish: Wish<'_>, id: RequisitionId, reason: &str) -> Result<(Change, Requisition), Refusal> {
    let requisition = wish.requisition(id, Action::WithdrawRequisition)?;
    decide(wish, requisition, "requisition.withdraw", reason, State::withdraw)
}

/// # Errors
/// There is none, the actor may not, or it is decided.
pub fn reject(wish: Wish<'_>, id: RequisitionId, reason: &str) -> Result<(Change, Requisition), Refusal> {
    let requisition = wish.requisition(id, Action::DecideRequisition)?;
    decide(wish, requisition, "requisition.reject", reason, State::reject)
}

/// Allocates what it grants, and stages a revision; published at once if the app says so.
///
/// # Errors
/// There is none, the actor may not, it is decided, the quota forbids it, or the pool does not hold it.
pub fn approve(
    wish: Wish<'_>,
    id: RequisitionId,
    approval: &Approval,
    read: Option<Sequence>,
    alive: Alive<'_>,
) -> Result<(Change, Approved), Refusal> {
    let requisition = wish.requisition(id, Action::DecideRequisition)?.clone();
    unchanged(wish.registry, &RecordKey::requisition(id), read)?;
    check_reason(&approval.reason)?;
    let mut draft = wish.draft();
    let approved = approve_in(&mut draft, requisition, approval, alive)?;
    Ok((draft.finish(), approved))
}

fn approve_in(
    draft: &mut Draft<'_>,
    mut one: Requisition,
    approval: &Approval,
    alive: Alive<'_>,
) -> Result<Approved, Refusal> {
    let size = approval.size.unwrap_or(one.asked);
    check_size(size)?;
    if one.state != State::Pending {
        return Err(Refusal::Conflict(format!("requisition {} is {}", one.id, one.state.word())));
    }
    let mut app = draft.app(one.appid)?;
    within_quota(&app, size)?;
    let (shards, remarks) = grow(draft, &mut app, size, approval.spread, alive)?;
    draft.put("app.allocate", Record::App(app), Some(&approval.reason));
    let decision =
        Decision { by: draft.actor().user.clone(), at: draft.now(), reason: approval.reason.clone() };
    one.state = one.state.approve(Grant { decision, size, shards }).map_err(conflict)?;
    draft.put("requisition.approve", Record::Requisition(one.clone()), Some(&approval.reason));
    revisions::stage_in(draft, one.appid)?;
    revisions::publish_if_automatic(draft, one.appid)?;
    // Publication fulfils it.
    let one = draft.registry().requisition(one.id).map_or(one, |kept| (**kept).clone());
    Ok((one, remarks))
}

/// Appends shards: those that are there keep their numbers, and their keys.
fn grow(
    draft: &mut Draft<'_>,
    app: &mut App,
    size: Size,
    spread: Spread,
    alive: Alive<'_>,
) -> Result<(Vec<ShardName>, Vec<String>), Refusal> {
    let registry = draft.registry().clone();
    let pool = free_replicas(&registry, alive);
    let demand = Demand {
        shards: size.shards.into(),
        replicas: size.replicas.into(),
        memory_bytes: size.memory_bytes,
        spread,
    };
    let allotment = allocation::allot(&pool, demand, &Present::default()).map_err(Refusal::PoolTooSmall)?;
    let mut names = Vec::new();
    for replicas in allotment.shards {
        let name = ShardName::numbered(app.next_shard);
        app.next_shard = app
            .next_shard
            .checked_add(1)
            .ok_or_else(|| Refusal::Conflict("all shard names are given".into()))?;
        for &id in &replicas {
            let Some(replica) = registry.replica(id) else { continue };
            let mut replica = (**replica).clone();
            replica.allocation = Allocation::Allocated { appid: app.appid, shard: name };
            draft.put_quietly(Record::Replica(replica));
        }
        let members = replicas.into_iter().map(|id| Member::new(id, Standing::Serving)).collect();
        app.shards.push(Shard { name, memory_bytes: size.memory_bytes, members });
        names.push(name);
    }
    Ok((names, allotment.remarks))
}

fn within_quota(app: &App, size: Size) -> Result<(), Refusal> {
    let quota = app.quota;
    let shards = app.shards.len() + usize::from(size.shards);
    let asked = u64::from(size.shards).saturating_mul(size.replicas.into()).saturating_mul(size.memory_bytes);
    let memory = app.memory_bytes().saturating_add(asked);
    let says = if shards > quota.shards.into() {
        format!("{shards} shards, where {} are allowed", quota.shards)
    } else if size.replicas > quota.replicas_per_shard {
        format!("{} replicas in a shard, where {} are allowed", size.replicas, quota.replicas_per_shard)
    } else if memory > quota.memory_bytes {
        format!("{memory} bytes, where {} are allowed", quota.memory_bytes)
    } else {
        return Ok(());
    };
    Err(Refusal::OverQuota(format!(
        "app {} would have {says}: ask for less, or have the quota raised",
        app.appid
    )))
}

fn decide(
    wish: Wish<'_>,
    requisition: &Requisition,
    action: &str,
    reason: &str,
    step: impl Fn(State, Decision) -> Result<State, crate::registry::requisition::Decided>,
) -> Result<(Change, Requisition), Refusal> {
    check_reason(reason)?;
    let mut requisition = requisition.clone();
    let decision = Decision { by: wish.actor.user.clone(), at: wish.now, reason: reason.to_owned() };
    requisition.state = step(requisition.state, decision).map_err(conflict)?;
    let mut draft = wish.draft();
    draft.put(action, Record::Requisition(requisition.clone()), Some(reason));
    Ok((draft.finish(), requisition))
}

fn conflict(decided: crate::registry::requisition::Decided) -> Refusal {
    Refusal::Conflict(decided.to_string())
}

fn check_size(size: Size) -> Result<(), Refusal> {
    let good = (1..=SHARDS_MAX).contains(&size.shards)
        && (1..=REPLICAS_MAX).contains(&size.replicas)
        && size.memory_bytes > 0;
    let says = || {
        format!(
            "a requisition asks for 1 to {SHARDS_MAX} shards of 1 to {REPLICAS_MAX} replicas with some memory each"
        )
    };
    if good { Ok(()) } else { Err(Refusal::Invalid(says())) }
}

fn check_reason(reason: &str) -> Result<(), Refusal> {
    let says = || format!("a reason has {REASON_BYTES_MAX} bytes at most");
    if reason.len() <= REASON_BYTES_MAX { Ok(()) } else { Err(Refusal::Invalid(says())) }
}
