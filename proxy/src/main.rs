//! `memcloud-proxy`: reads what it was told, and hands over. Exit codes are those of the contract: 64 for a bad
//! configuration, 69 for an address that could not be bound.

use std::path::Path;
use std::process::ExitCode;

use clap::Parser;
use memcloud_proxy::audit::{self, Outcome};
use memcloud_proxy::cli::{self, AuditArgs, Cli, Command, SidecarArgs};
use memcloud_proxy::config::{Config, Settings};
use memcloud_proxy::logging::SetLevel;
use memcloud_proxy::sidecar::{self, BindError};
use memcloud_proxy::spill::SpillError;
use memcloud_proxy::{descriptors, logging, replication, signals, spill};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

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
            Ok(config) => run(config, &args),
            Err(error) => refuse(&error),
        },
        Command::Audit(args) => match args.fault() {
            None => audit(&args),
            Some(fault) => refuse(&fault),
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

fn run(config: Config, args: &SidecarArgs) -> ExitCode {
    let set_level = logging::install(config.log_format, &config.log_level);
    die_of_panics();
    tracing::info!(version = env!("CARGO_PKG_VERSION"), config = config.summary(), "starting");
    warn_of(&config);
    // The main thread carries links and admin; sessions have threads of their own.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.into()),
    };
    let ended = runtime.block_on(async {
        let stop = CancellationToken::new();
        let (read, read_again) = watch::channel(config.clone());
        tokio::select! {
            biased;
            ended = sidecar::run(config, read_again, stop.clone()) => ended,
            asked = signals::ask_twice(stop, || read_file_again(args, &set_level, &read)) => {
                asked.map_err(Into::into).and_then(|()| Err(anyhow::anyhow!("asked twice: some requests were cut off")))
            }
        }
    });
    // Tasks that are still blocked somewhere must not hold up an end that was asked for.
    runtime.shutdown_background();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

/// A file that is wrong is refused as a whole.
fn read_file_again(args: &SidecarArgs, set_level: &SetLevel, read: &watch::Sender<Config>) {
    if args.config.is_none() {
        return tracing::warn!("SIGHUP: there is no --config file that could be read again");
    }
    match args.load() {
        Ok(config) => {
            set_level(&config.log_level);
            read.send_replace(config);
        }
        Err(error) => {
            tracing::error!(%error, "SIGHUP: the file is refused, and the configuration stays as it is")
        }
    }
}

/// Nothing is logged: what is found goes to standard output, why nothing was found to standard error.
fn audit(args: &AuditArgs) -> ExitCode {
    let plan = audit::Plan {
        replicas: args.replicas.clone(),
        repair: args.repair,
        lag: args.lag.0,
        samples: args.samples,
        bytes_per_s: args.rate.0,
        patience: args.timeout.0,
        clock: || replication::wall_clock_ms() / 1000,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let audited = runtime.map_err(anyhow::Error::from).and_then(|runtime| {
        let audited = runtime.block_on(audit::run(&plan)).map_err(Into::into);
        runtime.shutdown_background();
        audited
    });
    match audited {
        Ok(report) => {
            cli::print(if args.json { report.to_json() } else { report.to_string() }.as_bytes());
            match report.outcome() {
                Outcome::Equal => ExitCode::SUCCESS,
                Outcome::Different => ExitCode::from(cli::EXIT_DIFFERENT),
            }
        }
        Err(error) => {
            let reason = format!("{error:#}");
            if args.json {
                cli::print(audit::failure(&reason).as_bytes());
            }
            eprintln!("memcloud-proxy: the replicas cannot be compared: {reason}");
            ExitCode::from(cli::EXIT_NOT_COMPARED)
        }
    }
}

/// A task that panics leaves a part of the proxy standing still; a process that ends is started again. Only the thread
/// that writes lists of owed keys takes a panic of its store as one more way in which a disk fails.
fn die_of_panics() {
    std::panic::set_hook(Box::new(|panic| {
        if std::thread::current().name() == Some(spill::THREAD) {
            tracing::warn!(%panic, "a fault of the store behind --backlog-dir");
            return;
        }
        tracing::error!(%panic, "a fault of the proxy itself: it ends, please report this");
        std::process::abort();
    }));
}

/// What works, and yet is hardly meant.
fn warn_of(config: &Config) {
    if config.peer_listen.is_none() && !config.peers.is_empty() {
        tracing::warn!(
            "peers are named but there is no peer_listen: what is written there does not come here"
        );
    }
    let limit = descriptors::raise_limit();
    if limit < descriptors::needed_for(config.max_sessions, config.upstream_connections) {
        // Not a warning: the default is generous on purpose, and the limit of open files is a bound as well.
        tracing::info!(limit, max_sessions = config.max_sessions, "open files end before sessions do");
    }
}

fn fail(error: &anyhow::Error) -> ExitCode {
    tracing::error!(error = format!("{error:#}"), "stopped");
    let unavailable = error.chain().any(|cause| cause.is::<BindError>() || cause.is::<SpillError>());
    ExitCode::from(if unavailable { cli::EXIT_UNAVAILABLE } else { cli::EXIT_FAILED })
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
