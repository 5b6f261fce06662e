//! The sidecar.
pub mod backoff;
pub mod config;
pub mod replication;
