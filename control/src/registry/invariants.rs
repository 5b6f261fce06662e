//! What must hold of every registry. Asserted after each step of the tests, and of what is imported.

use std::collections::{HashMap, HashSet};

use super::Registry;
use super::app::Standing;
use super::replica::Allocation;
use super::revision::RevisionState;

impl Registry {
    /// The first sentence that is not true of this registry.
    ///
    /// # Errors
    /// What is wrong, and where.
    pub fn check_invariants(&self) -> Result<(), String> {
        self.check_members()?;
        self.check_revisions()?;
        self.check_owners()
    }

    /// A replica is a member of the shard that its allocation names, of that one only, and once.
    fn check_members(&self) -> Result<(), String> {
        let mut places = HashMap::new();
        for app in self.apps(None) {
            let mut names = HashSet::new();
            for shard in &app.shards {
                if !names.insert(shard.name) || shard.name.number() >= app.next_shard {
                    return Err(format!(
                        "app {}: the name {} is used twice, or is still to be given",
                        app.appid, shard.name
                    ));
                }
                for member in &shard.members {
                    if places.insert(member.replica, (app.appid, shard.name)).is_some() {
                        return Err(format!("replica {} is a member twice", member.replica));
                    }
                }
                let mut sites = HashSet::new();
                let members = shard.members.iter().filter_map(|member| self.replica(member.replica));
                if let Some(twin) =
                    members.map(|replica| &replica.registration.site).find(|site| !sites.insert(*site))
                {
                    return Err(format!(
                        "app {} shard {}: two replicas are named {twin}",
                        app.appid, shard.name
                    ));
                }
            }
        }
        for replica in self.replicas(None) {
            let place = places.remove(&replica.id);
            let told = match replica.allocation {
                Allocation::Allocated { appid, shard } => Some((appid, shard)),
                Allocation::Pool | Allocation::Released | Allocation::Retired => None,
            };
            if place != told {
                return Err(format!("replica {}: member of {place:?}, allocated to {told:?}", replica.id));
            }
        }
        places.keys().next().map_or(Ok(()), |id| Err(format!("member {id} is no replica")))
    }

    /// What is published exists, is marked so, is the only one, and names replicas that exist.
    fn check_revisions(&self) -> Result<(), String> {
        for app in self.apps(None) {
            for revision in self.revisions(app.appid) {
                let is_published = matches!(revision.state, RevisionState::Published { .. });
                if is_published != (app.published == Some(revision.number))
                    || revision.number > app.last_revision
                {
                    return Err(format!(
                        "app {}: revision {} and the app disagree",
                        app.appid, revision.number
                    ));
                }
                let members = revision.shards.iter().flat_map(|shard| &shard.members);
                if let Some(gone) = members
                    .map(|member| member.replica)
                    .find(|&id| is_published && self.replica(id).is_none())
                {
                    return Err(format!(
                        "app {}: revision {} names {gone}, which is no replica",
                        app.appid, revision.number
                    ));
                }
            }
            let known =
                |number: Option<_>| number.is_none_or(|number| self.revision(app.appid, number).is_some());
            if !known(app.published) || !known(app.staged) {
                return Err(format!("app {}: a revision that it names is missing", app.appid));
            }
            let mut members = app.shards.iter().flat_map(|shard| &shard.members);
            let replaces_itself =
                members.any(|member| member.standing == Standing::Joining { replaces: Some(member.replica) });
            if replaces_itself {
                return Err(format!("app {}: a replica replaces itself", app.appid));
            }
        }
        Ok(())
    }

    /// Apps, tokens and requisitions belong to somebody.
    fn check_owners(&self) -> Result<(), String> {
        for app in self.apps(None) {
            if self.user(&app.owner).is_none() {
                return Err(format!("app {}: its owner {} is no user", app.appid, app.owner));
            }
        }
        for token in self.tokens() {
            if self.user(&token.user).is_none() {
                return Err(format!("token {}: its user {} is none", token.id, token.user));
            }
        }
        for requisition in self.requisitions(None) {
            if self.app(requisition.appid).is_none() {
                return Err(format!("requisition {}: there is no app {}", requisition.id, requisition.appid));
            }
        }
        Ok(())
    }
}
