//! `kill -9`, amid writes and at each step of the workflow.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use memcloud_tests::postgres::Postgres;
use memcloud_tests::process::Folder;
use memcloud_tests::{Control, eventually};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{FLAGS, WITHIN, allocated, create_app, file, fill_pool, items, one_shard};

/// What was acknowledged: apps by number, and requisitions that were approved.
#[derive(Default)]
struct Acknowledged {
    apps: BTreeMap<u64, String>,
    approved: Vec<u64>,
}

#[test]
fn nothing_is_lost_when_one_of_two_processes_is_killed_amid_writes() {
    let postgres = Postgres::start();
    let mut one = Control::start_on(postgres.url(), &Folder::new(), &FLAGS);
    let other = one.beside();
    fill_pool(&[&one, &other], 120);
    let (said, stop) = (Mutex::new(Acknowledged::default()), AtomicBool::new(false));
    let approved = |wanted: usize| {
        eventually("approvals go on", WITHIN, || {
            (said.lock().unwrap().approved.len() >= wanted).then_some(())
        });
    };
    thread::scope(|scope| {
        for writer in 0..6 {
            let (control, said, stop) = (if writer % 2 == 0 { &one } else { &other }, &said, &stop);
            scope.spawn(move || {
                for round in 0.. {
                    let name = format!("app-{writer}-{round}");
                    if stop.load(Ordering::Relaxed) || workflow(control, &name, said).is_none() {
                        return;
                    }
                }
            });
        }
        approved(15);
        one.process().signal(Signal::KILL);
        let so_far = said.lock().unwrap().approved.len();
        approved(so_far + 10);
        stop.store(true, Ordering::Relaxed);
    });
    one.restart();
    let said = said.into_inner().unwrap();
    for control in [&one, &other] {
        holds(control, &said);
    }
}

/// An app, a requisition, its approval; nothing when control is gone, or the pool is empty.
fn workflow(control: &Control, name: &str, said: &Mutex<Acknowledged>) -> Option<()> {
    let ask = |path: &str, body: &Value| {
        let (status, document) = control.try_ask("POST", path, body).ok()?;
        (200..300).contains(&status).then_some(document)
    };
    let appid = ask("/v1/apps", &json!({ "name": name }))?["appid"].as_u64()?;
    said.lock().unwrap().apps.insert(appid, name.to_owned());
    let filed = ask(&format!("/v1/apps/{appid}/requisitions"), &one_shard())?;
    let id = filed["requisition"]["id"].as_u64()?;
    ask(&format!("/v1/requisitions/{id}/approve"), &json!({}))?;
    said.lock().unwrap().approved.push(id);
    Some(())
}

/// More may be there than was acknowledged: the answers of the killed process never came.
fn holds(control: &Control, said: &Acknowledged) {
    let apps = items(control, "/v1/apps");
    for (appid, name) in &said.apps {
        let there = apps.iter().filter(|app| app["appid"] == *appid && app["name"] == **name).count();
        assert_eq!(there, 1, "app {appid} {name} was acknowledged");
    }
    let requisitions = items(control, "/v1/requisitions");
    let approved: Vec<u64> = requisitions
        .iter()
        .filter(|one| one["state"]["state"] == "approved")
        .map(|one| one["id"].as_u64().unwrap())
        .collect();
    for id in &said.approved {
        assert!(approved.contains(id), "requisition {id} was approved, as was acknowledged");
    }
    assert_eq!(allocated(control).len(), 2 * approved.len());
}

#[test]
fn what_was_acknowledged_is_there_after_a_kill_at_each_step() {
    let mut control = Control::start(&Folder::new(), &FLAGS);
    fill_pool(&[&control], 2);
    let appid = create_app(&control, "shop");
    let again = |control: &mut Control| {
        control.kill();
        control.restart();
        // Heartbeats are kept each second, and come again by themselves.
        for replica in [1, 2] {
            control.beat(replica, &[]);
        }
    };
    let app = format!("/v1/apps/{appid}");
    let asked = |control: &Control, path: &str| control.ok("GET", path, &Value::Null);

    let filed = file(&control, appid);
    again(&mut control);
    let requisition = format!("/v1/requisitions/{}", filed["id"]);
    assert_eq!(asked(&control, &requisition), filed);
    assert_eq!(allocated(&control).len(), 0);

    let approved = control.ok("POST", &format!("{requisition}/approve"), &json!({}))["requisition"].clone();
    again(&mut control);
    assert_eq!(asked(&control, &requisition), approved);
    assert_eq!(approved["state"]["state"], "approved");

    // Staged: allocated, and known to no client.
    assert_eq!(allocated(&control).len(), 2);
    let topology = format!("{app}/topology");
    assert_eq!(control.ask("GET", &topology, &Value::Null).0, 404);
    assert_eq!(control.srv(appid), Vec::<String>::new());

    control.ok("POST", &format!("{app}/publish"), &json!({}));
    again(&mut control);
    assert_eq!(asked(&control, &topology)["revision"], 1);
    assert_eq!(asked(&control, &requisition)["state"]["state"], "fulfilled");
    assert_eq!(asked(&control, &format!("{app}/revisions/1"))["number"], 1);
    assert_eq!(control.srv(appid).len(), 2);
    assert_eq!(allocated(&control).len(), 2);
}
