//! A stock memcached.

use std::time::Duration;

use rustix::process::getuid;

use crate::binary::{Frame, NOOP, reply};
use crate::client::Client;
use crate::ports;
use crate::process::{Folder, Process};
use crate::server::Server;
use crate::wait::eventually;

/// A real memcached process on a port or a unix socket of its own.
#[derive(Debug)]
pub struct Memcached {
    name: String,
    address: String,
    server: Server,
    args: Vec<String>,
    folder: Folder,
    process: Process,
}

impl Memcached {
    /// On a free port, with `args` besides the port.
    pub fn start(name: &str, folder: &Folder, args: &[&str]) -> Self {
        Self::start_server(&Server::usual(), name, folder, args)
    }

    /// One version of it, on a free port.
    pub fn start_server(server: &Server, name: &str, folder: &Folder, args: &[&str]) -> Self {
        Self::start_at(server, name, folder, args, ports::free_address())
    }

    /// On a unix socket in the folder.
    pub fn start_unix(name: &str, folder: &Folder, args: &[&str]) -> Self {
        let address = format!("unix:{}", folder.path().join(format!("{name}.socket")).display());
        Self::start_at(&Server::usual(), name, folder, args, address)
    }

    fn start_at(server: &Server, name: &str, folder: &Folder, args: &[&str], address: String) -> Self {
        let args: Vec<String> = args.iter().map(|&arg| arg.to_owned()).collect();
        let process = launch(server, name, folder, &args, &address);
        let (name, folder) = (name.to_owned(), folder.clone());
        Self { name, address, server: server.clone(), args, folder, process }
    }

    /// `127.0.0.1:port` or `unix:/path`.
    pub fn address(&self) -> &str {
        &self.address
    }

    pub fn client(&self) -> Client {
        Client::to(&self.address)
    }

    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Ends it at once; [`Memcached::restart`] brings it back, empty, on the same address.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    pub fn restart(&mut self) {
        self.process.kill();
        self.process = launch(&self.server, &self.name, &self.folder, &self.args, &self.address);
    }

    /// The same, as another version.
    pub fn restart_as(&mut self, server: &Server) {
        self.server = server.clone();
        self.restart();
    }

    /// Stops answering without closing anything.
    pub fn hang(&self) {
        self.process.freeze();
    }

    pub fn resume(&self) {
        self.process.thaw();
    }
}

/// Starts and waits until it answers.
fn launch(server: &Server, name: &str, folder: &Folder, args: &[String], address: &str) -> Process {
    let mut command = server.command();
    match address.strip_prefix("unix:") {
        Some(path) => command.args(["-s", path]),
        None => command.args(["-l", "127.0.0.1", "-p", address.rsplit_once(':').unwrap().1]),
    };
    command.args(["-U", "0", "-t", "2"]);
    if getuid().is_root() {
        command.args(["-u", "root"]);
    }
    let mut process = Process::start(name, folder, command.args(args));
    eventually(&format!("{name} answers on {address}"), Duration::from_secs(10), || {
        assert!(process.ended().is_none(), "{name} ended: {}", process.log());
        let mut client = Client::connect(address).ok()?;
        if args.iter().any(|arg| arg == "binary") {
            client.send(Frame::new(NOOP).bytes()).ok()?;
            return reply(&mut client).ok().map(drop);
        }
        client.try_ask("version").ok().map(drop)
    });
    process
}
