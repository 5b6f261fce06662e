use memcloud_protocol::registration::Endpoint;

use super::*;

const NOW: u64 = 1_000_000;

fn register(port: u16) -> Register {
    let endpoint = |port| Endpoint { host: "10.0.0.1".into(), port };
    Register {
        identity: "10001/s0/a".into(),
        site: "a".parse().unwrap(),
        address: endpoint(port),
        peer_address: endpoint(port + 1),
        memory_bytes: 64 << 20,
        memcached_version: None,
        proxy_version: "0.1.0".into(),
        machine: "m".into(),
        zone: None,
        place: None,
    }
}

fn heartbeat(ready: bool) -> Heartbeat {
    Heartbeat { ready, upstream_up: true, ..Heartbeat::default() }
}

fn glance(ready: bool) -> Glance {
    Glance { ready, upstream_up: true, whole_with: Vec::new() }
}

/// As the agent asks it.
fn next(machine: &mut Machine, now_ms: u64, register: Option<Register>, ready: bool) -> Option<Say> {
    let glance = glance(ready);
    machine
        .has_something_to_say(now_ms, &glance)
        .then(|| machine.next(now_ms, &glance, register, heartbeat(ready)))?
}

fn peer(site: &str) -> AssignedPeer {
    AssignedPeer { site: site.parse().unwrap(), peer_address: Endpoint { host: site.into(), port: 7 } }
}

fn place(shard: &str, peers: &[&str], joining: bool) -> Option<Place> {
    let peers = peers.iter().map(|site| peer(site)).collect();
    Some(Place { appid: 10_001.try_into().unwrap(), shard: shard.parse().unwrap(), peers, joining })
}

fn assignment(sequence: u64, place: Option<Place>) -> Assignment {
    Assignment { place, lease_seconds: 15, heartbeat_seconds: 5, sequence }
}

fn set(peers: &[&str], afresh: bool) -> Peers {
    Peers::Set { peers: peers.iter().map(|site| peer(site)).collect(), afresh }
}

fn away() -> Failure {
    Failure::Away { address: "c:1".into(), reason: "refused".into() }
}

fn refused(status: u16) -> Failure {
    Failure::Refused { status, says: "no".into() }
}

/// Registered as replica 7, and told this.
fn registered(place: Option<Place>) -> (Machine, Peers) {
    let mut machine = Machine::default();
    let say = next(&mut machine, NOW, Some(register(1)), false).unwrap();
    assert_eq!(say, Say::Register(register(1)));
    let answer = Answer::Registered(Registered { replica: 7, assignment: assignment(1, place) });
    let peers = machine.answered(NOW, say, answer);
    (machine, peers)
}

fn beat(machine: &mut Machine, now_ms: u64, ready: bool, answer: Assignment) -> Peers {
    let say = next(machine, now_ms, Some(register(1)), ready).unwrap();
    assert_eq!(say, Say::Beat { replica: 7, heartbeat: heartbeat(ready) });
    machine.answered(now_ms, say, Answer::Assigned(answer))
}

#[test]
fn it_registers_and_beats() {
    let (mut machine, peers) = registered(place("s0", &["b"], false));
    assert_eq!(peers, set(&["b"], false), "what it holds may be the shard's: it is compared, not flushed");
    assert_eq!(beat(&mut machine, NOW, false, assignment(1, place("s0", &["b"], false))), set(&["b"], false));
    assert_eq!(next(&mut machine, NOW + 4_999, Some(register(1)), false), None, "nothing is new");
    assert!(next(&mut machine, NOW + 5_000, Some(register(1)), false).is_some());
    // What clients are concerned with is said at once.
    beat(&mut machine, NOW + 5_001, true, assignment(1, place("s0", &["b"], false)));
    assert_eq!(machine.wait(NOW + 5_001, Duration::from_secs(1)), Duration::from_secs(1));
    let shown = machine.shown(&Tally::default());
    assert_eq!(
        (shown.standing, shown.replica, shown.place),
        (Standing::Placed, Some(7), Some((10_001, "s0".into())))
    );
}

#[test]
fn nobody_registers_without_memcached() {
    let mut machine = Machine::default();
    assert_eq!(next(&mut machine, NOW, None, false), None);
    assert!(machine.trouble().unwrap().contains("memcached does not answer"));
    assert_eq!(
        next(&mut machine, NOW + 999, Some(register(1)), true),
        None,
        "memcached is not asked all the time"
    );
    assert!(next(&mut machine, NOW + 1_000, Some(register(1)), true).is_some());
}

#[test]
fn the_peers_stay_while_control_is_away_and_whatever_it_refuses() {
    let (mut machine, _) = registered(place("s0", &["b"], false));
    for failure in [away(), refused(401), refused(403), refused(422), refused(404)] {
        assert_eq!(machine.failed(NOW, Said::Beat, &failure), Peers::Keep, "{failure}");
        assert!(machine.trouble().is_some());
        assert_eq!(machine.shown(&Tally::default()).standing, Standing::Placed, "{failure}");
    }
    // Forgotten there, it registers again, and is where it was.
    assert_eq!(machine.replica(), None);
    let say = next(&mut machine, NOW + 60_000, Some(register(1)), true).unwrap();
    let answer =
        Answer::Registered(Registered { replica: 8, assignment: assignment(2, place("s0", &["c"], false)) });
    assert_eq!(machine.answered(NOW + 60_000, say, answer), set(&["c"], false));
    assert_eq!((machine.replica(), machine.trouble()), (Some(8), None));
}

#[test]
fn it_is_asked_again_later_and_later() {
    let (mut machine, _) = registered(None);
    let mut now = NOW;
    for bound in [500, 1_000, 2_000, 4_000, 8_000, 10_000, 10_000] {
        machine.failed(now, Said::Beat, &away());
        let glance = glance(false);
        assert!(!machine.has_something_to_say(now + bound / 2 - 1, &glance), "{bound}");
        assert!(machine.has_something_to_say(now + bound, &glance), "{bound}");
        // Not even when something is new.
        assert_eq!(next(&mut machine, now + bound / 2 - 1, Some(register(1)), true), None);
        now += bound;
    }
    beat(&mut machine, now, true, assignment(1, None));
    machine.failed(now, Said::Beat, &away());
    assert!(machine.has_something_to_say(now + 500, &glance(true)), "it begins anew");
}

#[test]
fn who_comes_from_elsewhere_begins_afresh() {
    // A newcomer that the others fill.
    let (mut machine, peers) = registered(place("s0", &["b"], true));
    assert_eq!(peers, set(&["b"], true));
    assert_eq!(machine.shown(&Tally::default()).standing, Standing::Joining);
    assert_eq!(machine.assigned(NOW, assignment(2, place("s0", &["b", "c"], true))), set(&["b", "c"], false));
    assert_eq!(machine.assigned(NOW, assignment(3, place("s0", &["c"], false))), set(&["c"], false));
    // Another shard.
    assert_eq!(machine.assigned(NOW, assignment(4, place("s1", &["d"], false))), set(&["d"], true));
    // Let go, and taken from the pool.
    assert_eq!(machine.assigned(NOW, assignment(5, None)), set(&[], false));
    assert_eq!(machine.shown(&Tally::default()).standing, Standing::Pool);
    assert_eq!(machine.assigned(NOW, assignment(6, place("s1", &["d"], false))), set(&["d"], true));
}

#[test]
fn who_remembers_its_place_is_compared_there_and_flushed_elsewhere() {
    for (shard, joining, afresh) in [("s0", false, false), ("s0", true, false), ("s1", false, true)] {
        let mut machine = Machine::recalling(place("s0", &["b"], false));
        assert_eq!(machine.shown(&Tally::default()).standing, Standing::Placed);
        let say = next(&mut machine, NOW, Some(register(1)), true).unwrap();
        let assignment = assignment(1, place(shard, &["b"], joining));
        let answer = Answer::Registered(Registered { replica: 7, assignment });
        assert_eq!(machine.answered(NOW, say, answer), set(&["b"], afresh), "{shard} {joining}");
    }
}

#[test]
fn who_has_lost_its_place_is_nobodys_peer() {
    let (mut machine, _) = registered(place("s0", &["b"], false));
    assert_eq!(machine.failed(NOW, Said::Beat, &refused(409)), set(&[], false));
    assert_eq!(machine.replica(), None);
    assert_eq!(
        machine.assigned(NOW, assignment(9, place("s0", &["b"], false))),
        Peers::Keep,
        "it was for the other one"
    );
    assert_eq!(machine.failed(NOW + 20_000, Said::Register, &refused(409)), Peers::Keep);
    let say = next(&mut machine, NOW + 40_000, Some(register(1)), true).unwrap();
    let answer =
        Answer::Registered(Registered { replica: 7, assignment: assignment(9, place("s0", &["b"], false)) });
    assert_eq!(machine.answered(NOW + 40_000, say, answer), set(&["b"], true));
}

#[test]
fn an_older_assignment_changes_nothing() {
    let (mut machine, _) = registered(None);
    machine.assigned(NOW, assignment(5, place("s0", &["b"], false)));
    assert_eq!(machine.assigned(NOW + 9_999, assignment(4, None)), Peers::Keep);
    assert_eq!(
        machine.assigned(NOW + 10_000, assignment(4, None)),
        set(&[], false),
        "the store was put back"
    );
}

#[test]
fn what_has_changed_is_said_and_an_address_only_after_the_lease_of_the_old_one() {
    let (mut machine, _) = registered(None);
    beat(&mut machine, NOW, false, assignment(1, None));
    let larger = Register { memory_bytes: 128 << 20, ..register(1) };
    let say = next(&mut machine, NOW + 5_000, Some(larger.clone()), false).unwrap();
    assert_eq!(say, Say::Register(larger.clone()));
    let answer = Answer::Registered(Registered { replica: 7, assignment: assignment(2, None) });
    machine.answered(NOW + 5_000, say, answer);
    beat_as(&mut machine, NOW + 5_000, &larger);
    let say = next(&mut machine, NOW + 10_000, Some(register(50)), false).unwrap();
    let Say::Beat { replica: 7, heartbeat: last } = &say else { panic!("{say:?}") };
    assert!(last.stopping && last.peer_address.as_ref().is_some_and(|address| address.port == 2));
    assert_eq!(machine.answered(NOW + 10_000, say, Answer::Assigned(assignment(2, None))), Peers::Keep);
    assert_eq!(
        next(&mut machine, NOW + 10_000, Some(register(50)), false),
        Some(Say::Register(register(50)))
    );
}

fn beat_as(machine: &mut Machine, now_ms: u64, register: &Register) {
    let say = next(machine, now_ms, Some(register.clone()), false).unwrap();
    machine.answered(now_ms, say, Answer::Assigned(assignment(2, None)));
}
