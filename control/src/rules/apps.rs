//! Apps: created, described, given to somebody else, deleted.

use std::collections::BTreeMap;

use memcloud_protocol::topology::AppId;

use super::{Refusal, Wish, unchanged};
use crate::registry::app::{App, Contact, Quota};
use crate::registry::change::{Change, Numbers, Record, RecordKey};
use crate::registry::number::{RevisionNumber, Sequence};
use crate::registry::policy::{Action, Reach};
use crate::registry::user::UserName;

const NAME_BYTES_MAX: usize = 64;
const DESCRIPTION_BYTES_MAX: usize = 1024;
const CONTACTS_MAX: usize = 20;
const LABELS_MAX: usize = 64;
const LABEL_BYTES_MAX: usize = 128;

/// An app as asked for.
#[derive(Clone, Debug, Default)]
pub struct NewApp {
    pub name: String,
    /// `None`: the actor.
    pub owner: Option<UserName>,
    pub described: Description,
    /// Only for those who govern apps.
    pub governed: Government,
}

/// What an owner may say of their app; `None` leaves it.
#[derive(Clone, Debug, Default)]
pub struct Description {
    pub description: Option<String>,
    pub contacts: Option<Vec<Contact>>,
    pub labels: Option<BTreeMap<String, String>>,
}

/// What only those who govern apps may set; `None` leaves it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Government {
    pub quota: Option<Quota>,
    pub auto_approve: Option<bool>,
    pub auto_publish: Option<bool>,
}

/// What is to change of an app; `None` leaves it.
#[derive(Clone, Debug, Default)]
pub struct AppPatch {
    pub name: Option<String>,
    pub owner: Option<UserName>,
    pub described: Description,
    pub governed: Government,
}

/// # Errors
/// The name is taken or none, the actor may not, or there is no such owner.
pub fn create(wish: Wish<'_>, new: NewApp) -> Result<(Change, App), Refusal> {
    let owner = new.owner.unwrap_or_else(|| wish.actor.user.clone());
    wish.allow(Action::CreateApp, Some(&owner))?;
    govern(wish, &new.governed)?;
    check_owner(wish, &owner)?;
    check_name(wish, &new.name, None)?;
    let numbers = wish.registry.numbers();
    let next = numbers.app.next().ok_or_else(|| Refusal::Conflict("all appids are given".into()))?;
    let mut app = App {
        appid: numbers.app,
        name: new.name,
        owner,
        description: String::new(),
        contacts: Vec::new(),
        labels: BTreeMap::new(),
        quota: Quota::default(),
        auto_approve: false,
        auto_publish: false,
        shards: Vec::new(),
        next_shard: 0,
        last_revision: RevisionNumber(0),
        published: None,
        staged: None,
        created_at: wish.now,
    };
    describe(&mut app, new.described)?;
    apply_government(&mut app, &new.governed);
    let mut draft = wish.draft();
    draft.put_quietly(Record::Numbers(Numbers { app: next, ..numbers }));
    draft.put("app.create", Record::App(app.clone()), None);
    Ok((draft.finish(), app))
}

/// # Errors
/// There is no such app, the actor may not, or what is asked is none.
pub fn change(
    wish: Wish<'_>,
    appid: AppId,
    patch: AppPatch,
    read: Option<Sequence>,
) -> Result<(Change, App), Refusal> {
    let mut app = wish.app(appid, Action::ChangeApp)?.clone();
    unchanged(wish.registry, &RecordKey::app(appid), read)?;
    govern(wish, &patch.governed)?;
    if let Some(owner) = patch.owner {
        wish.allow(Action::GovernApp, None)?;
        check_owner(wish, &owner)?;
        app.owner = owner;
    }
    if let Some(name) = patch.name {
        check_name(wish, &name, Some(appid))?;
        app.name = name;
    }
    describe(&mut app, patch.described)?;
    apply_government(&mut app, &patch.governed);
    let mut draft = wish.draft();
    draft.put("app.change", Record::App(app.clone()), None);
    Ok((draft.finish(), app))
}

/// Its history goes with it, but for the audit log. Its number is never given again.
///
/// # Errors
/// There is no such app, the actor may not, or it still has shards.
pub fn delete(wish: Wish<'_>, appid: AppId, read: Option<Sequence>) -> Result<(Change, ()), Refusal> {
    let app = wish.app(appid, Action::DeleteApp)?;
    let key = RecordKey::app(appid);
    unchanged(wish.registry, &key, read)?;
    if !app.shards.is_empty() {
        return Err(Refusal::Conflict(format!(
            "app {appid} still has {} shards: remove them first",
            app.shards.len()
        )));
    }
    let mut draft = wish.draft();
    for requisition in wish.registry.requisitions(None).filter(|one| one.appid == appid) {
        draft.delete("requisition.delete", RecordKey::requisition(requisition.id), None);
    }
    for revision in wish.registry.revisions(appid) {
        draft.delete("revision.delete", RecordKey::revision(appid, revision.number), None);
    }
    draft.delete("app.delete", key, None);
    Ok((draft.finish(), ()))
}

fn govern(wish: Wish<'_>, government: &Government) -> Result<(), Refusal> {
    if *government == Government::default() || wish.actor.reach(Action::GovernApp) == Reach::All {
        return Ok(());
    }
    wish.allow(Action::GovernApp, None)
}

fn apply_government(app: &mut App, government: &Government) {
    app.quota = government.quota.unwrap_or(app.quota);
    app.auto_approve = government.auto_approve.unwrap_or(app.auto_approve);
    app.auto_publish = government.auto_publish.unwrap_or(app.auto_publish);
}

fn describe(app: &mut App, described: Description) -> Result<(), Refusal> {
    if let Some(description) = described.description {
        within("the description", description.len(), DESCRIPTION_BYTES_MAX, "bytes")?;
        app.description = description;
    }
    if let Some(contacts) = described.contacts {
        within("the contacts", contacts.len(), CONTACTS_MAX, "addresses")?;
        for contact in &contacts {
            within("a contact's address", contact.address.len(), DESCRIPTION_BYTES_MAX, "bytes")?;
        }
        app.contacts = contacts;
    }
    if let Some(labels) = described.labels {
        within("the labels", labels.len(), LABELS_MAX, "pairs")?;
        for (name, value) in &labels {
            within("a label", name.len().max(value.len()), LABEL_BYTES_MAX, "bytes")?;
        }
        app.labels = labels;
    }
    Ok(())
}

fn within(what: &str, has: usize, max: usize, unit: &str) -> Result<(), Refusal> {
    if has <= max {
        Ok(())
    } else {
        Err(Refusal::Invalid(format!("{what} may have {max} {unit}, and has {has}")))
    }
}

fn check_owner(wish: Wish<'_>, owner: &UserName) -> Result<(), Refusal> {
    match wish.registry.user(owner) {
        Some(user) if !user.disabled => Ok(()),
        _ => Err(Refusal::Invalid(format!("the owner {owner} is no user, or is disabled"))),
    }
}

/// Letters, digits, `_ - .`, beginning with a letter; unique.
fn check_name(wish: Wish<'_>, name: &str, of: Option<AppId>) -> Result<(), Refusal> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
    let begins = name.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic());
    if !begins || name.len() > NAME_BYTES_MAX || !name.bytes().all(allowed) {
        let says = format!(
            "an app's name is 1 to {NAME_BYTES_MAX} letters, digits or _ - ., beginning with a letter"
        );
        return Err(Refusal::Invalid(says));
    }
    match wish.registry.app_named(name) {
        Some(other) if Some(other.appid) != of => {
            Err(Refusal::Conflict(format!("there is an app named {name} already")))
        }
        _ => Ok(()),
    }
}
