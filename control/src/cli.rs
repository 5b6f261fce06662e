//! The command line: what can be asked of the program, and with which code it ends.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use clap::{Args, CommandFactory, Parser, Subcommand};
use clap_complete::Shell;
use memcloud_tls::Files;

use crate::commands::Operator;
use crate::registry::user::UserName;
use crate::server::Options;

pub const EXIT_FAILED: u8 = 1;
/// `EX_USAGE` of sysexits: wrong flags.
pub const EXIT_BAD_CONFIG: u8 = 64;
/// `EX_UNAVAILABLE`: an address that cannot be bound, a store that does not answer.
pub const EXIT_UNAVAILABLE: u8 = 69;

const NAME: &str = "memcloud-control";

/// Which endpoints serve an app: registry, DNS zone and API
#[derive(Debug, Parser)]
#[command(name = NAME, version, propagate_version = true, max_term_width = 110, subcommand_required = true, arg_required_else_help = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

/// What can be asked.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Answer DNS and HTTP
    Serve(ServeArgs),
    /// Make the first user of an empty store, and print their token, once
    Init(InitArgs),
    #[command(flatten)]
    Operator(Operator),
    /// Print the description of the API (OpenAPI 3.1)
    Openapi,
    /// Print a completion script for a shell
    Completions { shell: Shell },
    /// Print the manual page, or write those of all commands into a folder
    Man {
        #[arg(long, value_name = "FOLDER")]
        to: Option<PathBuf>,
    },
}

/// Flags win over the environment
#[derive(Args, Clone, Debug)]
pub struct ServeArgs {
    /// Where the API listens
    #[arg(long, env = "MEMCLOUD_HTTP", value_name = "ADDR", default_value = "127.0.0.1:8053")]
    pub http: SocketAddr,

    /// The certificate that the API shows, as PEM: then it speaks HTTPS. Read again when it has changed
    #[arg(long, env = "MEMCLOUD_HTTP_TLS_CERT", value_name = "FILE", requires = "http_tls_key")]
    pub http_tls_cert: Option<PathBuf>,

    /// The private key of that certificate, as PEM
    #[arg(long, env = "MEMCLOUD_HTTP_TLS_KEY", value_name = "FILE", requires = "http_tls_cert")]
    pub http_tls_key: Option<PathBuf>,

    /// Where the zone is answered, by UDP and TCP
    #[arg(long, env = "MEMCLOUD_DNS", value_name = "ADDR", default_value = "127.0.0.1:8600")]
    pub dns: SocketAddr,

    /// Where the zone is answered by TLS (RFC 7858), usually at port 853; none: nowhere
    #[arg(long, env = "MEMCLOUD_DNS_TLS", value_name = "ADDR")]
    pub dns_tls: Option<SocketAddr>,

    /// The certificate that is shown there; none: the one of the API
    #[arg(long, env = "MEMCLOUD_DNS_TLS_CERT", value_name = "FILE", requires_all = ["dns_tls_key", "dns_tls"])]
    pub dns_tls_cert: Option<PathBuf>,

    /// The private key of that certificate
    #[arg(long, env = "MEMCLOUD_DNS_TLS_KEY", value_name = "FILE", requires_all = ["dns_tls_cert", "dns_tls"])]
    pub dns_tls_key: Option<PathBuf>,

    /// The name of the zone
    #[arg(long, env = "MEMCLOUD_ZONE", default_value = "memcloud.internal.")]
    pub zone: String,

    #[command(flatten)]
    pub store: StoreArgs,

    /// How long clients may use an answer, in seconds
    #[arg(long, env = "MEMCLOUD_TTL", value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub ttl: u32,

    /// How long after its last heartbeat a replica is taken for up, in seconds
    #[arg(long, env = "MEMCLOUD_LEASE", value_name = "SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u32).range(1..=3600))]
    pub lease: u32,

    /// UDP sockets, each read by a task of its own; 0: one for each core
    #[arg(long, env = "MEMCLOUD_DNS_SOCKETS", value_name = "N", default_value_t = 0)]
    pub dns_sockets: usize,

    /// Answers by UDP that one network gets in a second, beyond which it is sent to TCP; 0: no limit. Loopback has none
    #[arg(long, env = "MEMCLOUD_DNS_RATE", value_name = "N", default_value_t = 1000)]
    pub dns_rate: u32,

    /// Where the directory is kept, so that a start without the database can answer lookups and DNS. With SQLite beside its file,
    /// unless another is named
    #[arg(long, env = "MEMCLOUD_DIRECTORY_FILE", value_name = "FILE")]
    pub directory_file: Option<PathBuf>,
}

/// Where it is kept
#[derive(Args, Clone, Debug)]
pub struct StoreArgs {
    /// `sqlite:FILE`, or `postgres://USER@HOST/DATABASE` for several processes on one database
    #[arg(
        long,
        env = "MEMCLOUD_STORE",
        value_name = "URL",
        default_value = "sqlite:memcloud.db",
        hide_env_values = true
    )]
    pub store: String,
}

/// Nobody may have been there before
#[derive(Args, Debug)]
pub struct InitArgs {
    #[command(flatten)]
    pub store: StoreArgs,

    /// The first user, an admin
    #[arg(long, default_value = "admin")]
    pub user: UserName,
}

impl ServeArgs {
    #[must_use]
    pub fn options(&self) -> Options {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Options {
            http: self.http,
            http_tls: files(self.http_tls_cert.as_ref(), self.http_tls_key.as_ref()),
            dns: self.dns,
            dns_tls: self
                .dns_tls
                .map(|address| (address, files(self.dns_tls_cert.as_ref(), self.dns_tls_key.as_ref()))),
            zone: self.zone.clone(),
            store: self.store.store.clone(),
            ttl_seconds: self.ttl,
            lease_seconds: self.lease,
            dns_sockets: if self.dns_sockets == 0 { cores } else { self.dns_sockets },
            dns_rate: self.dns_rate,
            directory_file: self.directory_file.clone().or_else(|| self.store.beside()),
        }
    }
}

/// Both or none.
fn files(certificate: Option<&PathBuf>, key: Option<&PathBuf>) -> Option<Files> {
    certificate
        .zip(key)
        .map(|(certificate, key)| Files { certificate: certificate.clone(), key: key.clone() })
}

impl StoreArgs {
    /// `FILE.directory` of `sqlite:FILE`.
    fn beside(&self) -> Option<PathBuf> {
        let rest = self.store.strip_prefix("sqlite:")?;
        let file = rest.strip_prefix("//").unwrap_or(rest).split('?').next()?;
        (!file.is_empty() && !rest.contains(":memory:")).then(|| format!("{file}.directory").into())
    }
}

/// A completion script.
#[must_use]
pub fn completions(shell: Shell) -> Vec<u8> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), NAME, &mut script);
    script
}

/// The manual page.
///
/// # Errors
/// It cannot be written.
pub fn manual() -> io::Result<Vec<u8>> {
    let mut page = Vec::new();
    clap_mangen::Man::new(Cli::command()).render(&mut page)?;
    Ok(page)
}

/// The manual pages of all commands, a file for each.
///
/// # Errors
/// They cannot be written.
pub fn manuals(folder: &Path) -> io::Result<()> {
    clap_mangen::generate_to(Cli::command(), folder)
}
