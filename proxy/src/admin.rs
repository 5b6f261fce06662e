//! The HTTP side of the proxy, for operators and their programs.
//!
//! | path | answer |
//! |---|---|
//! | `/status` | JSON: this replica, its memcached, its peers |
//! | `/ready` | 200 when apps may come, else 503 and the reason |
//! | `/live` | 200 while the event loops turn, else 503 and the reason |
//! | `/metrics` | Prometheus text |
//!
//! It promises that no request here waits on the data path: state is asked through [`AdminSource`], and the one
//! question that goes to memcached has a time limit. It refuses to know who knows the answers, and to change
//! anything: every path only reads.

mod liveness;
mod stats;
mod status;

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use crate::metrics::{
    self, ControlFigures, FailoverFigures, Figures, MemcachedStats, ReplicationFigures, Totals,
    WorkerCounters,
};

pub use liveness::Liveness;
pub use stats::read_stats;
pub use status::{
    AckStatus, ControlStatus, FailoverStatus, InboundState, PeerState, PeerStatus, ResyncStatus, Status,
    UpstreamState, UpstreamStatus,
};

/// Who knows the state of the proxy. Every answer is given at once, but for memcached's own figures.
pub trait AdminSource: Send + Sync + 'static {
    /// What `/status` shows.
    fn status(&self) -> Status;

    /// Whether apps may come; if not, why.
    ///
    /// # Errors
    /// The reason, as a sentence for operators.
    fn ready(&self) -> Result<(), String>;

    /// Whether the event loops turn; if not, which does not.
    ///
    /// # Errors
    /// The reason, as a sentence for operators.
    fn live(&self) -> Result<(), String>;

    /// What metrics show of control; nothing without one.
    fn control(&self) -> Option<ControlFigures>;

    /// The counters of all workers.
    fn counters(&self) -> Vec<Arc<WorkerCounters>>;

    /// What replication shows in metrics.
    fn replication(&self) -> ReplicationFigures;

    /// Asks memcached for its `stats`; [`read_stats`] does it on a connection.
    fn memcached_stats(&self) -> Pin<Box<dyn Future<Output = io::Result<MemcachedStats>> + Send + '_>>;
}

/// Serves until `stop` is cancelled, then gives open requests a second to finish.
///
/// # Errors
/// Whatever the operating system says of accepting.
pub async fn serve(
    listener: TcpListener,
    source: Arc<dyn AdminSource>,
    stop: CancellationToken,
) -> io::Result<()> {
    let stopping = stop.clone();
    let server = axum::serve(listener, router(source)).with_graceful_shutdown(stop.cancelled_owned());
    tokio::select! {
        biased;
        ended = server => ended,
        // A client that keeps a request open must not keep the process up.
        () = async { stopping.cancelled().await; tokio::time::sleep(CLOSING_TIME).await } => Ok(()),
    }
}

fn router(source: Arc<dyn AdminSource>) -> Router {
    Router::new()
        .route("/", get(async || "/status\n/ready\n/live\n/metrics\n"))
        .route("/status", get(show_status))
        .route("/ready", get(async |State(source): Source| verdict(source.ready())))
        .route("/live", get(async |State(source): Source| verdict(source.live())))
        .route("/metrics", get(show_metrics))
        .with_state(source)
}

type Source = State<Arc<dyn AdminSource>>;

async fn show_status(State(source): Source) -> Response {
    ([(CACHE_CONTROL, NOT_CACHED)], Json(source.status())).into_response()
}

fn verdict(good: Result<(), String>) -> Response {
    let (code, text) = match good {
        Ok(()) => (StatusCode::OK, "ok\n".to_owned()),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")),
    };
    (code, [(CACHE_CONTROL, NOT_CACHED)], text).into_response()
}

async fn show_metrics(State(source): Source) -> Response {
    let memcached = match timeout(STATS_TIMEOUT, source.memcached_stats()).await {
        Ok(Ok(stats)) => Some(stats),
        // Shown as `memcached_up 0`; the data path logs why memcached is away.
        Ok(Err(error)) => {
            tracing::debug!(%error, "no stats from memcached for a scrape");
            None
        }
        Err(_) => None,
    };
    let status = source.status();
    let counters = source.counters();
    let figures = Figures {
        upstream_up: status.upstream.state == UpstreamState::Up,
        failover: status.failover.map(|failover| FailoverFigures {
            active: matches!(failover.state, "away" | "returning"),
            total: failover.total,
        }),
        control: source.control(),
        site: status.site,
        totals: Totals::of(counters.iter().map(Arc::as_ref)),
        replication: ReplicationFigures { in_sync: status.in_sync, ..source.replication() },
        memcached,
    };
    ([(CONTENT_TYPE, PROMETHEUS_TEXT)], metrics::render(&figures)).into_response()
}

const NOT_CACHED: HeaderValue = HeaderValue::from_static("no-store");
const PROMETHEUS_TEXT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
/// Below the 10 s that Prometheus gives a scrape by default.
const STATS_TIMEOUT: Duration = Duration::from_secs(2);
/// Answers here are ready at once; what is still open after this is a client that does not read.
const CLOSING_TIME: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
