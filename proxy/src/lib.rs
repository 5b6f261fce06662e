//! The sidecar.
pub mod backoff;
pub mod config;
pub mod metrics;
pub mod replication;
