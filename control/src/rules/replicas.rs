//! Replicas: they register themselves, are told their place, are retired and recycled.

use std::net::IpAddr;

use memcloud_protocol::registration::{AssignedPeer, Assignment, Endpoint, Place, Register, WantedPlace};

use super::requisitions::Alive;
use super::{Refusal, Wish, members};
use crate::registry::Registry;
use crate::registry::app::{Shard, Standing};
use crate::registry::change::{Change, Numbers, Record};
use crate::registry::number::ReplicaId;
use crate::registry::policy::{Action, Reach};
use crate::registry::replica::{Allocation, Replica};
use crate::registry::user::UserName;

const TEXT_BYTES_MAX: usize = 255;
/// RFC 1035 section 2.3.4, without the length of the first label and the root.
const HOST_BYTES_MAX: usize = 253;

/// The app's owner, for a replica that serves one.
#[must_use]
pub fn owner<'a>(registry: &'a Registry, replica: &Replica) -> Option<&'a UserName> {
    match replica.allocation {
        Allocation::Allocated { appid, .. } => registry.app(appid).map(|app| &app.owner),
        Allocation::Pool | Allocation::Released | Allocation::Retired => None,
    }
}

/// A proxy says who it is. Said again, it is the same replica; saying nothing new changes nothing.
///
/// Whoever comes from another address under a known identity takes that one's place: the same replica on another machine. While
/// the one that is known lives, they would be two.
///
/// # Errors
/// The actor may not, it is retired or alive elsewhere, or the place that it wants cannot be had.
pub fn register(wish: Wish<'_>, told: Register, alive: Alive<'_>) -> Result<(Change, ReplicaId), Refusal> {
    if wish.actor.reach(Action::RegisterReplica) == Reach::None {
        wish.allow(Action::RegisterReplica, None)?;
    }
    check(&told)?;
    match wish.registry.replica_of_identity(&told.identity) {
        Some(known) => again(wish, known, told, alive),
        None => first(wish, told, alive),
    }
}

fn first(wish: Wish<'_>, told: Register, alive: Alive<'_>) -> Result<(Change, ReplicaId), Refusal> {
    // Into the pool of all only with a right over all; into one's own app with a right over that.
    let owner = wanted_owner(wish, told.place.as_ref())?;
    wish.allow(Action::RegisterReplica, owner)?;
    let numbers = wish.registry.numbers();
    let id = numbers.replica;
    let place = told.place.clone();
    let replica = Replica { id, registration: told, allocation: Allocation::Pool, registered_at: wish.now };
    let mut draft = wish.draft();
    draft.put_quietly(Record::Numbers(Numbers { replica: ReplicaId(id.0 + 1), ..numbers }));
    draft.put("replica.register", Record::Replica(replica.clone()), None);
    if let Some(WantedPlace { appid, shard }) = place {
        let app = draft.app(appid)?;
        members::join_wanted(&mut draft, app, shard, &replica, alive)?;
    }
    Ok((draft.finish(), id))
}

fn again(
    wish: Wish<'_>,
    known: &Replica,
    told: Register,
    alive: Alive<'_>,
) -> Result<(Change, ReplicaId), Refusal> {
    let owner = owner(wish.registry, known);
    let reach = wish.actor.reach(Action::RegisterReplica);
    if reach != Reach::All && owner != Some(&wish.actor.user) {
        wish.allow(Action::RegisterReplica, owner)?;
    }
    if known.allocation == Allocation::Retired {
        let says =
            format!("replica {} is retired: start it with another --identity, or delete it first", known.id);
        return Err(Refusal::Conflict(says));
    }
    let is_placed = matches!(known.allocation, Allocation::Allocated { .. });
    if is_placed && told.site != known.registration.site {
        let says = format!(
            "replica {} serves a shard as {}: it cannot be renamed to {}",
            known.id, known.registration.site, told.site
        );
        return Err(Refusal::Conflict(says));
    }
    if known.allocation == Allocation::Released && told.place.is_some() {
        let says = format!(
            "replica {} ({}) was let go from its shard: stop it, or recycle it at control, and it joins anew",
            known.id, known.registration.site
        );
        return Err(Refusal::Conflict(says));
    }
    // In the pool it may have been told no, or recycled: what it asks for is asked anew.
    let asks = known.allocation == Allocation::Pool && told.place.is_some();
    if told == known.registration && !asks {
        return Ok((Change::default(), known.id));
    }
    check_moved(known, &told, alive)?;
    let mut replica = known.clone();
    let place = told.place.clone().filter(|_| known.allocation == Allocation::Pool);
    replica.registration = told;
    let mut draft = wish.draft();
    draft.put("replica.register", Record::Replica(replica.clone()), None);
    if let Some(WantedPlace { appid, shard }) = place {
        wish.allow(Action::RegisterReplica, wanted_owner(wish, replica.registration.place.as_ref())?)?;
        let app = draft.app(appid)?;
        members::join_wanted(&mut draft, app, shard, &replica, alive)?;
    }
    Ok((draft.finish(), replica.id))
}

/// One identity is one replica, at one address.
fn check_moved(known: &Replica, told: &Register, alive: Alive<'_>) -> Result<(), Refusal> {
    let is = &known.registration;
    let moved = (&is.address, &is.peer_address) != (&told.address, &told.peer_address);
    if moved && alive(known.id) {
        let says = format!(
            "replica {} ({}) is alive at {}: stop that one, or start this one with another --site; if that one has just died, its \
             place is free when its lease ends",
            known.id, is.site, is.peer_address
        );
        return Err(Refusal::Conflict(says));
    }
    Ok(())
}

/// Whoever speaks for a replica has to be where it registered: from elsewhere speaks one whose place another has taken.
///
/// # Errors
/// It is elsewhere.
pub fn check_speaker(known: &Replica, peer_address: Option<&Endpoint>) -> Result<(), Refusal> {
    let is = &known.registration.peer_address;
    match peer_address {
        Some(from) if from != is => Err(Refusal::Conflict(format!(
            "replica {} is at {is} now, not at {from}: another proxy with this identity has taken its place; stop this one, or \
             start it with another --site",
            known.id
        ))),
        _ => Ok(()),
    }
}

/// Never to be allocated again.
///
/// # Errors
/// There is none, the actor may not, or it serves.
pub fn retire(wish: Wish<'_>, id: ReplicaId) -> Result<(Change, Replica), Refusal> {
    move_to(wish, id, "replica.retire", Allocation::Retired, |now| {
        matches!(now, Allocation::Pool | Allocation::Released)
    })
}

/// Back into the pool: whoever asks for it has seen to it that it holds nothing of its last app.
///
/// # Errors
/// There is none, the actor may not, or it was not let go.
pub fn recycle(wish: Wish<'_>, id: ReplicaId) -> Result<(Change, Replica), Refusal> {
    move_to(wish, id, "replica.recycle", Allocation::Pool, |now| {
        matches!(now, Allocation::Released | Allocation::Retired)
    })
}

/// Forgets a replica that serves nobody.
///
/// # Errors
/// There is none, the actor may not, or it serves.
pub fn delete(wish: Wish<'_>, id: ReplicaId) -> Result<(Change, ()), Refusal> {
    let replica = wish.replica(id, Action::ChangeReplica)?;
    if matches!(replica.allocation, Allocation::Allocated { .. }) {
        return Err(serves(replica));
    }
    let mut draft = wish.draft();
    draft.delete("replica.delete", crate::registry::change::RecordKey::replica(id), None);
    Ok((draft.finish(), ()))
}

/// What a replica is told: its place and its peers, as they are allocated, published or not: a newcomer is copied to before
/// clients hear of it, and one that leaves is kept equal until they have forgotten it.
#[must_use]
pub fn assignment(
    registry: &Registry,
    id: ReplicaId,
    lease_seconds: u32,
    heartbeat_seconds: u32,
) -> Assignment {
    let sequence = registry.sequence().0;
    Assignment { place: place(registry, id), lease_seconds, heartbeat_seconds, sequence }
}

/// The other members of its shard, whatever their standing.
pub fn peers(registry: &Registry, id: ReplicaId) -> impl Iterator<Item = &Replica> {
    let members = shard(registry, id).into_iter().flat_map(|shard| &shard.members);
    let others = members.filter(move |member| member.replica != id);
    others.filter_map(|member| registry.replica(member.replica)).map(|replica| &**replica)
}

fn shard(registry: &Registry, id: ReplicaId) -> Option<&Shard> {
    match registry.replica(id)?.allocation {
        Allocation::Allocated { appid, shard } => registry.app(appid)?.shard(shard),
        Allocation::Pool | Allocation::Released | Allocation::Retired => None,
    }
}

fn place(registry: &Registry, id: ReplicaId) -> Option<Place> {
    let Allocation::Allocated { appid, .. } = registry.replica(id)?.allocation else { return None };
    let shard = shard(registry, id)?;
    let own = shard.members.iter().find(|member| member.replica == id)?;
    let mut peers: Vec<AssignedPeer> = peers(registry, id)
        .map(|peer| AssignedPeer {
            site: peer.registration.site.clone(),
            peer_address: peer.registration.peer_address.clone(),
        })
        .collect();
    peers.sort();
    let joining = matches!(own.standing, Standing::Joining { .. });
    Some(Place { appid, shard: shard.name, peers, joining })
}

fn wanted_owner<'a>(wish: Wish<'a>, place: Option<&WantedPlace>) -> Result<Option<&'a UserName>, Refusal> {
    let Some(place) = place else { return Ok(None) };
    let missing = || {
        Refusal::Missing(format!("app {}: create it before a replica asks for a place in it", place.appid))
    };
    wish.registry.app(place.appid).map(|app| Some(&app.owner)).ok_or_else(missing)
}

fn move_to(
    wish: Wish<'_>,
    id: ReplicaId,
    action: &str,
    to: Allocation,
    from: impl Fn(Allocation) -> bool,
) -> Result<(Change, Replica), Refusal> {
    let mut replica = wish.replica(id, Action::ChangeReplica)?.clone();
    if replica.allocation == to {
        return Ok((Change::default(), replica));
    }
    if !from(replica.allocation) {
        return Err(serves(&replica));
    }
    replica.allocation = to;
    let mut draft = wish.draft();
    draft.put(action, Record::Replica(replica.clone()), None);
    Ok((draft.finish(), replica))
}

fn serves(replica: &Replica) -> Refusal {
    let says = match replica.allocation {
        Allocation::Allocated { appid, shard } => {
            format!("serves shard {shard} of app {appid}: replace it there first")
        }
        Allocation::Pool => "is in the pool".to_owned(),
        Allocation::Released => "was let go".to_owned(),
        Allocation::Retired => "is retired".to_owned(),
    };
    Refusal::Conflict(format!("replica {} {says}", replica.id))
}

/// Whether what is told can be kept.
///
/// # Errors
/// It cannot: why.
pub(super) fn check(told: &Register) -> Result<(), Refusal> {
    let texts = [
        ("identity", Some(&told.identity)),
        ("machine", Some(&told.machine)),
        ("zone", told.zone.as_ref()),
        ("memcached_version", told.memcached_version.as_ref()),
        ("proxy_version", Some(&told.proxy_version)),
        ("host", Some(&told.address.host)),
        ("peer host", Some(&told.peer_address.host)),
    ];
    for (name, text) in texts {
        let Some(text) = text else { continue };
        if text.is_empty() || text.len() > TEXT_BYTES_MAX || text.chars().any(char::is_control) {
            return Err(Refusal::Invalid(format!(
                "{name} has to have 1 to {TEXT_BYTES_MAX} printable bytes"
            )));
        }
    }
    for Endpoint { host, port } in [&told.address, &told.peer_address] {
        if *port == 0 || !is_host(host) {
            return Err(Refusal::Invalid(format!(
                "{host:?} and {port} are no address: that is an IP address or a host name of letters, digits, hyphens and dots, \
                 and a port above 0"
            )));
        }
    }
    if told.memory_bytes == 0 {
        return Err(Refusal::Invalid(
            "memory_bytes has to be more than 0: it is what memcached was given with -m".into(),
        ));
    }
    Ok(())
}

/// An IP address, or a host name (RFC 1123 section 2.1): it goes into the zone as it is.
fn is_host(text: &str) -> bool {
    let name = text.strip_suffix('.').unwrap_or(text);
    let is_label = |label: &str| {
        let plain = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        (1..=63).contains(&label.len()) && plain && !label.starts_with('-') && !label.ends_with('-')
    };
    // A name whose last label is a number would be an address that is none, as 10.0.0.256 is.
    let is_number = |label: &str| label.bytes().all(|byte| byte.is_ascii_digit());
    let is_name = name.len() <= HOST_BYTES_MAX && name.split('.').all(is_label);
    text.parse::<IpAddr>().is_ok() || (is_name && !name.rsplit('.').next().is_some_and(is_number))
}
