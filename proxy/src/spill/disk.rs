//! A file under the store, written without waiting for the disk.
//!
//! What was committed is in the operating system's hands and survives whatever happens to this process. The disk
//! itself is waited for only when the proxy stops: after a crash of the machine the memcached beside us is empty as
//! well, so what its list said is void, and a wait at each commit would buy nothing.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;

use redb::StorageBackend;

#[derive(Debug)]
pub(super) struct Disk {
    file: File,
    #[cfg(test)]
    path: std::path::PathBuf,
}

impl Disk {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let mut options = File::options();
        options.read(true).write(true).create(true).truncate(false);
        // Keys are nobody else's business.
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        Ok(Self {
            file: options.open(path)?,
            #[cfg(test)]
            path: path.to_owned(),
        })
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(out, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        #[cfg(test)]
        faults::strike(&self.path)?;
        self.file.write_all_at(data, offset)
    }
}

/// What a file takes on its disk; holes take nothing.
pub(super) fn bytes(path: &Path) -> u64 {
    std::fs::metadata(path).map_or(0, |found| found.blocks() * BLOCK_BYTES)
}

/// Waits until a file or folder is on its disk.
pub(super) fn sync(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// The unit of `st_blocks`, whatever the file system's own is.
const BLOCK_BYTES: u64 = 512;

/// Writes to files below a folder fail while a test says so.
#[cfg(test)]
pub(super) mod faults {
    use std::io;
    use std::path::{Path, PathBuf};
    use std::sync::{Mutex, PoisonError};

    /// Folders, and the error number that writes in them meet.
    static BROKEN: Mutex<Vec<(PathBuf, i32)>> = Mutex::new(Vec::new());

    /// From now on writes below `dir` fail so; 0 mends it.
    pub(in crate::spill) fn set(dir: &Path, errno: i32) {
        let mut broken = BROKEN.lock().unwrap_or_else(PoisonError::into_inner);
        broken.retain(|(other, _)| other != dir);
        if errno != 0 {
            broken.push((dir.to_owned(), errno));
        }
    }

    pub(super) fn strike(path: &Path) -> io::Result<()> {
        let broken = BROKEN.lock().unwrap_or_else(PoisonError::into_inner);
        match broken.iter().find(|(dir, _)| path.starts_with(dir)) {
            Some((_, errno)) => Err(io::Error::from_raw_os_error(*errno)),
            None => Ok(()),
        }
    }
}
