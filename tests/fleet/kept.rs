//! Control killed, its database away, control started again: lookups and DNS go on from the directory that was kept on disk.

#![allow(clippy::unwrap_used, reason = "a broken expectation of a test ends the test")]

use std::fs;
use std::path::Path;
use std::time::Duration;

use memcloud_tests::postgres::Postgres;
use memcloud_tests::process::Folder;
use memcloud_tests::{Control, eventually, http};
use serde_json::{Value, json};

const WITHIN: Duration = Duration::from_secs(60);
const APPID: u64 = 10_001;
const TOPOLOGY: &str = "/v1/apps/10001/topology";

/// An app of one shard and two replicas, published.
fn furnish(control: &Control) {
    for number in 1..=2 {
        control.register(number);
    }
    control.ok("POST", "/v1/apps", &json!({ "name": "shop", "auto_publish": true }));
    let size = json!({ "size": { "shards": 1, "replicas": 2, "memory_bytes": 1 << 26 } });
    control.ok("POST", "/v1/apps/10001/requisitions", &size);
    control.ok("POST", "/v1/requisitions/1/approve", &json!({}));
}

fn is_kept(file: &Path) {
    eventually("the directory is kept", WITHIN, || {
        fs::read_to_string(file)
            .is_ok_and(|text| text.contains("\"shop\"") && text.contains("m2"))
            .then_some(())
    });
}

#[test]
fn a_start_without_the_database_answers_what_was_kept() {
    let mut postgres = Postgres::start();
    let folder = Folder::new();
    let file = folder.path().join("directory");
    let flags = ["--lease", "600", "--directory-file", file.to_str().unwrap()];
    let mut control = Control::start_on(postgres.url(), &folder, &flags);
    furnish(&control);
    is_kept(&file);
    let (records, topology) = (control.srv(APPID), control.ok("GET", TOPOLOGY, &Value::Null));
    assert_eq!(records.len(), 2);

    control.kill();
    postgres.stop();
    control.restart();
    assert_eq!(control.srv(APPID), records);
    assert_eq!(control.ok("GET", TOPOLOGY, &Value::Null), topology);
    let (status, problem) = control.ask("POST", "/v1/apps", &json!({ "name": "second" }));
    assert_eq!(status, 503, "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("the database does not answer"), "{problem}");

    // It comes back by itself, with all that was decided.
    postgres.restart();
    eventually("changes are taken again", WITHIN, || {
        (control.ask("POST", "/v1/apps", &json!({ "name": "second" })).0 == 201).then_some(())
    });
    assert_eq!(control.srv(APPID), records);
    assert_eq!(control.ok("GET", TOPOLOGY, &Value::Null)["revision"], topology["revision"]);
}

#[test]
fn what_was_not_kept_whole_is_refused_and_hinders_nobody() {
    let folder = Folder::new();
    let mut control = Control::start(&folder, &["--lease", "600"]);
    furnish(&control);
    let file = folder.path().join("control.db.directory");
    is_kept(&file);
    control.kill();
    let whole = fs::read(&file).unwrap();
    fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    control.restart();
    assert_eq!(control.srv(APPID).len(), 2, "the database is there");
    eventually("metrics say how much there is", WITHIN, || {
        let address = control.url().replace("http://", "");
        let (_, text) = http::get(&address, "/metrics").ok()?;
        let is = |name: &str| http::metric(&text, name, &[]) == 1.0;
        (is("memcloud_control_apps_published") && is("memcloud_control_store_up")).then_some(())
    });
    let log = control.process().log();
    assert!(log.contains("its checksum is another") && log.contains("remove it"), "{log}");
    is_kept(&file);
}
