//! What becomes due by itself: a newcomer that is whole serves, a member that left is let go once clients have forgotten it.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use memcloud_protocol::topology::{AppId, Preference, ShardName};

use super::{leave, member_mut};
use crate::registry::Registry;
use crate::registry::app::{App, Member, Standing};
use crate::registry::change::{Change, Record};
use crate::registry::number::ReplicaId;
use crate::registry::replica::Allocation;
use crate::registry::revision::RevisionState;
use crate::rules::{Draft, Refusal, Wish, no_shard, revisions};

/// Something that is due without anybody's wish.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Step {
    /// The newcomer is whole: it serves from now on.
    Joined { appid: AppId, shard: ShardName, replica: ReplicaId },
    /// Clients have had time to forget it.
    LetGo { appid: AppId, shard: ShardName, replica: ReplicaId },
}

/// What is due now in these apps. `whole` says which replicas are ready and in sync by their own word.
#[must_use]
pub fn due<'a>(
    registry: &Registry,
    apps: impl IntoIterator<Item = &'a Arc<App>>,
    whole: &dyn Fn(ReplicaId) -> bool,
    leave_after: SignedDuration,
    now: Timestamp,
) -> Vec<Step> {
    let mut steps = Vec::new();
    for app in apps {
        for shard in &app.shards {
            for member in &shard.members {
                let (appid, shard, replica) = (app.appid, shard.name, member.replica);
                match member.standing {
                    Standing::Joining { .. } if whole(replica) => {
                        steps.push(Step::Joined { appid, shard, replica })
                    }
                    Standing::Leaving { since }
                        if may_go(registry, app, replica, since, leave_after, now) =>
                    {
                        steps.push(Step::LetGo { appid, shard, replica });
                    }
                    _ => {}
                }
            }
        }
    }
    steps
}

/// Carries out a step that was due. It may not be any more: then nothing changes.
///
/// # Errors
/// The registry contradicts itself.
pub fn step(wish: Wish<'_>, step: Step) -> Result<(Change, ()), Refusal> {
    let mut draft = wish.draft();
    match step {
        Step::Joined { appid, shard, replica } => joined(&mut draft, appid, shard, replica)?,
        Step::LetGo { appid, shard, replica } => let_go(&mut draft, appid, shard, replica)?,
    }
    Ok((draft.finish(), ()))
}

fn joined(draft: &mut Draft<'_>, appid: AppId, name: ShardName, replica: ReplicaId) -> Result<(), Refusal> {
    let now = draft.now();
    let mut app = draft.app(appid)?;
    let place = app.shard_mut(name).ok_or_else(|| no_shard(appid, name))?;
    let member = member_mut(place, replica)?;
    let Standing::Joining { replaces } = member.standing else { return Ok(()) };
    member.standing = Standing::Serving;
    let (preference, weight) =
        match replaces.and_then(|old| place.members.iter().find(|one| one.replica == old)) {
            Some(old) => (old.preference, old.weight),
            None => (Preference::Preferred, Member::WEIGHT),
        };
    let member = member_mut(place, replica)?;
    (member.preference, member.weight) = (preference, weight);
    if let Some(old) = replaces
        && place.members.iter().any(|one| one.replica == old)
    {
        leave(place, old, now)?;
    }
    draft.put("shard.joined", Record::App(app), None);
    revisions::stage_in(draft, appid)?;
    revisions::publish_in(draft, appid)
}

fn let_go(draft: &mut Draft<'_>, appid: AppId, name: ShardName, id: ReplicaId) -> Result<(), Refusal> {
    let mut app = draft.app(appid)?;
    let place = app.shard_mut(name).ok_or_else(|| no_shard(appid, name))?;
    place
        .members
        .retain(|member| member.replica != id || !matches!(member.standing, Standing::Leaving { .. }));
    app.shards.retain(|shard| !shard.members.is_empty());
    if let Some(replica) = draft.registry().replica(id) {
        let mut replica = (**replica).clone();
        replica.allocation = Allocation::Released;
        draft.put_quietly(Record::Replica(replica));
    }
    draft.put("shard.let_go", Record::App(app), None);
    Ok(())
}

/// Not before a revision without it is published, and clients have had time to see that.
fn may_go(
    registry: &Registry,
    app: &App,
    replica: ReplicaId,
    since: Timestamp,
    after: SignedDuration,
    now: Timestamp,
) -> bool {
    let published = registry.published(app.appid);
    let is_told = published
        .is_some_and(|one| one.shards.iter().flat_map(|shard| &shard.members).any(|m| m.replica == replica));
    let told_until = published.map_or(since, |one| match &one.state {
        RevisionState::Published { at, .. } => (*at).max(since),
        _ => since,
    });
    !is_told && now.duration_since(told_until) >= after
}
