//! A wall clock that a test can set: `libfaketime` in front of the C library, and a file that it reads. The monotonic clock,
//! by which time-outs go, stays the machine's. A proxy reads the wall's clock once, so it sees what is set when it is started.

use std::fs;
use std::path::{Path, PathBuf};

use crate::process::Folder;

/// The clock of one process.
#[derive(Debug)]
pub struct Clock {
    file: PathBuf,
}

impl Clock {
    /// It starts with the machine's time.
    pub fn new(name: &str, folder: &Folder) -> Self {
        let clock = Self { file: folder.path().join(format!("{name}.clock")) };
        clock.set(0);
        clock
    }

    /// Seconds from the machine's time, for the next process; one that runs has read the clock already.
    pub fn set(&self, seconds: i64) {
        // Another file in its place, so that no half of it is ever read.
        let next = self.file.with_extension("next");
        fs::write(&next, format!("{seconds:+}\n")).expect("a file for the clock");
        fs::rename(&next, &self.file).expect("a file for the clock");
    }

    /// What the process has to be started with.
    pub fn environment(&self) -> Vec<(String, String)> {
        let library = library().expect("libfaketime, which tests/setup installs");
        let file = self.file.display().to_string();
        let all = [
            ("LD_PRELOAD", library.display().to_string()),
            ("FAKETIME_TIMESTAMP_FILE", file),
            ("FAKETIME_CACHE_DURATION", "1".to_owned()),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ];
        all.map(|(name, value)| (name.to_owned(), value)).to_vec()
    }
}

/// Where Debian puts it, for whatever architecture.
fn library() -> Option<PathBuf> {
    let folders = Path::new("/usr/lib").read_dir().ok()?.flatten();
    let named = folders.map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"));
    named.into_iter().find(|path| path.exists())
}
