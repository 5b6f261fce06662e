//! A child process with its log, and the folder where such logs live.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, prlimit};
use tempfile::TempDir;

use crate::wait::eventually;

/// A temporary folder, shared by the processes of a fleet. It outlives a failed test, and says where it is.
#[derive(Clone, Debug)]
pub struct Folder(Arc<Kept>);

#[derive(Debug)]
struct Kept(Option<TempDir>);

impl Folder {
    pub fn new() -> Self {
        let made = tempfile::Builder::new().prefix("memcloud-test-").tempdir().expect("a temporary folder");
        Self(Arc::new(Kept(Some(made))))
    }

    pub fn path(&self) -> &Path {
        self.0.0.as_ref().map_or(Path::new("."), TempDir::path)
    }
}

impl Default for Folder {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        if let Some(folder) = self.0.take()
            && std::thread::panicking()
        {
            eprintln!("the logs of this failed test are kept in {}", folder.keep().display());
        }
    }
}

/// A running child. Dropping it kills it, also when it is stopped by `SIGSTOP`.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
    _folder: Folder,
}

impl Process {
    /// Starts `command`; what it prints is appended to `NAME.log` in the folder.
    pub fn start(name: &str, folder: &Folder, command: &mut Command) -> Self {
        let log = folder.path().join(format!("{name}.log"));
        let out = File::options().create(true).append(true).open(&log).expect("a log file");
        let err = out.try_clone().unwrap();
        let child = command.stdin(Stdio::null()).stdout(out).stderr(err).spawn();
        let child = child.unwrap_or_else(|error| panic!("{name} does not start: {error}: {command:?}"));
        Self { child, log, _folder: folder.clone() }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.child.id().cast_signed()).unwrap();
        kill_process(pid, signal).expect("a signal to a process of ours");
    }

    /// No file may grow beyond `bytes` any more, without a limit: as they like.
    ///
    /// A write beyond fails with `EFBIG` only if the process was started with `SIGXFSZ` ignored.
    pub fn limit_files(&self, bytes: Option<u64>) {
        let pid = Pid::from_raw(self.child.id().cast_signed());
        let limit = Rlimit { current: bytes, maximum: None };
        prlimit(pid, Resource::Fsize, limit).expect("a limit of a process of ours");
    }

    /// Freezes it with `SIGSTOP`, and returns once it stands still: the signal takes its time to reach every thread.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
        let tasks = format!("/proc/{}/task", self.child.id());
        let stands = |task: fs::DirEntry| {
            let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('T'))
        };
        eventually("all threads stand still", Duration::from_secs(10), || {
            fs::read_dir(&tasks).ok()?.flatten().all(stands).then_some(())
        });
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    /// Kills it with `SIGKILL` and waits for its end.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// The exit status, if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be waited for")
    }

    /// Waits for its end.
    pub fn wait(&mut self, within: Duration) -> ExitStatus {
        let what = format!("the end of process {} ({})", self.child.id(), self.log.display());
        eventually(&what, within, || self.child.try_wait().expect("a child can be waited for"))
    }

    /// All it has printed so far.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Resident memory in bytes.
    pub fn resident_bytes(&self) -> u64 {
        self.status_kib("VmRSS:") * 1024
    }

    /// The most memory it ever had resident, in bytes.
    pub fn resident_peak_bytes(&self) -> u64 {
        self.status_kib("VmHWM:") * 1024
    }

    fn status_kib(&self, field: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap_or("0");
        line.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(0)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Raises this process's own limit of open files as far as it goes, and returns it.
pub fn raise_open_files() -> u64 {
    use rustix::process::{getrlimit, setrlimit};
    let now = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: now.maximum, maximum: now.maximum });
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}
