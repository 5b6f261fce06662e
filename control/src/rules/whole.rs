//! Another registry in the place of this one: what was exported, here or elsewhere.

use std::collections::BTreeSet;

use super::{Refusal, Wish, replicas};
use crate::registry::Registry;
use crate::registry::audit::AuditEntry;
use crate::registry::change::{Change, Record, RecordKey, Write};
use crate::registry::number::Sequence;
use crate::registry::policy::Action;

/// Writes all of `records`, and deletes what is not among them. Revisions never go backwards, so an export that is older than what is
/// published here is refused.
///
/// # Errors
/// The actor may not, or the records contradict one another or what clients were told.
pub fn import(wish: Wish<'_>, records: &[Record]) -> Result<(Change, ()), Refusal> {
    wish.allow(Action::ImportStore, None)?;
    let puts: Vec<Write> = records.iter().cloned().map(Write::Put).collect();
    let mut registry = Registry::default();
    registry.apply(Sequence(1), &puts);
    registry
        .check_invariants()
        .map_err(|says| Refusal::Invalid(format!("what is to be imported contradicts itself: {says}")))?;
    for replica in registry.replicas(None) {
        replicas::check(&replica.registration)
            .map_err(|says| Refusal::Invalid(format!("replica {}: {says}", replica.id)))?;
    }
    if registry.user(&wish.actor.user).is_none() {
        let says = format!(
            "{} is no user of what is to be imported, and could not log in any more",
            wish.actor.user
        );
        return Err(Refusal::Invalid(says));
    }
    for app in wish.registry.apps(None) {
        let last = registry.app(app.appid).map(|one| one.last_revision);
        if last.is_some_and(|last| last < app.last_revision) {
            let says = format!(
                "app {}: revision {} was made here, and revisions never go backwards",
                app.appid, app.last_revision
            );
            return Err(Refusal::Conflict(says));
        }
    }
    let new: BTreeSet<RecordKey> = records.iter().map(Record::key).collect();
    let gone = wish.registry.records().map(|record| record.key()).filter(|key| !new.contains(key));
    let writes = gone.map(Write::Delete).chain(puts).collect();
    let audit = vec![AuditEntry {
        at: wish.now,
        actor: wish.actor.user.clone(),
        action: "store.import".into(),
        subject: "store".into(),
        before: None,
        after: Some(serde_json::json!({ "records": records.len() })),
        reason: None,
    }];
    Ok((Change { writes, audit }, ()))
}
