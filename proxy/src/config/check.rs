//! From settings, each good by itself, to a configuration that is good as a whole.

use std::time::Duration;

use super::settings::{Ack, Failover, LogFormat, Miss, Settings, UpstreamConnections};
use super::units::{Period, Size};
use super::{Address, AppTls, Config, Control, PeerTls, Recovery};

/// What is wrong between settings: the setting to change and a sentence that ends in what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) setting: &'static str,
    pub(super) sentence: String,
}

/// Checks everything that needs no socket.
pub(super) fn check(settings: Settings) -> Result<Config, Problem> {
    refuse_what_comes_later(&settings)?;
    complete(settings)
}

/// Accepted by name so that the refusal can be honest; not built yet.
fn refuse_what_comes_later(settings: &Settings) -> Result<(), Problem> {
    let tls = [
        ("peer_tls_cert", settings.peer_tls_cert.is_some()),
        ("peer_tls_key", settings.peer_tls_key.is_some()),
        ("peer_tls_ca", settings.peer_tls_ca.is_some()),
        ("tls_cert", settings.tls_cert.is_some()),
        ("tls_key", settings.tls_key.is_some()),
    ];
    match tls.into_iter().find(|(_, given)| *given) {
        Some((setting, _)) => refuse(
            setting,
            "this version does not speak TLS; remove the setting, and keep the traffic on a network you trust",
        ),
        None => Ok(()),
    }
}

fn complete(settings: Settings) -> Result<Config, Problem> {
    let recovery = Recovery::of(&settings)?;
    let site = settings.site.clone().or_else(host_name).unwrap_or_default();
    let control = Control::of(&settings, &site)?;
    let listen = settings.listen.unwrap_or_else(|| vec![tcp(LISTEN)]);
    let config = Config {
        upstream: settings.upstream.unwrap_or_else(|| tcp(UPSTREAM)),
        site,
        peer_listen: settings.peer_listen,
        peers: Vec::new(),
        control,
        peer_insecure: settings.peer_insecure.unwrap_or(false),
        peer_tls: peer_tls([settings.peer_tls_cert, settings.peer_tls_key, settings.peer_tls_ca])?,
        tls: app_tls([settings.tls_cert, settings.tls_key])?,
        admin: settings.admin.unwrap_or_else(|| tcp(ADMIN)),
        ack: settings.ack.unwrap_or(Ack::Local),
        workers: within("workers", settings.workers.unwrap_or_else(workers_default), 1, WORKERS_MAX)?,
        upstream_connections: settings.upstream_connections.unwrap_or(UpstreamConnections::Shared),
        shared_connections: within(
            "shared_connections",
            settings.shared_connections.unwrap_or(SHARED_CONNECTIONS),
            1,
            SHARED_CONNECTIONS_MAX,
        )?,
        backlog_bytes: backlog_bytes(settings.backlog_bytes)?,
        max_sessions: within(
            "max_sessions",
            settings.max_sessions.unwrap_or(MAX_SESSIONS),
            1,
            MAX_SESSIONS_MAX,
        )?,
        session_buffer_bytes: settings.session_buffer_bytes.unwrap_or(SESSION_BUFFER_BYTES).0,
        upstream_timeout: period("upstream_timeout", settings.upstream_timeout, UPSTREAM_TIMEOUT)?,
        drain_timeout: period_or_none("drain_timeout", settings.drain_timeout, DRAIN_TIMEOUT)?,
        peer_timeout: period("peer_timeout", settings.peer_timeout, PEER_TIMEOUT)?,
        max_clock_skew: period("max_clock_skew", settings.max_clock_skew, MAX_CLOCK_SKEW)?,
        log_format: settings.log_format.unwrap_or(LogFormat::Human),
        log_level: settings.log_level.unwrap_or_else(|| LOG_LEVEL.to_owned()),
        recovery,
        listen,
    };
    check_site(&config.site)?;
    check_log_level(&config.log_level)?;
    check_doors(&config)?;
    check_link(&config)?;
    let peers = check_peers(&config, settings.peer.unwrap_or_default())?;
    Control::check(&config, !peers.is_empty())?;
    // Peers that control names come later, and may go again.
    if peers.is_empty() && config.control.is_none() {
        check_alone(&config)?;
    }
    Ok(Config { peers, ..config })
}

fn check_site(site: &str) -> Result<(), Problem> {
    if site.is_empty() {
        return refuse("site", "this machine has no host name to take; give the replica a name");
    }
    let edges = site.starts_with('-') || site.ends_with('-');
    if site.len() > SITE_BYTES_MAX
        || edges
        || !site.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    {
        let sentence = format!(
            "`{site}` is no site name; use up to {SITE_BYTES_MAX} letters, digits and inner hyphens, as in a DNS label"
        );
        return refuse("site", sentence);
    }
    Ok(())
}

/// What takes a peer, where there never will be one.
fn check_alone(config: &Config) -> Result<(), Problem> {
    if config.ack == Ack::Peer {
        return refuse(
            "ack",
            "there is no peer whose answer could be waited for; name one with peer, or use `local`",
        );
    }
    if config.recovery.failover == Failover::Peer {
        return refuse(
            "failover",
            "there is no peer that could take over; name one with peer, or use `none`",
        );
    }
    if config.recovery.miss == Miss::Peer {
        return refuse("miss", "there is no peer that could be asked; name one with peer, or use `local`");
    }
    Ok(())
}

fn check_log_level(level: &str) -> Result<(), Problem> {
    match tracing_subscriber::EnvFilter::builder().parse(level) {
        Ok(_) if !level.is_empty() => Ok(()),
        _ => refuse(
            "log_level",
            format!(
                "`{level}` is no log filter; write error, warn, info, debug or trace, or levels by module"
            ),
        ),
    }
}

/// Every address that this proxy binds is its own, and none of them is its memcached.
fn check_doors(config: &Config) -> Result<(), Problem> {
    if config.listen.is_empty() {
        return refuse(
            "listen",
            "the list is empty, so no app could connect; name an address or leave it out",
        );
    }
    if matches!(config.admin, Address::Unix(_)) {
        return refuse("admin", format!("{} is a unix socket; HTTP is served on host:port", config.admin));
    }
    let doors = config.listen.iter().map(|address| ("listen", address));
    let doors = doors.chain(config.peer_listen.iter().map(|address| ("peer_listen", address)));
    let doors: Vec<_> = doors.chain([("admin", &config.admin)]).collect();
    for (index, (setting, address)) in doors.iter().enumerate() {
        if config.upstream.leads_to(address) {
            let sentence = format!(
                "{address} is where memcached is said to be (upstream {}), so the proxy would dial itself; give one of them another port",
                config.upstream
            );
            return refuse(setting, sentence);
        }
        let taken =
            doors.iter().take(index).find(|(_, other)| address.leads_to(other) || other.leads_to(address));
        if let Some((other, _)) = taken {
            return refuse(setting, format!("{address} is taken by {other} already; use another port"));
        }
    }
    Ok(())
}

fn check_link(config: &Config) -> Result<(), Problem> {
    match &config.peer_listen {
        Some(address) if !address.is_loopback() && config.peer_tls.is_none() && !config.peer_insecure => {
            let sentence = format!(
                "{address} can be reached from other machines, and whoever reaches it can write to this cache; listen on loopback (through a tunnel), or accept it with peer_insecure on a network you trust"
            );
            refuse("peer_listen", sentence)
        }
        _ => Ok(()),
    }
}

fn check_peers(config: &Config, peers: Vec<Address>) -> Result<Vec<String>, Problem> {
    if peers.len() > PEERS_MAX {
        return refuse("peer", format!("{} peers are named; {PEERS_MAX} is the most", peers.len()));
    }
    for (index, peer) in peers.iter().enumerate() {
        match peer {
            Address::Unix(_) => {
                return refuse("peer", format!("{peer} is a unix socket; a peer is host:port"));
            }
            Address::Tcp(_) if peer.port() == Some(0) => {
                return refuse("peer", format!("{peer} has port 0; name the port of the peer's peer_listen"));
            }
            Address::Tcp(_) => {}
        }
        if peers.iter().take(index).any(|other| peer.leads_to(other)) {
            return refuse("peer", format!("{peer} is named twice; name each peer once"));
        }
        if config.peer_listen.iter().any(|own| peer.leads_to(own)) {
            return refuse("peer", format!("{peer} is this proxy's own peer_listen; name the other side's"));
        }
        if config.listen.iter().any(|own| peer.leads_to(own)) {
            return refuse(
                "peer",
                format!("{peer} is where this proxy's apps connect; name the other side's peer_listen"),
            );
        }
    }
    Ok(peers.iter().map(Address::to_string).collect())
}

fn peer_tls(files: [Option<std::path::PathBuf>; 3]) -> Result<Option<PeerTls>, Problem> {
    match files {
        [None, None, None] => Ok(None),
        [Some(cert), Some(key), Some(ca)] => Ok(Some(PeerTls { cert, key, ca })),
        [cert, key, _] => {
            let missing = if cert.is_none() {
                "peer_tls_cert"
            } else if key.is_none() {
                "peer_tls_key"
            } else {
                "peer_tls_ca"
            };
            refuse(
                missing,
                "missing; peers prove themselves to each other, so certificate, key and CA go together",
            )
        }
    }
}

fn app_tls(files: [Option<std::path::PathBuf>; 2]) -> Result<Option<AppTls>, Problem> {
    match files {
        [None, None] => Ok(None),
        [Some(cert), Some(key)] => Ok(Some(AppTls { cert, key })),
        [cert, _] => refuse(
            if cert.is_none() { "tls_cert" } else { "tls_key" },
            "missing; certificate and key go together",
        ),
    }
}

fn within(setting: &'static str, value: usize, least: usize, most: usize) -> Result<usize, Problem> {
    if (least..=most).contains(&value) {
        Ok(value)
    } else {
        refuse(setting, format!("{value} is out of range; use {least} to {most}"))
    }
}

fn backlog_bytes(size: Option<Size>) -> Result<u64, Problem> {
    let Size(bytes) = size.unwrap_or(BACKLOG_BYTES);
    if bytes < BACKLOG_BYTES_MIN.0 {
        let sentence = format!(
            "{} holds too little to bridge the shortest cut; use {BACKLOG_BYTES_MIN} or more",
            Size(bytes)
        );
        return refuse("backlog_bytes", sentence);
    }
    Ok(bytes)
}

/// One that may be 0: nothing is waited for.
pub(super) fn period_or_none(
    setting: &'static str,
    given: Option<Period>,
    default: Duration,
) -> Result<Duration, Problem> {
    match given {
        Some(Period(Duration::ZERO)) => Ok(Duration::ZERO),
        given => period(setting, given, default),
    }
}

pub(super) fn period(
    setting: &'static str,
    given: Option<Period>,
    default: Duration,
) -> Result<Duration, Problem> {
    match given {
        Some(Period(Duration::ZERO)) => refuse(setting, "0 leaves no time at all; use 1ms or more"),
        Some(Period(time)) if time > PERIOD_MAX => refuse(setting, "more than a day; use 24h or less"),
        Some(Period(time)) => Ok(time),
        None => Ok(default),
    }
}

pub(super) fn refuse<T>(setting: &'static str, sentence: impl Into<String>) -> Result<T, Problem> {
    Err(Problem { setting, sentence: sentence.into() })
}

fn tcp(text: &str) -> Address {
    Address::Tcp(text.to_owned())
}

/// As this machine calls itself.
pub(super) fn machine() -> Option<String> {
    let name = rustix::system::uname();
    name.nodename().to_str().ok().map(str::to_owned)
}

/// Up to the first dot: a site name is one DNS label, and machines often call themselves by their full name.
fn host_name() -> Option<String> {
    machine()?.split('.').next().filter(|label| !label.is_empty()).map(str::to_owned)
}

/// More workers than four seldom pay: memcached itself runs four threads unless told otherwise.
fn workers_default() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from).min(4)
}

/// Where apps expect memcached, so that nothing changes for them.
const LISTEN: &str = "127.0.0.1:11211";
/// One below: memcached moves aside by one port.
const UPSTREAM: &str = "127.0.0.1:11210";
/// The port that the usual memcached exporter uses, so that scrapers find the same names in the same place.
const ADMIN: &str = "127.0.0.1:9150";
/// A thread for each core of a large machine; beyond that it is a mistyped number.
const WORKERS_MAX: usize = 256;
/// One connection carries more than one core of memcached can answer.
const SHARED_CONNECTIONS: usize = 1;
const SHARED_CONNECTIONS_MAX: usize = 64;
/// Some hundred apps that stopped reading in the middle of a large answer.
const SESSION_BUFFER_BYTES: Size = Size(256 << 20);
/// A minute of a busy cache's writes, and little beside what a cache host has.
const BACKLOG_BYTES: Size = Size(256 << 20);
/// One large value of memcached's default limit fits.
const BACKLOG_BYTES_MIN: Size = Size(1 << 20);
/// Far above memcached's own 1024, because sessions here do not each take one of memcached's connections; still a
/// bound, as an idle session costs a descriptor and some hundred bytes.
const MAX_SESSIONS: usize = 65_536;
/// Linux's largest default for the descriptors of one process.
const MAX_SESSIONS_MAX: usize = 1 << 20;
/// memcached answers in microseconds; seconds mean that it is stopped or gone.
const UPSTREAM_TIMEOUT: Duration = Duration::from_secs(5);
/// Well within the 30 s that Kubernetes and systemd give before they kill.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// Fifty heartbeats.
const PEER_TIMEOUT: Duration = Duration::from_secs(5);
/// Machines that keep time by NTP are within milliseconds; a minute is a broken clock.
const MAX_CLOCK_SKEW: Duration = Duration::from_secs(60);
/// Longer waits are mistyped.
const PERIOD_MAX: Duration = Duration::from_secs(24 * 3600);
const LOG_LEVEL: &str = "info";
/// The replication core keeps one bit for each peer in a word.
const PEERS_MAX: usize = 64;
/// A DNS label (RFC 1035 section 2.3.4): the site becomes an owner name.
const SITE_BYTES_MAX: usize = 63;

#[cfg(test)]
mod tests;
