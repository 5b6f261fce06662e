//! A real memcached on a unix socket, and apps that speak to it without a proxy.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use memcloud_proxy::replication::Incarnation;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;

use crate::harness::eventually;

/// A memcached on a unix socket; killed when dropped.
pub(crate) struct Memcached {
    child: Child,
    pub(crate) socket: PathBuf,
}

impl Memcached {
    pub(crate) async fn start(socket: &Path, options: &[&str]) -> Self {
        let mut command = Command::new("memcached");
        command.args(["-u", "root", "-m", "64", "-t", "2", "-s"]).arg(socket).args(options);
        let child = command.stdin(Stdio::null()).spawn().expect("memcached is installed");
        let memcached = Self { child, socket: socket.to_owned() };
        eventually("memcached answers", || std::os::unix::net::UnixStream::connect(socket).is_ok()).await;
        memcached
    }

    pub(crate) async fn stats(&self) -> Incarnation {
        let mut stream = UnixStream::connect(&self.socket).await.unwrap();
        stream.write_all(b"stats\r\nquit\r\n").await.unwrap();
        let mut text = Vec::new();
        stream.read_to_end(&mut text).await.unwrap();
        let lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end);
        Incarnation::of_stats(lines).unwrap()
    }

    /// Stops or continues the process, as a machine that is overloaded does.
    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }
}

impl Drop for Memcached {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_file(&self.socket);
    }
}

/// A plain connection to memcached.
pub(crate) struct App(BufReader<UnixStream>);

impl App {
    pub(crate) async fn connect(socket: &Path) -> Self {
        Self(BufReader::new(UnixStream::connect(socket).await.unwrap()))
    }

    pub(crate) async fn ask(&mut self, command: &[u8]) -> String {
        self.0.write_all(command).await.unwrap();
        self.line().await
    }

    pub(crate) async fn line(&mut self) -> String {
        let mut line = String::new();
        self.0.read_line(&mut line).await.unwrap();
        line.trim_end().to_owned()
    }

    pub(crate) async fn get(&mut self, key: &str) -> Option<(u32, String)> {
        let head = self.ask(format!("get {key}\r\n").as_bytes()).await;
        if head == "END" {
            return None;
        }
        let mut words = head.split(' ').skip(2);
        let flags = words.next().unwrap().parse().unwrap();
        let mut value = vec![0; words.next().unwrap().parse::<usize>().unwrap() + 2];
        self.0.read_exact(&mut value).await.unwrap();
        value.truncate(value.len() - 2);
        assert_eq!(self.line().await, "END");
        Some((flags, String::from_utf8(value).unwrap()))
    }
}
