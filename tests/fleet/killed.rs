//! Control killed amid a stream of workflow writes, again and again: what was answered is there, nothing is half done, no replica is
//! allocated twice, revisions never go back. On both databases.

#![allow(clippy::unwrap_used, reason = "a broken expectation of a test ends the test")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use memcloud_tests::postgres::Postgres;
use memcloud_tests::process::Folder;
use memcloud_tests::{Control, Rng, eventually};
use serde_json::Value;

const WITHIN: Duration = Duration::from_secs(60);
const ROUNDS: u32 = 6;
const REPLICAS: u64 = 300;
const SIZE: &str = "64MiB";

/// What was answered with yes.
#[derive(Default)]
struct Answered {
    apps: BTreeSet<u64>,
    published: BTreeMap<u64, u64>,
}

#[test]
fn killed_amid_writes_on_sqlite() {
    let folder = Folder::new();
    let mut control = Control::start(&folder, &["--lease", "3600"]);
    amid_writes(&mut control);
}

#[test]
fn killed_amid_writes_on_postgresql() {
    let postgres = Postgres::start();
    let folder = Folder::new();
    let mut control = Control::start_on(postgres.url(), &folder, &["--lease", "3600"]);
    amid_writes(&mut control);
}

fn amid_writes(control: &mut Control) {
    register(control);
    let answered = Arc::new(Mutex::new(Answered::default()));
    let mut rng = Rng::announced("killed", 4);
    for round in 0..ROUNDS {
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let writers: Vec<_> = (0..2)
                .map(|writer| {
                    let (control, stop, answered) = (&*control, &stop, Arc::clone(&answered));
                    scope.spawn(move || write(control, &format!("app-{round}-{writer}"), stop, &answered))
                })
                .collect();
            thread::sleep(Duration::from_millis(200 + rng.below(600)));
            control.process().signal(rustix::process::Signal::KILL);
            stop.store(true, Ordering::Relaxed);
            for writer in writers {
                writer.join().unwrap();
            }
        });
        control.restart();
        check(control, &answered.lock().unwrap());
    }
    assert!(answered.lock().unwrap().published.len() > 3, "hardly anything was written");
}

fn register(control: &Control) {
    for number in 1..=REPLICAS {
        control.register(number);
    }
    // Heartbeats are kept a second later.
    eventually("heartbeats are kept", WITHIN, || {
        let store = control.ok("GET", "/v1/replicas?limit=1000", &Value::Null);
        (store["items"].as_array().unwrap().len() as u64 == REPLICAS).then_some(())
    });
}

/// Apps one after the other: made, asked for, approved, published, until control is gone.
fn write(control: &Control, name: &str, stop: &AtomicBool, answered: &Mutex<Answered>) {
    for number in 0.. {
        let name = format!("{name}-{number}");
        if stop.load(Ordering::Relaxed) || workflow(control, &name, answered).is_none() {
            return;
        }
    }
}

/// `None`: it broke off, or the pool is empty.
fn workflow(control: &Control, name: &str, answered: &Mutex<Answered>) -> Option<()> {
    let appid = told(control, &["app", "create", name])?["appid"].as_u64().unwrap();
    answered.lock().unwrap().apps.insert(appid);
    let app = appid.to_string();
    let filed = told(control, &["requisition", "create", &app, "--memory", SIZE])?;
    let requisition = filed["requisition"]["id"].to_string();
    told(control, &["requisition", "approve", &requisition])?;
    let revision = told(control, &["revision", "publish", &app])?["number"].as_u64().unwrap();
    answered.lock().unwrap().published.insert(appid, revision);
    Some(())
}

fn told(control: &Control, arguments: &[&str]) -> Option<Value> {
    let output = control.command(arguments).arg("--json").output().unwrap();
    output.status.success().then(|| serde_json::from_slice(&output.stdout).unwrap())
}

fn check(control: &Control, answered: &Answered) {
    let all = |path: &str| control.ok("GET", path, &Value::Null)["items"].as_array().unwrap().clone();
    let apps = all("/v1/apps?limit=1000");
    let known: BTreeMap<u64, &Value> = apps.iter().map(|app| (app["appid"].as_u64().unwrap(), app)).collect();
    for appid in &answered.apps {
        assert!(known.contains_key(appid), "app {appid} was answered");
    }
    for (appid, revision) in &answered.published {
        let now = control.ok("GET", &format!("/v1/apps/{appid}/topology"), &Value::Null);
        assert!(
            now["revision"].as_u64().unwrap() >= *revision,
            "revision {revision} of {appid} was answered: {now}"
        );
        assert_eq!(now["shards"][0]["replicas"].as_array().unwrap().len(), 2);
    }
    // Each member knows its shard, each replica that is allocated is a member, and nobody is one twice.
    let mut members = BTreeMap::new();
    for app in &apps {
        for shard in app["shards"].as_array().unwrap() {
            assert_eq!(shard["members"].as_array().unwrap().len(), 2, "half a shard: {app}");
            for member in shard["members"].as_array().unwrap() {
                let twice = members.insert(member["replica"].as_u64().unwrap(), app["appid"].clone());
                assert_eq!(twice, None, "{member} is in two shards");
            }
        }
    }
    let allocated = all("/v1/replicas?allocation=allocated&limit=1000");
    let allocated: BTreeMap<u64, Value> = allocated
        .iter()
        .map(|one| (one["id"].as_u64().unwrap(), one["allocation"]["appid"].clone()))
        .collect();
    assert_eq!(allocated, members);
    for one in all("/v1/requisitions?limit=1000") {
        let app = known[&one["appid"].as_u64().unwrap()];
        let is_given = !app["shards"].as_array().unwrap().is_empty();
        assert_eq!(one["state"]["state"] != "pending", is_given, "{one} {app}");
    }
}
