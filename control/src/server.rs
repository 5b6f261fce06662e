//! The composition root of `memcloud-control serve`: binds everything, then runs it, then ends it in order.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use memcloud_tls::{BadCertificate, Certificate, Files, server_config};
use metrics_exporter_prometheus::PrometheusBuilder;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::api::{Api, router};
use crate::certificate;
use crate::dns::server::{CannotListen, Plan, bind};
use crate::dns::zone::{BadZone, Zone};
use crate::https::Https;
use crate::keeper::Keeper;
use crate::registrar::{Registrar, Terms};
use crate::store::{Store, StoreError};

/// Requests that have begun are finished within this time; a long poll is cut.
const DRAIN: Duration = Duration::from_secs(5);
/// How long a replica is kept after clients could have learnt that it left, in lives of an answer.
const LEAVE_AFTER_TTLS: u32 = 3;

/// What `serve` is told.
#[derive(Clone, Debug)]
pub struct Options {
    pub http: SocketAddr,
    /// The API speaks TLS, and shows this.
    pub http_tls: Option<Files>,
    pub dns: SocketAddr,
    /// DNS over TLS: where, and what is shown; that of the API where nothing is named.
    pub dns_tls: Option<(SocketAddr, Option<Files>)>,
    pub zone: String,
    pub store: String,
    pub ttl_seconds: u32,
    pub lease_seconds: u32,
    pub dns_sockets: usize,
    pub dns_rate: u32,
    /// Where the directory is kept for a start without the database.
    pub directory_file: Option<PathBuf>,
}

/// Why it does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Bind(#[from] CannotListen),
    #[error(transparent)]
    Certificate(#[from] BadCertificate),
    #[error(
        "--dns-tls needs a certificate to show: name one with --dns-tls-cert and --dns-tls-key, or give the API one"
    )]
    NoCertificate,
    #[error(transparent)]
    Zone(#[from] BadZone),
    #[error("the store {url}: {error}")]
    Store { url: String, error: StoreError },
    #[error("metrics: {0}")]
    Metrics(String),
}

/// Serves until it is told to stop.
///
/// # Errors
/// It cannot start, or a listener fails.
pub async fn serve(options: Options, stop: CancellationToken) -> anyhow::Result<()> {
    let metrics = PrometheusBuilder::new()
        .install_recorder()
        .map_err(|error| StartError::Metrics(error.to_string()))?;
    describe();
    let zone = Zone::new(&options.zone, options.ttl_seconds, own_addresses(options.dns.ip()));
    let zone = Arc::new(zone.map_err(StartError::Zone)?);
    let shown = Shown::of(&options)?;
    let (stop_registrar, stop_keeper) = (CancellationToken::new(), stop.child_token());
    let (store, registrar) = registrar(&options, &stop_registrar).await?;
    let http = TcpListener::bind(options.http).await;
    let http =
        http.map_err(|error| StartError::Bind(CannotListen { what: "HTTP", address: options.http, error }))?;
    let tls = shown.dns.clone().map(|(address, certificate)| (address, certificate as _));
    let plan = Plan { address: options.dns, tls, sockets: options.dns_sockets, rate: options.dns_rate };
    let bound = bind(&plan, &zone, &registrar.shared()).await.map_err(StartError::Bind)?;
    let apps = registrar.view().directory.len();
    tracing::info!(http = %http.local_addr()?, dns = %bound.address(), zone = %zone.name(), apps, "serving");

    let keeper = options.directory_file.clone().map(Keeper::new);
    let (view, changed) = (registrar.shared(), registrar.changed());
    let kept = tokio::spawn(async move {
        if let Some(keeper) = keeper {
            keeper.keep(view, changed, stop_keeper).await;
        }
    });
    let dns = tokio::spawn(bound.serve(stop.clone()));
    let api = router(Api { registrar, zone, metrics, stopping: stop.clone() });
    shown.watch(&stop);
    let asked = stop.clone().cancelled_owned();
    let served = match shown.http {
        Some(certificate) => {
            let https = Https::new(http, server_config(certificate, "http/1.1")?);
            axum::serve(https, api).with_graceful_shutdown(asked).into_future()
        }
        None => axum::serve(http, api).with_graceful_shutdown(asked).into_future(),
    };
    let drained = async {
        stop.cancelled().await;
        tokio::time::sleep(DRAIN).await;
    };
    tokio::select! {
        biased;
        ended = served => ended?,
        () = drained => tracing::info!("some requests were cut off"),
    }
    dns.await?;
    kept.await?;
    stop_registrar.cancel();
    store.close().await;
    Ok(())
}

/// Certificates, each read once.
struct Shown {
    http: Option<Arc<Certificate>>,
    dns: Option<(SocketAddr, Arc<Certificate>)>,
}

impl Shown {
    fn of(options: &Options) -> Result<Self, StartError> {
        let read = |files: &Files| Certificate::new(files.clone()).map(Arc::new);
        let http = options.http_tls.as_ref().map(read).transpose()?;
        let dns = match &options.dns_tls {
            None => None,
            Some((address, Some(files))) if Some(files) != options.http_tls.as_ref() => {
                Some((*address, read(files)?))
            }
            Some((address, _)) => Some((*address, http.clone().ok_or(StartError::NoCertificate)?)),
        };
        Ok(Self { http, dns })
    }

    /// One that both show is looked at once.
    fn watch(&self, stop: &CancellationToken) {
        let of_dns = self.dns.as_ref().map(|(_, certificate)| certificate);
        let of_dns = of_dns.filter(|dns| self.http.as_ref().is_none_or(|http| !Arc::ptr_eq(http, dns)));
        for (certificate, shown_by) in [(self.http.as_ref(), "http"), (of_dns, "dns")] {
            if let Some(certificate) = certificate {
                tokio::spawn(certificate::watch(Arc::clone(certificate), shown_by, stop.clone()));
            }
        }
    }
}

async fn registrar(options: &Options, stop: &CancellationToken) -> Result<(Store, Registrar), StartError> {
    let failed = |error| StartError::Store { url: without_password(&options.store), error };
    let kept = options.directory_file.clone().and_then(|file| match Keeper::new(file).read() {
        Ok(kept) => kept,
        Err(error) => {
            tracing::error!(%error, "what was kept is of no use");
            None
        }
    });
    let (terms, stop) = (terms(options), stop.clone());
    let (store, started) = match kept {
        Some(kept) => {
            let store = Store::later(&options.store).map_err(failed)?;
            (store.clone(), Registrar::start_with(store, kept, terms, stop).await)
        }
        None => {
            let store = Store::open(&options.store).await.map_err(failed)?;
            (store.clone(), Registrar::start(store, terms, stop).await)
        }
    };
    Ok((store, started.map_err(failed)?))
}

fn terms(options: &Options) -> Terms {
    Terms {
        ttl_seconds: options.ttl_seconds,
        lease: SignedDuration::from_secs(options.lease_seconds.into()),
        // Two may be lost.
        heartbeat_seconds: (options.lease_seconds / 3).max(1),
        leave_after: SignedDuration::from_secs((options.ttl_seconds * LEAVE_AFTER_TTLS).into()),
    }
}

/// The address of `ns.<zone>`; a wildcard is none that anybody could ask.
fn own_addresses(address: IpAddr) -> Vec<IpAddr> {
    if address.is_unspecified() { Vec::new() } else { vec![address] }
}

/// As it may stand in a log.
fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    match rest.split_once('@') {
        Some((user, place)) => format!("{scheme}://{}@{place}", user.split(':').next().unwrap_or_default()),
        None => url.to_owned(),
    }
}

fn describe() {
    use metrics::describe_counter as counter;
    let gauges = [
        ("memcloud_control_apps", "Apps."),
        ("memcloud_control_apps_published", "Apps that lookups and DNS know."),
        ("memcloud_control_receipts", "Idempotency keys that are remembered; at most 10,000."),
        ("memcloud_control_store_up", "Whether the database has answered last."),
        ("memcloud_control_zone_serial", "Serial of the zone."),
        ("memcloud_control_requisitions_pending", "Requisitions that nobody has decided."),
        ("memcloud_control_replicas", "Replicas, by state."),
    ];
    for (name, says) in gauges {
        metrics::describe_gauge!(name, says);
    }
    metrics::describe_gauge!(
        "memcloud_control_directory_kept_timestamp_seconds",
        "When the directory was written to --directory-file last."
    );
    counter!("memcloud_control_directory_keep_errors_total", "Writes of --directory-file that failed.");
    metrics::describe_gauge!(
        "memcloud_control_certificate_expiry_timestamp_seconds",
        "Until when the certificate holds that is shown."
    );
    counter!("memcloud_control_certificate_errors_total", "Looks at certificate files that were of no use.");
    counter!(
        "memcloud_control_tls_handshakes_failed_total",
        "Connections to the API that came to no TLS, by reason."
    );
    counter!("memcloud_control_dns_queries_total", "Questions, by transport.");
    counter!("memcloud_control_dns_truncated_total", "Answers that did not fit, and said so.");
    counter!("memcloud_control_dns_limited_total", "Questions by UDP that came too fast from one network.");
    counter!("memcloud_control_dns_refused_total", "Questions outside the zone.");
    counter!("memcloud_control_dns_unsent_total", "Answers that could not be sent.");
    counter!("memcloud_control_heartbeats_dropped_total", "Heartbeats that found too many waiting.");
}

#[cfg(test)]
mod tests {
    use super::without_password;

    #[test]
    fn a_log_shows_no_password() {
        assert_eq!(
            without_password("postgres://ann:secret@db:5432/memcloud"),
            "postgres://ann@db:5432/memcloud"
        );
        assert_eq!(without_password("sqlite:memcloud.db"), "sqlite:memcloud.db");
    }
}
