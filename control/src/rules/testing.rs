//! A registry for tests: takes wishes as the registrar does, and asserts the invariants after each.

use jiff::Timestamp;
use memcloud_protocol::registration::{Endpoint, Register};
use memcloud_protocol::topology::{AppId, ShardName};

use super::apps::NewApp;
use super::requisitions::{Approval, NewRequisition};
use super::{Refusal, Wish, apps, replicas, requisitions, revisions, users};
use crate::registry::Registry;
use crate::registry::change::Change;
use crate::registry::number::{ReplicaId, RequisitionId, RevisionNumber, Sequence};
use crate::registry::policy::Actor;
use crate::registry::requisition::Size;
use crate::registry::user::{Role, Scope, UserName};

pub(crate) struct Court {
    pub(crate) registry: Registry,
    pub(crate) now: Timestamp,
}

impl Court {
    /// With the users `root` (admin), `ops` (operator), `ann` and `bob` (owners) and `eve` (viewer).
    pub(crate) fn new() -> Self {
        let mut court =
            Self { registry: Registry::default(), now: Timestamp::from_second(1_800_000_000).unwrap() };
        court
            .ask(&actor("root", Role::Admin), |wish| users::found(wish, name("root"), "root".into()))
            .unwrap();
        for (user, role) in
            [("ops", Role::Operator), ("ann", Role::Owner), ("bob", Role::Owner), ("eve", Role::Viewer)]
        {
            let new = users::NewUser { name: name(user), role, password: None, email: None };
            court.ask(&actor("root", Role::Admin), |wish| users::create(wish, new)).unwrap();
        }
        court
    }

    pub(crate) fn ask<Answer>(
        &mut self,
        actor: &Actor,
        rule: impl FnOnce(Wish<'_>) -> Result<(Change, Answer), Refusal>,
    ) -> Result<Answer, Refusal> {
        let (change, answer) = rule(Wish { registry: &self.registry, actor, now: self.now })?;
        self.registry.apply(Sequence(self.registry.sequence().0 + 1), &change.writes);
        assert_eq!(self.registry.check_invariants(), Ok(()), "after {:?}", change.audit);
        Ok(answer)
    }

    pub(crate) fn as_ops<Answer>(
        &mut self,
        rule: impl FnOnce(Wish<'_>) -> Result<(Change, Answer), Refusal>,
    ) -> Result<Answer, Refusal> {
        self.ask(&actor("ops", Role::Operator), rule)
    }

    pub(crate) fn register(&mut self, told: Register) -> ReplicaId {
        self.as_ops(|wish| replicas::register(wish, told, &|_| false)).unwrap()
    }
}

pub(crate) fn name(text: &str) -> UserName {
    text.parse().unwrap()
}

pub(crate) fn actor(user: &str, role: Role) -> Actor {
    Actor { user: name(user), role, scope: Scope::Full }
}

/// A replica named after its machine and port, with so many MiB.
pub(crate) fn replica(machine: &str, port: u16, mebibytes: u64) -> Register {
    let endpoint = |port| Endpoint { host: "10.0.0.1".into(), port };
    Register {
        identity: format!("{machine}:{port}"),
        site: format!("{machine}-{port}").parse().unwrap(),
        address: endpoint(port),
        peer_address: endpoint(port + 1),
        memory_bytes: mebibytes << 20,
        memcached_version: Some("1.6.18".into()),
        proxy_version: "0.1.0".into(),
        machine: machine.into(),
        zone: None,
        place: None,
    }
}

pub(crate) const ALIVE: fn(ReplicaId) -> bool = |_| true;
pub(crate) const S0: ShardName = ShardName::FIRST;

pub(crate) fn court_with(machines: &[&str]) -> (Court, AppId) {
    let mut court = Court::new();
    for machine in machines {
        for port in [11211, 11221] {
            court.register(replica(machine, port, 64));
        }
    }
    let new = NewApp { name: "shop".into(), ..NewApp::default() };
    let app = court.ask(&actor("ann", Role::Owner), |wish| apps::create(wish, new)).unwrap();
    (court, app.appid)
}

pub(crate) fn size(shards: u16, replicas: u16) -> Size {
    Size { shards, replicas, memory_bytes: 64 << 20 }
}

pub(crate) fn file(court: &mut Court, appid: AppId, size: Size) -> RequisitionId {
    let new = NewRequisition { appid, size, reason: "growth".into() };
    court.ask(&actor("ann", Role::Owner), |wish| requisitions::create(wish, new, &ALIVE)).unwrap().0.id
}

pub(crate) fn approve(court: &mut Court, id: RequisitionId) -> Result<(), Refusal> {
    court.as_ops(|wish| requisitions::approve(wish, id, &Approval::default(), None, &ALIVE)).map(drop)
}

pub(crate) fn publish(court: &mut Court, appid: AppId) -> RevisionNumber {
    court.as_ops(|wish| revisions::publish(wish, appid, None)).unwrap().unwrap().number
}

/// One shard with two replicas, published.
pub(crate) fn served() -> (Court, AppId) {
    let (mut court, appid) = court_with(&["m1", "m2", "m3"]);
    let id = file(&mut court, appid, size(1, 2));
    approve(&mut court, id).unwrap();
    publish(&mut court, appid);
    (court, appid)
}
