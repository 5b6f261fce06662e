//! Certificates of the servers: looked at every few seconds, so that files which are rotated are shown without a restart.
//!
//! Promises that a file which is of no use leaves the certificate before it in place, is said once in the log, and is counted at each look.

use std::sync::Arc;
use std::time::Duration;

use memcloud_tls::{BadCertificate, Certificate, Look};
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// Rotation happens days before the end of a certificate.
const EVERY: Duration = Duration::from_secs(5);

/// Looks at the files until `stop`. `shown_by` names the server in metrics.
pub async fn watch(certificate: Arc<Certificate>, shown_by: &'static str, stop: CancellationToken) {
    let mut said = None;
    show(&certificate, shown_by);
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = sleep(EVERY) => {}
        }
        let looked = Arc::clone(&certificate);
        match spawn_blocking(move || looked.look()).await {
            Ok(look) => said = judge(&look, &certificate, shown_by, said),
            Err(error) => tracing::error!(%error, "the certificate could not be looked at"),
        }
    }
}

/// What is wrong with the files now, having been said.
fn judge(
    look: &Look,
    certificate: &Certificate,
    shown_by: &'static str,
    said: Option<BadCertificate>,
) -> Option<BadCertificate> {
    let file = certificate.files().certificate.display();
    match look {
        Look::Same => None,
        Look::Replaced => {
            tracing::info!(%file, "a new certificate is shown");
            show(certificate, shown_by);
            None
        }
        Look::Failed(bad) => {
            metrics::counter!("memcloud_control_certificate_errors_total", "shown_by" => shown_by)
                .increment(1);
            if said.as_ref() != Some(bad) {
                tracing::error!(reason = %bad, "the new certificate is of no use; the one before is shown as before");
            }
            Some(bad.clone())
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "seconds since 1970 need 34 bits of the 53")]
fn show(certificate: &Certificate, shown_by: &'static str) {
    metrics::counter!("memcloud_control_certificate_errors_total", "shown_by" => shown_by).increment(0);
    if let Some(expires) = certificate.expires() {
        metrics::gauge!("memcloud_control_certificate_expiry_timestamp_seconds", "shown_by" => shown_by)
            .set(expires as f64);
    }
}
