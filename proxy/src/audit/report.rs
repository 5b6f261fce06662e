//! What was found, for people and for programs.

use std::fmt;
use std::time::Duration;

use memcloud_protocol::memcache::expiry::Expiry;
use serde::Serialize;
use serde_json::json;

use super::held::{Held, Kind};
use super::replica::Replica;
use crate::inventory::Entry;

/// How an audit ended that could be carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// All replicas hold the same, or do so after the repair.
    Equal,
    /// They do not.
    Different,
}

/// What was found.
#[derive(Clone, Debug)]
pub struct Report {
    /// In the order in which they were named.
    pub replicas: Vec<OfReplica>,
    /// Keys that are the same everywhere.
    pub equal: u64,
    /// Of those, keys that differed at first: somebody was writing them.
    pub settled: u64,
    /// Keys that several replicas hold differently.
    pub different: u64,
    /// Keys that some replicas lack; those that have them agree.
    pub one_sided: u64,
    /// Keys that were written again and again while we looked.
    pub unsettled: u64,
    /// Whether it was asked for.
    pub repair: bool,
    /// Keys that were deleted everywhere.
    pub repaired: u64,
    /// Of those, keys that differ again.
    pub still_differing: u64,
    /// Some of the keys that differ.
    pub samples: Vec<Sample>,
    /// How long it took.
    pub elapsed: Duration,
}

/// What was found on one replica.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OfReplica {
    /// As it was named.
    pub addr: String,
    /// Of its memcached.
    pub version: String,
    /// Keys it held at the first look.
    pub items: u64,
    /// Keys that it alone holds.
    pub only_here: u64,
    /// Keys that it lacks.
    pub missing_here: u64,
}

/// A key that differs. Its value is not told, not even by a digest, which would tell short ones.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sample {
    /// Escaped as in `a\x00b`.
    pub key: String,
    /// `value` (or flags, or a stale mark), `expiry`, `one_sided`
    pub differs: &'static str,
    /// For each replica in turn: `null` if it lacks the key; else a letter, the same one for those that hold the same.
    pub holds: Vec<Option<char>>,
    /// For each replica in turn when it ends, in seconds since 1970; `null` for never, and where it is not.
    pub ends_at: Vec<Option<u64>>,
}

impl Report {
    pub(super) fn new(replicas: &[Replica]) -> Self {
        let replicas = replicas.iter().map(|replica| OfReplica {
            addr: replica.inventory.addr().to_string(),
            version: replica.survey.version.clone(),
            items: 0,
            only_here: 0,
            missing_here: 0,
        });
        Self {
            replicas: replicas.collect(),
            equal: 0,
            settled: 0,
            different: 0,
            one_sided: 0,
            unsettled: 0,
            repair: false,
            repaired: 0,
            still_differing: 0,
            samples: Vec::new(),
            elapsed: Duration::ZERO,
        }
    }

    pub(super) fn count_items(&mut self, entries: &[Vec<Entry>]) {
        for (replica, entries) in self.replicas.iter_mut().zip(entries) {
            replica.items += entries.len() as u64;
        }
    }

    pub(super) fn count_differing(&mut self, differing: &[Held], samples: usize) {
        for held in differing {
            let kind = held.kind();
            match kind {
                Kind::OneSided => self.one_sided += 1,
                _ => self.different += 1,
            }
            let alone = held.on.iter().flatten().count() == 1;
            for (replica, entry) in self.replicas.iter_mut().zip(&held.on) {
                replica.only_here += u64::from(entry.is_some() && alone);
                replica.missing_here += u64::from(entry.is_none());
            }
            let name = name(kind);
            if self.samples.iter().filter(|sample| sample.differs == name).count() < samples {
                self.samples.push(Sample::of(held, name));
            }
        }
    }

    /// What the exit code says.
    pub fn outcome(&self) -> Outcome {
        let left = if self.repair { self.still_differing } else { self.different + self.one_sided };
        if left == 0 { Outcome::Equal } else { Outcome::Different }
    }

    /// For programs; docs/operations.md has the fields.
    pub fn to_json(&self) -> String {
        let repair =
            self.repair.then(|| json!({ "deleted": self.repaired, "still_differing": self.still_differing }));
        let report = json!({
            "result": self.outcome(),
            "replicas": self.replicas,
            "equal": self.equal,
            "different": self.different,
            "one_sided": self.one_sided,
            "settled": self.settled,
            "unsettled": self.unsettled,
            "repair": repair,
            "samples": self.samples,
            "elapsed_ms": u64::try_from(self.elapsed.as_millis()).unwrap_or(u64::MAX),
        });
        format!("{report:#}\n")
    }
}

/// What programs are told when nothing could be compared.
pub fn failure(reason: &str) -> String {
    format!("{:#}\n", json!({ "result": "failed", "reason": reason }))
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.replicas.iter().map(|replica| replica.addr.len()).max().unwrap_or(0).max(7);
        writeln!(f, "{:width$}  memcached     items  only here  missing here", "replica")?;
        for OfReplica { addr, version, items, only_here, missing_here } in &self.replicas {
            writeln!(f, "{addr:width$}  {version:9} {items:>9}  {only_here:>9}  {missing_here:>12}")?;
        }
        let Self { equal, different, one_sided, settled, unsettled, .. } = self;
        writeln!(f, "\n{equal} equal, {different} different, {one_sided} on some replicas only")?;
        if *settled > 0 {
            writeln!(f, "{settled} of the equal ones were being written when they were first looked at")?;
        }
        if *unsettled > 0 {
            writeln!(f, "{unsettled} more never rested, nothing can be said of them; try a longer --lag")?;
        }
        if !self.samples.is_empty() {
            writeln!(f, "\n{:9}  {:width$}  key", "differs", "held", width = self.replicas.len().max(4))?;
        }
        for Sample { key, differs, holds, .. } in &self.samples {
            let holds: String = holds.iter().map(|holds| holds.unwrap_or('-')).collect();
            writeln!(f, "{differs:9}  {holds:width$}  {key}", width = self.replicas.len().max(4))?;
        }
        if self.repair {
            writeln!(f, "\n{} deleted everywhere, {} differ again", self.repaired, self.still_differing)?;
        }
        Ok(())
    }
}

impl Sample {
    fn of(held: &Held, differs: &'static str) -> Self {
        let on = || held.on.iter().map(Option::as_ref);
        let mut groups: Vec<&Entry> = Vec::new();
        let mut group = |entry| {
            let known = groups.iter().position(|known: &&Entry| known.is_same(entry));
            let at = known.unwrap_or_else(|| {
                groups.push(entry);
                groups.len() - 1
            });
            char::from(b'A' + u8::try_from(at).unwrap_or(25).min(25))
        };
        let ends = |entry: &Entry| match entry.expiry {
            Expiry::At(at_s) => Some(at_s),
            Expiry::Never | Expiry::Past => None,
        };
        Self {
            key: held.key.escape_ascii().to_string(),
            differs,
            holds: on().map(|entry| entry.map(&mut group)).collect(),
            ends_at: on().map(|entry| entry.and_then(ends)).collect(),
        }
    }
}

fn name(kind: Kind) -> &'static str {
    match kind {
        Kind::Equal => "nothing",
        Kind::Value => "value",
        Kind::Expiry => "expiry",
        Kind::OneSided => "one_sided",
    }
}
