//! One contract, two databases.

use jiff::Timestamp;
use memcloud_tests::postgres::Postgres;

use super::{AuditQuery, Beat, CommitError, Store, StoreError};
use crate::registry::audit::AuditEntry;
use crate::registry::change::{Change, Kind, Record, RecordKey, Write};
use crate::registry::number::{ReplicaId, Sequence};
use crate::registry::user::{Role, User};
use crate::rules::testing::name;

#[tokio::test]
async fn sqlite_keeps_the_contract() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("sqlite:{}/memcloud.db", folder.path().display());
    contract(&url).await;
}

#[tokio::test]
async fn postgres_keeps_the_contract() {
    let mut server = Postgres::start();
    contract(&server.url()).await;
    a_change_of_another_process_is_heard(&server.url()).await;
    what_is_away_comes_back(&mut server).await;
}

#[tokio::test]
async fn a_store_of_another_kind_is_refused() {
    for url in ["mysql://x", "memcloud.db", ""] {
        let refused = Store::open(url).await.unwrap_err().to_string();
        assert!(refused.contains("sqlite:FILE"), "{refused}");
    }
}

#[tokio::test]
async fn a_full_disk_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&format!("sqlite:{}/memcloud.db", folder.path().display())).await.unwrap();
    // SQLite's own bound stands for the disk's: the same error code.
    sqlx::query("PRAGMA max_page_count = 20").fetch_one(&store.pool).await.unwrap();
    let mut head = Sequence(0);
    let error = loop {
        match store.commit(head, &put(&format!("user-{head}"))).await {
            Ok(next) => head = next,
            Err(error) => break error,
        }
    };
    assert!(matches!(error, CommitError::Store(StoreError::Full(_))), "{error:?}");
    // What was taken is there, and nothing of the rest.
    assert_eq!(store.since(Sequence(0)).await.unwrap().head, head);
    assert_eq!(store.since(Sequence(0)).await.unwrap().writes.len() as u64, head.0);
}

async fn contract(url: &str) {
    let store = Store::open(url).await.unwrap();
    assert_eq!(store.since(Sequence(0)).await.unwrap().writes, []);

    // In order, and never on an old picture.
    assert_eq!(store.commit(Sequence(0), &put("ann")).await.unwrap(), Sequence(1));
    assert!(matches!(store.commit(Sequence(0), &put("bob")).await, Err(CommitError::Conflict)));
    assert_eq!(store.commit(Sequence(1), &put("bob")).await.unwrap(), Sequence(2));
    let gone = RecordKey::new(Kind::User, "ann");
    let deletion = Change { writes: vec![Write::Delete(gone.clone())], audit: Vec::new() };
    assert_eq!(store.commit(Sequence(2), &deletion).await.unwrap(), Sequence(3));

    // Who knows the first change hears of the other two; who knows nothing need not hear of what is gone.
    let since = store.since(Sequence(1)).await.unwrap();
    assert_eq!(since.head, Sequence(3));
    assert_eq!(since.writes, [(Sequence(2), Write::Put(user("bob"))), (Sequence(3), Write::Delete(gone))]);
    assert_eq!(store.since(Sequence(0)).await.unwrap().writes, [(Sequence(2), Write::Put(user("bob")))]);
    assert_eq!(store.since(Sequence(3)).await.unwrap().writes, []);

    the_audit_log(&store).await;
    heartbeats(&store).await;
    only_one_of_many_writers_wins(&store).await;

    // Opened again, nothing is lost and nothing is migrated twice.
    let before = store.since(Sequence(0)).await.unwrap();
    store.close().await;
    assert!(matches!(store.ping().await, Err(StoreError::Away(_))));
    assert_eq!(Store::open(url).await.unwrap().since(Sequence(0)).await.unwrap(), before);
}

async fn the_audit_log(store: &Store) {
    let log = |query: AuditQuery| async move {
        let found = store.audit_log(&AuditQuery { limit: 10, ..query }).await.unwrap();
        found.into_iter().map(|one| one.entry.subject).collect::<Vec<_>>()
    };
    assert_eq!(log(AuditQuery::default()).await, ["user/bob", "user/ann"]);
    assert_eq!(
        log(AuditQuery { subjects: vec!["user/ann".into()], ..AuditQuery::default() }).await,
        ["user/ann"]
    );
    assert_eq!(log(AuditQuery { subjects: vec!["user/an".into()], ..AuditQuery::default() }).await, [""; 0]);
    assert_eq!(
        log(AuditQuery { actor: Some("root".into()), before: Some(2), ..AuditQuery::default() }).await,
        ["user/ann"]
    );
}

async fn heartbeats(store: &Store) {
    let beat = |replica, at_ms| Beat { replica: ReplicaId(replica), at_ms, body: format!("{at_ms}") };
    store.save_beats(&[beat(1, 10), beat(2, 20)]).await.unwrap();
    // One that was delayed changes nothing.
    store.save_beats(&[beat(1, 30), beat(2, 15)]).await.unwrap();
    let mut found = store.beats_since(0).await.unwrap();
    found.sort_by_key(|beat| beat.replica);
    assert_eq!(found, [beat(1, 30), beat(2, 20)]);
    assert_eq!(store.beats_since(25).await.unwrap(), [beat(1, 30)]);
}

async fn only_one_of_many_writers_wins(store: &Store) {
    let head = store.since(Sequence(u64::MAX >> 1)).await.unwrap().head;
    let tries = (0..16).map(|number| {
        let store = store.clone();
        tokio::spawn(async move { store.commit(head, &put(&format!("rival-{number}"))).await.is_ok() })
    });
    let mut won = 0;
    for attempt in tries.collect::<Vec<_>>() {
        won += usize::from(attempt.await.unwrap());
    }
    assert_eq!(won, 1);
    assert_eq!(store.since(head).await.unwrap().writes.len(), 1);
}

async fn a_change_of_another_process_is_heard(url: &str) {
    let (one, other) = (Store::open(url).await.unwrap(), Store::open(url).await.unwrap());
    let mut changes = one.changes().await.unwrap();
    let head = other.since(Sequence(0)).await.unwrap().head;
    other.commit(head, &put("loud")).await.unwrap();
    changes.heard().await.unwrap();
    assert_eq!(one.since(head).await.unwrap().head, Sequence(head.0 + 1));
}

async fn what_is_away_comes_back(server: &mut Postgres) {
    let store = Store::open(&server.url()).await.unwrap();
    let head = store.since(Sequence(0)).await.unwrap().head;
    server.stop();
    assert!(matches!(store.commit(head, &put("away")).await, Err(CommitError::Store(StoreError::Away(_)))));
    server.restart();
    assert_eq!(store.commit(head, &put("back")).await.unwrap(), Sequence(head.0 + 1));
}

fn user(text: &str) -> Record {
    Record::User(User {
        name: name(text),
        role: Role::Owner,
        password: None,
        email: None,
        disabled: false,
        created_at: Timestamp::UNIX_EPOCH,
    })
}

fn put(text: &str) -> Change {
    let record = user(text);
    let entry = AuditEntry {
        at: Timestamp::UNIX_EPOCH,
        actor: name("root"),
        action: "user.create".into(),
        subject: record.key().to_string(),
        before: None,
        after: Some(record.public_body()),
        reason: None,
    };
    Change { writes: vec![Write::Put(record)], audit: vec![entry] }
}
