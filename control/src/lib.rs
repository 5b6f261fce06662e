//! Which endpoints serve an app: the registry behind memcloud's DNS zone and API.

pub mod api;
pub mod certificate;
pub mod cli;
pub mod commands;
pub mod directory;
pub mod dns;
pub mod https;
pub mod keeper;
pub mod leases;
pub mod registrar;
pub mod registry;
pub mod rules;
pub mod server;
pub mod store;
