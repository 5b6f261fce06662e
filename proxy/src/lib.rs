//! The sidecar.
pub mod backoff;
pub mod replication;
