//! The sidecar.
pub mod replication;
