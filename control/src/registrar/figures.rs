//! What the registrar knows, as metrics.

use jiff::Timestamp;
use memcloud_protocol::topology::ReplicaState;
use metrics::gauge;

use super::View;
use crate::registry::requisition::State;

/// Shows how much there is of everything. It goes through all replicas, so not at each tick.
pub(super) fn show(view: &View, now: Timestamp) {
    let registry = &view.registry;
    let count = |number: usize| u32::try_from(number).map_or(f64::INFINITY, f64::from);
    gauge!("memcloud_control_apps").set(count(registry.apps(None).count()));
    gauge!("memcloud_control_apps_published").set(count(view.directory.len()));
    gauge!("memcloud_control_receipts").set(count(registry.receipt_count()));
    gauge!("memcloud_control_store_up").set(if view.trouble.is_none() { 1.0 } else { 0.0 });
    gauge!("memcloud_control_zone_serial").set(f64::from(view.directory.serial()));
    let pending = registry.requisitions(None).filter(|one| one.state == State::Pending);
    gauge!("memcloud_control_requisitions_pending").set(count(pending.count()));
    for (word, state) in
        [("up", ReplicaState::Up), ("warming", ReplicaState::Warming), ("down", ReplicaState::Down)]
    {
        let such = registry.replicas(None).filter(|one| view.leases.state(one.id, now) == state);
        gauge!("memcloud_control_replicas", "state" => word).set(count(such.count()));
    }
}
