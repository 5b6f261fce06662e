//! What control has said stays said: while many ask at once, when a process is killed amid writes, when the database is away or full.
//! Replicas are a pretence, as control decides about their word alone.

#![allow(clippy::unwrap_used, reason = "a broken expectation of a test ends the test")]

mod killed;
mod pool;
mod store;

use std::collections::BTreeSet;
use std::time::Duration;

use memcloud_tests::{Control, eventually};
use serde_json::{Value, json};

pub(crate) const WITHIN: Duration = Duration::from_secs(60);
/// Replicas that are registered once live as long as a test.
pub(crate) const FLAGS: [&str; 4] = ["--ttl", "1", "--lease", "600"];

/// So many replicas that are nobody's, and heard by each process: what one has heard the others learn within a second or two.
pub(crate) fn fill_pool(controls: &[&Control], replicas: u64) {
    for number in 0..replicas {
        let replica = controls[0].register(number);
        for other in &controls[1..] {
            is_known(other, replica);
        }
    }
}

fn is_known(control: &Control, replica: u64) {
    let well = json!({ "ready": true, "in_sync": true, "upstream_up": true, "whole_with": [] });
    eventually("another process knows the replica", WITHIN, || {
        let (status, _) = control.ask("POST", &format!("/v1/replicas/{replica}/heartbeat"), &well);
        (status == 200).then_some(())
    });
}

pub(crate) fn create_app(control: &Control, name: &str) -> u64 {
    let quota = json!({ "shards": 100, "replicas_per_shard": 2, "memory_bytes": 1_u64 << 40 });
    control.ok("POST", "/v1/apps", &json!({ "name": name, "quota": quota }))["appid"].as_u64().unwrap()
}

/// One shard of two replicas is asked for: the requisition.
pub(crate) fn file(control: &Control, appid: u64) -> Value {
    let path = format!("/v1/apps/{appid}/requisitions");
    control.ok("POST", &path, &one_shard())["requisition"].clone()
}

pub(crate) fn one_shard() -> Value {
    json!({ "size": { "shards": 1, "replicas": 2, "memory_bytes": 1 << 20 } })
}

pub(crate) fn items(control: &Control, path: &str) -> Vec<Value> {
    control.ok("GET", &format!("{path}?limit=1000"), &Value::Null)["items"].as_array().unwrap().clone()
}

/// The replicas of all shards; none is in two places.
pub(crate) fn allocated(control: &Control) -> BTreeSet<u64> {
    let mut seen = BTreeSet::new();
    for app in items(control, "/v1/apps") {
        for shard in app["shards"].as_array().unwrap() {
            for member in shard["members"].as_array().unwrap() {
                let replica = member["replica"].as_u64().unwrap();
                assert!(seen.insert(replica), "replica {replica} is in two places: {app}");
            }
        }
    }
    seen
}
