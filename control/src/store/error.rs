//! Why the store did not do it, in words for an operator.

use std::fmt::Display;

/// What keeps the store from answering.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// No answer, or no connection.
    #[error("the database does not answer ({0}): lookups go on, changes are refused until it is back")]
    Away(String),
    /// No room.
    #[error(
        "the database has no room left ({0}): free some on its disk, or raise its quota; lookups go on, changes are refused until then"
    )]
    Full(String),
    /// It holds what this program cannot read.
    #[error("the database holds what this version cannot read: {0}")]
    Unreadable(String),
}

/// Why a change was not taken.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CommitError {
    /// Something else was decided since.
    #[error("something else was decided meanwhile")]
    Conflict,
    /// It was not.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The answer to the commit itself never came: it may have been taken.
    #[error(
        "{0}; whether this change was taken is not known: look, or repeat it with the same idempotency key"
    )]
    Unknown(StoreError),
}

impl StoreError {
    pub(super) fn unreadable(says: impl Display) -> Self {
        Self::Unreadable(says.to_string())
    }

    /// A word for metrics.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Away(_) => "away",
            Self::Full(_) => "full",
            Self::Unreadable(_) => "unreadable",
        }
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let is_full = error.as_database_error().and_then(|error| error.code()).is_some_and(|code| {
            // SQLITE_FULL; SQLITE_IOERR_WRITE, which is a quota or a limit of the file's size; disk_full of PostgreSQL.
            ["13", "778", "53100"].contains(&&*code)
        });
        match error {
            _ if is_full => Self::Full(error.to_string()),
            sqlx::Error::ColumnDecode { .. } | sqlx::Error::ColumnNotFound(_) | sqlx::Error::Decode(_) => {
                Self::Unreadable(error.to_string())
            }
            error => Self::Away(error.to_string()),
        }
    }
}
