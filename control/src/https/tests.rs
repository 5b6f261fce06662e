use std::net::SocketAddr;

use memcloud_tests::authority::Authority;
use memcloud_tests::process::Folder;
use memcloud_tls::{Certificate, Files, Trust, server_config};
use tokio::time::Instant;

use super::*;

struct Site {
    _folder: Folder,
    trust: Trust,
    address: SocketAddr,
}

/// Greets whoever comes through, at most so many at a time in the handshake.
async fn site(handshakes_max: usize) -> Site {
    let folder = Folder::new();
    let authority = Authority::new("ca", &folder);
    let signed = authority.sign("control", "DNS:localhost");
    let files = Files { certificate: signed.certificate, key: signed.key };
    let config = server_config(Arc::new(Certificate::new(files).unwrap()), "http/1.1").unwrap();
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut https = Https::new(tcp, config);
    https.handshakes_max = handshakes_max;
    let address = https.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = https.accept().await;
            stream.write_all(b"hello").await.unwrap();
            stream.shutdown().await.unwrap();
        }
    });
    Site { _folder: folder, trust: Trust { ca: Some(authority.ca()), flag: "--ca" }, address }
}

impl Site {
    async fn hello(&self) -> String {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let mut stream = self.trust.connect(stream, "localhost").await.unwrap();
        let mut text = String::new();
        stream.read_to_string(&mut text).await.unwrap();
        text
    }
}

#[tokio::test]
async fn who_says_nothing_holds_up_nobody_and_is_closed_when_there_are_too_many() {
    let site = site(4).await;
    let mut silent = Vec::new();
    for _ in 0..4 {
        silent.push(TcpStream::connect(site.address).await.unwrap());
    }
    let began = Instant::now();
    assert_eq!(site.hello().await, "hello");
    assert!(began.elapsed() < HANDSHAKE_WITHIN, "{:?}", began.elapsed());
    // The oldest made room for it.
    assert_eq!(silent[0].read(&mut [0; 8]).await.unwrap(), 0);
    // The others have their time, and no more.
    for stream in &mut silent[1..] {
        assert_eq!(stream.read(&mut [0; 8]).await.unwrap(), 0);
    }
    assert!(began.elapsed() < 4 * HANDSHAKE_WITHIN, "{:?}", began.elapsed());
}

#[tokio::test]
async fn plain_http_is_told_to_speak_tls() {
    let site = site(HANDSHAKES_MAX).await;
    let mut stream = TcpStream::connect(site.address).await.unwrap();
    stream.write_all(b"GET /v1/apps HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{answer}");
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let problem: serde_json::Value = serde_json::from_str(body).unwrap();
    assert_eq!(problem["detail"], "this address speaks TLS only: write https:// instead of http://");
    assert_eq!(site.hello().await, "hello");
}
