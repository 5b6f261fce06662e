//! One peer's list: a file with a sorted set of keys, each with the generation of its newest push.
//!
//! The file exists while there is something on the list. It never shrinks, so an emptied list is deleted, and so
//! is one that no longer matters.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use redb::{Database, ReadableDatabase, ReadableTable, ReadableTableMetadata, TableDefinition};

use super::disk::{self, Disk};
use super::waiting::OnDisk;
use super::{Listed, Reason};

/// An open list.
pub(super) struct List {
    database: Database,
    path: PathBuf,
    keys: u64,
}

/// What stopped a list, for the log; how, for the counters.
#[derive(Debug, thiserror::Error)]
#[error("{source}")]
pub(super) struct ListError {
    pub(super) reason: Reason,
    source: Box<redb::Error>,
}

impl List {
    /// Opens the list at `path`, or begins one.
    pub(super) fn open(path: &Path) -> Result<Self, ListError> {
        let disk = Disk::open(path).map_err(redb::Error::from)?;
        let database = Database::builder().set_cache_size(CACHE_BYTES).create_with_backend(disk);
        let database = database.map_err(redb::Error::from)?;
        let mut list = Self { database, path: path.to_owned(), keys: 0 };
        list.add(&[])?;
        Ok(list)
    }

    /// Adds keys, or gives keys that it has their newer generations.
    pub(super) fn add(&mut self, keys: &[(Arc<[u8]>, u64)]) -> Result<(), ListError> {
        self.change(|table| {
            keys.iter().try_for_each(|(key, generation)| table.insert(&**key, generation).map(drop))
        })
    }

    /// Takes keys off whose generation is still the same.
    pub(super) fn remove(&mut self, keys: &[Listed]) -> Result<(), ListError> {
        self.change(|table| {
            for Listed { key, generation } in keys {
                let current = table.get(&**key)?.map(|found| found.value());
                if current == Some(*generation) {
                    table.remove(&**key)?;
                }
            }
            Ok(())
        })
    }

    fn change(
        &mut self,
        change: impl FnOnce(&mut redb::Table<'_, &'static [u8], u64>) -> Result<(), redb::StorageError>,
    ) -> Result<(), ListError> {
        let transaction = self.database.begin_write().map_err(redb::Error::from)?;
        {
            let mut table = transaction.open_table(KEYS).map_err(redb::Error::from)?;
            change(&mut table).map_err(redb::Error::from)?;
            self.keys = table.len().map_err(redb::Error::from)?;
        }
        Ok(transaction.commit().map_err(redb::Error::from)?)
    }

    /// The first `most` keys.
    pub(super) fn first(&self, most: usize) -> Result<Vec<Listed>, ListError> {
        let transaction = self.database.begin_read().map_err(redb::Error::from)?;
        let table = transaction.open_table(KEYS).map_err(redb::Error::from)?;
        let mut found = Vec::new();
        for entry in table.iter().map_err(redb::Error::from)?.take(most) {
            let (key, generation) = entry.map_err(redb::Error::from)?;
            found.push(Listed { key: Arc::from(key.value()), generation: generation.value() });
        }
        Ok(found)
    }

    /// The greatest generation on it. Reads all of it.
    pub(super) fn newest(&self) -> Result<u64, ListError> {
        let transaction = self.database.begin_read().map_err(redb::Error::from)?;
        let table = transaction.open_table(KEYS).map_err(redb::Error::from)?;
        let mut newest = 0;
        for entry in table.iter().map_err(redb::Error::from)? {
            newest = newest.max(entry.map_err(redb::Error::from)?.1.value());
        }
        Ok(newest)
    }

    pub(super) fn on_disk(&self) -> OnDisk {
        OnDisk { keys: self.keys, bytes: disk::bytes(&self.path) }
    }

    /// Closes it, all of it on the disk.
    pub(super) fn close(self) -> io::Result<()> {
        drop(self.database);
        disk::sync(&self.path)
    }

    /// Closes it for good.
    pub(super) fn delete(self) {
        drop(self.database);
        let _ = fs::remove_file(&self.path);
    }
}

impl From<redb::Error> for ListError {
    fn from(error: redb::Error) -> Self {
        let reason = match &error {
            redb::Error::Io(error) => match error.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
                    Reason::DiskFull
                }
                io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => Reason::Corrupt,
                _ => Reason::Io,
            },
            redb::Error::PreviousIo => Reason::Io,
            _ => Reason::Corrupt,
        };
        Self { reason, source: Box::new(error) }
    }
}

const KEYS: TableDefinition<'_, &[u8], u64> = TableDefinition::new("keys");

/// Of each open list. Batches are sorted, so a few pages around the place of writing are all that is needed; half of
/// it holds what a batch has changed.
const CACHE_BYTES: usize = 16 << 20;
