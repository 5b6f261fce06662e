//! One of the replicas that are compared: read in spans, at its pace, and always the same process.

use super::progress::Progress;
use super::{AuditError, Plan, Reason};
use crate::config::Address;
use crate::inventory::{Entry, Inventory, InventoryError, Listed, Span, Survey, Throttle};

pub(super) struct Replica {
    pub(super) inventory: Inventory,
    /// As it was met.
    pub(super) survey: Survey,
    throttle: Throttle,
}

impl Replica {
    pub(super) async fn meet(plan: &Plan, addr: &Address) -> Result<Self, AuditError> {
        let inventory = Inventory::new(addr.clone(), plan.patience, plan.clock);
        let survey = inventory.survey().await.map_err(|error| failed(addr, error))?;
        Ok(Self { inventory, survey, throttle: Throttle::new(plan.bytes_per_s) })
    }

    /// Asks whether it still is who it was: another process begins empty, and what was read of the first says nothing.
    pub(super) async fn meet_again(&self) -> Result<(), AuditError> {
        let now = self.inventory.survey().await.map_err(|error| self.failed(error))?;
        if now.is_same_life(&self.survey) {
            return Ok(());
        }
        let named = |survey: &Survey| format!("{} with pid {}", survey.version, survey.pid);
        let reason = Reason::Replaced(named(&self.survey), named(&now));
        Err(AuditError { addr: self.inventory.addr().clone(), reason })
    }

    /// All it holds of a span.
    pub(super) async fn take(
        &mut self,
        span: Span,
        items_max: usize,
        progress: &Progress,
    ) -> Result<Vec<Entry>, AuditError> {
        let listed = self.list(span, items_max).await?;
        let mut entries = Vec::with_capacity(listed.len());
        let mut listed = listed.into_iter();
        loop {
            // In parts, so that progress shows.
            let part: Vec<Listed> = listed.by_ref().take(PART_ITEMS).collect();
            if part.is_empty() {
                return Ok(entries);
            }
            progress.advance(part.len() as u64);
            entries.extend(self.read(part).await?);
        }
    }

    pub(super) async fn list(&self, span: Span, items_max: usize) -> Result<Vec<Listed>, AuditError> {
        self.inventory.walk_at_most(span, items_max).await.map_err(|error| self.failed(error))
    }

    /// What is behind listed keys now.
    pub(super) async fn read(&mut self, listed: Vec<Listed>) -> Result<Vec<Entry>, AuditError> {
        let entries = self.inventory.digests(listed, &mut self.throttle).await;
        entries.map_err(|error| failed(self.inventory.addr(), error))
    }

    pub(super) fn failed(&self, error: impl Into<InventoryError>) -> AuditError {
        failed(self.inventory.addr(), error.into())
    }
}

fn failed(addr: &Address, error: InventoryError) -> AuditError {
    AuditError { addr: addr.clone(), reason: error.into() }
}

const PART_ITEMS: usize = 16_384;
