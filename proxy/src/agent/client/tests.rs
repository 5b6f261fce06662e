use std::io::Write as _;
use std::sync::{Arc, Mutex};

use tempfile::NamedTempFile;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

const WITHIN: Duration = Duration::from_secs(5);

/// Gives these answers one after the other, each on whatever connection comes, and keeps what it was asked.
async fn control(answers: Vec<String>) -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&asked);
    tokio::spawn(async move {
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.windows(4).any(|end| end == b"\r\n\r\n") {
                let mut bytes = [0; 4096];
                let count = stream.read(&mut bytes).await.unwrap();
                request.extend_from_slice(&bytes[..count]);
            }
            heard.lock().unwrap().push(String::from_utf8(request).unwrap());
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (address, asked)
}

fn answer(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nconnection: close\r\netag: \"x\"\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn client(address: &str, token: &NamedTempFile) -> Client {
    Client::new(&Control {
        endpoints: vec![Endpoint { address: address.to_owned(), is_secure: false }],
        ca: None,
        token_file: token.path().to_owned(),
        place: None,
        identity: "m/a".into(),
        advertise: None,
        machine: "m".into(),
        availability_zone: None,
    })
}

fn token(text: &str) -> NamedTempFile {
    let mut file = NamedTempFile::new().unwrap();
    file.write_all(text.as_bytes()).unwrap();
    file
}

const ASSIGNMENT: &str = r#"{"place":null,"lease_seconds":15,"heartbeat_seconds":5,"sequence":3}"#;

#[tokio::test]
async fn a_token_is_read_again_for_each_request() {
    let (address, asked) = control(vec![answer("200 OK", ASSIGNMENT), answer("200 OK", ASSIGNMENT)]).await;
    let file = token("memcloud_one\n");
    let mut client = client(&address, &file);
    let Answer::Assigned(assignment) = client.beat(7, &Heartbeat::default(), WITHIN).await.unwrap() else {
        panic!()
    };
    assert_eq!(assignment.sequence, 3);
    std::fs::write(file.path(), "memcloud_two").unwrap();
    let (_, etag) = client.assignment(7, Some("\"old\""), WITHIN).await.unwrap().unwrap();
    assert_eq!(etag.as_deref(), Some("\"x\""));
    let asked = asked.lock().unwrap();
    assert!(asked[0].starts_with("POST /v1/replicas/7/heartbeat HTTP/1.1\r\n"), "{}", asked[0]);
    assert!(asked[0].contains("authorization: Bearer memcloud_one\r\n"), "{}", asked[0]);
    assert!(asked[1].starts_with("GET /v1/replicas/7/assignment?wait=5s HTTP/1.1\r\n"), "{}", asked[1]);
    assert!(
        asked[1].contains("if-none-match: \"old\"\r\n") && asked[1].contains("Bearer memcloud_two\r\n"),
        "{}",
        asked[1]
    );
}

#[tokio::test]
async fn each_failure_says_what_to_do() {
    let problem = |detail: &str| format!(r#"{{"type":"x","title":"y","status":1,"detail":"{detail}"}}"#);
    let (address, _) = control(vec![
        answer("401 Unauthorized", &problem("it has expired")),
        answer("409 Conflict", &problem("the shard is full: raise the quota")),
        answer("503 Service Unavailable", "oops"),
        answer("200 OK", "[]"),
        answer("304 Not Modified", ""),
    ])
    .await;
    let file = token("memcloud_one");
    let mut client = client(&address, &file);
    let mut failure = async || client.beat(7, &Heartbeat::default(), WITHIN).await.unwrap_err();
    let first = failure().await;
    let path = file.path().display();
    assert_eq!(
        (first.to_string(), first.status()),
        (
            format!(
                "control does not take the token in {path}: it has expired; put another one there, it is read again by itself"
            ),
            Some(401)
        )
    );
    let second = failure().await;
    assert_eq!(
        (second.to_string(), second.status()),
        ("control refuses: the shard is full: raise the quota".to_owned(), Some(409))
    );
    let third = failure().await.to_string();
    assert!(third.contains("is in trouble: status 503 Service Unavailable without a reason"), "{third}");
    let fourth = failure().await.to_string();
    assert!(fourth.contains("use the same version of both"), "{fourth}");
    assert_eq!(client.assignment(7, None, WITHIN).await, Ok(None));
}

#[tokio::test]
async fn without_control_or_token_there_is_a_sentence() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().to_string();
    let file = token("memcloud_one");
    let away = client(&nobody, &file).beat(7, &Heartbeat::default(), WITHIN).await.unwrap_err();
    assert!(away.to_string().starts_with(&format!("control at {nobody} cannot be reached: ")), "{away}");
    for (text, reason) in
        [("", "a token is one word"), ("two words", "a token is one word"), ("\u{1}", "other bytes")]
    {
        let file = token(text);
        let failure =
            client(&nobody, &file).beat(7, &Heartbeat::default(), WITHIN).await.unwrap_err().to_string();
        assert!(failure.contains("holds no token") && failure.contains(reason), "{failure}");
    }
    let mut gone = client(&nobody, &file);
    gone.token_file = "/nowhere/token".into();
    let failure = gone.beat(7, &Heartbeat::default(), WITHIN).await.unwrap_err().to_string();
    assert!(failure.starts_with("/nowhere/token holds no token: No such file"), "{failure}");
}

#[tokio::test]
async fn control_that_is_silent_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let file = token("memcloud_one");
    let failure =
        client(&address, &file).beat(7, &Heartbeat::default(), Duration::from_millis(50)).await.unwrap_err();
    assert!(failure.to_string().contains("does not answer in time"), "{failure}");
}

#[tokio::test]
async fn the_next_control_is_asked_when_one_is_away_or_in_trouble() {
    let trouble = answer("503 Service Unavailable", "");
    let refusal = answer("409 Conflict", "");
    let (first, asked_first) = control(vec![trouble, answer("200 OK", ASSIGNMENT)]).await;
    let (second, asked_second) =
        control(vec![answer("200 OK", ASSIGNMENT), refusal, answer("200 OK", ASSIGNMENT)]).await;
    let file = token("memcloud_one");
    let mut client = client(&first, &file);
    client.endpoints.push(Endpoint { address: second.clone(), is_secure: false });
    let mut beat =
        async || client.beat(7, &Heartbeat::default(), WITHIN).await.map_err(|failure| failure.status());
    assert_eq!(beat().await.unwrap_err(), None);
    // It stays with the one that answers, also when that one says no.
    assert!(beat().await.is_ok());
    assert_eq!(beat().await.unwrap_err(), Some(409));
    assert!(beat().await.is_ok());
    // Nobody is there any more: the first one is next.
    assert_eq!(beat().await.unwrap_err(), None);
    assert!(beat().await.is_ok());
    assert_eq!((asked_first.lock().unwrap().len(), asked_second.lock().unwrap().len()), (2, 3));
    assert_eq!(client.url(), format!("http://{first}"));
}
