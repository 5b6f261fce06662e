//! How long the receipt of an idempotency key is kept: for a day, and for so many requests that whoever repeats one in good faith finds it.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::registry::Registry;
use crate::registry::change::{Change, Kind, Receipt, RecordKey, Write};

/// Who repeats a request does so within minutes; a script that runs daily may be late by a night.
pub const LIFE: SignedDuration = SignedDuration::from_hours(25);
/// Beyond that the oldest goes for each that comes.
pub const RECEIPTS_MAX: usize = 10_000;
/// Old ones that go with one change.
pub const FORGOTTEN_AT_ONCE_MAX: usize = 1_000;

/// Whether it still counts.
#[must_use]
pub fn is_valid(receipt: &Receipt, now: Timestamp) -> bool {
    now.duration_since(receipt.at) < LIFE
}

/// What has to go so that there is room for one more.
#[must_use]
pub fn make_room(registry: &Registry) -> Vec<Write> {
    let surplus = (registry.receipt_count() + 1).saturating_sub(RECEIPTS_MAX);
    if surplus == 0 {
        return Vec::new();
    }
    let mut all: Vec<&Arc<Receipt>> = registry.receipts().collect();
    all.sort_by_key(|receipt| receipt.at);
    all.into_iter().take(surplus).map(|receipt| gone(receipt)).collect()
}

/// What is too old. It is nobody's decision, so the audit log has no line of it.
#[must_use]
pub fn forget_old(registry: &Registry, now: Timestamp) -> Change {
    let old = registry.receipts().filter(|receipt| !is_valid(receipt, now));
    Change {
        writes: old.take(FORGOTTEN_AT_ONCE_MAX).map(|receipt| gone(receipt)).collect(),
        audit: Vec::new(),
    }
}

fn gone(receipt: &Receipt) -> Write {
    Write::Delete(RecordKey::new(Kind::Receipt, &receipt.key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::change::Record;
    use crate::registry::number::Sequence;

    fn at(second: usize) -> Timestamp {
        Timestamp::from_second(i64::try_from(second).unwrap()).unwrap()
    }

    fn registry(receipts: usize) -> Registry {
        let receipt = |number: usize| Receipt {
            key: format!("ann {number}"),
            request_digest: String::new(),
            status: 201,
            body: serde_json::Value::Null,
            at: at(number),
        };
        let mut registry = Registry::default();
        let puts: Vec<Write> =
            (0..receipts).map(|number| Write::Put(Record::Receipt(receipt(number)))).collect();
        registry.apply(Sequence(1), &puts);
        registry
    }

    #[test]
    fn at_the_bound_the_oldest_goes() {
        assert_eq!(make_room(&registry(RECEIPTS_MAX - 1)), []);
        let oldest = |number: usize| Write::Delete(RecordKey::new(Kind::Receipt, format!("ann {number}")));
        assert_eq!(make_room(&registry(RECEIPTS_MAX)), [oldest(0)]);
        assert_eq!(make_room(&registry(RECEIPTS_MAX + 1)), [oldest(0), oldest(1)]);
    }

    #[test]
    fn old_ones_go_some_at_a_time() {
        let mut registry = registry(FORGOTTEN_AT_ONCE_MAX + 5);
        let life = usize::try_from(LIFE.as_secs()).unwrap();
        assert_eq!(forget_old(&registry, at(life)).writes.len(), 1, "to the second");
        let late = at(life + FORGOTTEN_AT_ONCE_MAX + 5);
        for left in [5, 0] {
            registry.apply(Sequence(2), &forget_old(&registry, late).writes);
            assert_eq!(registry.receipt_count(), left);
        }
    }
}
