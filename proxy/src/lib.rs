//! The sidecar.
pub mod admin;
pub mod backoff;
pub mod cli;
pub mod config;
pub mod descriptors;
mod downstream;
mod front_door;
pub mod link;
pub mod logging;
pub mod metrics;
pub mod net;
pub mod replication;
mod session;
pub mod sidecar;
pub mod signals;
mod upstream;
mod worker;
