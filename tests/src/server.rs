//! Which stock memcacheds there are on this machine: the distribution's, and newer ones that `tests/setup` unpacked.
//!
//! A newer one lies in `.setup/servers/RELEASE` with its C library and is started through its own loader; nothing of it is
//! installed. `MEMCLOUD_SERVER` names the one that fleets start unless a test asks for another: `newest`, or a version.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// A memcached that can be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    words: Vec<PathBuf>,
    version: Version,
}

type Version = [u32; 3];

impl Server {
    /// The one that `MEMCLOUD_SERVER` names, else the distribution's.
    pub fn usual() -> Self {
        match std::env::var("MEMCLOUD_SERVER").as_deref() {
            Err(_) | Ok("") => Self::distribution(),
            Ok("newest") => Self::newest(),
            Ok(version) => {
                let found = all().iter().find(|server| server.version() == version);
                found.unwrap_or_else(|| panic!("no memcached {version} here, only {:?}", all())).clone()
            }
        }
    }

    /// The one in `PATH`.
    pub fn distribution() -> Self {
        all()[0].clone()
    }

    /// The newest at hand. One that is not versioned would prove nothing: that fails, unless `MEMCLOUD_WITHOUT_NEWER=1` says
    /// that no newer one is to be had.
    pub fn newest() -> Self {
        let newest = all().iter().max_by_key(|server| server.version).unwrap().clone();
        assert!(
            newest.is_versioned() || without_newer(),
            "no memcached newer than {} is at hand: tests/setup unpacks them; MEMCLOUD_WITHOUT_NEWER=1 goes without",
            newest.version()
        );
        newest
    }

    /// `1.6.18`
    pub fn version(&self) -> String {
        let [major, minor, patch] = self.version;
        format!("{major}.{minor}.{patch}")
    }

    /// Whether it takes a CAS of the caller's own (flag `E`).
    pub fn is_versioned(&self) -> bool {
        self.version >= [1, 6, 27]
    }

    /// A command that starts it; arguments come behind.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.words[0]);
        command.args(&self.words[1..]);
        command
    }

    fn probe(words: Vec<PathBuf>) -> Option<Self> {
        let mut server = Self { words, version: [0; 3] };
        let said = server.command().arg("-V").output().ok()?.stdout;
        server.version = parse(&String::from_utf8_lossy(&said))?;
        Some(server)
    }
}

fn without_newer() -> bool {
    std::env::var_os("MEMCLOUD_WITHOUT_NEWER").is_some_and(|value| value == "1")
}

/// Every server at hand, the distribution's first. They are looked for once.
fn all() -> &'static [Server] {
    static ALL: OnceLock<Vec<Server>> = OnceLock::new();
    ALL.get_or_init(|| {
        let own = Server::probe(vec!["memcached".into()]).expect("a memcached in PATH");
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join(".setup/servers");
        let unpacked = folder.read_dir().into_iter().flatten().flatten();
        let unpacked = unpacked.filter_map(|entry| Server::probe(unpacked_words(&entry.path())?));
        std::iter::once(own).chain(unpacked).collect()
    })
}

/// How to start a server that lies in a folder with its own libraries: through its own loader.
fn unpacked_words(folder: &Path) -> Option<Vec<PathBuf>> {
    if !folder.join("ready").exists() {
        return None;
    }
    let architectures = folder.join("usr/lib").read_dir().ok()?.flatten();
    let files = architectures.filter_map(|entry| entry.path().read_dir().ok()).flatten().flatten();
    let is_loader = |path: &PathBuf| {
        path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with("ld-linux-"))
    };
    let loader = files.map(|entry| entry.path()).find(is_loader)?;
    let libraries = loader.parent()?.to_owned();
    Some(vec![loader, "--library-path".into(), libraries, folder.join("usr/bin/memcached")])
}

/// `memcached 1.6.18`
fn parse(said: &str) -> Option<Version> {
    let mut numbers = said.split_whitespace().nth(1)?.split('.').map_while(|part| part.parse().ok());
    Some([numbers.next()?, numbers.next()?, numbers.next()?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_by_number() {
        assert_eq!(parse("memcached 1.6.18\n"), Some([1, 6, 18]));
        assert!(parse("memcached 1.6.9") < parse("memcached 1.6.18"));
        assert_eq!(parse("memcached"), None);
    }

    #[test]
    fn the_newest_is_not_older_than_the_distributions() {
        assert!(Server::newest().version >= Server::distribution().version);
    }
}
