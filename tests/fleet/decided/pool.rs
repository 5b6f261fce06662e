//! Many approvals at once, and a pool that has enough for some.

use std::sync::Barrier;
use std::thread;

use memcloud_tests::Control;
use memcloud_tests::postgres::Postgres;
use memcloud_tests::process::Folder;
use serde_json::{Value, json};

use crate::{FLAGS, allocated, create_app, file, fill_pool, items};

const ASKED: usize = 50;
const FIT: usize = 20;

#[test]
fn as_many_approvals_succeed_as_fit_on_sqlite() {
    let control = Control::start(&Folder::new(), &FLAGS);
    approve_all(&[&control]);
}

#[test]
fn as_many_approvals_succeed_as_fit_by_two_processes_on_postgresql() {
    let postgres = Postgres::start();
    let one = Control::start_on(postgres.url(), &Folder::new(), &FLAGS);
    let other = one.beside();
    approve_all(&[&one, &other]);
}

fn approve_all(controls: &[&Control]) {
    let first = controls[0];
    // One is left over: it is no shard.
    fill_pool(controls, 2 * FIT as u64 + 1);
    let appid = create_app(first, "shop");
    let asked: Vec<Value> = (0..ASKED).map(|_| file(first, appid)["id"].clone()).collect();
    let together = Barrier::new(ASKED);
    let approve = |number: usize| {
        together.wait();
        let path = format!("/v1/requisitions/{}/approve", asked[number]);
        controls[number % controls.len()].ask("POST", &path, &json!({}))
    };
    let answers: Vec<(u16, Value)> = thread::scope(|scope| {
        let asking: Vec<_> = (0..ASKED).map(|number| scope.spawn(move || approve(number))).collect();
        asking.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let (granted, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|(status, _)| *status == 200);
    assert_eq!(granted.len(), FIT, "{refused:?}");
    for (status, problem) in refused {
        let kind = problem["type"].as_str();
        assert_eq!((*status, kind), (409, Some("urn:memcloud:problem:pool-too-small")), "{problem}");
        assert!(problem["detail"].as_str().is_some_and(|says| !says.is_empty()), "{problem}");
    }
    for control in controls {
        assert_eq!(allocated(control).len(), 2 * FIT);
        let states = items(control, "/v1/requisitions");
        let pending = states.iter().filter(|one| one["state"]["state"] == "pending").count();
        assert_eq!(pending, ASKED - FIT, "what was refused can be asked again");
    }
}
