//! Where what was decided is kept: records as JSON, a number that counts the changes, and the audit log.
//!
//! ```text
//!   commit(after = 41, change):   UPDATE head SET sequence = 42 WHERE sequence = 41     somebody was faster: Conflict, decide anew
//!                                 records, audit entries                                all of it, or nothing
//!   since(41):                    every record of a later change, and the head, as one picture
//! ```
//!
//! The condition on the head is the whole of the concurrency control: a decision is taken only if nothing was decided since the
//! registry that it was made on. So rules may look at everything, and no constraint of a database has to repeat them.
//!
//! Two databases are spoken to with the same statements: SQLite, which needs nothing, and PostgreSQL, for several control
//! processes. What a record says is none of the store's business.

mod connect;
mod error;
mod rows;

#[cfg(test)]
mod tests;

use futures_util::future::BoxFuture;
use sqlx::AnyPool;
use sqlx::postgres::PgListener;
use sqlx::{Any, Transaction};

pub use error::{CommitError, StoreError};

use crate::registry::audit::AuditEntry;
use crate::registry::change::{Change, Write};
use crate::registry::number::{ReplicaId, Sequence};

/// Deleted records are remembered for so many changes, so that other processes hear of them; who is further behind reads all anew.
pub const TOMBSTONES_KEPT: u64 = 100_000;

/// What was decided since a sequence: the last word on each record.
#[derive(Clone, Debug, PartialEq)]
pub struct Since {
    pub head: Sequence,
    pub writes: Vec<(Sequence, Write)>,
}

/// One line of the audit log, with its number.
#[derive(Clone, Debug, PartialEq)]
pub struct Logged {
    pub number: u64,
    pub entry: AuditEntry,
}

/// Which lines of the audit log, the newest first.
#[derive(Clone, Debug, Default)]
pub struct AuditQuery {
    /// As `app/10001`; also what stands below it, as `revision/10001/3` does not: subjects are compared whole.
    pub subjects: Vec<String>,
    pub actor: Option<String>,
    /// Older than this number.
    pub before: Option<u64>,
    pub limit: u32,
}

/// A heartbeat as it is kept.
#[derive(Clone, Debug, PartialEq)]
pub struct Beat {
    pub replica: ReplicaId,
    pub at_ms: i64,
    pub body: String,
}

/// A database.
#[derive(Clone, Debug)]
pub struct Store {
    pool: AnyPool,
    /// To be told at once when another process has changed something; SQLite has one process.
    listens_at: Option<String>,
}

/// Tells when another process may have changed something.
pub enum Changes {
    /// Nobody else writes.
    Never,
    Postgres(Box<PgListener>),
}

impl Store {
    /// Everything that was decided after `sequence`, as one picture. From 0: everything.
    ///
    /// # Errors
    /// The database is away, or holds what is no record.
    pub async fn since(&self, sequence: Sequence) -> Result<Since, StoreError> {
        // One statement is one picture in both databases; the head comes along even where nothing was changed.
        let rows = sqlx::query(
            "SELECT head.sequence AS head, record.kind, record.name, record.sequence, record.body \
             FROM head LEFT JOIN record ON record.sequence > $1 ORDER BY record.sequence",
        )
        .bind(rows::number(sequence))
        .fetch_all(&self.pool)
        .await?;
        rows::since(&rows, sequence)
    }

    /// Takes a change that was decided on the registry as of `after`.
    ///
    /// # Errors
    /// Something else was decided meanwhile, or the database is away or full.
    pub async fn commit(&self, after: Sequence, change: &Change) -> Result<Sequence, CommitError> {
        let next = Sequence(after.0 + 1);
        let mut transaction = self.pool.begin().await.map_err(StoreError::from)?;
        let raised = sqlx::query("UPDATE head SET sequence = $1 WHERE one = 1 AND sequence = $2")
            .bind(rows::number(next))
            .bind(rows::number(after))
            .execute(&mut *transaction)
            .await
            .map_err(StoreError::from)?;
        if raised.rows_affected() == 0 {
            return Err(CommitError::Conflict);
        }
        write_all(&mut transaction, next, change).await?;
        if self.listens_at.is_some() {
            sqlx::query("SELECT pg_notify('memcloud_change', $1)")
                .bind(next.to_string())
                .execute(&mut *transaction)
                .await
                .map_err(StoreError::from)?;
        }
        transaction.commit().await.map_err(|error| match error.into() {
            // SQLite writes at the commit. What found no room was not taken, and it says so.
            full @ StoreError::Full(_) => CommitError::Store(full),
            error => CommitError::Unknown(error),
        })?;
        Ok(next)
    }

    /// Lines of the audit log.
    ///
    /// # Errors
    /// The database is away.
    pub async fn audit_log(&self, query: &AuditQuery) -> Result<Vec<Logged>, StoreError> {
        let before = query.before.and_then(|number| i64::try_from(number).ok()).unwrap_or(i64::MAX);
        let found = sqlx::query(
            "SELECT number, entry FROM audit WHERE number < $1 AND ($2 = '' OR actor = $2) \
             AND ($3 = '' OR ',' || $3 || ',' LIKE '%,' || subject || ',%') ORDER BY number DESC LIMIT $4",
        )
        .bind(before)
        .bind(query.actor.as_deref().unwrap_or(""))
        .bind(query.subjects.join(","))
        .bind(i64::from(query.limit))
        .fetch_all(&self.pool)
        .await?;
        found.iter().map(rows::logged).collect()
    }

    /// Keeps the last heartbeats.
    ///
    /// # Errors
    /// The database is away or full.
    pub async fn save_beats(&self, beats: &[Beat]) -> Result<(), StoreError> {
        let mut transaction = self.pool.begin().await?;
        for beat in beats {
            sqlx::query(
                "INSERT INTO heartbeat (replica, at_ms, body) VALUES ($1, $2, $3) ON CONFLICT (replica) \
                 DO UPDATE SET at_ms = excluded.at_ms, body = excluded.body WHERE heartbeat.at_ms < excluded.at_ms",
            )
            .bind(rows::number(Sequence(beat.replica.0)))
            .bind(beat.at_ms)
            .bind(&beat.body)
            .execute(&mut *transaction)
            .await?;
        }
        Ok(transaction.commit().await?)
    }

    /// The last heartbeat of each replica that was heard at `at_ms` or later, by whatever process.
    ///
    /// # Errors
    /// The database is away.
    pub async fn beats_since(&self, at_ms: i64) -> Result<Vec<Beat>, StoreError> {
        let found = sqlx::query("SELECT replica, at_ms, body FROM heartbeat WHERE at_ms >= $1").bind(at_ms);
        found.fetch_all(&self.pool).await?.iter().map(rows::beat).collect()
    }

    /// Forgets deletions that everybody has heard of.
    ///
    /// # Errors
    /// The database is away.
    pub async fn forget_tombstones(&self, head: Sequence) -> Result<u64, StoreError> {
        let old = Sequence(head.0.saturating_sub(TOMBSTONES_KEPT));
        let gone =
            sqlx::query("DELETE FROM record WHERE body IS NULL AND sequence <= $1").bind(rows::number(old));
        Ok(gone.execute(&self.pool).await?.rows_affected())
    }

    /// Whether the database answers.
    ///
    /// # Errors
    /// It does not.
    pub async fn ping(&self) -> Result<(), StoreError> {
        sqlx::query("SELECT sequence FROM head").fetch_one(&self.pool).await?;
        Ok(())
    }

    /// Tells of changes by other processes from now on.
    ///
    /// # Errors
    /// The database is away.
    pub async fn changes(&self) -> Result<Changes, StoreError> {
        let Some(url) = &self.listens_at else { return Ok(Changes::Never) };
        let mut listener = PgListener::connect(url).await?;
        listener.listen("memcloud_change").await?;
        Ok(Changes::Postgres(Box::new(listener)))
    }

    /// Ends all connections.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

impl Changes {
    /// Ends when something may have changed. Cancel safe.
    pub fn heard(&mut self) -> BoxFuture<'_, Result<(), StoreError>> {
        match self {
            Self::Never => Box::pin(std::future::pending()),
            Self::Postgres(listener) => Box::pin(async move {
                listener.recv().await?;
                // Several at once are one reason to look.
                while listener.next_buffered().is_some() {}
                Ok(())
            }),
        }
    }
}

async fn write_all(
    transaction: &mut Transaction<'_, Any>,
    sequence: Sequence,
    change: &Change,
) -> Result<(), StoreError> {
    for write in &change.writes {
        let (key, body) = match write {
            Write::Put(record) => (record.key(), Some(record.body().to_string())),
            Write::Delete(key) => (key.clone(), None),
        };
        sqlx::query(
            "INSERT INTO record (kind, name, sequence, body) VALUES ($1, $2, $3, $4) \
             ON CONFLICT (kind, name) DO UPDATE SET sequence = excluded.sequence, body = excluded.body",
        )
        .bind(key.kind.word())
        .bind(key.name)
        .bind(rows::number(sequence))
        .bind(body)
        .execute(&mut **transaction)
        .await?;
    }
    for entry in &change.audit {
        sqlx::query(
            "INSERT INTO audit (sequence, at_ms, actor, action, subject, entry) VALUES ($1, $2, $3, $4, $5, $6)",
        )
        .bind(rows::number(sequence))
        .bind(entry.at.as_millisecond())
        .bind(entry.actor.as_str())
        .bind(&entry.action)
        .bind(&entry.subject)
        .bind(serde_json::to_string(entry).map_err(StoreError::unreadable)?)
        .execute(&mut **transaction)
        .await?;
    }
    Ok(())
}
