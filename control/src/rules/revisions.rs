//! Revisions: what is allocated is staged, what is staged is published, and what was published can be had back. Numbers only rise.

use memcloud_protocol::topology::AppId;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{Draft, Refusal, Wish};
use crate::registry::Registry;
use crate::registry::app::App;
use crate::registry::change::{Change, Record, RecordKey, Write};
use crate::registry::number::{ReplicaId, RevisionNumber};
use crate::registry::policy::Action;
use crate::registry::requisition::State;
use crate::registry::revision::{Revision, RevisionMember, RevisionShard, RevisionState};

/// Old revisions that are kept of each app, for going back; the audit log keeps what they were.
pub const REVISIONS_KEPT: usize = 20;

/// What publishing would change.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize, ToSchema)]
pub struct Difference {
    /// `s0/7`: in the allocation, and not published.
    pub added: Vec<String>,
    /// Published, and not in the allocation.
    pub removed: Vec<String>,
    /// In both, with another preference or weight.
    pub changed: Vec<String>,
}

/// Puts the staged revision in force. Nothing staged is not an error when what is allocated is what is published.
///
/// # Errors
/// There is no such app, the actor may not, it is another revision than the one that was looked at, or it would leave an app without replicas.
pub fn publish(
    wish: Wish<'_>,
    appid: AppId,
    expected: Option<RevisionNumber>,
) -> Result<(Change, Option<Revision>), Refusal> {
    let app = wish.app(appid, Action::Publish)?;
    if let Some(expected) = expected
        && app.staged != Some(expected)
    {
        let is = app.staged.map_or_else(|| "none is".to_owned(), |staged| format!("revision {staged} is"));
        return Err(Refusal::Conflict(format!(
            "revision {expected} of app {appid} is not staged, {is}: look at the difference again"
        )));
    }
    let mut draft = wish.draft();
    publish_in(&mut draft, appid)?;
    let published = draft.registry().published(appid).map(|one| (**one).clone());
    Ok((draft.finish(), published))
}

/// Makes a new revision with the content of an old one, and publishes it. What is allocated stays as it is.
///
/// # Errors
/// There is no such app or revision, the actor may not, or a replica of it is not the app's any more.
pub fn roll_back(
    wish: Wish<'_>,
    appid: AppId,
    to: RevisionNumber,
    reason: &str,
) -> Result<(Change, Revision), Refusal> {
    let app = wish.app(appid, Action::Publish)?;
    let missing = || Refusal::Missing(format!("revision {to} of app {appid}, or it is too old to be kept"));
    let old = wish.registry.revision(appid, to).ok_or_else(missing)?;
    if matches!(old.state, RevisionState::Staged | RevisionState::Discarded) {
        return Err(Refusal::Conflict(format!(
            "revision {to} was never published: there is nothing to go back to"
        )));
    }
    if app.published == Some(to) {
        return Err(Refusal::Conflict(format!("revision {to} is published: there is nothing to do")));
    }
    let members: Vec<ReplicaId> =
        app.shards.iter().flat_map(|shard| &shard.members).map(|member| member.replica).collect();
    let gone: Vec<String> =
        content(old).filter(|(_, member)| !members.contains(&member.replica)).map(|(name, _)| name).collect();
    if !gone.is_empty() {
        let gone = gone.join(", ");
        return Err(Refusal::Conflict(format!(
            "revision {to} names replicas that are not the app's any more: {gone}"
        )));
    }
    let mut draft = wish.draft();
    let number = stage_content(&mut draft, appid, old.shards.clone(), Some(to))?;
    publish_staged(&mut draft, appid, number, Some(reason))?;
    let published =
        draft.registry().revision(appid, number).map(|one| (**one).clone()).ok_or_else(missing)?;
    Ok((draft.finish(), published))
}

/// Stages what is allocated, unless that is what is published or staged already.
pub(super) fn stage_in(draft: &mut Draft<'_>, appid: AppId) -> Result<(), Refusal> {
    let app = draft.app(appid)?;
    let shards = allocated(&app);
    let newest = app.staged.or(app.published).and_then(|number| draft.registry().revision(appid, number));
    if newest.is_some_and(|newest| newest.shards == shards) || (newest.is_none() && shards.is_empty()) {
        return Ok(());
    }
    stage_content(draft, appid, shards, None).map(drop)
}

pub(super) fn publish_if_automatic(draft: &mut Draft<'_>, appid: AppId) -> Result<(), Refusal> {
    if draft.app(appid)?.auto_publish { publish_in(draft, appid) } else { Ok(()) }
}

/// Publishes what is staged, if anything is.
pub(super) fn publish_in(draft: &mut Draft<'_>, appid: AppId) -> Result<(), Refusal> {
    match draft.app(appid)?.staged {
        Some(number) => publish_staged(draft, appid, number, None),
        None => Ok(()),
    }
}

fn stage_content(
    draft: &mut Draft<'_>,
    appid: AppId,
    shards: Vec<RevisionShard>,
    rollback_of: Option<RevisionNumber>,
) -> Result<RevisionNumber, Refusal> {
    let mut app = draft.app(appid)?;
    if let Some(mut before) = app.staged.and_then(|number| owned(draft.registry(), appid, number)) {
        before.state = RevisionState::Discarded;
        draft.put("revision.discard", Record::Revision(before), None);
    }
    let number = RevisionNumber(app.last_revision.0 + 1);
    (app.last_revision, app.staged) = (number, Some(number));
    let revision = Revision {
        appid,
        number,
        shards,
        state: RevisionState::Staged,
        staged_by: draft.actor().user.clone(),
        staged_at: draft.now(),
        rollback_of,
    };
    draft.put("revision.stage", Record::Revision(revision), None);
    draft.put_quietly(Record::App(app));
    forget_old(draft, appid);
    Ok(number)
}

fn publish_staged(
    draft: &mut Draft<'_>,
    appid: AppId,
    number: RevisionNumber,
    reason: Option<&str>,
) -> Result<(), Refusal> {
    let (by, at) = (draft.actor().user.clone(), draft.now());
    let mut app = draft.app(appid)?;
    let missing = || Refusal::Missing(format!("revision {number} of app {appid}"));
    let mut revision = owned(draft.registry(), appid, number).ok_or_else(missing)?;
    if let Some(mut old) = app.published.and_then(|number| owned(draft.registry(), appid, number)) {
        old.state = ended(old.state, &revision, at);
        draft.put_quietly(Record::Revision(old));
    }
    let action = if revision.rollback_of.is_some() { "revision.roll_back" } else { "revision.publish" };
    revision.state = RevisionState::Published { by, at };
    (app.published, app.staged) = (Some(number), None);
    draft.put(action, Record::Revision(revision.clone()), reason);
    draft.put_quietly(Record::App(app));
    fulfil(draft, &revision);
    Ok(())
}

fn ended(state: RevisionState, by_which: &Revision, until: jiff::Timestamp) -> RevisionState {
    match state {
        RevisionState::Published { by, at } if by_which.rollback_of.is_some() => {
            RevisionState::RolledBack { by, at, until }
        }
        RevisionState::Published { by, at } => RevisionState::Superseded { by, at, until },
        other => other,
    }
}

/// Approved requisitions whose shards are all published have what was asked.
fn fulfil(draft: &mut Draft<'_>, revision: &Revision) {
    let is_published = |shard| revision.shards.iter().any(|one| one.name == shard);
    let granted =
        draft.registry().requisitions(None).filter(|one| one.appid == revision.appid).filter_map(|one| {
            let State::Approved(grant) = &one.state else { return None };
            grant.shards.iter().all(|&shard| is_published(shard)).then(|| (**one).clone())
        });
    let granted: Vec<_> = granted.collect();
    for mut one in granted {
        if let Ok(state) = one.state.clone().fulfil(revision.number, draft.now()) {
            one.state = state;
            draft.put("requisition.fulfil", Record::Requisition(one), None);
        }
    }
}

fn forget_old(draft: &mut Draft<'_>, appid: AppId) {
    let Some(app) = draft.registry().app(appid).cloned() else { return };
    let in_use = |number| app.published == Some(number) || app.staged == Some(number);
    let kept: Vec<RevisionNumber> =
        draft.registry().revisions(appid).map(|one| one.number).filter(|&n| !in_use(n)).collect();
    let surplus = kept.len().saturating_sub(REVISIONS_KEPT);
    for &number in kept.iter().take(surplus) {
        draft.write(Write::Delete(RecordKey::revision(appid, number)));
    }
}

fn owned(registry: &Registry, appid: AppId, number: RevisionNumber) -> Option<Revision> {
    registry.revision(appid, number).map(|one| (**one).clone())
}

/// What a revision of what is allocated would say: members that serve; a shard that has none yet is not told.
#[must_use]
pub fn allocated(app: &App) -> Vec<RevisionShard> {
    let shards = app.shards.iter().map(|shard| RevisionShard {
        name: shard.name,
        members: shard
            .serving()
            .map(|member| RevisionMember {
                replica: member.replica,
                preference: member.preference,
                weight: member.weight,
            })
            .collect(),
    });
    shards.filter(|shard| !shard.members.is_empty()).collect()
}

/// What publishing what is allocated would change.
///
/// # Errors
/// There is no such app, or the actor may not.
pub fn difference(wish: Wish<'_>, appid: AppId) -> Result<Difference, Refusal> {
    let app = wish.app(appid, Action::ReadApp)?;
    let next = allocated(app);
    let published =
        wish.registry.published(appid).map(|revision| revision.shards.clone()).unwrap_or_default();
    let (next, now) = (named(&next), named(&published));
    let mut difference = Difference::default();
    for (name, member) in &next {
        match now.iter().find(|(other, _)| other == name) {
            None => difference.added.push(name.clone()),
            Some((_, old)) if old != member => difference.changed.push(name.clone()),
            Some(_) => {}
        }
    }
    let gone = now.iter().filter(|(name, _)| !next.iter().any(|(other, _)| other == name));
    difference.removed = gone.map(|(name, _)| name.clone()).collect();
    Ok(difference)
}

fn named(shards: &[RevisionShard]) -> Vec<(String, RevisionMember)> {
    let members =
        shards.iter().flat_map(|shard| shard.members.iter().map(move |member| (shard.name, *member)));
    members.map(|(shard, member)| (format!("{shard}/{}", member.replica), member)).collect()
}

fn content(revision: &Revision) -> impl Iterator<Item = (String, RevisionMember)> {
    named(&revision.shards).into_iter()
}
