use jiff::{SignedDuration, Timestamp};
use memcloud_protocol::registration::Heartbeat;
use memcloud_protocol::topology::{AppId, ReplicaState};

use super::{Directory, touched};
use crate::leases::{Heard, Leases};
use crate::registry::change::RecordKey;
use crate::registry::number::ReplicaId;
use crate::rules::testing::{Court, served};

const TTL: u32 = 5;

struct Bench {
    court: Court,
    leases: Leases,
    directory: Directory,
    appid: AppId,
}

impl Bench {
    fn new() -> Self {
        let (court, appid) = served();
        let leases = Leases::new(SignedDuration::from_secs(15), court.now);
        let mut bench = Self { court, leases, directory: Directory::default(), appid };
        assert!(bench.refresh());
        bench
    }

    fn refresh(&mut self) -> bool {
        self.directory.refresh(&self.court.registry, &self.leases, TTL, self.court.now, [self.appid])
    }

    fn hear(&mut self, id: u64, ready: bool) {
        let heartbeat = Heartbeat { ready, upstream_up: true, ..Heartbeat::default() };
        self.leases.hear(ReplicaId(id), Heard { at: self.court.now, heartbeat });
    }

    fn states(&self) -> Vec<(ReplicaState, u16)> {
        let entry = self.directory.app(self.appid).unwrap();
        entry.topology.shards[0].replicas.iter().map(|one| (one.state, one.priority)).collect()
    }
}

#[test]
fn what_is_known_of_replicas_shows_in_their_priority_and_in_the_etag() {
    let mut bench = Bench::new();
    assert_eq!(bench.states(), [(ReplicaState::Down, 20), (ReplicaState::Down, 20)]);
    let published = bench.court.registry.published(bench.appid).unwrap().clone();
    let ids: Vec<u64> = published.shards[0].members.iter().map(|member| member.replica.0).collect();
    assert_eq!(bench.directory.app(bench.appid).unwrap().etag(), "\"1\"");
    bench.hear(ids[0], true);
    bench.hear(ids[1], false);
    assert!(bench.refresh());
    assert_eq!(bench.states(), [(ReplicaState::Up, 0), (ReplicaState::Warming, 20)]);
    assert_eq!(bench.directory.app(bench.appid).unwrap().etag(), "\"1-1\"");

    let serial = bench.directory.serial();
    assert!(!bench.refresh());
    assert_eq!(bench.directory.serial(), serial);
    bench.court.now = Timestamp::from_second(bench.court.now.as_second() + 15).unwrap();
    assert!(bench.refresh());
    assert_eq!(bench.states(), [(ReplicaState::Down, 20), (ReplicaState::Down, 20)]);
    assert_eq!(bench.directory.serial(), serial + 1);
}

#[test]
fn an_app_that_is_gone_is_not_told() {
    let mut bench = Bench::new();
    let never = AppId::FIRST.next().unwrap();
    assert!(!bench.directory.refresh(&bench.court.registry, &bench.leases, TTL, bench.court.now, [never]));
    let gone = crate::registry::Registry::default();
    assert!(bench.directory.refresh(&gone, &bench.leases, TTL, bench.court.now, [bench.appid]));
    assert!(bench.directory.is_empty());
}

#[test]
fn a_change_touches_the_apps_that_show_it() {
    let bench = Bench::new();
    let registry = &bench.court.registry;
    let of = |key: RecordKey| touched(registry, [&key]).into_iter().collect::<Vec<_>>();
    let member = registry.published(bench.appid).unwrap().shards[0].members[0].replica;
    assert_eq!(of(RecordKey::replica(member)), [bench.appid]);
    assert_eq!(of(RecordKey::revision(bench.appid, 1.into())), [bench.appid]);
    let free = registry.replicas(None).find(|one| super::app_of_replica(registry, one.id).is_none()).unwrap();
    assert_eq!(of(RecordKey::replica(free.id)), []);
}
