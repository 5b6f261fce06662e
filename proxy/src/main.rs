//! `memcloud-proxy`: reads what it was told, and hands over. Exit codes are those of the contract: 64 for a bad
//! configuration, 69 for an address that could not be bound.

use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use memcloud_proxy::cli::{self, Cli, Command};
use memcloud_proxy::config::{Config, Settings};
use memcloud_proxy::logging;

/// Sessions of one thread grow and free buffers that another thread's link task may drop; glibc's allocator keeps
/// what such a pattern frees, mimalloc gives it back.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match Cli::try_parse() {
        Ok(cli) => obey(cli.command),
        Err(error) => {
            let _ = error.print();
            // Help and version come this way too, and are no failure.
            ExitCode::from(if error.use_stderr() { cli::EXIT_BAD_CONFIG } else { 0 })
        }
    }
}

fn obey(command: Command) -> ExitCode {
    match command {
        Command::Sidecar(args) => match args.load() {
            Ok(config) => sidecar(config),
            Err(error) => refuse(&error),
        },
        Command::CheckConfig { file } => check_config(&file),
        Command::Completions { shell } => answer(&cli::completions(shell)),
        Command::Man { command } => match cli::manual(command.as_deref()) {
            Ok(Some(page)) => answer(&page),
            Ok(None) => refuse(&format!("there is no command `{}`", command.unwrap_or_default())),
            Err(error) => refuse(&error),
        },
    }
}

fn sidecar(config: Config) -> ExitCode {
    logging::install(config.log_format, &config.log_level);
    tracing::info!(version = env!("CARGO_PKG_VERSION"), config = config.summary(), "starting");
    if config.peer_listen.is_none() && !config.peers.is_empty() {
        tracing::warn!("peers are named but there is no peer_listen: what they write does not come here");
    }
    tracing::error!("the data path is not wired yet");
    ExitCode::from(cli::EXIT_FAILED)
}

fn check_config(file: &Path) -> ExitCode {
    match Config::load(Settings::default(), Some(file)) {
        Ok(config) => answer(config.to_yaml().as_bytes()),
        Err(error) => refuse(&error),
    }
}

fn answer(text: &[u8]) -> ExitCode {
    cli::print(text);
    ExitCode::SUCCESS
}

fn refuse(why: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("memcloud-proxy: {why}");
    ExitCode::from(cli::EXIT_BAD_CONFIG)
}
