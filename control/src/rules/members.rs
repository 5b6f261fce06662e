//! Members of shards: added, replaced, let go. What follows by itself when a newcomer is whole is in `steps`, whom the pool
//! gives in `choice`.

mod choice;
mod steps;

use jiff::Timestamp;
use memcloud_protocol::topology::{AppId, Preference, ShardName};

pub use choice::free_replicas;
pub use steps::{Step, due, step};

use self::choice::choose;
use super::allocation::Spread;
use super::requisitions::Alive;
use super::{Draft, Refusal, Wish, no_shard, revisions};
use crate::registry::Registry;
use crate::registry::app::{App, Member, Shard, Standing};
use crate::registry::change::{Change, Record};
use crate::registry::number::ReplicaId;
use crate::registry::policy::Action;
use crate::registry::replica::{Allocation, Replica};

/// A replica that is to come into a shard.
#[derive(Clone, Copy, Debug, Default)]
pub struct Newcomer {
    /// `None`: the best of the pool.
    pub replica: Option<ReplicaId>,
    /// The member that goes when the newcomer is whole.
    pub replaces: Option<ReplicaId>,
    pub spread: Spread,
}

/// Adds a replica to a shard, to replace another or beside them. It is published once it is whole.
///
/// # Errors
/// There is no such shard or member, the actor may not, or the pool has nobody that fits.
pub fn add(
    wish: Wish<'_>,
    appid: AppId,
    shard: ShardName,
    newcomer: Newcomer,
    alive: Alive<'_>,
) -> Result<(Change, (App, Vec<String>)), Refusal> {
    let app = wish.app(appid, Action::Allocate)?;
    let place = app.shard(shard).ok_or_else(|| no_shard(appid, shard))?;
    if let Some(old) = newcomer.replaces {
        check_replaced(place, old)?;
    }
    let after = place.members.len() + usize::from(newcomer.replaces.is_none());
    if after > usize::from(app.quota.replicas_per_shard) {
        let says = format!(
            "shard {shard} would have {after} replicas, where {} are allowed",
            app.quota.replicas_per_shard
        );
        return Err(Refusal::OverQuota(says));
    }
    let (chosen, remarks) = choose(wish.registry, place, newcomer, alive)?;
    let mut draft = wish.draft();
    join(&mut draft, app.clone(), shard, chosen, Standing::Joining { replaces: newcomer.replaces })?;
    let app = draft.app(appid)?;
    Ok((draft.finish(), (app, remarks)))
}

/// Takes a member out: it is not published from now on, and let go when clients have had time to learn that.
///
/// # Errors
/// There is no such member, the actor may not, or it is the last one that serves.
pub fn remove(
    wish: Wish<'_>,
    appid: AppId,
    shard: ShardName,
    replica: ReplicaId,
) -> Result<(Change, App), Refusal> {
    let mut app = wish.app(appid, Action::Allocate)?.clone();
    let place = app.shard_mut(shard).ok_or_else(|| no_shard(appid, shard))?;
    let serving = place.serving().filter(|member| member.replica != replica).count();
    if serving == 0 {
        let says = format!(
            "replica {replica} is the last of shard {shard} that serves: add another first, or remove the shard"
        );
        return Err(Refusal::Conflict(says));
    }
    leave(place, replica, wish.now)?;
    let mut draft = wish.draft();
    draft.put("shard.remove_replica", Record::App(app), None);
    restage(&mut draft, appid)?;
    let app = draft.app(appid)?;
    Ok((draft.finish(), app))
}

/// Takes whole shards away, from the end. Their keys go to the others: about as large a part of all keys as they were of all shards.
///
/// # Errors
/// There are not so many, or the actor may not.
pub fn shrink(wish: Wish<'_>, appid: AppId, to: usize) -> Result<(Change, App), Refusal> {
    let mut app = wish.app(appid, Action::Allocate)?.clone();
    if to >= app.shards.len() {
        return Err(Refusal::Invalid(format!(
            "app {appid} has {} shards: it cannot shrink to {to}",
            app.shards.len()
        )));
    }
    for shard in app.shards.iter_mut().skip(to) {
        for member in &mut shard.members {
            member.standing = Standing::Leaving { since: wish.now };
        }
    }
    let mut draft = wish.draft();
    draft.put("app.shrink", Record::App(app), None);
    restage(&mut draft, appid)?;
    let app = draft.app(appid)?;
    Ok((draft.finish(), app))
}

/// Says in which order clients ask a member, and how often.
///
/// # Errors
/// There is no such member, or the actor may not.
pub fn prefer(
    wish: Wish<'_>,
    appid: AppId,
    shard: ShardName,
    replica: ReplicaId,
    preference: Option<Preference>,
    weight: Option<u16>,
) -> Result<(Change, App), Refusal> {
    let mut app = wish.app(appid, Action::Allocate)?.clone();
    let place = app.shard_mut(shard).ok_or_else(|| no_shard(appid, shard))?;
    let member = member_mut(place, replica)?;
    member.preference = preference.unwrap_or(member.preference);
    member.weight = weight.unwrap_or(member.weight);
    let mut draft = wish.draft();
    draft.put("shard.prefer", Record::App(app), None);
    restage(&mut draft, appid)?;
    let app = draft.app(appid)?;
    Ok((draft.finish(), app))
}

/// Puts a replica that asked for this very place into it: into a new shard at the end, or beside the others.
pub(super) fn join_wanted(
    draft: &mut Draft<'_>,
    mut app: App,
    shard: ShardName,
    replica: &Replica,
    alive: Alive<'_>,
) -> Result<(), Refusal> {
    let standing = match app.shard(shard) {
        Some(place) => {
            if place.members.len() >= usize::from(app.quota.replicas_per_shard) {
                return Err(full(draft.registry(), &app, place, alive));
            }
            check_name(draft.registry(), place, replica)?;
            Standing::Joining { replaces: None }
        }
        None if shard.number() == app.next_shard && app.shards.len() < usize::from(app.quota.shards) => {
            app.next_shard += 1;
            app.shards.push(Shard {
                name: shard,
                memory_bytes: replica.registration.memory_bytes,
                members: Vec::new(),
            });
            Standing::Serving
        }
        None if shard.number() == app.next_shard => {
            return Err(Refusal::OverQuota(format!(
                "app {} has all the {} shards that its quota allows: raise the quota, or ask for a place in one of them",
                app.appid, app.quota.shards
            )));
        }
        None => {
            return Err(Refusal::Missing(format!(
                "shard {shard} of app {}: ask for one that is there, or for s{}, which would be the next",
                app.appid, app.next_shard
            )));
        }
    };
    let appid = app.appid;
    join(draft, app, shard, replica, standing)?;
    restage(draft, appid)
}

/// Nobody more comes in; whoever is dead can be replaced under their own name.
fn full(registry: &Registry, app: &App, shard: &Shard, alive: Alive<'_>) -> Refusal {
    let members = shard.members.iter().filter_map(|member| registry.replica(member.replica));
    let mut says = format!(
        "shard {} of app {} is full, its quota allows {} replicas: raise the quota, or take a replica out first",
        shard.name, app.appid, app.quota.replicas_per_shard
    );
    for dead in members.filter(|replica| !alive(replica.id)) {
        let site = &dead.registration.site;
        says +=
            &format!("; replica {} is down, and a proxy started with --site {site} takes its place", dead.id);
    }
    Refusal::OverQuota(says)
}

fn join(
    draft: &mut Draft<'_>,
    mut app: App,
    shard: ShardName,
    replica: &Replica,
    standing: Standing,
) -> Result<(), Refusal> {
    let appid = app.appid;
    let place = app.shard_mut(shard).ok_or_else(|| no_shard(appid, shard))?;
    place.members.push(Member::new(replica.id, standing));
    let mut replica = replica.clone();
    replica.allocation = Allocation::Allocated { appid, shard };
    draft.put_quietly(Record::Replica(replica));
    draft.put("shard.add_replica", Record::App(app), None);
    Ok(())
}

fn check_replaced(place: &Shard, old: ReplicaId) -> Result<(), Refusal> {
    let member = place.members.iter().find(|member| member.replica == old);
    if member.is_none_or(|member| member.standing != Standing::Serving) {
        return Err(Refusal::Conflict(format!(
            "replica {old} does not serve shard {}: it cannot be replaced",
            place.name
        )));
    }
    let is_replaced = |member: &Member| member.standing == Standing::Joining { replaces: Some(old) };
    if place.members.iter().any(is_replaced) {
        return Err(Refusal::Conflict(format!("replica {old} is being replaced already")));
    }
    Ok(())
}

fn check_name(registry: &Registry, place: &Shard, replica: &Replica) -> Result<(), Refusal> {
    let site = &replica.registration.site;
    let mut members = place.members.iter().filter_map(|member| registry.replica(member.replica));
    if members.any(|member| member.registration.site == *site) {
        return Err(Refusal::Conflict(format!(
            "shard {} has a replica named {site} already: start it with another --site",
            place.name
        )));
    }
    Ok(())
}

fn leave(place: &mut Shard, replica: ReplicaId, now: Timestamp) -> Result<(), Refusal> {
    member_mut(place, replica)?.standing = Standing::Leaving { since: now };
    // Whoever was to replace it simply joins.
    for member in &mut place.members {
        if member.standing == (Standing::Joining { replaces: Some(replica) }) {
            member.standing = Standing::Joining { replaces: None };
        }
    }
    Ok(())
}

fn member_mut(place: &mut Shard, replica: ReplicaId) -> Result<&mut Member, Refusal> {
    let missing = || Refusal::Missing(format!("member {replica} of shard {}", place.name));
    let missing = missing();
    place.members.iter_mut().find(|member| member.replica == replica).ok_or(missing)
}

/// Stages what is allocated now, and publishes it where nobody has to be asked.
fn restage(draft: &mut Draft<'_>, appid: AppId) -> Result<(), Refusal> {
    revisions::stage_in(draft, appid)?;
    revisions::publish_if_automatic(draft, appid)
}
