//! Opening a database, and bringing it to this version.

use std::str::FromStr;
use std::time::Duration;

use sqlx::any::{AnyConnectOptions, AnyPoolOptions, install_default_drivers};
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{Executor, SqlSafeStr};

use super::{Store, StoreError};

/// A statement that takes longer has no answer worth waiting for: DNS and lookups do not wait, and whoever asked tries again.
const PATIENCE: Duration = Duration::from_secs(5);
/// One writer, and readers of the audit log.
const CONNECTIONS_MAX: u32 = 4;

impl Store {
    /// Opens `sqlite:FILE` (created when it is missing) or `postgres://…`, and migrates it.
    ///
    /// # Errors
    /// It is neither, it does not answer, or it was made by a later version.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        let store = Self::later(url)?;
        store.migrate().await?;
        Ok(store)
    }

    /// The same, without asking the database anything yet: [`Store::migrate`] has to come first.
    ///
    /// # Errors
    /// It is neither.
    pub fn later(url: &str) -> Result<Self, StoreError> {
        install_default_drivers();
        let is_sqlite = url.starts_with("sqlite:");
        if !is_sqlite && !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err(StoreError::unreadable("a store is sqlite:FILE or postgres://USER@HOST/DATABASE"));
        }
        let options = AnyConnectOptions::from_str(&with_creation(url))?;
        let pool = AnyPoolOptions::new()
            // SQLite has one writer at a time in any case, and in memory every connection would be a database of its own.
            .max_connections(if is_sqlite { 1 } else { CONNECTIONS_MAX })
            .acquire_timeout(PATIENCE)
            .after_connect(move |connection, _| {
                Box::pin(async move { connection.execute(session(is_sqlite)).await.map(drop) })
            })
            .connect_lazy_with(options);
        Ok(Self { pool, listens_at: (!is_sqlite).then(|| url.to_owned()) })
    }

    /// Brings what is kept there to the form of this version.
    ///
    /// # Errors
    /// It does not answer, or it was made by a later version.
    pub async fn migrate(&self) -> Result<(), StoreError> {
        drop(self.pool.acquire().await?);
        migrations(self.listens_at.is_none()).run(&self.pool).await.map_err(StoreError::unreadable)
    }
}

/// A file that is missing is made.
fn with_creation(url: &str) -> String {
    let is_plain = url.starts_with("sqlite:") && !url.contains('?') && !url.contains(":memory:");
    if is_plain { format!("{url}?mode=rwc") } else { url.to_owned() }
}

/// What is decided has to survive the machine: SQLite waits for the disk at each commit.
fn session(is_sqlite: bool) -> &'static str {
    if is_sqlite {
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA busy_timeout = 5000; PRAGMA foreign_keys = ON"
    } else {
        "SET statement_timeout = '5s'; SET idle_in_transaction_session_timeout = '10s'"
    }
}

fn migrations(is_sqlite: bool) -> Migrator {
    let first = if is_sqlite {
        include_str!("../../migrations/sqlite/0001_registry.sql")
    } else {
        include_str!("../../migrations/postgres/0001_registry.sql")
    };
    let first = Migration::new(1, "registry".into(), MigrationType::Simple, first.into_sql_str(), false);
    Migrator::with_migrations(vec![first])
}
