//! Control under test: the real binary on a store of its own, asked over its HTTP and by `dig`.

mod pretended;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::process::{Folder, Process};
use crate::program::Program;
use crate::wait::eventually;
use crate::{http, ports};

/// A running control.
#[derive(Debug)]
pub struct Control {
    http: String,
    dns: String,
    store: String,
    flags: Vec<String>,
    token: String,
    /// It speaks TLS, and whoever believes this CA believes it.
    ca: Option<PathBuf>,
    folder: Folder,
    process: Process,
}

impl Control {
    /// A new one on SQLite, with an admin.
    pub fn start(folder: &Folder, flags: &[&str]) -> Self {
        Self::start_on(in_folder(folder), folder, flags)
    }

    /// A new one that survives when a file may not grow: [`Process::limit_files`].
    pub fn start_limitable(folder: &Folder, flags: &[&str]) -> Self {
        let mut control = Self::start(folder, flags);
        control.process.kill();
        let Self { http, dns, store, flags, .. } = &control;
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]).arg(CONTROL.path());
        control.process = launch_by(command, http, dns, store, flags, folder);
        control.wait_until_ready();
        control
    }

    /// One that speaks TLS, by its flags, with a certificate that `ca` has signed. It is asked by its commands.
    pub fn start_secure(ca: &Path, folder: &Folder, flags: &[&str]) -> Self {
        Self::make(in_folder(folder), Some(ca.to_owned()), folder, flags)
    }

    /// A new one on an empty store.
    pub fn start_on(store: String, folder: &Folder, flags: &[&str]) -> Self {
        Self::make(store, None, folder, flags)
    }

    fn make(store: String, ca: Option<PathBuf>, folder: &Folder, flags: &[&str]) -> Self {
        let init = Command::new(CONTROL.path())
            .args(["init", "--store", &store])
            .stdin(Stdio::null())
            .output()
            .expect("control runs");
        assert!(init.status.success(), "{}", String::from_utf8_lossy(&init.stderr));
        let token = String::from_utf8(init.stdout).unwrap().trim().to_owned();
        let flags = flags.iter().map(|&flag| flag.to_owned()).collect();
        Self::launch(store, token, ca, flags, folder)
    }

    /// Another process on the same store, with the same users.
    pub fn beside(&self) -> Self {
        let (store, token, ca) = (self.store.clone(), self.token.clone(), self.ca.clone());
        Self::launch(store, token, ca, self.flags.clone(), &self.folder)
    }

    fn launch(
        store: String,
        token: String,
        ca: Option<PathBuf>,
        flags: Vec<String>,
        folder: &Folder,
    ) -> Self {
        let (http, dns) = (ports::free_address(), ports::free_address());
        let process = launch(&http, &dns, &store, &flags, folder);
        let control = Self { http, dns, store, flags, token, ca, folder: folder.clone(), process };
        control.wait_until_ready();
        control
    }

    fn wait_until_ready(&self) {
        eventually("control answers", Duration::from_secs(60), || {
            let is_ready = match &self.ca {
                None => matches!(http::get(&self.http, "/ready"), Ok((200, _))),
                Some(_) => self.command(&["user", "list"]).output().unwrap().status.success(),
            };
            is_ready.then_some(())
        });
    }

    /// Ends it at once, as a machine does that fails.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again after its end.
    pub fn restart(&mut self) {
        self.process.kill();
        self.process = launch(&self.http, &self.dns, &self.store, &self.flags, &self.folder);
        self.wait_until_ready();
    }

    /// For `--control`.
    pub fn url(&self) -> String {
        let scheme = if self.ca.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.http)
    }

    /// Host and port of its API.
    pub fn address(&self) -> &str {
        &self.http
    }

    /// The port of its zone, on 127.0.0.1.
    pub fn dns_port(&self) -> u16 {
        self.dns.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).unwrap()
    }

    /// All that is published, as a master file.
    pub fn zone(&self) -> String {
        let zone = self.command(&["zone"]).output().unwrap();
        assert!(zone.status.success(), "{}", String::from_utf8_lossy(&zone.stderr));
        String::from_utf8(zone.stdout).unwrap()
    }

    /// One of its commands, as the admin, with these arguments behind.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(CONTROL.path());
        command.args(arguments).stdin(Stdio::null()).env("MEMCLOUD_SERVER", self.url());
        command.env("MEMCLOUD_TOKEN", &self.token).env_remove("MEMCLOUD_TOKEN_FILE");
        if let Some(ca) = &self.ca {
            command.env("MEMCLOUD_CA", ca);
        }
        command
    }

    /// Asks the API as the admin: status and document.
    pub fn ask(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        self.try_ask(method, path, body).expect("control answers")
    }

    /// The same where it may die meanwhile.
    pub fn try_ask(&self, method: &str, path: &str, body: &Value) -> io::Result<(u16, Value)> {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        let authorization = format!("Bearer {}", self.token);
        let headers = [("Authorization", authorization.as_str()), ("Content-Type", "application/json")];
        let (status, body) = http::send(&self.http, method, path, &headers, &body)?;
        Ok((status, serde_json::from_str(&body).unwrap_or_default()))
    }

    /// The same where nothing else than yes is right.
    pub fn ok(&self, method: &str, path: &str, body: &Value) -> Value {
        let (status, document) = self.ask(method, path, body);
        assert!((200..300).contains(&status), "{method} {path}: {status} {document}");
        document
    }

    /// A file with a token for proxies.
    pub fn token_file(&self, name: &str) -> PathBuf {
        let made = self.ok("POST", "/v1/tokens", &serde_json::json!({ "user": "admin", "scope": "agent" }));
        let file = self.folder.path().join(name);
        fs::write(&file, made["secret"].as_str().unwrap()).unwrap();
        file
    }

    /// The SRV records of an app as `dig` has them, sorted: priority, weight, port, target.
    pub fn srv(&self, appid: u64) -> Vec<String> {
        let (host, port) = self.dns.split_once(':').unwrap();
        let name = format!("_memcached._tcp.{appid}.memcloud.internal.");
        let dig = Command::new("dig")
            .args(["+short", "+tries=1", "+time=2", &format!("@{host}"), "-p", port, &name, "SRV"])
            .stdin(Stdio::null())
            .output()
            .expect("dig (bind9-dnsutils) runs");
        let text = String::from_utf8(dig.stdout).unwrap();
        let mut lines: Vec<String> =
            text.lines().filter(|line| !line.starts_with(';')).map(str::to_owned).collect();
        lines.sort();
        lines
    }

    pub fn process(&self) -> &Process {
        &self.process
    }
}

fn in_folder(folder: &Folder) -> String {
    format!("sqlite:{}", folder.path().join("control.db").display())
}

fn launch(http: &str, dns: &str, store: &str, flags: &[String], folder: &Folder) -> Process {
    launch_by(Command::new(CONTROL.path()), http, dns, store, flags, folder)
}

fn launch_by(
    mut command: Command,
    http: &str,
    dns: &str,
    store: &str,
    flags: &[String],
    folder: &Folder,
) -> Process {
    command.args(["serve", "--http", http, "--dns", dns, "--store", store]).args(flags);
    Process::start("control", folder, &mut command)
}

static CONTROL: Program =
    Program::new("memcloud-control", "MEMCLOUD_CONTROL_PROGRAM", &["control/src", "protocol/src", "tls/src"]);
