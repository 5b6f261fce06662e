//! What the proxy was told: flags, then environment, then file, checked as a whole before any socket opens.
//!
//! ```text
//! flags, MEMCLOUD_*  ─┐
//!                     ├─ Settings (each value good by itself) ── check ──> Config (good as a whole)
//! file (YAML)        ─┘
//! ```
//!
//! It promises that a [`Config`] needs no further checks, that every error names the setting, its place and what
//! to do, and that defaults are named constants with their reason (in `check`). It refuses to know what the
//! settings are used for.

mod address;
mod check;
mod control;
mod endpoint;
mod recovery;
mod reload;
mod settings;
mod units;
mod yaml;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use thiserror::Error;

pub use address::{Address, AddressError};
pub use control::Control;
pub use endpoint::Endpoint;
pub use recovery::Recovery;
pub use reload::Reload;
pub use settings::{Ack, AckFallback, Failover, LogFormat, Miss, Settings, UpstreamConnections};
pub use units::{Period, Size, UnitError};

/// A checked configuration of the sidecar.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where apps connect; at least one.
    pub listen: Vec<Address>,
    /// The stock memcached.
    pub upstream: Address,
    /// This replica's name: one DNS label.
    pub site: String,
    /// Where peers connect.
    pub peer_listen: Option<Address>,
    /// Peers to dial, `host:port`, none twice, none this proxy itself.
    pub peers: Vec<String>,
    /// Who says who the peers are, in place of `peers`.
    pub control: Option<Control>,
    /// Whether `peer_listen` may be reachable from other machines without TLS.
    pub peer_insecure: bool,
    /// Mutual TLS of the link; this version refuses it.
    pub peer_tls: Option<PeerTls>,
    /// TLS for apps; this version refuses it.
    pub tls: Option<AppTls>,
    /// HTTP for operators; always `Address::Tcp`.
    pub admin: Address,
    /// When a write is answered.
    pub ack: Ack,
    /// What is done when something breaks.
    pub recovery: Recovery,
    /// Worker threads, at least 1.
    pub workers: usize,
    pub upstream_connections: UpstreamConnections,
    /// Shared upstream connections of each worker, at least 1.
    pub shared_connections: usize,
    /// Bound on all that is kept for peers.
    pub backlog_bytes: u64,
    /// Sessions of all workers together.
    pub max_sessions: usize,
    /// Bound on answers that wait for apps that do not read them, over all sessions.
    pub session_buffer_bytes: u64,
    pub upstream_timeout: Duration,
    pub drain_timeout: Duration,
    pub peer_timeout: Duration,
    pub max_clock_skew: Duration,
    pub log_format: LogFormat,
    /// A filter that `tracing_subscriber` has parsed once.
    pub log_level: String,
}

/// Files of the peer link's mutual TLS (PEM).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerTls {
    pub cert: PathBuf,
    pub key: PathBuf,
    pub ca: PathBuf,
}

/// Files of the TLS that apps see (PEM).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppTls {
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// Why there is no configuration. Its text is complete: place, setting, sentence, and the line with a caret.
#[derive(Debug, Error)]
pub enum ConfigError {
    #[error("{path}: {source}; name a file that can be read")]
    Unreadable { path: String, source: std::io::Error },
    #[error("{0}")]
    InFile(FileFault),
    #[error("{flag} (or {variable}): {sentence}", flag = flag(.setting), variable = variable(.setting))]
    Given { setting: &'static str, sentence: String },
}

/// A fault in a file, with its place where one is known.
#[derive(Debug)]
pub struct FileFault {
    path: String,
    sentence: String,
    place: Option<yaml::Place>,
    line: String,
}

impl Config {
    /// From flags and environment over the file, if one is named.
    pub fn load(given: Settings, file: Option<&Path>) -> Result<Self, ConfigError> {
        let Some(path) = file else { return Self::from_layers(given, None) };
        let source = path.display().to_string();
        match std::fs::read_to_string(path) {
            Ok(text) => Self::from_layers(given, Some((&source, &text))),
            Err(error) => Err(ConfigError::Unreadable { path: source, source: error }),
        }
    }

    /// As [`load`](Self::load), the file already read: its name and its text.
    pub fn from_layers(given: Settings, file: Option<(&str, &str)>) -> Result<Self, ConfigError> {
        let (path, text) = file.unwrap_or_default();
        let below =
            yaml::read(text).map_err(|fault| ConfigError::InFile(FileFault::new(path, text, fault)))?;
        let from_file = |setting| !names(&given, setting) && names(&below, setting);
        check::check(given.clone().over(below.clone())).map_err(|problem| match from_file(problem.setting) {
            true => {
                let place = yaml::place_of(problem.setting, text);
                let sentence = format!("{}: {}", problem.setting, problem.sentence);
                ConfigError::InFile(FileFault::new(path, text, yaml::Fault { place, sentence }))
            }
            false => ConfigError::Given { setting: problem.setting, sentence: problem.sentence },
        })
    }

    /// Every setting, defaults included, as a file that reads back as this configuration.
    pub fn to_yaml(&self) -> String {
        yaml::write(&self.settings())
    }

    /// The settings in one line, for the log at the start. It names files of keys, never their contents.
    pub fn summary(&self) -> String {
        let yaml = self.to_yaml();
        yaml.lines().map(str::trim).collect::<Vec<_>>().join(" ")
    }

    fn settings(&self) -> Settings {
        let config = self.clone();
        let (peer_cert, peer_key, peer_ca) =
            config.peer_tls.map_or((None, None, None), |tls| (Some(tls.cert), Some(tls.key), Some(tls.ca)));
        let (cert, key) = config.tls.map_or((None, None), |tls| (Some(tls.cert), Some(tls.key)));
        let settings = Settings {
            listen: Some(config.listen),
            upstream: Some(config.upstream),
            site: Some(config.site),
            peer_listen: config.peer_listen,
            peer: Some(config.peers.into_iter().map(Address::Tcp).collect()),
            peer_insecure: Some(config.peer_insecure),
            ack: Some(config.ack),
            backlog_bytes: Some(Size(config.backlog_bytes)),
            peer_timeout: Some(Period(config.peer_timeout)),
            max_clock_skew: Some(Period(config.max_clock_skew)),
            admin: Some(config.admin),
            workers: Some(config.workers),
            upstream_connections: Some(config.upstream_connections),
            shared_connections: Some(config.shared_connections),
            max_sessions: Some(config.max_sessions),
            session_buffer_bytes: Some(Size(config.session_buffer_bytes)),
            upstream_timeout: Some(Period(config.upstream_timeout)),
            drain_timeout: Some(Period(config.drain_timeout)),
            log_format: Some(config.log_format),
            log_level: Some(config.log_level),
            peer_tls_cert: peer_cert,
            peer_tls_key: peer_key,
            peer_tls_ca: peer_ca,
            tls_cert: cert,
            tls_key: key,
            ..Settings::default()
        };
        let settings = config.recovery.fill(settings);
        match config.control {
            Some(control) => control.fill(settings),
            None => settings,
        }
    }
}

impl FileFault {
    fn new(path: &str, text: &str, fault: yaml::Fault) -> Self {
        let line = fault.place.and_then(|place| text.lines().nth(place.line.saturating_sub(1)));
        let line = line.unwrap_or_default().to_owned();
        Self { path: path.to_owned(), sentence: fault.sentence, place: fault.place, line }
    }
}

impl fmt::Display for FileFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, sentence, place, line } = self;
        let Some(yaml::Place { line: number, column }) = place else {
            return write!(f, "{path}: {sentence}");
        };
        write!(f, "{path}:{number}:{column}: {sentence}")?;
        if line.trim().is_empty() || line.chars().count() > SHOWN_LINE_MAX {
            return Ok(());
        }
        let gutter = " ".repeat(number.to_string().len());
        // A tab before the caret stays a tab, so that both lines are indented alike.
        let blank = |c| if c == '\t' { '\t' } else { ' ' };
        let indent: String = line.chars().take(column.saturating_sub(1)).map(blank).collect();
        write!(f, "\n{gutter} |\n{number} | {line}\n{gutter} | {indent}^")
    }
}

/// Whether a layer says something about a setting.
fn names(layer: &Settings, setting: &str) -> bool {
    serde_json::to_value(layer).is_ok_and(|layer| layer.get(setting).is_some_and(|value| !value.is_null()))
}

fn flag(setting: &str) -> String {
    format!("--{}", setting.replace('_', "-"))
}

fn variable(setting: &str) -> String {
    format!("MEMCLOUD_{}", setting.to_uppercase())
}

/// Longer lines would wrap and put the caret nowhere.
const SHOWN_LINE_MAX: usize = 160;
