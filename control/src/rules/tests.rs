use jiff::SignedDuration;
use memcloud_protocol::registration::WantedPlace;
use memcloud_protocol::topology::AppId;
use proptest::prelude::*;

use super::allocation::Spread;
use super::apps::Government;
use super::members::{Newcomer, Step};
use super::requisitions::{Approval, NewRequisition};
use super::testing::{
    ALIVE, Court, S0, actor, approve, court_with, file, name, publish, replica, served, size,
};
use super::{Refusal, Wish, apps, members, replicas, requisitions, revisions, users, whole};
use crate::registry::app::{Quota, Standing};
use crate::registry::change::Record;
use crate::registry::number::{ReplicaId, RequisitionId, RevisionNumber};
use crate::registry::replica::Allocation;
use crate::registry::requisition::State;
use crate::registry::revision::RevisionState;
use crate::registry::user::Role;

#[test]
fn a_requisition_becomes_a_published_revision() {
    let (mut court, appid) = court_with(&["m1", "m2"]);
    let id = file(&mut court, appid, size(2, 2));
    assert_eq!(court.registry.requisition(id).unwrap().state, State::Pending);
    approve(&mut court, id).unwrap();
    let app = court.registry.app(appid).unwrap().clone();
    assert_eq!((app.shards.len(), app.staged, app.published), (2, Some(RevisionNumber(1)), None));
    for shard in &app.shards {
        let machines: Vec<_> = shard
            .members
            .iter()
            .map(|m| court.registry.replica(m.replica).unwrap().registration.machine.clone())
            .collect();
        assert_ne!(machines[0], machines[1]);
    }
    assert_eq!(publish(&mut court, appid), RevisionNumber(1));
    assert!(matches!(court.registry.requisition(id).unwrap().state, State::Fulfilled { .. }));
    assert_eq!(approve(&mut court, id), Err(Refusal::Conflict("requisition 1 is fulfilled".into())));
}

#[test]
fn exactly_as_many_are_approved_as_fit() {
    let (mut court, appid) = court_with(&["m1", "m2", "m3", "m4"]);
    let ids: Vec<_> = (0..50).map(|_| file(&mut court, appid, size(1, 2))).collect();
    let approved = ids.into_iter().filter(|&id| approve(&mut court, id).is_ok()).count();
    assert_eq!(approved, 4);
}

#[test]
fn what_is_not_alive_is_not_allocated() {
    let (mut court, appid) = court_with(&["m1", "m2"]);
    let id = file(&mut court, appid, size(1, 2));
    let one =
        court.as_ops(|wish| requisitions::approve(wish, id, &Approval::default(), None, &|id| id.0 == 1));
    assert!(matches!(one, Err(Refusal::PoolTooSmall(_))), "{one:?}");
}

#[test]
fn one_machine_is_not_enough_unless_it_is_said_to_be() {
    let (mut court, appid) = court_with(&["m1"]);
    let id = file(&mut court, appid, size(1, 2));
    assert!(
        matches!(approve(&mut court, id), Err(Refusal::PoolTooSmall(says)) if says.contains("kept apart"))
    );
    let anywhere = Approval { spread: Spread::Anywhere, ..Approval::default() };
    let (_, remarks) = court.as_ops(|wish| requisitions::approve(wish, id, &anywhere, None, &ALIVE)).unwrap();
    assert_eq!(remarks, ["1 of 1 shards have replicas on one machine, as was allowed"]);
}

#[test]
fn a_quota_approves_by_itself_and_forbids_more() {
    let (mut court, appid) = court_with(&["m1", "m2", "m3"]);
    let governed = Government { auto_approve: Some(true), auto_publish: Some(true), ..Government::default() };
    let patch = apps::AppPatch { governed, ..apps::AppPatch::default() };
    assert!(matches!(
        court.ask(&actor("ann", Role::Owner), |wish| apps::change(wish, appid, patch.clone(), None)),
        Err(Refusal::Forbidden { .. })
    ));
    court.as_ops(|wish| apps::change(wish, appid, patch, None)).unwrap();
    let id = file(&mut court, appid, size(1, 2));
    assert!(matches!(court.registry.requisition(id).unwrap().state, State::Fulfilled { .. }));
    let id = file(&mut court, appid, size(17, 1));
    assert_eq!(court.registry.requisition(id).unwrap().state, State::Pending);
    assert!(matches!(approve(&mut court, id), Err(Refusal::OverQuota(_))));
}

#[test]
fn owners_reach_their_own_apps_only() {
    let (mut court, appid) = court_with(&["m1", "m2"]);
    let new = NewRequisition { appid, size: size(1, 1), reason: String::new() };
    let bobs = court.ask(&actor("bob", Role::Owner), |wish| requisitions::create(wish, new, &ALIVE));
    assert_eq!(bobs.map(drop), Err(Refusal::Missing("app 10001".into())));
    let id = file(&mut court, appid, size(1, 1));
    let ann = actor("ann", Role::Owner);
    let own = court.ask(&ann, |wish| requisitions::approve(wish, id, &Approval::default(), None, &ALIVE));
    assert!(matches!(own, Err(Refusal::Forbidden { .. })), "{own:?}");
}

#[test]
fn a_replica_is_replaced_when_the_newcomer_is_whole() {
    let (mut court, appid) = served();
    let shard = court.registry.app(appid).unwrap().shards[0].clone();
    let (old, kept) = (shard.members[0].replica, shard.members[1].replica);
    let newcomer = Newcomer { replaces: Some(old), ..Newcomer::default() };
    court.as_ops(|wish| members::add(wish, appid, S0, newcomer, &ALIVE)).unwrap();
    let new = court.registry.app(appid).unwrap().shards[0].members[2].replica;
    let told =
        |court: &Court, id| replicas::assignment(&court.registry, id, 15, 5).place.unwrap().peers.len();
    assert_eq!([told(&court, old), told(&court, kept), told(&court, new)], [2, 2, 2]);

    let soon = SignedDuration::from_secs(10);
    assert_eq!(members::due(&court.registry, court.registry.apps(None), &|_| false, soon, court.now), []);
    let due = members::due(&court.registry, court.registry.apps(None), &|_| true, soon, court.now);
    assert_eq!(due, [Step::Joined { appid, shard: S0, replica: new }]);
    court.as_ops(|wish| members::step(wish, due[0])).unwrap();
    let published = court.registry.published(appid).unwrap();
    let members: Vec<_> = published.shards[0].members.iter().map(|member| member.replica).collect();
    assert_eq!(members, [kept, new]);

    assert_eq!(members::due(&court.registry, court.registry.apps(None), &|_| true, soon, court.now), []);
    court.now = court.now.checked_add(soon).unwrap();
    let due = members::due(&court.registry, court.registry.apps(None), &|_| true, soon, court.now);
    assert_eq!(due, [Step::LetGo { appid, shard: S0, replica: old }]);
    court.as_ops(|wish| members::step(wish, due[0])).unwrap();
    assert_eq!(court.registry.replica(old).unwrap().allocation, Allocation::Released);
    assert_eq!(told(&court, new), 1);
}

#[test]
fn the_last_that_serves_stays() {
    let (mut court, appid) = served();
    let [one, two] = [0, 1].map(|at| court.registry.app(appid).unwrap().shards[0].members[at].replica);
    court.as_ops(|wish| members::remove(wish, appid, S0, one)).unwrap();
    let last = court.as_ops(|wish| members::remove(wish, appid, S0, two));
    assert!(matches!(last, Err(Refusal::Conflict(says)) if says.contains("last")));
}

#[test]
fn growth_appends_and_shrinking_never_gives_a_name_twice() {
    let (mut court, appid) = court_with(&["m1", "m2", "m3"]);
    for _ in 0..3 {
        let id = file(&mut court, appid, size(1, 2));
        approve(&mut court, id).unwrap();
    }
    publish(&mut court, appid);
    court.as_ops(|wish| members::shrink(wish, appid, 2)).unwrap();
    publish(&mut court, appid);
    court.now = court.now.checked_add(SignedDuration::from_secs(60)).unwrap();
    for step in members::due(
        &court.registry,
        court.registry.apps(None),
        &|_| true,
        SignedDuration::from_secs(10),
        court.now,
    ) {
        court.as_ops(|wish| members::step(wish, step)).unwrap();
    }
    let free: Vec<_> = court
        .registry
        .replicas(None)
        .filter(|one| one.allocation == Allocation::Released)
        .map(|one| one.id)
        .collect();
    assert_eq!(free.len(), 2);
    for id in free {
        court.as_ops(|wish| replicas::recycle(wish, id)).unwrap();
    }
    let id = file(&mut court, appid, size(1, 2));
    approve(&mut court, id).unwrap();
    let names: Vec<_> =
        court.registry.app(appid).unwrap().shards.iter().map(|shard| shard.name.number()).collect();
    assert_eq!(names, [0, 1, 3]);
}

#[test]
fn going_back_is_a_new_revision() {
    let (mut court, appid) = served();
    let id = file(&mut court, appid, size(1, 2));
    approve(&mut court, id).unwrap();
    assert_eq!(publish(&mut court, appid), RevisionNumber(2));
    let back =
        court.as_ops(|wish| revisions::roll_back(wish, appid, RevisionNumber(1), "too large")).unwrap();
    assert_eq!(
        (back.number, back.rollback_of, back.shards.len()),
        (RevisionNumber(3), Some(RevisionNumber(1)), 1)
    );
    let old = court.registry.revision(appid, RevisionNumber(2)).unwrap();
    assert!(matches!(old.state, RevisionState::RolledBack { .. }));
    // What is allocated stays: publishing it again is one step away.
    let wish = Wish { registry: &court.registry, actor: &actor("ops", Role::Operator), now: court.now };
    assert_eq!(revisions::difference(wish, appid).unwrap().added.len(), 2);
}

#[test]
fn a_replica_may_ask_for_its_place() {
    let (mut court, appid) = court_with(&[]);
    let quota = Some(Quota { replicas_per_shard: 2, ..Quota::default() });
    let governed = Government { quota, auto_publish: Some(true), ..Government::default() };
    court
        .as_ops(|wish| {
            apps::change(wish, appid, apps::AppPatch { governed, ..apps::AppPatch::default() }, None)
        })
        .unwrap();
    let ann = actor("ann", Role::Owner);
    let asking = |machine: &str| {
        let place = Some(WantedPlace { appid, shard: S0 });
        memcloud_protocol::registration::Register { place, ..replica(machine, 11211, 64) }
    };
    let one = court.ask(&ann, |wish| replicas::register(wish, asking("m1"), &|_| false)).unwrap();
    let two = court.ask(&ann, |wish| replicas::register(wish, asking("m2"), &|_| false)).unwrap();
    assert!(
        court
            .ask(&actor("bob", Role::Owner), |wish| replicas::register(wish, asking("m3"), &|_| false))
            .is_err()
    );
    let members = court.registry.app(appid).unwrap().shards[0].members.clone();
    assert_eq!(
        members.iter().map(|m| (m.replica, m.standing)).collect::<Vec<_>>(),
        [(one, Standing::Serving), (two, Standing::Joining { replaces: None })]
    );
    // The shard has what its quota allows; who is dead is replaced under their own name.
    let alive = move |id| id == one;
    let full =
        court.ask(&ann, |wish| replicas::register(wish, asking("m3"), &alive)).unwrap_err().to_string();
    assert!(
        full.contains("quota allows 2 replicas") && full.contains("--site m2-11211 takes its place"),
        "{full}"
    );
    // Said again, nothing changes.
    let before = court.registry.version(&crate::registry::change::RecordKey::replica(one));
    court.ask(&ann, |wish| replicas::register(wish, asking("m1"), &|_| false)).unwrap();
    assert_eq!(court.registry.version(&crate::registry::change::RecordKey::replica(one)), before);
}

#[test]
fn a_replica_has_a_host_that_a_zone_can_name() {
    let mut court = Court::new();
    let mut register = |host: &str| {
        let mut told = replica("m1", 11211, 64);
        told.address.host = host.into();
        court.as_ops(|wish| replicas::register(wish, told, &|_| false))
    };
    let long = "a.".repeat(128);
    for host in ["10.0.0.1", "fd00::1", "cache", "Cache-1.example.org", "cache.example.org.", "1.example"] {
        assert!(register(host).is_ok(), "{host}");
    }
    for host in [
        "10.0.0.256",
        "[fd00::1]",
        "fe80::1%eth0",
        "a b",
        "a;b",
        "a\"b",
        "a\\b",
        "a..b",
        ".",
        "-a",
        "a-",
        "ä",
        "a_b",
        "@",
        &long,
    ] {
        assert!(matches!(register(host), Err(Refusal::Invalid(_))), "{host}");
    }
}

#[test]
fn what_no_replica_may_register_cannot_be_imported() {
    let (court, _) = served();
    let with_host = |host: &str| -> Vec<Record> {
        let mut records: Vec<Record> = court.registry.records().collect();
        for record in &mut records {
            if let Record::Replica(replica) = record {
                replica.registration.address.host = host.into();
            }
        }
        records
    };
    let root = actor("root", Role::Admin);
    let import = |records: &[Record]| {
        whole::import(Wish { registry: &court.registry, actor: &root, now: court.now }, records)
    };
    assert!(import(&with_host("cache.example.org")).is_ok());
    let refused = import(&with_host("a\nb")).unwrap_err().to_string();
    assert!(refused.contains("replica 1"), "{refused}");
}

#[test]
fn one_identity_is_one_replica_at_one_address() {
    let mut court = Court::new();
    let told = replica("m1", 11211, 64);
    let id = court.register(told.clone());
    let mut moved = told.clone();
    moved.peer_address.host = "10.0.0.9".into();
    moved.machine = "m9".into();
    let refused =
        court.as_ops(|wish| replicas::register(wish, moved.clone(), &|_| true)).unwrap_err().to_string();
    assert!(refused.contains("alive at 10.0.0.1:11212") && refused.contains("--site"), "{refused}");
    assert_eq!(
        court.as_ops(|wish| replicas::register(wish, told.clone(), &|_| true)),
        Ok(id),
        "it is where it was"
    );
    assert_eq!(
        court.as_ops(|wish| replicas::register(wish, moved.clone(), &|_| false)),
        Ok(id),
        "a new machine for it"
    );
    let known = court.registry.replica(id).unwrap();
    let old = replicas::check_speaker(known, Some(&told.peer_address)).unwrap_err().to_string();
    assert!(old.contains("is at 10.0.0.9:11212 now"), "{old}");
    assert_eq!(replicas::check_speaker(known, Some(&moved.peer_address)), Ok(()));
    assert_eq!(replicas::check_speaker(known, None), Ok(()));
}

#[test]
fn who_was_let_go_comes_back_only_when_it_is_recycled() {
    let (mut court, appid) = court_with(&[]);
    let root = actor("root", Role::Admin);
    let asking = |machine: &str| {
        let place = Some(WantedPlace { appid, shard: S0 });
        memcloud_protocol::registration::Register { place, ..replica(machine, 11211, 64) }
    };
    let register = |court: &mut Court, machine: &str| {
        court.ask(&root, |wish| replicas::register(wish, asking(machine), &|_| false))
    };
    let one = register(&mut court, "m1").unwrap();
    let two = register(&mut court, "m2").unwrap();
    let joined = Step::Joined { appid, shard: S0, replica: two };
    court.as_ops(|wish| members::step(wish, joined)).unwrap();
    court.as_ops(|wish| members::remove(wish, appid, S0, one)).unwrap();
    court.as_ops(|wish| members::step(wish, Step::LetGo { appid, shard: S0, replica: one })).unwrap();
    let refused = register(&mut court, "m1").unwrap_err().to_string();
    assert!(refused.contains("was let go") && refused.contains("recycle"), "{refused}");
    court.as_ops(|wish| replicas::recycle(wish, one)).unwrap();
    assert_eq!(register(&mut court, "m1"), Ok(one));
    let members = court.registry.app(appid).unwrap().shards[0].members.clone();
    assert_eq!(
        members.iter().map(|m| (m.replica, m.standing)).collect::<Vec<_>>(),
        [(two, Standing::Serving), (one, Standing::Joining { replaces: None })]
    );
}

#[test]
fn somebody_stays_who_can_let_others_in() {
    let mut court = Court::new();
    let root = actor("root", Role::Admin);
    let demoted = users::UserPatch { role: Some(Role::Viewer), ..users::UserPatch::default() };
    assert!(court.ask(&root, |wish| users::change(wish, &name("root"), demoted.clone(), None)).is_err());
    assert!(court.ask(&root, |wish| users::delete(wish, &name("root"), None)).is_err());
    let promoted = users::UserPatch { role: Some(Role::Admin), ..users::UserPatch::default() };
    court.ask(&root, |wish| users::change(wish, &name("ops"), promoted, None)).unwrap();
    court.ask(&root, |wish| users::change(wish, &name("root"), demoted, None)).unwrap();
}

/// Any order of any wishes keeps what must hold; the court asserts it after each.
#[derive(Clone, Debug)]
enum Asked {
    Register(u8, u16),
    File(u16, u16),
    Approve(u64),
    Publish,
    RollBack(u64),
    Add(usize, usize, bool),
    Remove(usize, usize),
    Shrink(usize),
    Steps,
    Recycle(u64),
    Retire(u64),
}

fn asked() -> impl Strategy<Value = Asked> {
    prop_oneof![
        3 => (0..6_u8, 0..3_u16).prop_map(|(machine, port)| Asked::Register(machine, port)),
        2 => (1..3_u16, 1..4_u16).prop_map(|(shards, replicas)| Asked::File(shards, replicas)),
        3 => (1..8_u64).prop_map(Asked::Approve),
        2 => Just(Asked::Publish),
        1 => (1..10_u64).prop_map(Asked::RollBack),
        2 => (0..4_usize, 0..3_usize, any::<bool>()).prop_map(|(shard, member, replace)| Asked::Add(shard, member, replace)),
        1 => (0..4_usize, 0..3_usize).prop_map(|(shard, member)| Asked::Remove(shard, member)),
        1 => (0..3_usize).prop_map(Asked::Shrink),
        3 => Just(Asked::Steps),
        2 => (1..18_u64).prop_map(Asked::Recycle),
        1 => (1..18_u64).prop_map(Asked::Retire),
    ]
}

fn carry_out(court: &mut Court, appid: AppId, asked: &Asked) {
    let member = |court: &Court, shard: usize, member: usize| {
        let shard = court.registry.app(appid)?.shards.get(shard)?.clone();
        Some((shard.name, shard.members.get(member)?.replica))
    };
    match *asked {
        Asked::Register(machine, port) => drop(court.as_ops(|wish| {
            replicas::register(wish, replica(&format!("m{machine}"), 11211 + port * 10, 64), &|_| false)
        })),
        Asked::File(shards, count) => drop(file(court, appid, size(shards, count))),
        Asked::Approve(id) => drop(approve(court, RequisitionId(id))),
        Asked::Publish => drop(court.as_ops(|wish| revisions::publish(wish, appid, None))),
        Asked::RollBack(to) => {
            drop(court.as_ops(|wish| revisions::roll_back(wish, appid, RevisionNumber(to), "")))
        }
        Asked::Add(shard, at, replace) => {
            let Some((shard, old)) = member(court, shard, at) else { return };
            let newcomer = Newcomer { replaces: replace.then_some(old), ..Newcomer::default() };
            drop(court.as_ops(|wish| members::add(wish, appid, shard, newcomer, &ALIVE)));
        }
        Asked::Remove(shard, at) => {
            let Some((shard, old)) = member(court, shard, at) else { return };
            drop(court.as_ops(|wish| members::remove(wish, appid, shard, old)));
        }
        Asked::Shrink(to) => drop(court.as_ops(|wish| members::shrink(wish, appid, to))),
        Asked::Steps => {
            court.now = court.now.checked_add(SignedDuration::from_secs(7)).unwrap();
            for step in members::due(
                &court.registry,
                court.registry.apps(None),
                &|id| id.0 % 5 != 0,
                SignedDuration::from_secs(10),
                court.now,
            ) {
                court.as_ops(|wish| members::step(wish, step)).unwrap();
            }
        }
        Asked::Recycle(id) => drop(court.as_ops(|wish| replicas::recycle(wish, ReplicaId(id)))),
        Asked::Retire(id) => drop(court.as_ops(|wish| replicas::retire(wish, ReplicaId(id)))),
    }
}

proptest! {
    #[test]
    fn any_order_of_wishes_keeps_what_must_hold(wishes in prop::collection::vec(asked(), 1..80)) {
        let (mut court, appid) = court_with(&[]);
        let mut told = RevisionNumber(0);
        for wish in &wishes {
            carry_out(&mut court, appid, wish);
            let published = court.registry.app(appid).unwrap().published.unwrap_or_default();
            prop_assert!(published >= told, "a revision went backwards");
            told = published;
        }
    }
}
