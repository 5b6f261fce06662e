use std::net::SocketAddr;

use memcloud_tests::authority::{Authority, Signed};
use memcloud_tests::process::Folder;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::{Certificate, Files, server_config};

/// Shows a certificate to whoever comes, and says hello.
async fn server(signed: Signed) -> SocketAddr {
    let files = Files { certificate: signed.certificate, key: signed.key };
    let certificate = Arc::new(Certificate::new(files).unwrap());
    let acceptor = TlsAcceptor::from(Arc::new(server_config(certificate, "http/1.1").unwrap()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            if let Ok(mut stream) = acceptor.accept(stream).await {
                let _ = stream.write_all(b"hello").await;
                let _ = stream.shutdown().await;
            }
        }
    });
    address
}

async fn hello(address: SocketAddr, ca: &Path, host: &str) -> Result<String, String> {
    let trust = Trust { ca: Some(ca.to_owned()), flag: "--ca" };
    let stream = TcpStream::connect(address).await.unwrap();
    let mut stream = trust.connect(stream, host).await.map_err(|error| error.to_string())?;
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    Ok(text)
}

#[tokio::test]
async fn who_shows_a_certificate_of_the_ca_for_the_name_is_believed_and_nobody_else() {
    let folder = Folder::new();
    let (ours, theirs) = (Authority::new("ours", &folder), Authority::new("theirs", &folder));
    let address = server(ours.sign("control", "DNS:localhost,IP:127.0.0.1")).await;
    assert_eq!(hello(address, &ours.ca(), "localhost").await, Ok("hello".to_owned()));
    assert_eq!(hello(address, &ours.ca(), "127.0.0.1").await, Ok("hello".to_owned()));

    let says = hello(address, &theirs.ca(), "localhost").await.unwrap_err();
    let theirs = theirs.ca();
    let theirs = theirs.display();
    assert_eq!(
        says,
        format!(
            "its certificate is not signed by the CA in {theirs}: name the file of the CA that has signed it with --ca"
        )
    );
    assert_eq!(
        hello(address, &ours.ca(), "control.example").await.unwrap_err(),
        "its certificate is not for control.example but for localhost, 127.0.0.1: use a name it has, or make one that has this name"
    );
    let old = server(ours.sign_for("old", "DNS:localhost", -1)).await;
    assert_eq!(
        hello(old, &ours.ca(), "localhost").await.unwrap_err(),
        "its certificate has expired: renew it there, or set this machine's clock"
    );
    assert!(hello(address, &ours.ca(), "two words").await.unwrap_err().contains("is no name"));
}

#[tokio::test]
async fn a_file_without_a_ca_and_a_server_without_tls_are_told() {
    let folder = Folder::new();
    let ours = Authority::new("ours", &folder);
    let signed = ours.sign("control", "DNS:localhost");
    let address = server(signed.clone()).await;
    let says = hello(address, &signed.key, "localhost").await.unwrap_err();
    assert!(says.contains("control.key holds no certificate of a CA"), "{says}");
    let says = hello(address, Path::new("/nowhere/ca.pem"), "localhost").await.unwrap_err();
    assert!(says.starts_with("/nowhere/ca.pem holds no certificate of a CA (No such file"), "{says}");

    let plain = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = plain.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut stream, _) = plain.accept().await.unwrap();
        stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        let (_silent, _) = plain.accept().await.unwrap();
    });
    let says = hello(address, &ours.ca(), "localhost").await.unwrap_err();
    assert_eq!(says, "it does not speak TLS there: is it http:// ?");
    let says = hello(address, &ours.ca(), "localhost").await.unwrap_err();
    assert!(says.contains("in the TLS handshake"), "{says}");
}
