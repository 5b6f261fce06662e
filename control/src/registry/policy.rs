//! Who may do what: one table, asked by every route and every rule.
//!
//! A right has a reach: over everything, or only over what one owns. A token narrows its user's rights and never widens them.

use super::user::{Role, Scope, UserName};

/// Somebody who asks, after their token was checked.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Actor {
    pub user: UserName,
    pub role: Role,
    pub scope: Scope,
}

/// What can be asked.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Action {
    ReadApp,
    CreateApp,
    ChangeApp,
    /// Another owner, another quota, approval or publication without asking.
    GovernApp,
    DeleteApp,
    CreateRequisition,
    WithdrawRequisition,
    /// Approve or reject.
    DecideRequisition,
    /// Publish, roll back.
    Publish,
    /// Change shards and their members by hand.
    Allocate,
    ReadReplica,
    RegisterReplica,
    /// Retire, recycle.
    ChangeReplica,
    ReadUser,
    /// One's own password and address.
    ChangeSelf,
    ChangeUser,
    ReadToken,
    CreateToken,
    RevokeToken,
    ReadAuditLog,
    /// Export, import, the zone.
    ReadStore,
    ImportStore,
}

/// How far a right reaches.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Reach {
    All,
    /// What belongs to the actor: their apps and what is in them, their tokens, themselves.
    Own,
    None,
}

impl Action {
    pub const ALL: [Self; 22] = [
        Self::ReadApp,
        Self::CreateApp,
        Self::ChangeApp,
        Self::GovernApp,
        Self::DeleteApp,
        Self::CreateRequisition,
        Self::WithdrawRequisition,
        Self::DecideRequisition,
        Self::Publish,
        Self::Allocate,
        Self::ReadReplica,
        Self::RegisterReplica,
        Self::ChangeReplica,
        Self::ReadUser,
        Self::ChangeSelf,
        Self::ChangeUser,
        Self::ReadToken,
        Self::CreateToken,
        Self::RevokeToken,
        Self::ReadAuditLog,
        Self::ReadStore,
        Self::ImportStore,
    ];

    fn only_reads(self) -> bool {
        use Action::{ReadApp, ReadAuditLog, ReadReplica, ReadStore, ReadToken, ReadUser};
        matches!(self, ReadApp | ReadAuditLog | ReadReplica | ReadStore | ReadToken | ReadUser)
    }
}

impl Role {
    /// The table.
    #[must_use]
    pub fn reach(self, action: Action) -> Reach {
        use Action::{
            Allocate, ChangeApp, ChangeReplica, ChangeSelf, ChangeUser, CreateApp, CreateRequisition,
            CreateToken, DecideRequisition, DeleteApp, GovernApp, ImportStore, Publish, ReadApp,
            ReadAuditLog, ReadReplica, ReadStore, ReadToken, ReadUser, RegisterReplica, RevokeToken,
            WithdrawRequisition,
        };
        match (self, action) {
            (_, ChangeSelf) => Reach::Own,
            (Self::Admin, _) => Reach::All,
            (Self::Operator, ReadUser | ReadToken | CreateToken | RevokeToken) => Reach::Own,
            (Self::Operator, ChangeUser | ReadStore | ImportStore) => Reach::None,
            (Self::Operator, _) => Reach::All,
            (
                Self::Owner,
                ReadApp | CreateApp | ChangeApp | DeleteApp | CreateRequisition | WithdrawRequisition
                | ReadReplica | RegisterReplica | ReadUser | ReadToken | CreateToken | RevokeToken
                | ReadAuditLog,
            ) => Reach::Own,
            (
                Self::Owner,
                GovernApp | DecideRequisition | Publish | Allocate | ChangeReplica | ChangeUser | ReadStore
                | ImportStore,
            ) => Reach::None,
            (Self::Viewer, ReadApp | ReadReplica | ReadAuditLog) => Reach::All,
            (Self::Viewer, ReadUser | ReadToken | CreateToken | RevokeToken) => Reach::Own,
            (Self::Viewer, _) => Reach::None,
        }
    }
}

impl Actor {
    /// How far this actor's right to it reaches, the token's scope considered.
    #[must_use]
    pub fn reach(&self, action: Action) -> Reach {
        let carried = match self.scope {
            Scope::Full => true,
            Scope::Read => action.only_reads(),
            Scope::Agent => action == Action::RegisterReplica,
        };
        if carried { self.role.reach(action) } else { Reach::None }
    }

    /// Whether it may be done to something that belongs to `owner`.
    #[must_use]
    pub fn may(&self, action: Action, owner: Option<&UserName>) -> bool {
        match self.reach(action) {
            Reach::All => true,
            Reach::Own => owner == Some(&self.user),
            Reach::None => false,
        }
    }
}
