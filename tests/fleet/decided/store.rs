//! A database that is away, and a disk that is full: changes are refused with what to do, lookups go on.

use memcloud_tests::postgres::Postgres;
use memcloud_tests::process::Folder;
use memcloud_tests::{Control, eventually};
use serde_json::{Value, json};

use crate::{FLAGS, WITHIN, create_app, file, fill_pool, items};

const TOPOLOGY: &str = "/v1/apps/10001/topology";

/// A published app: what lookups know of it.
struct Published {
    topology: Value,
    srv: Vec<String>,
}

impl Published {
    fn by(control: &Control) -> Self {
        fill_pool(&[control], 2);
        assert_eq!(create_app(control, "shop"), 10_001);
        let id = file(control, 10_001)["id"].clone();
        control.ok("POST", &format!("/v1/requisitions/{id}/approve"), &json!({}));
        control.ok("POST", "/v1/apps/10001/publish", &json!({}));
        let topology = control.ok("GET", TOPOLOGY, &Value::Null);
        let srv = control.srv(10_001);
        assert_eq!((topology["revision"].clone(), srv.len()), (json!(1), 2));
        Self { topology, srv }
    }

    fn is_served(&self, control: &Control) {
        assert_eq!(control.ok("GET", TOPOLOGY, &Value::Null), self.topology);
        assert_eq!(control.srv(10_001), self.srv);
    }
}

/// A create is refused, and says why and what to do.
fn refused(control: &Control, name: &str, word: &str, says: &str) {
    let (status, problem) = control.ask("POST", "/v1/apps", &json!({ "name": name }));
    let kind = problem["type"].as_str().unwrap_or_default();
    assert_eq!((status, kind), (503, format!("urn:memcloud:problem:{word}").as_str()), "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains(says), "{problem}");
}

fn goes_on(control: &Control) {
    eventually("changes are taken again", WITHIN, || {
        (control.ask("POST", "/v1/apps", &json!({ "name": "afterwards" })).0 == 201).then_some(())
    });
    let mut names: Vec<Value> = items(control, "/v1/apps").iter().map(|app| app["name"].clone()).collect();
    names.sort_by_key(Value::to_string);
    assert_eq!(names, ["afterwards", "shop"], "what was refused is not there");
}

#[test]
fn lookups_go_on_while_the_database_is_away() {
    let mut postgres = Postgres::start();
    let control = Control::start_on(postgres.url(), &Folder::new(), &FLAGS);
    let published = Published::by(&control);
    postgres.stop();
    refused(&control, "meanwhile", "store-away", "lookups go on, changes are refused until it is back");
    published.is_served(&control);
    postgres.restart();
    goes_on(&control);
    published.is_served(&control);
}

#[test]
fn lookups_go_on_while_the_disk_is_full() {
    let control = Control::start_limitable(&Folder::new(), &FLAGS);
    let published = Published::by(&control);
    // Less than what the log of SQLite has already, more than what control itself logs.
    control.process().limit_files(Some(64 << 10));
    for name in ["meanwhile", "once-more"] {
        refused(&control, name, "store-full", "free some on its disk");
        published.is_served(&control);
    }
    control.process().limit_files(None);
    goes_on(&control);
    published.is_served(&control);
}
