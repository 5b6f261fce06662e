//! Routes asked as a client would, on a store in memory.

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Method, Request, StatusCode};
use jiff::SignedDuration;
use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::{Value, json};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::{Api, digest, document, router};
use crate::dns::zone::Zone;
use crate::registrar::{Registrar, Terms};
use crate::registry::policy::{Action, Actor, Reach};
use crate::registry::user::{Role, Scope};
use crate::rules::testing::name;
use crate::rules::users;
use crate::store::Store;

struct Client {
    router: Router,
    stop: CancellationToken,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Client {
    /// A control with the admin `root`, whose token is `root`.
    async fn new() -> Self {
        let terms = Terms {
            ttl_seconds: 5,
            lease: SignedDuration::from_secs(15),
            heartbeat_seconds: 5,
            leave_after: SignedDuration::from_secs(1),
        };
        let stop = CancellationToken::new();
        let store = Store::open("sqlite::memory:").await.unwrap();
        let registrar = Registrar::start(store, terms, stop.clone()).await.unwrap();
        let root = Actor { user: name("root"), role: Role::Admin, scope: Scope::Full };
        registrar.ask(root, |wish, _| users::found(wish, name("root"), digest("root"))).await.unwrap();
        let zone = Arc::new(Zone::new("memcloud.internal.", 5, Vec::new()).unwrap());
        let metrics = PrometheusBuilder::new().build_recorder().handle();
        let stopping = stop.clone();
        Self { router: router(Api { registrar, zone, metrics, stopping }), stop }
    }

    async fn send(&self, token: &str, method: &str, path: &str, body: Value) -> (StatusCode, Value) {
        let request = Request::builder().method(method.parse::<Method>().unwrap()).uri(path);
        let request = request.header("content-type", "application/json");
        let request = if token.is_empty() {
            request
        } else {
            request.header("authorization", format!("Bearer {token}"))
        };
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        let response = self.router.clone().oneshot(request.body(body).unwrap()).await.unwrap();
        let status = response.status();
        let bytes = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, serde_json::from_slice(&bytes).unwrap_or(Value::Null))
    }

    async fn ok(&self, method: &str, path: &str, body: Value) -> Value {
        let (status, answer) = self.send("root", method, path, body).await;
        assert!(status.is_success(), "{method} {path}: {status} {answer}");
        answer
    }

    /// As root, with an idempotency key.
    async fn send_once(&self, key: &str, path: &str, body: &Value) -> (StatusCode, Value) {
        let request = Request::builder().method("POST").uri(path).header("authorization", "Bearer root");
        let request = request.header("content-type", "application/json").header("idempotency-key", key);
        let body = Body::from(body.to_string());
        let response = self.router.clone().oneshot(request.body(body).unwrap()).await.unwrap();
        let status = response.status();
        let bytes = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, serde_json::from_slice(&bytes).unwrap())
    }

    /// The records of a kind as an export has them.
    async fn exported(&self, kind: &str) -> Vec<Value> {
        let export = self.ok("GET", "/v1/export", Value::Null).await;
        let of_kind = |record: &&Value| record["kind"] == kind;
        let records = export["records"].as_array().unwrap().iter().filter(of_kind);
        records.map(|record| record["body"].clone()).collect()
    }

    async fn register(&self, machine: &str) -> u64 {
        let endpoint = |port| json!({ "host": "10.0.0.1", "port": port });
        let told = json!({
            "identity": machine, "site": machine, "address": endpoint(11211), "peer_address": endpoint(11212),
            "memory_bytes": 1 << 26, "proxy_version": "0.1.0", "machine": machine,
        });
        let id = self.ok("POST", "/v1/replicas", told).await["replica"].as_u64().unwrap();
        let heartbeat = json!({ "ready": true, "in_sync": true, "upstream_up": true });
        self.ok("POST", &format!("/v1/replicas/{id}/heartbeat"), heartbeat).await;
        id
    }

    /// Ann's app 10001 with a published shard, a staged one and a pending requisition; bob's 10002, alike.
    async fn furnish(&self) {
        for (user, role) in [("ops", "operator"), ("ann", "owner"), ("bob", "owner"), ("eve", "viewer")] {
            self.ok("POST", "/v1/users", json!({ "name": user, "role": role })).await;
        }
        for number in 0..8 {
            self.register(&format!("m{number}")).await;
        }
        for (owner, appid) in [("ann", 10_001), ("bob", 10_002)] {
            self.ok("POST", "/v1/apps", json!({ "name": format!("shop-{owner}"), "owner": owner })).await;
            let size = json!({ "size": { "shards": 1, "replicas": 2, "memory_bytes": 1 << 26 } });
            for _ in 0..2 {
                let filed = self.ok("POST", &format!("/v1/apps/{appid}/requisitions"), size.clone()).await;
                let id = filed["requisition"]["id"].as_u64().unwrap();
                if id % 2 == 1 {
                    self.ok("POST", &format!("/v1/requisitions/{id}/approve"), json!({})).await;
                    self.ok("POST", &format!("/v1/apps/{appid}/publish"), json!({})).await;
                }
            }
        }
        self.register("free").await;
    }

    async fn token(&self, user: &str) -> String {
        let made = self.ok("POST", "/v1/tokens", json!({ "user": user, "scope": "full" })).await;
        made["secret"].as_str().unwrap().to_owned()
    }
}

/// Every operation: the right that it takes, and a request that whoever has the right is granted. `APP`, `REQ` and `REP` are the
/// app, its pending requisition and a replica of it; what belongs to nobody has only one cell.
fn operations() -> Vec<(&'static str, &'static str, Action, Value)> {
    let size = || json!({ "shards": 1, "replicas": 2, "memory_bytes": 1 << 20 });
    vec![
        ("GET", "/v1/apps/{appid}", Action::ReadApp, Value::Null),
        ("PATCH", "/v1/apps/{appid}", Action::ChangeApp, json!({ "description": "new" })),
        ("DELETE", "/v1/apps/{appid}", Action::DeleteApp, Value::Null),
        ("POST", "/v1/apps/{appid}/requisitions", Action::CreateRequisition, json!({ "size": size() })),
        ("GET", "/v1/requisitions/{id}", Action::ReadApp, Value::Null),
        ("POST", "/v1/requisitions/{id}/approve", Action::DecideRequisition, json!({})),
        ("POST", "/v1/requisitions/{id}/reject", Action::DecideRequisition, json!({})),
        ("POST", "/v1/requisitions/{id}/withdraw", Action::WithdrawRequisition, json!({})),
        ("GET", "/v1/apps/{appid}/revisions", Action::ReadApp, Value::Null),
        ("GET", "/v1/apps/{appid}/revisions/{number}", Action::ReadApp, Value::Null),
        ("POST", "/v1/apps/{appid}/publish", Action::Publish, json!({})),
        ("POST", "/v1/apps/{appid}/rollback", Action::Publish, json!({ "revision": 1 })),
        ("GET", "/v1/apps/{appid}/diff", Action::ReadApp, Value::Null),
        ("POST", "/v1/apps/{appid}/shrink", Action::Allocate, json!({ "shards": 0 })),
        ("POST", "/v1/apps/{appid}/shards/{shard}/replicas", Action::Allocate, json!({})),
        ("PATCH", "/v1/apps/{appid}/shards/{shard}/replicas/{id}", Action::Allocate, json!({ "weight": 5 })),
        ("DELETE", "/v1/apps/{appid}/shards/{shard}/replicas/{id}", Action::Allocate, Value::Null),
        ("GET", "/v1/replicas/{id}", Action::ReadReplica, Value::Null),
        ("DELETE", "/v1/replicas/{id}", Action::ChangeReplica, Value::Null),
        (
            "POST",
            "/v1/replicas/{id}/heartbeat",
            Action::RegisterReplica,
            json!({ "ready": true, "in_sync": true, "upstream_up": true }),
        ),
        ("GET", "/v1/replicas/{id}/assignment", Action::RegisterReplica, Value::Null),
        ("POST", "/v1/replicas/{id}/retire", Action::ChangeReplica, Value::Null),
        ("POST", "/v1/replicas/{id}/recycle", Action::ChangeReplica, Value::Null),
        ("GET", "/v1/users/{name}", Action::ReadUser, Value::Null),
        ("PATCH", "/v1/users/{name}", Action::ChangeUser, json!({ "disabled": false })),
        ("DELETE", "/v1/users/{name}", Action::ChangeUser, Value::Null),
        ("DELETE", "/v1/tokens/{id}", Action::RevokeToken, Value::Null),
        ("GET", "/v1/export", Action::ReadStore, Value::Null),
    ]
}

/// Lists and creates say yes to everybody who may do it to something; they are asked one by one elsewhere.
const WITHOUT_A_CELL: [(&str, &str); 18] = [
    ("GET", "/v1/apps"),
    ("POST", "/v1/apps"),
    ("GET", "/v1/requisitions"),
    ("GET", "/v1/replicas"),
    ("POST", "/v1/replicas"),
    ("GET", "/v1/users"),
    ("POST", "/v1/users"),
    ("GET", "/v1/tokens"),
    ("POST", "/v1/tokens"),
    ("POST", "/v1/session"),
    ("DELETE", "/v1/session"),
    ("GET", "/v1/audit-log"),
    ("GET", "/v1/zone"),
    ("POST", "/v1/import"),
    ("GET", "/v1/apps/{appid}/topology"),
    ("GET", "/v1/openapi.json"),
    ("GET", "/live"),
    ("GET", "/metrics"),
];

#[test]
fn no_route_is_forgotten() {
    let described = serde_json::to_value(document()).unwrap();
    let tabled: Vec<(&str, &str)> =
        operations().iter().map(|&(method, path, ..)| (method, path)).chain(WITHOUT_A_CELL).collect();
    for (path, item) in described["paths"].as_object().unwrap() {
        for method in item
            .as_object()
            .unwrap()
            .keys()
            .filter(|key| ["get", "post", "patch", "put", "delete"].contains(&key.as_str()))
        {
            let method = method.to_uppercase();
            assert!(tabled.contains(&(&method, path)), "{method} {path} is in no table of rights");
        }
    }
}

#[test]
fn the_shard_of_a_topology_is_not_the_one_of_an_app() {
    let described = serde_json::to_value(document()).unwrap();
    let schemas = &described["components"]["schemas"];
    for (document, property) in [("Topology", "replicas"), ("App", "members")] {
        let name = schemas[document]["properties"]["shards"]["items"]["$ref"].as_str().unwrap();
        let shard = &schemas[name.rsplit('/').next().unwrap()];
        assert!(shard["properties"][property].is_object(), "{document}: {shard}");
    }
}

/// Each operation × each role × what is one's own or somebody else's, each on a control of its own.
#[tokio::test]
async fn every_route_asks_for_its_right() {
    let roles = [("root", Role::Admin), ("ops", Role::Operator), ("ann", Role::Owner), ("eve", Role::Viewer)];
    for (method, path, action, body) in operations() {
        for (of_ann, (user, role)) in
            [true, false].into_iter().flat_map(|of_ann| roles.map(|role| (of_ann, role)))
        {
            let client = Client::new().await;
            client.furnish().await;
            client.token(if of_ann { "ann" } else { "bob" }).await;
            let tokens = client.ok("GET", "/v1/tokens", Value::Null).await;
            let last = tokens["items"].as_array().unwrap().last().unwrap()["id"].clone();
            let path = concrete(path, of_ann, &last);
            assert_eq!(
                client.send("", method, &path, body.clone()).await.0,
                StatusCode::UNAUTHORIZED,
                "{method} {path}"
            );
            let token = client.token(user).await;
            let (status, answer) = client.send(&token, method, &path, body.clone()).await;
            let reach = Actor { user: name(user), role, scope: Scope::Full }.reach(action);
            let may = reach == Reach::All || (reach == Reach::Own && user == "ann" && of_ann);
            let refused = [StatusCode::FORBIDDEN, StatusCode::NOT_FOUND].contains(&status);
            assert_eq!(!refused, may, "{user}: {method} {path}: {status} {answer}");
            assert_ne!(status, StatusCode::INTERNAL_SERVER_ERROR);
        }
    }
}

fn concrete(path: &str, of_ann: bool, token: &Value) -> String {
    let (appid, requisition, replica, user) =
        if of_ann { (10_001, 2, 1, "ann") } else { (10_002, 4, 3, "bob") };
    let id = if path.contains("requisitions") {
        requisition.to_string()
    } else if path.contains("tokens") {
        token.to_string()
    } else {
        replica.to_string()
    };
    let path = path.replace("{appid}", &appid.to_string()).replace("{id}", &id).replace("{name}", user);
    path.replace("{shard}", "s0").replace("{number}", "1")
}

#[tokio::test]
async fn a_create_that_is_repeated_is_done_once() {
    let client = Client::new().await;
    let send = |key: &'static str, body: Value| {
        let request =
            Request::builder().method("POST").uri("/v1/apps").header("authorization", "Bearer root");
        let request = request.header("content-type", "application/json").header("idempotency-key", key);
        client.router.clone().oneshot(request.body(Body::from(body.to_string())).unwrap())
    };
    let first = send("a", json!({ "name": "shop" })).await.unwrap();
    let again = send("a", json!({ "name": "shop" })).await.unwrap();
    assert_eq!((first.status(), again.status()), (StatusCode::CREATED, StatusCode::CREATED));
    let bytes = |response: axum::response::Response| to_bytes(response.into_body(), 1 << 20);
    assert_eq!(bytes(first).await.unwrap(), bytes(again).await.unwrap());
    let other = send("a", json!({ "name": "other" })).await.unwrap();
    assert_eq!(other.status(), StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(client.ok("GET", "/v1/apps", Value::Null).await["items"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_user_that_is_made_twice_is_one() {
    let client = Client::new().await;
    let ann = json!({ "name": "ann", "role": "owner", "password": "correct horse battery" });
    let first = client.send_once("a", "/v1/users", &ann).await;
    assert_eq!(first.0, StatusCode::CREATED);
    assert_eq!(client.send_once("a", "/v1/users", &ann).await, first);
    let bob = json!({ "name": "bob", "role": "owner" });
    assert_eq!(client.send_once("a", "/v1/users", &bob).await.0, StatusCode::UNPROCESSABLE_ENTITY);
    let receipts = client.exported("receipt").await;
    let words = receipts[0]["body"].as_object().unwrap().keys().map(String::as_str).collect::<Vec<_>>();
    assert_eq!(words, ["created_at", "disabled", "email", "has_password", "name", "role"]);
    assert_eq!(client.exported("user").await.len(), 2, "root and ann");
}

#[tokio::test]
async fn a_token_that_is_asked_for_twice_is_one_whose_secret_was_told_once() {
    let client = Client::new().await;
    let wanted = json!({ "scope": "read" });
    let (status, first) = client.send_once("a", "/v1/tokens", &wanted).await;
    assert_eq!(status, StatusCode::CREATED);
    let (status, problem) = client.send_once("a", "/v1/tokens", &wanted).await;
    let kind = problem["type"].as_str().unwrap();
    assert_eq!((status, kind), (StatusCode::CONFLICT, "urn:memcloud:problem:secret-gone"));
    let says = problem["detail"].as_str().unwrap();
    assert!(says.contains(&format!("revoke token {}", first["token"]["id"])), "{says}");
    assert_eq!(client.exported("token").await.len(), 2, "root's and this one");
    let kept = client.ok("GET", "/v1/export", Value::Null).await.to_string();
    let secret = first["secret"].as_str().unwrap();
    assert!(!kept.contains(secret), "the receipt holds no secret");
    assert_eq!(client.send(secret, "GET", "/v1/apps", Value::Null).await.0, StatusCode::OK);
    assert_eq!(client.send_once("b", "/v1/tokens", &wanted).await.0, StatusCode::CREATED);
}

#[tokio::test]
async fn whoever_read_an_old_version_changes_nothing() {
    let client = Client::new().await;
    client.ok("POST", "/v1/apps", json!({ "name": "shop" })).await;
    let request = |etag: &str| {
        let request =
            Request::builder().method("PATCH").uri("/v1/apps/10001").header("authorization", "Bearer root");
        let request = request.header("content-type", "application/json").header("if-match", etag);
        client
            .router
            .clone()
            .oneshot(request.body(Body::from(json!({ "description": "x" }).to_string())).unwrap())
    };
    let read = Request::builder()
        .uri("/v1/apps/10001")
        .header("authorization", "Bearer root")
        .body(Body::empty())
        .unwrap();
    let etag =
        client.router.clone().oneshot(read).await.unwrap().headers()["etag"].to_str().unwrap().to_owned();
    assert_eq!(request(&etag).await.unwrap().status(), StatusCode::OK);
    assert_eq!(request(&etag).await.unwrap().status(), StatusCode::PRECONDITION_FAILED);
    assert_eq!(request("nonsense").await.unwrap().status(), StatusCode::BAD_REQUEST);
}

#[tokio::test]
async fn a_long_poll_answers_when_something_has_changed() {
    let client = Client::new().await;
    client.furnish().await;
    let path = "/v1/apps/10001/topology";
    assert_eq!(client.send("", "GET", path, Value::Null).await.1["revision"], 1);
    let short = client.send("", "GET", &format!("{path}?wait=50ms&revision=1"), Value::Null).await;
    assert_eq!(short.1["revision"], 1, "nothing has changed");
    let waiting = client.send("", "GET", "/v1/apps/10001/topology?wait=20s&revision=1", Value::Null);
    let change = async {
        client.ok("POST", "/v1/requisitions/2/approve", json!({})).await;
        client.ok("POST", "/v1/apps/10001/publish", json!({})).await;
    };
    let ((_, answer), ()) = tokio::join!(waiting, change);
    assert_eq!((answer["revision"].clone(), answer["shards"].as_array().unwrap().len()), (json!(2), 2));
}

#[tokio::test]
async fn a_proxy_hears_at_once_of_another_assignment() {
    let client = Client::new().await;
    client.furnish().await;
    let get = async |query: &str, etag: &str| {
        let request = Request::builder().uri(format!("/v1/replicas/1/assignment{query}"));
        let request = request.header("authorization", "Bearer root").header("if-none-match", etag);
        let response = client.router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let (status, etag) = (response.status(), response.headers()["etag"].to_str().unwrap().to_owned());
        let bytes = to_bytes(response.into_body(), 1 << 20).await.unwrap();
        (status, etag, serde_json::from_slice::<Value>(&bytes).unwrap_or(Value::Null))
    };
    let (status, etag, first) = get("?wait=20s", "").await;
    assert_eq!((status, first["place"]["peers"].as_array().unwrap().len()), (StatusCode::OK, 1));
    assert_eq!(first["place"]["joining"], json!(false));
    assert_eq!(get("?wait=50ms", &etag).await.0, StatusCode::NOT_MODIFIED);
    assert_eq!(get("", &etag).await.0, StatusCode::NOT_MODIFIED, "nobody waits who has not asked for it");
    // A newcomer is in no revision yet, and those who are there have to know it all the same.
    let waiting = get("?wait=20s", &etag);
    let change = client.ok("POST", "/v1/apps/10001/shards/s0/replicas", json!({}));
    let ((status, _, second), _) = tokio::join!(waiting, change);
    assert_eq!((status, second["place"]["peers"].as_array().unwrap().len()), (StatusCode::OK, 2));
    assert!(second["sequence"].as_u64() > first["sequence"].as_u64());
}

#[tokio::test]
async fn who_waits_is_answered_when_control_ends() {
    let client = Client::new().await;
    client.furnish().await;
    let waiting = client.send("", "GET", "/v1/apps/10001/topology?wait=60s&revision=1", Value::Null);
    let stopping = async { client.stop.cancel() };
    let answered =
        tokio::time::timeout(std::time::Duration::from_secs(10), async { tokio::join!(waiting, stopping) });
    let ((status, answer), ()) = answered.await.unwrap();
    assert_eq!((status, &answer["revision"]), (StatusCode::OK, &json!(1)));
}

#[tokio::test]
async fn who_speaks_from_elsewhere_is_told_that_its_place_is_taken() {
    let client = Client::new().await;
    let id = client.register("m0").await;
    let path = format!("/v1/replicas/{id}/heartbeat");
    let beat = |host: &str| {
        let from = json!({ "host": host, "port": 11212 });
        json!({ "ready": true, "in_sync": true, "upstream_up": true, "peer_address": from })
    };
    assert_eq!(client.send("root", "POST", &path, beat("10.0.0.1")).await.0, StatusCode::OK);
    let (status, problem) = client.send("root", "POST", &path, beat("10.0.0.2")).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(problem["detail"].as_str().unwrap().contains("is at 10.0.0.1:11212 now"), "{problem}");
}

#[tokio::test]
async fn what_was_exported_can_be_had_back() {
    let one = Client::new().await;
    one.furnish().await;
    let export = one.ok("GET", "/v1/export", Value::Null).await;
    let other = Client::new().await;
    other.ok("POST", "/v1/import", export.clone()).await;
    let again = other.ok("GET", "/v1/export", Value::Null).await;
    assert_eq!(again["records"], export["records"]);
    let topology = other.send("", "GET", "/v1/apps/10001/topology", Value::Null).await.1;
    assert_eq!(topology["shards"][0]["replicas"].as_array().unwrap().len(), 2);
    // Older than what is published here: never.
    one.ok("POST", "/v1/requisitions/2/approve", json!({})).await;
    assert_eq!(one.send("root", "POST", "/v1/import", export).await.0, StatusCode::CONFLICT);
}

#[tokio::test]
async fn who_logs_in_gets_a_token_and_gives_it_back() {
    let client = Client::new().await;
    let password = "correct horse battery";
    client.ok("POST", "/v1/users", json!({ "name": "ann", "role": "owner", "password": password })).await;
    let wrong = client.send("", "POST", "/v1/session", json!({ "name": "ann", "password": "wrong" })).await;
    let nobody =
        client.send("", "POST", "/v1/session", json!({ "name": "nobody", "password": password })).await;
    assert_eq!((wrong.0, nobody.0), (StatusCode::UNAUTHORIZED, StatusCode::UNAUTHORIZED));
    let (status, made) =
        client.send("", "POST", "/v1/session", json!({ "name": "ann", "password": password })).await;
    assert_eq!(status, StatusCode::CREATED);
    let secret = made["secret"].as_str().unwrap();
    assert_eq!(client.send(secret, "GET", "/v1/apps", Value::Null).await.0, StatusCode::OK);
    assert_eq!(client.send(secret, "DELETE", "/v1/session", Value::Null).await.0, StatusCode::NO_CONTENT);
    assert_eq!(client.send(secret, "GET", "/v1/apps", Value::Null).await.0, StatusCode::UNAUTHORIZED);
}
