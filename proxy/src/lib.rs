//! The sidecar.
pub mod admin;
pub mod backoff;
pub mod cli;
pub mod config;
mod downstream;
mod front_door;
pub mod logging;
pub mod metrics;
pub mod net;
pub mod replication;
mod session;
pub mod sidecar;
mod upstream;
mod worker;
