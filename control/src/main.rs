//! `memcloud-control`: reads what it was told, and hands over. Exit codes are those of the proxy: 64 for wrong flags, 69 for an address
//! or a store that is not to be had.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use jiff::{SignedDuration, Timestamp};
use memcloud_control::api;
use memcloud_control::cli::{self, Cli, Command, InitArgs, ServeArgs};
use memcloud_control::commands::CommandError;
use memcloud_control::commands::client::Failure;
use memcloud_control::registrar::{Registrar, Terms};
use memcloud_control::registry::policy::Actor;
use memcloud_control::registry::user::{Role, Scope};
use memcloud_control::rules::users;
use memcloud_control::server::{self, StartError};
use memcloud_control::store::Store;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing_subscriber::EnvFilter;

/// hickory says each query twice.
const LOG_FILTER: &str = "info,hickory_server=warn,hickory_net=warn,sqlx=warn";

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { cli::EXIT_BAD_CONFIG } else { 0 });
        }
    };
    match cli.command {
        Command::Serve(args) => run(serve(args)),
        Command::Init(args) => run(init(args)),
        Command::Openapi => match serde_json::to_vec_pretty(&api::document()) {
            Ok(document) => print(&document),
            Err(error) => fail(&error.into()),
        },
        Command::Completions { shell } => print(&cli::completions(shell)),
        Command::Operator(operator) => run(async { Ok(operator.run().await?) }),
        Command::Man { to: None } => match cli::manual() {
            Ok(page) => print(&page),
            Err(error) => fail(&error.into()),
        },
        Command::Man { to: Some(folder) } => match cli::manuals(&folder) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error.into()),
        },
    }
}

fn run(work: impl Future<Output = anyhow::Result<()>>) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.into()),
    };
    let ended = runtime.block_on(work);
    runtime.shutdown_background();
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

async fn serve(args: ServeArgs) -> anyhow::Result<()> {
    let filter = EnvFilter::try_from_env("MEMCLOUD_LOG").unwrap_or_else(|_| EnvFilter::new(LOG_FILTER));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).init();
    let stop = CancellationToken::new();
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let asked = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            biased;
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        asked.cancel();
    });
    server::serve(args.options(), stop).await
}

/// The token is printed once, to standard output, and kept nowhere.
async fn init(args: InitArgs) -> anyhow::Result<()> {
    let url = args.store.store;
    let store = Store::open(&url).await.map_err(|error| StartError::Store { url: "given".into(), error })?;
    let stop = CancellationToken::new();
    let terms = Terms {
        ttl_seconds: 5,
        lease: SignedDuration::from_secs(15),
        heartbeat_seconds: 5,
        leave_after: SignedDuration::from_secs(15),
    };
    let registrar = Registrar::start(store, terms, stop.clone()).await?;
    let secret = api::secret().map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
    let digest = api::digest(&secret);
    let actor = Actor { user: args.user.clone(), role: Role::Admin, scope: Scope::Full };
    let user = args.user.clone();
    registrar.ask(actor, move |wish, _| users::found(wish, user.clone(), digest.clone())).await?;
    stop.cancel();
    eprintln!(
        "made the admin {} at {}; this is the token, and it is not shown again:",
        args.user,
        Timestamp::now()
    );
    writeln!(io::stdout(), "{secret}")?;
    Ok(())
}

fn print(bytes: &[u8]) -> ExitCode {
    match io::stdout().write_all(bytes) {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever closes the pipe has read enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => fail(&error.into()),
    }
}

fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("memcloud-control: {error:#}");
    if let Some(CommandError::Asked(failure)) = error.downcast_ref::<CommandError>() {
        return ExitCode::from(match failure {
            Failure::Flags(_) => cli::EXIT_BAD_CONFIG,
            Failure::Away { .. } => cli::EXIT_UNAVAILABLE,
            Failure::BrokeOff { .. } | Failure::Refused(_) => cli::EXIT_FAILED,
        });
    }
    let code = match error.downcast_ref::<StartError>() {
        Some(StartError::Zone(_) | StartError::Certificate(_) | StartError::NoCertificate) => {
            cli::EXIT_BAD_CONFIG
        }
        Some(StartError::Bind(_) | StartError::Store { .. }) => cli::EXIT_UNAVAILABLE,
        Some(StartError::Metrics(_)) | None => cli::EXIT_FAILED,
    };
    ExitCode::from(code)
}
