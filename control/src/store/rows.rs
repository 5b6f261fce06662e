//! Rows as values.

use sqlx::Row;
use sqlx::any::AnyRow;

use super::{Beat, Logged, Since, StoreError};
use crate::registry::change::{Kind, Record, RecordKey, Write};
use crate::registry::number::{ReplicaId, Sequence};

/// Both databases count in 63 bits; no counter of ours comes near.
pub(super) fn number(sequence: Sequence) -> i64 {
    i64::try_from(sequence.0).unwrap_or(i64::MAX)
}

pub(super) fn since(rows: &[AnyRow], from: Sequence) -> Result<Since, StoreError> {
    let first = rows.first().ok_or_else(|| StoreError::unreadable("the table head is empty"))?;
    let head = Sequence(count(first.try_get("head")?));
    let mut writes = Vec::with_capacity(rows.len());
    for row in rows {
        let Some(kind) = row.try_get::<Option<String>, _>("kind")? else { continue };
        let name: String = row.try_get("name")?;
        let sequence = Sequence(count(row.try_get("sequence")?));
        let kind = Kind::of_word(&kind)
            .ok_or_else(|| StoreError::unreadable(format_args!("records of kind {kind}")))?;
        match row.try_get::<Option<String>, _>("body")? {
            Some(body) => writes.push((sequence, Write::Put(record(kind, &name, &body)?))),
            // Who begins has nothing to delete.
            None if from == Sequence(0) => {}
            None => writes.push((sequence, Write::Delete(RecordKey { kind, name }))),
        }
    }
    Ok(Since { head, writes })
}

fn record(kind: Kind, name: &str, body: &str) -> Result<Record, StoreError> {
    let says = |error| StoreError::unreadable(format_args!("{} {name}: {error}", kind.word()));
    let body = serde_json::from_str(body).map_err(says)?;
    Record::of_body(kind, body).map_err(says)
}

pub(super) fn logged(row: &AnyRow) -> Result<Logged, StoreError> {
    let entry: String = row.try_get("entry")?;
    let entry = serde_json::from_str(&entry).map_err(StoreError::unreadable)?;
    Ok(Logged { number: count(row.try_get("number")?), entry })
}

pub(super) fn beat(row: &AnyRow) -> Result<Beat, StoreError> {
    Ok(Beat {
        replica: ReplicaId(count(row.try_get("replica")?)),
        at_ms: row.try_get("at_ms")?,
        body: row.try_get("body")?,
    })
}

fn count(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}
