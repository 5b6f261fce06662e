//! A registry of any size, as `memcloud-control import` takes it: published apps whose replicas nobody started.

use std::fs::{self, File};
use std::io::{BufWriter, Write};

use serde_json::{Value, json};

use crate::control::Control;
use crate::process::Folder;

/// A replica of a published app.
#[derive(Clone, Debug)]
pub struct Member {
    pub site: String,
    pub host: String,
    pub is_standby: bool,
    pub weight: u16,
}

/// For each shard its replicas.
pub type Shards = Vec<Vec<Member>>;

/// The number of the first app; the others follow.
pub const FIRST_APP: u32 = 10_001;
/// Where all replicas listen.
pub const PORT: u16 = 11_211;

/// Puts these apps in the place of what is there; users and tokens stay. Replicas are numbered from 1 on.
pub fn import(control: &Control, folder: &Folder, apps: impl IntoIterator<Item = Shards>) {
    let export = control.ok("GET", "/v1/export", &Value::Null);
    let kept = export["records"].as_array().unwrap().iter().filter(|one| one["kind"] != "numbers");
    let path = folder.path().join("registry.json");
    let mut file = BufWriter::new(File::create(&path).unwrap());
    write!(file, r#"{{"version":{},"sequence":{},"records":["#, export["version"], export["sequence"])
        .unwrap();
    for record in kept {
        writeln!(file, "{record},").unwrap();
    }
    let (mut appid, mut replica) = (FIRST_APP, 1);
    for shards in apps {
        for record in records(appid, replica, &shards) {
            writeln!(file, "{record},").unwrap();
        }
        appid += 1;
        replica += shards.iter().flatten().count();
    }
    let next = json!({ "app": appid, "replica": replica, "requisition": 1, "token": 1_000 });
    writeln!(file, "{}]}}", json!({ "kind": "numbers", "body": next })).unwrap();
    file.flush().unwrap();
    drop(file);
    let done = control.command(&["import", path.to_str().unwrap()]).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    fs::remove_file(path).unwrap();
}

/// All that is kept of one app: its replicas, itself, its revision.
fn records(appid: u32, first: usize, shards: &Shards) -> Vec<Value> {
    let mut records = Vec::new();
    let (mut allocated, mut published) = (Vec::new(), Vec::new());
    let mut id = first;
    for (number, replicas) in shards.iter().enumerate() {
        let name = format!("s{number}");
        let (mut members, mut told) = (Vec::new(), Vec::new());
        for one in replicas {
            let preference = if one.is_standby { "standby" } else { "preferred" };
            let member = json!({ "replica": id, "preference": preference, "weight": one.weight });
            told.push(member.clone());
            members.push(with(member, "standing", json!("serving")));
            records.push(json!({ "kind": "replica", "body": replica(id, appid, &name, one) }));
            id += 1;
        }
        allocated.push(json!({ "name": name, "memory_bytes": MEMORY, "members": members }));
        published.push(json!({ "name": name, "members": told }));
    }
    records.push(json!({ "kind": "app", "body": app(appid, &allocated) }));
    let revision = json!({
        "appid": appid, "number": 1, "shards": published, "staged_by": "admin", "staged_at": AT, "rollback_of": null,
        "state": { "state": "published", "by": "admin", "at": AT },
    });
    records.push(json!({ "kind": "revision", "body": revision }));
    records
}

fn app(appid: u32, shards: &[Value]) -> Value {
    json!({
        "appid": appid, "name": format!("app-{appid}"), "owner": "admin", "description": "", "contacts": [], "labels": {},
        "quota": { "shards": 100, "replicas_per_shard": 1000, "memory_bytes": MEMORY * 100_000 },
        "auto_approve": false, "auto_publish": false, "shards": shards, "next_shard": shards.len(),
        "last_revision": 1, "published": 1, "staged": null, "created_at": AT,
    })
}

fn replica(id: usize, appid: u32, shard: &str, one: &Member) -> Value {
    let address = |port: u16| json!({ "host": one.host, "port": port });
    let registration = json!({
        "identity": format!("replica-{id}"), "site": one.site, "address": address(PORT), "peer_address": address(PORT + 1),
        "memory_bytes": MEMORY, "memcached_version": "1.6.18", "proxy_version": "0.1.0", "machine": format!("m{id}"),
        "zone": null, "place": null,
    });
    let allocation = json!({ "state": "allocated", "appid": appid, "shard": shard });
    json!({ "id": id, "registration": registration, "allocation": allocation, "registered_at": AT })
}

fn with(mut object: Value, key: &str, value: Value) -> Value {
    object[key] = value;
    object
}

const MEMORY: u64 = 64 << 20;
const AT: &str = "2026-01-01T00:00:00Z";
