//! How the API's documents are told to people: a line of a list, and one thing whole.

use jiff::Timestamp;
use memcloud_protocol::topology::{ReplicaState, Topology};
use serde::de::DeserializeOwned;

use super::size;
use super::table::{sides, table};
use crate::api::documents::{
    AuditLine, Outcome, Remarks, ReplicaDocument, SecretDocument, TokenDocument, UserDocument,
};
use crate::registry::app::{App, Member, Standing};
use crate::registry::replica::Allocation;
use crate::registry::requisition::{Requisition, Size, State};
use crate::registry::revision::{Revision, RevisionState};
use crate::rules::revisions::Difference;

/// A document for people.
pub(super) trait Shown: DeserializeOwned {
    /// Over the columns of a list.
    const TITLES: &[&str];

    /// Its line in a list.
    fn cells(&self) -> Vec<String>;

    /// Itself, by default the line turned upright.
    fn whole(&self) -> String {
        let named: Vec<(&str, String)> = Self::TITLES.iter().copied().zip(self.cells()).collect();
        sides(&named)
    }
}

fn when(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M:%SZ").to_string()
}

fn word(value: impl serde::Serialize) -> String {
    serde_json::to_value(value).ok().and_then(|value| value.as_str().map(str::to_owned)).unwrap_or_default()
}

fn of(size: Size) -> String {
    format!("{} x {} x {}", size.shards, size.replicas, size::show(size.memory_bytes))
}

fn number<Number: ToString>(number: Option<Number>) -> String {
    number.map_or_else(|| "-".to_owned(), |number| number.to_string())
}

impl Shown for App {
    const TITLES: &[&str] =
        &["appid", "name", "owner", "shards", "replicas", "memory", "published", "staged"];

    fn cells(&self) -> Vec<String> {
        let replicas: usize = self.shards.iter().map(|shard| shard.members.len()).sum();
        vec![
            self.appid.to_string(),
            self.name.clone(),
            self.owner.to_string(),
            self.shards.len().to_string(),
            replicas.to_string(),
            size::show(self.memory_bytes()),
            number(self.published),
            number(self.staged),
        ]
    }

    fn whole(&self) -> String {
        let contacts = self.contacts.iter().map(|one| format!("{}:{}", word(one.kind), one.address));
        let labels = self.labels.iter().map(|(name, value)| format!("{name}={value}"));
        let quota = format!(
            "{} shards, {} replicas each, {}",
            self.quota.shards,
            self.quota.replicas_per_shard,
            size::show(self.quota.memory_bytes)
        );
        let policy = [(self.auto_approve, "approve"), (self.auto_publish, "publish")];
        let policy =
            policy.iter().filter(|(is, _)| *is).map(|(_, word)| *word).collect::<Vec<_>>().join(", ");
        let mut text = sides(&[
            ("appid", self.appid.to_string()),
            ("name", self.name.clone()),
            ("owner", self.owner.to_string()),
            ("description", self.description.clone()),
            ("contacts", contacts.collect::<Vec<_>>().join(", ")),
            ("labels", labels.collect::<Vec<_>>().join(", ")),
            ("quota", quota),
            ("automatic", policy),
            ("published", number(self.published)),
            ("staged", number(self.staged)),
            ("created", when(self.created_at)),
        ]);
        let member = |shard: String, one: &Member| {
            let preference = word(one.preference);
            vec![shard, one.replica.to_string(), standing(one), preference, one.weight.to_string()]
        };
        let lines: Vec<_> = self
            .shards
            .iter()
            .flat_map(|shard| shard.members.iter().map(|one| member(shard.name.to_string(), one)))
            .collect();
        if !lines.is_empty() {
            text.push('\n');
            text.push_str(&table(&["shard", "replica", "standing", "preference", "weight"], &lines));
        }
        text
    }
}

fn standing(member: &Member) -> String {
    match member.standing {
        Standing::Joining { replaces: Some(old) } => format!("joining, in the place of {old}"),
        Standing::Joining { replaces: None } => "joining".into(),
        Standing::Serving => "serving".into(),
        Standing::Leaving { since } => format!("leaving since {}", when(since)),
    }
}

impl Shown for Requisition {
    const TITLES: &[&str] = &["id", "appid", "asked", "by", "at", "state", "shards"];

    fn cells(&self) -> Vec<String> {
        let granted = match &self.state {
            State::Approved(grant) | State::Fulfilled { grant, .. } => Some(grant),
            State::Pending | State::Rejected(_) | State::Withdrawn(_) => None,
        };
        let shards = granted.map(|grant| grant.shards.iter().map(ToString::to_string).collect::<Vec<_>>());
        vec![
            self.id.to_string(),
            self.appid.to_string(),
            of(self.asked),
            self.asked_by.to_string(),
            when(self.asked_at),
            self.state.word().to_owned(),
            shards.unwrap_or_default().join(" "),
        ]
    }

    fn whole(&self) -> String {
        let named: Vec<(&str, String)> = Self::TITLES.iter().copied().zip(self.cells()).collect();
        let mut text = sides(&named);
        let (decision, granted, revision) = match &self.state {
            State::Pending => (None, None, None),
            State::Rejected(decision) | State::Withdrawn(decision) => (Some(decision), None, None),
            State::Approved(grant) => (Some(&grant.decision), Some(grant.size), None),
            State::Fulfilled { grant, revision, .. } => {
                (Some(&grant.decision), Some(grant.size), Some(*revision))
            }
        };
        text.push_str(&sides(&[
            ("reason", self.reason.clone()),
            ("decided by", decision.map(|one| one.by.to_string()).unwrap_or_default()),
            ("decided at", decision.map(|one| when(one.at)).unwrap_or_default()),
            ("because", decision.map(|one| one.reason.clone()).unwrap_or_default()),
            ("granted", granted.map(of).unwrap_or_default()),
            ("revision", revision.map(|one| one.to_string()).unwrap_or_default()),
        ]));
        text
    }
}

impl Shown for Outcome {
    const TITLES: &[&str] = Requisition::TITLES;

    fn cells(&self) -> Vec<String> {
        self.requisition.cells()
    }

    fn whole(&self) -> String {
        self.requisition.whole() + &remarked(&self.remarks)
    }
}

impl Shown for Remarks {
    const TITLES: &[&str] = App::TITLES;

    fn cells(&self) -> Vec<String> {
        self.app.cells()
    }

    fn whole(&self) -> String {
        self.app.whole() + &remarked(&self.remarks)
    }
}

fn remarked(remarks: &[String]) -> String {
    remarks.iter().map(|remark| format!("note: {remark}\n")).collect()
}

impl Shown for Revision {
    const TITLES: &[&str] = &["revision", "state", "shards", "replicas", "staged by", "staged at", "repeats"];

    fn cells(&self) -> Vec<String> {
        let replicas: usize = self.shards.iter().map(|shard| shard.members.len()).sum();
        let state = match self.state {
            RevisionState::Staged => "staged",
            RevisionState::Discarded => "discarded",
            RevisionState::Published { .. } => "published",
            RevisionState::Superseded { .. } => "superseded",
            RevisionState::RolledBack { .. } => "rolled back",
        };
        vec![
            self.number.to_string(),
            state.to_owned(),
            self.shards.len().to_string(),
            replicas.to_string(),
            self.staged_by.to_string(),
            when(self.staged_at),
            number(self.rollback_of),
        ]
    }

    fn whole(&self) -> String {
        let named: Vec<(&str, String)> = Self::TITLES.iter().copied().zip(self.cells()).collect();
        let lines: Vec<_> = self
            .shards
            .iter()
            .flat_map(|shard| {
                shard.members.iter().map(|one| {
                    vec![
                        shard.name.to_string(),
                        one.replica.to_string(),
                        word(one.preference),
                        one.weight.to_string(),
                    ]
                })
            })
            .collect();
        format!("{}\n{}", sides(&named), table(&["shard", "replica", "preference", "weight"], &lines))
    }
}

/// What a publication answers: nothing, if nothing was ever staged.
impl Shown for Option<Revision> {
    const TITLES: &[&str] = Revision::TITLES;

    fn cells(&self) -> Vec<String> {
        self.as_ref().map(Shown::cells).unwrap_or_default()
    }

    fn whole(&self) -> String {
        self.as_ref().map_or_else(|| "nothing is staged\n".to_owned(), Shown::whole)
    }
}

impl Shown for Difference {
    const TITLES: &[&str] = &["added", "removed", "changed"];

    fn cells(&self) -> Vec<String> {
        [&self.added, &self.removed, &self.changed].map(|names| names.join(" ")).to_vec()
    }

    fn whole(&self) -> String {
        let marked = |mark: char, names: &[String]| -> String {
            names.iter().map(|name| format!("{mark} {name}\n")).collect()
        };
        let text = marked('+', &self.added) + &marked('-', &self.removed) + &marked('~', &self.changed);
        if text.is_empty() { "what is allocated is published\n".into() } else { text }
    }
}

impl Shown for ReplicaDocument {
    const TITLES: &[&str] =
        &["id", "site", "address", "machine", "zone", "memory", "memcached", "state", "heard", "allocation"];

    fn cells(&self) -> Vec<String> {
        let told = &self.registration;
        let allocation = match self.allocation {
            Allocation::Pool => "pool".into(),
            Allocation::Allocated { appid, shard } => format!("{appid}/{shard}"),
            Allocation::Released => "released".into(),
            Allocation::Retired => "retired".into(),
        };
        vec![
            self.id.to_string(),
            told.site.to_string(),
            format!("{}:{}", told.address.host, told.address.port),
            told.machine.clone(),
            told.zone.clone().unwrap_or_default(),
            size::show(told.memory_bytes),
            told.memcached_version.clone().unwrap_or_default(),
            word(self.state),
            self.heard_at.map_or_else(|| "never".to_owned(), when),
            allocation,
        ]
    }

    fn whole(&self) -> String {
        let mut named: Vec<(&str, String)> = Self::TITLES.iter().copied().zip(self.cells()).collect();
        let told = &self.registration;
        named.push(("peers reach it at", format!("{}:{}", told.peer_address.host, told.peer_address.port)));
        named.push(("proxy", told.proxy_version.clone()));
        named.push(("identity", told.identity.clone()));
        named.push(("registered", when(self.registered_at)));
        if let Some(says) = self.heartbeat.as_ref().filter(|_| self.state != ReplicaState::Down) {
            let streaming = says.streaming.iter().map(ToString::to_string).collect::<Vec<_>>();
            named.push(("in sync", says.in_sync.to_string()));
            named.push(("streams to", streaming.join(" ")));
            named.push(("lag", format!("{} ms", says.lag_ms)));
            named.push(("items", says.items.to_string()));
            named.push(("sessions", says.sessions.to_string()));
        }
        sides(&named)
    }
}

impl Shown for UserDocument {
    const TITLES: &[&str] = &["name", "role", "email", "password", "may ask", "created"];

    fn cells(&self) -> Vec<String> {
        let yes = |is: bool| if is { "yes" } else { "no" }.to_owned();
        vec![
            self.name.to_string(),
            word(self.role),
            self.email.clone().unwrap_or_default(),
            yes(self.has_password),
            yes(!self.disabled),
            when(self.created_at),
        ]
    }
}

impl Shown for TokenDocument {
    const TITLES: &[&str] = &["id", "user", "scope", "purpose", "created", "expires", "revoked"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.id.to_string(),
            self.user.to_string(),
            word(self.scope),
            self.purpose.clone(),
            when(self.created_at),
            self.expires_at.map_or_else(|| "never".to_owned(), when),
            self.revoked_at.map(when).unwrap_or_default(),
        ]
    }
}

/// The secret alone, so that it can go straight into a file.
impl Shown for SecretDocument {
    const TITLES: &[&str] = &["secret"];

    fn cells(&self) -> Vec<String> {
        vec![self.secret.clone()]
    }

    fn whole(&self) -> String {
        format!("{}\n", self.secret)
    }
}

impl Shown for AuditLine {
    const TITLES: &[&str] = &["number", "at", "actor", "action", "subject", "reason"];

    fn cells(&self) -> Vec<String> {
        let entry = &self.entry;
        vec![
            self.number.to_string(),
            when(entry.at),
            entry.actor.to_string(),
            entry.action.clone(),
            entry.subject.clone(),
            entry.reason.clone().unwrap_or_default(),
        ]
    }
}

impl Shown for Topology {
    const TITLES: &[&str] = &["appid", "name", "revision", "shards"];

    fn cells(&self) -> Vec<String> {
        let shards = self.shards.len();
        vec![self.appid.to_string(), self.name.clone(), self.revision.to_string(), shards.to_string()]
    }

    fn whole(&self) -> String {
        let lines: Vec<_> = self
            .shards
            .iter()
            .flat_map(|shard| {
                shard.replicas.iter().map(|one| {
                    vec![
                        shard.name.to_string(),
                        one.site.to_string(),
                        format!("{}:{}", one.host, one.port),
                        word(one.state),
                        one.priority.to_string(),
                        one.weight.to_string(),
                    ]
                })
            })
            .collect();
        let named: Vec<(&str, String)> = Self::TITLES.iter().copied().zip(self.cells()).collect();
        let titles = ["shard", "site", "address", "state", "priority", "weight"];
        format!("{}\n{}", sides(&named), table(&titles, &lines))
    }
}
