//! The predecessor's whole workflow by the operator's commands alone: users, an app, a requisition, its approval, publication, growth, a
//! replica that is replaced, a rollback. What DNS answers is asked by `dig` after each step.

#![allow(clippy::unwrap_used, reason = "a broken expectation of a test ends the test")]

use std::fs;
use std::process::Output;
use std::time::Duration;

use memcloud_tests::postgres::Postgres;
use memcloud_tests::process::Folder;
use memcloud_tests::{Control, eventually};
use serde_json::{Value, json};

const WITHIN: Duration = Duration::from_secs(30);
const APPID: u64 = 10_001;
const FLAGS: [&str; 4] = ["--ttl", "1", "--lease", "600"];

fn ran(control: &Control, arguments: &[&str]) -> Output {
    control.command(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// What a command prints that succeeds.
fn told(control: &Control, arguments: &[&str]) -> String {
    let output = ran(control, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
    assert_eq!(text(&output.stderr), "", "{arguments:?}");
    text(&output.stdout)
}

fn json_of(control: &Control, arguments: &[&str]) -> Value {
    let told = told(control, &[arguments, &["--json"]].concat());
    serde_json::from_str(&told).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {told}"))
}

/// The one sentence of a command that is refused, and its exit code.
fn refused(control: &Control, arguments: &[&str]) -> (i32, String) {
    let output = ran(control, arguments);
    let says = text(&output.stderr);
    assert!(!output.status.success() && output.stdout.is_empty(), "{arguments:?}: {says}");
    (output.status.code().unwrap(), says)
}

/// Which machines DNS has for the app, by shard.
fn served(control: &Control) -> Vec<String> {
    let lines = control.srv(APPID);
    let mut names: Vec<String> = lines
        .iter()
        .filter_map(|line| line.split(' ').nth(3)?.strip_suffix(".10001.memcloud.internal."))
        .map(str::to_owned)
        .collect();
    names.sort();
    names
}

fn is_served(control: &Control, wanted: &[&str]) {
    let mut last = Vec::new();
    eventually(&format!("DNS has {wanted:?}"), WITHIN, || {
        last = served(control);
        (last == wanted).then_some(())
    });
}

#[test]
fn the_whole_workflow_on_sqlite() {
    let folder = Folder::new();
    whole_workflow(&Control::start(&folder, &FLAGS), &folder);
}

#[test]
fn the_whole_workflow_on_postgresql() {
    let postgres = Postgres::start();
    let folder = Folder::new();
    whole_workflow(&Control::start_on(postgres.url(), &folder, &FLAGS), &folder);
}

fn whole_workflow(control: &Control, folder: &Folder) {
    for number in 1..=6 {
        assert_eq!(control.register(number), number);
    }
    let pool = told(control, &["replica", "list", "--allocation", "pool"]);
    assert_eq!(pool.lines().count(), 7, "{pool}");
    assert!(pool.starts_with("ID  SITE  ADDRESS         MACHINE"), "{pool}");

    people(control, folder);
    asked_and_given(control);
    published(control);
    grown(control);
    replaced(control);
    rolled_back(control);
    looked_at(control, folder);
}

/// Two users; ann has an app, and a token of her own.
fn people(control: &Control, folder: &Folder) {
    assert!(
        told(control, &["user", "create", "ann", "--email", "ann@example.com"]).contains("role      owner")
    );
    told(control, &["user", "create", "ops", "--role", "operator"]);
    let users = json_of(control, &["user", "list"]);
    assert_eq!(users.as_array().unwrap().len(), 3);
    let secret =
        told(control, &["token", "create", "--user", "ann", "--purpose", "laptop", "--expires", "30d"]);
    let file = folder.path().join("ann.token");
    fs::write(&file, &secret).unwrap();
    let as_ann = ["--token-file", file.to_str().unwrap()];
    let create = ["app", "create", "shop", "--contact", "email:ann@example.com", "--label", "team=web"];
    let app = json_of(control, &[&create[..], &as_ann, &["--idempotency-key", "one"]].concat());
    assert_eq!((&app["appid"], &app["owner"]), (&json!(APPID), &json!("ann")));
    // Said again it is the same app; said otherwise it is refused.
    let again = json_of(control, &[&create[..], &as_ann, &["--idempotency-key", "one"]].concat());
    assert_eq!(again, app);
    let (code, says) = refused(control, &["app", "create", "shop"]);
    assert_eq!(code, 1);
    assert!(says.starts_with("memcloud-control: ") && says.contains("shop"), "{says}");
    assert_eq!(says.lines().count(), 1, "{says}");
    let (code, says) = refused(control, &[&["requisition", "approve", "1"][..], &as_ann].concat());
    assert_eq!((code, says.as_str()), (1, "memcloud-control: there is no requisition 1\n"));
    told(control, &[&["requisition", "create", "10001", "--memory", "64MiB"][..], &as_ann].concat());
    let (_, says) = refused(control, &[&["requisition", "approve", "1"][..], &as_ann].concat());
    assert!(says.contains("ann may not do that"), "{says}");
}

fn asked_and_given(control: &Control) {
    let pending = told(control, &["requisition", "list", "--state", "pending"]);
    assert!(pending.contains("1 x 2 x 64MiB"), "{pending}");
    let given = told(control, &["requisition", "approve", "1", "--reason", "spring"]);
    assert!(given.contains("state   approved") && given.contains("because     spring"), "{given}");
    let (_, says) = refused(control, &["requisition", "reject", "1"]);
    assert!(says.contains("the requisition is approved"), "{says}");
    assert_eq!(told(control, &["revision", "diff", "10001"]), "+ s0/1\n+ s0/2\n");
    assert!(served(control).is_empty(), "staged is not published");
}

fn published(control: &Control) {
    let (code, _) = refused(control, &["revision", "publish", "10001", "--revision", "7"]);
    assert_eq!(code, 1);
    assert!(told(control, &["revision", "publish", "10001", "--revision", "1"]).contains("published"));
    is_served(control, &["m1.s0", "m2.s0"]);
    assert_eq!(told(control, &["revision", "diff", "10001"]), "what is allocated is published\n");
    let topology = told(control, &["app", "topology", "10001"]);
    assert!(topology.contains("10.0.0.1:11211"), "{topology}");
}

fn grown(control: &Control) {
    told(control, &["requisition", "create", "10001", "--memory", "64MiB", "--reason", "growth"]);
    told(control, &["requisition", "approve", "2", "--shards", "1", "--replicas", "2", "--memory", "64m"]);
    told(control, &["revision", "publish", "10001"]);
    is_served(control, &["m1.s0", "m2.s0", "m3.s1", "m4.s1"]);
}

/// m1 goes for m5: copied to first, then published, then the old one is let go.
fn replaced(control: &Control) {
    told(control, &["app", "change", "10001", "--auto-publish"]);
    let joining = told(control, &["replica", "replace", "10001", "s0", "1", "--by", "5"]);
    assert!(joining.contains("joining, in the place of 1"), "{joining}");
    is_served(control, &["m1.s0", "m2.s0", "m3.s1", "m4.s1"]);
    control.beat(5, &["m1", "m2"]);
    is_served(control, &["m2.s0", "m3.s1", "m4.s1", "m5.s0"]);
    eventually("the old one is let go", WITHIN, || {
        (json_of(control, &["replica", "show", "1"])["allocation"]["state"] == "released").then_some(())
    });
    told(control, &["replica", "recycle", "1"]);
    assert_eq!(json_of(control, &["replica", "list", "--allocation", "pool"]).as_array().unwrap().len(), 2);
    told(control, &["replica", "prefer", "10001", "s1", "4", "--standby", "--weight", "50"]);
    eventually("the standby is asked second", WITHIN, || {
        control.srv(APPID).iter().any(|line| line.starts_with("10 50 ")).then_some(())
    });
}

fn rolled_back(control: &Control) {
    let before = json_of(control, &["app", "show", "10001"])["published"].as_u64().unwrap();
    told(control, &["replica", "prefer", "10001", "s1", "4", "--preferred", "--weight", "100"]);
    let back =
        json_of(control, &["revision", "rollback", "10001", &before.to_string(), "--reason", "too soon"]);
    assert!(back["number"].as_u64().unwrap() > before + 1, "a rollback is a new revision: {back}");
    assert_eq!(back["rollback_of"], before);
    eventually("what was said before is said again", WITHIN, || {
        control.srv(APPID).iter().any(|line| line.starts_with("10 50 ")).then_some(())
    });
}

fn looked_at(control: &Control, folder: &Folder) {
    let log = told(control, &["audit-log", "list", "--app", "10001", "--limit", "1000"]);
    for action in ["app.create", "requisition.create", "requisition.approve"] {
        assert!(log.contains(action), "{action}: {log}");
    }
    assert_eq!(told(control, &["audit-log", "list", "--limit", "3"]).lines().count(), 4);
    let revisions = told(control, &["revision", "list", "10001"]);
    assert!(revisions.contains("rolled back") && revisions.contains("superseded"), "{revisions}");
    let zone = told(control, &["zone"]);
    assert!(zone.starts_with("$ORIGIN memcloud.internal.") && zone.contains("SRV 10 50 11211"), "{zone}");
    let kept = folder.path().join("kept.json");
    let kept = kept.to_str().unwrap();
    told(control, &["export", "--to", kept]);
    let (_, says) = refused(control, &["export", "--to", kept]);
    assert!(says.contains("exists"), "a backup is not overwritten: {says}");
    told(control, &["import", kept]);
    let tokens = told(control, &["token", "list"]);
    assert!(tokens.contains("laptop"), "{tokens}");
}

#[test]
fn what_goes_wrong_is_one_sentence_and_a_code() {
    let folder = Folder::new();
    let control = Control::start(&folder, &FLAGS);
    let code = |arguments: &[&str]| refused(&control, arguments);
    let away = code(&["app", "list", "--server", "http://127.0.0.1:1"]);
    assert_eq!(away.0, 69, "{}", away.1);
    assert!(
        away.1.starts_with("memcloud-control: control at http://127.0.0.1:1 cannot be reached"),
        "{}",
        away.1
    );
    assert_eq!(code(&["app", "list", "--server", "nonsense"]).0, 64);
    assert_eq!(code(&["app", "show", "7"]).0, 64, "no appid");
    assert_eq!(code(&["app", "list", "--token-file", "/nowhere"]).0, 64);
    assert_eq!(code(&["app", "show", "10001"]), (1, "memcloud-control: there is no app 10001\n".into()));
    let output = control.command(&["app", "list"]).env_remove("MEMCLOUD_TOKEN").output().unwrap();
    assert!(text(&output.stderr).contains("no token was given"));
    assert_eq!(told(&control, &["app", "list"]), "none\n");
    assert_eq!(json_of(&control, &["app", "list"]), json!([]));
}

#[test]
fn lists_are_followed_to_their_end_and_pages_are_written() {
    let folder = Folder::new();
    let control = Control::start(&folder, &FLAGS);
    for number in 0..1_001 {
        control.ok("POST", "/v1/apps", &json!({ "name": format!("app-{number}") }));
    }
    assert_eq!(told(&control, &["app", "list"]).lines().count(), 1_002);
    assert_eq!(told(&control, &["audit-log", "list", "--limit", "1002"]).lines().count(), 1_003);
    let pages = folder.path().join("man");
    fs::create_dir(&pages).unwrap();
    told(&control, &["man", "--to", pages.to_str().unwrap()]);
    assert!(
        fs::read_to_string(pages.join("memcloud-control-requisition-approve.1"))
            .unwrap()
            .contains("anywhere")
    );
    assert!(told(&control, &["completions", "bash"]).contains("audit-log"));
}
