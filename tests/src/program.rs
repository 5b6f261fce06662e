//! The programs under test, as cargo builds them.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::SystemTime;

/// A binary: a variable names one, else it is in cargo's target folder that holds this test, built when it is not there
/// or older than its sources (`cargo test -p memcloud-tests` builds this crate alone).
#[derive(Debug)]
pub struct Program {
    name: &'static str,
    variable: &'static str,
    sources: &'static [&'static str],
    path: OnceLock<PathBuf>,
}

impl Program {
    /// Of the package of the same name.
    pub const fn new(name: &'static str, variable: &'static str, sources: &'static [&'static str]) -> Self {
        Self { name, variable, sources, path: OnceLock::new() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        self.path.get_or_init(|| {
            if let Some(named) = std::env::var_os(self.variable) {
                return named.into();
            }
            let test = std::env::current_exe().expect("the path of this test");
            let profile = test.parent().and_then(Path::parent).expect("a folder above deps/");
            let binary = profile.join(self.name);
            if self.is_stale(&binary) {
                self.build(profile);
            }
            binary
        })
    }

    fn is_stale(&self, binary: &Path) -> bool {
        let Ok(built) = binary.metadata().and_then(|meta| meta.modified()) else { return true };
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        self.sources.iter().any(|sources| newest(&root.join(sources)) > Some(built))
    }

    fn build(&self, profile: &Path) {
        let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["build", "-p", self.name, "--bin", self.name]).stdin(Stdio::null());
        match profile.file_name().and_then(|name| name.to_str()) {
            Some("debug") | None => {}
            Some(name) => {
                cargo.args(["--profile", name]);
            }
        }
        cargo.env("CARGO_TARGET_DIR", profile.parent().unwrap()).current_dir(env!("CARGO_MANIFEST_DIR"));
        assert!(cargo.status().expect("cargo runs").success(), "{} does not build", self.name);
    }
}

fn newest(path: &Path) -> Option<SystemTime> {
    let own = path.metadata().and_then(|meta| meta.modified()).ok();
    let inside = path.read_dir().ok().into_iter().flatten().flatten().map(|entry| newest(&entry.path()));
    inside.max().flatten().max(own)
}
