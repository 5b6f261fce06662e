//! The sidecar.
pub mod admin;
pub mod backoff;
pub mod cli;
pub mod config;
pub mod logging;
pub mod metrics;
pub mod replication;
