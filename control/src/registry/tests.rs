use super::Registry;
use super::change::{Kind, Record, Write};
use super::number::Sequence;
use super::policy::{Action, Actor, Reach};
use super::user::{Role, Scope};
use crate::rules::testing::{Court, name, replica};

#[test]
fn records_make_the_registry_anew() {
    let mut court = Court::new();
    court.register(replica("m1", 11211, 64));
    let writes: Vec<Write> = court
        .registry
        .records()
        .map(|record| Write::Put(Record::of_body(record.key().kind, record.body()).unwrap()))
        .collect();
    let mut anew = Registry::default();
    anew.apply(Sequence(9), &writes);
    let bodies = |registry: &Registry| registry.records().map(|record| record.body()).collect::<Vec<_>>();
    assert_eq!(bodies(&anew), bodies(&court.registry));
    assert!(anew.replica_of_identity("m1:11211").is_some());
    assert!(anew.token_of_digest("root").is_some());
}

#[test]
fn the_audit_log_is_told_no_secret() {
    let court = Court::new();
    for record in court.registry.records().filter(|record| record.key().kind == Kind::Token) {
        assert_ne!(record.public_body()["digest"], "root");
    }
}

#[test]
fn a_token_narrows_and_never_widens() {
    for role in Role::ALL {
        for action in Action::ALL {
            let reach = |scope| Actor { user: name("x"), role, scope }.reach(action);
            for scope in Scope::ALL {
                assert!(
                    reach(scope) == Reach::None || reach(scope) == reach(Scope::Full),
                    "{role:?} {action:?} {scope:?}"
                );
            }
        }
    }
    let viewer = Actor { user: name("x"), role: Role::Viewer, scope: Scope::Agent };
    assert_eq!(viewer.reach(Action::RegisterReplica), Reach::None);
}
