//! Every setting once: its flag, its environment variable and its key in the file come from one field, so the
//! three cannot drift apart. A layer (flags with environment, or file) leaves out what it does not say.

use std::fmt;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, ValueEnum, ValueHint};
use serde::de::{SeqAccess, Visitor, value::SeqAccessDeserializer};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::address::Address;
use super::units::{Period, Size};

/// One layer of the configuration, each value checked by itself but not against the others.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// Where apps connect: host:port or unix:/path; may be given several times [default: 127.0.0.1:11211]
    #[arg(long, env = "MEMCLOUD_LISTEN", value_name = "ADDR", value_delimiter = ',')]
    #[serde(deserialize_with = "one_or_many", skip_serializing_if = "Option::is_none")]
    pub listen: Option<Vec<Address>>,

    /// The stock memcached [default: 127.0.0.1:11210]
    #[arg(long, env = "MEMCLOUD_UPSTREAM", value_name = "ADDR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<Address>,

    /// This replica's name, unique among its peers [default: the host name up to its first dot]
    #[arg(long, env = "MEMCLOUD_SITE", value_name = "NAME", value_hint = ValueHint::Other)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub site: Option<String>,

    /// Where peers connect; none: no peer can
    #[arg(long, env = "MEMCLOUD_PEER_LISTEN", value_name = "ADDR", help_heading = PEERS)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer_listen: Option<Address>,

    /// A peer's --peer-listen; may be given several times. Both sides of a pair name each other
    #[arg(long, env = "MEMCLOUD_PEER", value_name = "ADDR", value_delimiter = ',', help_heading = PEERS)]
    #[serde(deserialize_with = "one_or_many", skip_serializing_if = "Option::is_none")]
    pub peer: Option<Vec<Address>>,

    /// Where control is, as https://host:port or http://host:port: the replica registers there and is told its peers. May be given
    /// several times, for processes of control that share a database
    #[arg(long, env = "MEMCLOUD_CONTROL", value_name = "URL", value_delimiter = ',', value_hint = ValueHint::Url, help_heading = CONTROL)]
    #[serde(deserialize_with = "one_or_many", skip_serializing_if = "Option::is_none")]
    pub control: Option<Vec<String>>,

    /// The CA that has signed control's certificate, as PEM; none: those that this machine knows
    #[arg(long, env = "MEMCLOUD_CONTROL_CA", value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = CONTROL)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub control_ca: Option<PathBuf>,

    /// The file that holds the token for control; it is read again at each request
    #[arg(long, env = "MEMCLOUD_TOKEN_FILE", value_name = "FILE", value_hint = ValueHint::FilePath, help_heading = CONTROL)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,

    /// The app to be a replica of; none: it waits in the pool
    #[arg(long, env = "MEMCLOUD_APP", value_name = "ID", help_heading = CONTROL)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub app: Option<u32>,

    /// The shard of that app, as s0
    #[arg(long, env = "MEMCLOUD_SHARD", value_name = "NAME", help_heading = CONTROL)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shard: Option<String>,

    /// The host by which apps and peers reach this proxy; none: the one it listens on, or by which it reaches control
    #[arg(long, env = "MEMCLOUD_ADVERTISE", value_name = "HOST", value_hint = ValueHint::Hostname, help_heading = CONTROL)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advertise: Option<String>,

    /// The machine it runs on; replicas of one shard are kept apart. None: the host name
    #[arg(long, env = "MEMCLOUD_MACHINE", value_name = "NAME", help_heading = CONTROL)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,

    /// Where that machine stands; replicas of one shard are kept apart where there is a choice
    #[arg(long, env = "MEMCLOUD_AVAILABILITY_ZONE", value_name = "NAME", help_heading = CONTROL)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub availability_zone: Option<String>,

    /// By which control knows this replica again; none: APP/SHARD/SITE, and in the pool MACHINE/SITE
    #[arg(long, env = "MEMCLOUD_IDENTITY", value_name = "NAME", help_heading = CONTROL)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub identity: Option<String>,

    /// Let --peer-listen be reachable from other machines without TLS
    #[arg(long, env = "MEMCLOUD_PEER_INSECURE", value_name = "BOOL", help_heading = PEERS,
          num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer_insecure: Option<bool>,

    /// When a write is answered [default: local]
    #[arg(long, env = "MEMCLOUD_ACK", help_heading = PEERS)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ack: Option<Ack>,

    /// How long an answer waits for peers with --ack peer [default: 1s]
    #[arg(long, env = "MEMCLOUD_ACK_TIMEOUT", value_name = "TIME", help_heading = PEERS)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ack_timeout: Option<Period>,

    /// What an app hears when a peer is away or too slow with --ack peer [default: degrade]
    #[arg(long, env = "MEMCLOUD_ACK_FALLBACK", help_heading = PEERS)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ack_fallback: Option<AckFallback>,

    /// Bound on all that is kept for peers [default: 256MiB]
    #[arg(long, env = "MEMCLOUD_BACKLOG_BYTES", value_name = "SIZE", help_heading = PEERS)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backlog_bytes: Option<Size>,

    /// Silence after which a peer that owes an answer is dialed anew [default: 5s]
    #[arg(long, env = "MEMCLOUD_PEER_TIMEOUT", value_name = "TIME", help_heading = PEERS)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer_timeout: Option<Period>,

    /// Mutations dated further ahead of this machine's clock than this are refused [default: 1m]
    #[arg(long, env = "MEMCLOUD_MAX_CLOCK_SKEW", value_name = "TIME", help_heading = PEERS)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_clock_skew: Option<Period>,

    /// Bytes a second that a resync reads or sends, at most [default: 64MiB]
    #[arg(long, env = "MEMCLOUD_RESYNC_RATE", value_name = "SIZE", help_heading = RECOVERY)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resync_rate: Option<Size>,

    /// How long /ready says no beside an empty memcached that no peer has filled [default: 1m]
    #[arg(long, env = "MEMCLOUD_WARMUP_TIMEOUT", value_name = "TIME", help_heading = RECOVERY)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub warmup_timeout: Option<Period>,

    /// Where a miss is looked for: here alone, or at a peer as well [default: local]
    #[arg(long, env = "MEMCLOUD_MISS", help_heading = RECOVERY)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub miss: Option<Miss>,

    /// How long a miss may wait for a peer with --miss peer [default: 50ms]
    #[arg(long, env = "MEMCLOUD_MISS_TIMEOUT", value_name = "TIME", help_heading = RECOVERY)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub miss_timeout: Option<Period>,

    /// Who serves apps while memcached is down [default: none]
    #[arg(long, env = "MEMCLOUD_FAILOVER", help_heading = RECOVERY)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failover: Option<Failover>,

    /// Where keys go that --backlog-bytes has no room for; none: a full resync instead
    #[arg(long, env = "MEMCLOUD_BACKLOG_DIR", value_name = "DIR", value_hint = ValueHint::DirPath, help_heading = RECOVERY)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backlog_dir: Option<PathBuf>,

    /// Bound on what is kept in --backlog-dir [default: 1GiB]
    #[arg(long, env = "MEMCLOUD_BACKLOG_DIR_BYTES", value_name = "SIZE", help_heading = RECOVERY)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backlog_dir_bytes: Option<Size>,

    /// HTTP for /metrics, /live, /ready and /status, as host:port [default: 127.0.0.1:9150]
    #[arg(long, env = "MEMCLOUD_ADMIN", value_name = "ADDR")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub admin: Option<Address>,

    /// Worker threads [default: number of cores, at most 4]
    #[arg(long, env = "MEMCLOUD_WORKERS", value_name = "N", help_heading = LIMITS)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workers: Option<usize>,

    /// Upstream connections shared by the sessions of a worker, or one for each session [default: shared]
    #[arg(long, env = "MEMCLOUD_UPSTREAM_CONNECTIONS", help_heading = LIMITS)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_connections: Option<UpstreamConnections>,

    /// How many upstream connections each worker shares among its sessions [default: 1]
    #[arg(long, env = "MEMCLOUD_SHARED_CONNECTIONS", value_name = "N", help_heading = LIMITS)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shared_connections: Option<usize>,

    /// App connections at a time; one more is answered as memcached does at its limit [default: 65536]
    #[arg(long, env = "MEMCLOUD_MAX_SESSIONS", value_name = "N", help_heading = LIMITS)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_sessions: Option<usize>,

    /// Bound on answers that wait for apps that do not read them; beyond it such apps are cut off [default: 256MiB]
    #[arg(long, env = "MEMCLOUD_SESSION_BUFFER_BYTES", value_name = "SIZE", help_heading = LIMITS)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_buffer_bytes: Option<Size>,

    /// How long memcached may take to accept a connection or to answer [default: 5s]
    #[arg(long, env = "MEMCLOUD_UPSTREAM_TIMEOUT", value_name = "TIME", help_heading = LIMITS)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream_timeout: Option<Period>,

    /// How long SIGTERM waits for requests in flight and for the backlog [default: 10s]
    #[arg(long, env = "MEMCLOUD_DRAIN_TIMEOUT", value_name = "TIME", help_heading = LIMITS)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub drain_timeout: Option<Period>,

    /// Logs for people or for programs [default: human]
    #[arg(long, env = "MEMCLOUD_LOG_FORMAT", help_heading = LOGS)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_format: Option<LogFormat>,

    /// A level, or levels by module as in `info,memcloud_proxy::link=debug` [default: info]
    #[arg(long, env = "MEMCLOUD_LOG_LEVEL", value_name = "FILTER", help_heading = LOGS)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log_level: Option<String>,

    /// Certificate shown to peers (PEM)
    #[arg(long, env = "MEMCLOUD_PEER_TLS_CERT", value_name = "FILE", help_heading = PEERS, hide = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer_tls_cert: Option<PathBuf>,

    /// Key of that certificate (PEM)
    #[arg(long, env = "MEMCLOUD_PEER_TLS_KEY", value_name = "FILE", help_heading = PEERS, hide = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer_tls_key: Option<PathBuf>,

    /// Who signs the certificates of peers (PEM)
    #[arg(long, env = "MEMCLOUD_PEER_TLS_CA", value_name = "FILE", help_heading = PEERS, hide = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer_tls_ca: Option<PathBuf>,

    /// Certificate shown to apps (PEM)
    #[arg(long, env = "MEMCLOUD_TLS_CERT", value_name = "FILE", hide = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_cert: Option<PathBuf>,

    /// Key of that certificate (PEM)
    #[arg(long, env = "MEMCLOUD_TLS_KEY", value_name = "FILE", hide = true)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls_key: Option<PathBuf>,
}

/// When a write is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Ack {
    /// After the local memcached has answered
    Local,
    /// After every live peer has applied it
    Peer,
}

/// What an app hears when not every peer has applied its write in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AckFallback {
    /// The answer of the local memcached
    Degrade,
    /// A server error, though the write stands here
    Fail,
}

/// Where a miss is looked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Miss {
    /// A miss is a miss
    Local,
    /// It is filled from a peer that has the item
    Peer,
}

/// Who serves apps while the local memcached is down.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Failover {
    /// Nobody: they hear a server error
    None,
    /// A peer
    Peer,
}

/// How sessions reach memcached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum UpstreamConnections {
    /// Few, shared by all sessions of a worker
    Shared,
    /// One for each session: for servers with authentication or per-connection limits
    Dedicated,
}

/// How logs look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// A line for people
    Human,
    /// One JSON object a line
    Json,
}

impl Settings {
    /// These settings, and where they say nothing those of the layer below.
    pub fn over(self, below: Self) -> Self {
        Self {
            listen: self.listen.or(below.listen),
            upstream: self.upstream.or(below.upstream),
            site: self.site.or(below.site),
            peer_listen: self.peer_listen.or(below.peer_listen),
            peer: self.peer.or(below.peer),
            control: self.control.or(below.control),
            control_ca: self.control_ca.or(below.control_ca),
            token_file: self.token_file.or(below.token_file),
            app: self.app.or(below.app),
            shard: self.shard.or(below.shard),
            advertise: self.advertise.or(below.advertise),
            machine: self.machine.or(below.machine),
            availability_zone: self.availability_zone.or(below.availability_zone),
            identity: self.identity.or(below.identity),
            peer_insecure: self.peer_insecure.or(below.peer_insecure),
            ack: self.ack.or(below.ack),
            ack_timeout: self.ack_timeout.or(below.ack_timeout),
            ack_fallback: self.ack_fallback.or(below.ack_fallback),
            resync_rate: self.resync_rate.or(below.resync_rate),
            warmup_timeout: self.warmup_timeout.or(below.warmup_timeout),
            miss: self.miss.or(below.miss),
            miss_timeout: self.miss_timeout.or(below.miss_timeout),
            failover: self.failover.or(below.failover),
            backlog_dir: self.backlog_dir.or(below.backlog_dir),
            backlog_dir_bytes: self.backlog_dir_bytes.or(below.backlog_dir_bytes),
            backlog_bytes: self.backlog_bytes.or(below.backlog_bytes),
            peer_timeout: self.peer_timeout.or(below.peer_timeout),
            max_clock_skew: self.max_clock_skew.or(below.max_clock_skew),
            admin: self.admin.or(below.admin),
            workers: self.workers.or(below.workers),
            upstream_connections: self.upstream_connections.or(below.upstream_connections),
            shared_connections: self.shared_connections.or(below.shared_connections),
            max_sessions: self.max_sessions.or(below.max_sessions),
            session_buffer_bytes: self.session_buffer_bytes.or(below.session_buffer_bytes),
            upstream_timeout: self.upstream_timeout.or(below.upstream_timeout),
            drain_timeout: self.drain_timeout.or(below.drain_timeout),
            log_format: self.log_format.or(below.log_format),
            log_level: self.log_level.or(below.log_level),
            peer_tls_cert: self.peer_tls_cert.or(below.peer_tls_cert),
            peer_tls_key: self.peer_tls_key.or(below.peer_tls_key),
            peer_tls_ca: self.peer_tls_ca.or(below.peer_tls_ca),
            tls_cert: self.tls_cert.or(below.tls_cert),
            tls_key: self.tls_key.or(below.tls_key),
        }
    }
}

/// Reads a value through its `FromStr` inside the visitor: an error raised there, and only there, gets the line
/// and column of the value. `#[serde(try_from)]` would report the start of the document.
struct Parsed<T>(PhantomData<T>);

impl<T: FromStr<Err: fmt::Display>> Visitor<'_> for Parsed<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("text or a number")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<T, E> {
        text.parse().map_err(E::custom)
    }
}

macro_rules! written_as_text {
    ($($type:ty),*) => {$(
        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                from.deserialize_str(Parsed(PhantomData))
            }
        }

        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }
    )*};
}

written_as_text!(Address, Period, Size);

/// A list, or one item standing for a list of one.
fn one_or_many<'de, D, T>(from: D) -> Result<Option<Vec<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr<Err: fmt::Display> + Deserialize<'de>,
{
    struct OneOrMany<T>(PhantomData<T>);

    impl<'de, T: FromStr<Err: fmt::Display> + Deserialize<'de>> Visitor<'de> for OneOrMany<T> {
        type Value = Option<Vec<T>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an address or a list of addresses")
        }

        fn visit_unit<E: serde::de::Error>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
            Ok(Some(vec![text.parse().map_err(E::custom)?]))
        }

        fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<Self::Value, E> {
            self.visit_str(&number.to_string())
        }

        fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
            Vec::deserialize(SeqAccessDeserializer::new(list)).map(Some)
        }
    }

    from.deserialize_any(OneOrMany(PhantomData))
}

const PEERS: &str = "Peers";
const CONTROL: &str = "Control";
const RECOVERY: &str = "When things break";
const LIMITS: &str = "Workers and limits";
const LOGS: &str = "Logs";
