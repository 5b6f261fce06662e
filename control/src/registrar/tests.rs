use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use memcloud_protocol::registration::Heartbeat;
use memcloud_protocol::topology::{AppId, ReplicaState};
use memcloud_tests::postgres::Postgres;
use tokio_util::sync::CancellationToken;

use super::{AskError, Registrar, Terms};
use crate::leases::Heard;
use crate::registry::number::{ReplicaId, RequisitionId};
use crate::registry::policy::Actor;
use crate::registry::replica::Allocation;
use crate::registry::requisition::Size;
use crate::registry::user::Role;
use crate::rules::testing::{actor, name, replica};
use crate::rules::{Refusal, apps, replicas, requisitions, users};
use crate::store::Store;

const TERMS: Terms = Terms {
    ttl_seconds: 5,
    lease: SignedDuration::from_secs(15),
    heartbeat_seconds: 5,
    leave_after: SignedDuration::from_secs(1),
};

const BETWEEN_LOOKS: Duration = Duration::from_millis(5);
const DEADLINE: Duration = Duration::from_secs(20);

struct Process {
    registrar: Registrar,
    stop: CancellationToken,
}

impl Process {
    async fn start(url: &str) -> Self {
        let stop = CancellationToken::new();
        let store = Store::open(url).await.unwrap();
        Self { registrar: Registrar::start(store, TERMS, stop.clone()).await.unwrap(), stop }
    }

    /// An app, and a pool with two replicas on each of so many machines, all heard of.
    async fn furnish(&self, machines: usize) -> AppId {
        let root = root();
        self.registrar
            .ask(root.clone(), |wish, _| users::found(wish, name("root"), "digest".into()))
            .await
            .unwrap();
        let new = apps::NewApp { name: "shop".into(), ..apps::NewApp::default() };
        let app =
            self.registrar.ask(root.clone(), move |wish, _| apps::create(wish, new.clone())).await.unwrap();
        for machine in 0..machines {
            for port in [11211, 11221] {
                let told = replica(&format!("m{machine}"), port, 64);
                let id = self
                    .registrar
                    .ask(root.clone(), move |wish, _| replicas::register(wish, told.clone(), &|_| false))
                    .await
                    .unwrap();
                self.hear(id);
            }
        }
        app.appid
    }

    fn hear(&self, id: ReplicaId) {
        let heartbeat = Heartbeat { ready: true, in_sync: true, upstream_up: true, ..Heartbeat::default() };
        self.registrar.hear(id, Heard { at: Timestamp::now(), heartbeat });
    }

    async fn file(&self, appid: AppId) -> RequisitionId {
        let size = Size { shards: 1, replicas: 2, memory_bytes: 1 << 20 };
        let new = requisitions::NewRequisition { appid, size, reason: String::new() };
        let filed = self
            .registrar
            .ask(root(), move |wish, _| requisitions::create(wish, new.clone(), &|_| true))
            .await;
        filed.unwrap().0.id
    }

    async fn approve(&self, id: RequisitionId) -> Result<(), AskError> {
        let approval = requisitions::Approval::default();
        let approved = self.registrar.ask(root(), move |wish, view| {
            let alive = |id| view.leases.is_alive(id, wish.now);
            requisitions::approve(wish, id, &approval, None, &alive)
        });
        approved.await.map(drop)
    }
}

fn root() -> Actor {
    actor("root", Role::Admin)
}

/// Looks again and again until it holds: what is waited for is decided in several processes, by several tasks.
async fn until(what: &str, holds: impl Fn() -> bool) {
    let asked = async {
        while !holds() {
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
    };
    tokio::time::timeout(DEADLINE, asked).await.unwrap_or_else(|_| panic!("not in time: {what}"));
}

/// Away from the runtime: a server that ends waits for clients that are just connecting, and those are here.
async fn moved(mut server: Postgres, change: fn(&mut Postgres)) -> Postgres {
    let changing = move || {
        change(&mut server);
        server
    };
    tokio::task::spawn_blocking(changing).await.unwrap()
}

#[tokio::test]
async fn what_was_decided_is_there_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}/memcloud.db", folder.path().display());
    let one = Process::start(&url).await;
    let appid = one.furnish(2).await;
    until("heartbeats are taken", || one.registrar.view().leases.heard(ReplicaId(4)).is_some()).await;
    let id = one.file(appid).await;
    one.approve(id).await.unwrap();
    one.stop.cancel();
    let again = Process::start(&url).await;
    let view = again.registrar.view();
    assert_eq!(view.registry.check_invariants(), Ok(()));
    assert_eq!(view.registry.app(appid).unwrap().shards.len(), 1);
    assert!(matches!(again.approve(id).await, Err(AskError::Refused(Refusal::Conflict(_)))));
}

/// Fifty approvals at once, on two processes with one database, against a pool for four: exactly four.
#[tokio::test]
async fn two_processes_never_allocate_a_replica_twice() {
    let server = Postgres::start();
    let (one, two) = (Process::start(&server.url()).await, Process::start(&server.url()).await);
    let appid = one.furnish(4).await;
    let mut ids = Vec::new();
    for _ in 0..50 {
        ids.push(one.file(appid).await);
    }
    let head = one.registrar.view().registry.sequence();
    until("the other process hears of it", || two.registrar.view().registry.sequence() >= head).await;
    until("and of the heartbeats", || {
        (1..=8).all(|id| two.registrar.view().leases.heard(ReplicaId(id)).is_some())
    })
    .await;
    let approvals =
        ids.iter().enumerate().map(|(at, &id)| if at % 2 == 0 { one.approve(id) } else { two.approve(id) });
    let ended = futures_util::future::join_all(approvals).await;
    assert_eq!(ended.iter().filter(|ended| ended.is_ok()).count(), 4);
    let too_small =
        |ended: &&Result<(), AskError>| matches!(ended, Err(AskError::Refused(Refusal::PoolTooSmall(_))));
    assert_eq!(ended.iter().filter(too_small).count(), 46, "{ended:?}");
    let same = || one.registrar.view().registry.sequence() == two.registrar.view().registry.sequence();
    until("both know the same", same).await;
    for process in [&one, &two] {
        let view = process.registrar.view();
        assert_eq!(view.registry.check_invariants(), Ok(()));
        assert!(
            view.registry.replicas(None).all(|one| matches!(one.allocation, Allocation::Allocated { .. }))
        );
    }
}

#[tokio::test]
async fn without_the_database_lookups_go_on_and_wishes_are_refused() {
    let server = Postgres::start();
    let one = Process::start(&server.url()).await;
    let appid = one.furnish(2).await;
    let publish = apps::AppPatch {
        governed: apps::Government { auto_publish: Some(true), ..apps::Government::default() },
        ..apps::AppPatch::default()
    };
    one.registrar.ask(root(), move |wish, _| apps::change(wish, appid, publish.clone(), None)).await.unwrap();
    until("heartbeats are taken", || one.registrar.view().leases.heard(ReplicaId(4)).is_some()).await;
    let id = one.file(appid).await;
    one.approve(id).await.unwrap();
    let told = || one.registrar.view().directory.app(appid).map(|entry| entry.topology.clone());
    assert_eq!(told().unwrap().shards[0].replicas[0].state, ReplicaState::Up);

    let server = moved(server, Postgres::stop).await;
    let refused = one.registrar.ask(root(), |wish, _| apps::delete(wish, AppId::FIRST, None)).await;
    assert!(
        matches!(refused, Err(AskError::Refused(Refusal::Conflict(_)))),
        "a rule needs no database: {refused:?}"
    );
    let new = apps::NewApp { name: "other".into(), ..apps::NewApp::default() };
    let create = || {
        let new = new.clone();
        one.registrar.ask(root(), move |wish, _| apps::create(wish, new.clone()))
    };
    let refused = create().await;
    assert!(matches!(&refused, Err(AskError::Store(_))), "{refused:?}");
    until("the trouble is said", || one.registrar.view().trouble.is_some()).await;
    assert!(told().is_some());

    let _server = moved(server, Postgres::restart).await;
    until("the trouble is over", || one.registrar.view().trouble.is_none()).await;
    create().await.unwrap();
}
