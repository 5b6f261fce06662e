//! The long poll: asks what the replica is for, and is answered when that changes.

use memcloud_protocol::registration::Assignment;
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use super::client::Client;
use crate::backoff::Backoff;

use std::time::Duration;

/// Asks for whoever `replica` names, for ever. What fails is tried again; heartbeats say the same, only later.
pub(super) async fn watch(
    mut client: Client,
    mut replica: watch::Receiver<Option<u64>>,
    assigned: mpsc::Sender<Assignment>,
) {
    let mut backoff = Backoff::new(BACKOFF_LEAST, BACKOFF_GREATEST);
    let mut etag = None;
    loop {
        let asked = *replica.borrow_and_update();
        let answer = tokio::select! {
            biased;
            changed = replica.changed() => {
                if changed.is_err() {
                    return;
                }
                client.hang_up();
                etag = None;
                continue;
            }
            answer = poll(&mut client, asked, etag.as_deref()) => answer,
        };
        let wait = match answer {
            Ok(Some((assignment, tag))) => {
                etag = tag;
                backoff.reset();
                if assigned.send(assignment).await.is_err() {
                    return;
                }
                // An answer without a tag would be given again at once.
                if etag.is_some() { Duration::ZERO } else { BACKOFF_GREATEST }
            }
            Ok(None) => {
                backoff.reset();
                Duration::ZERO
            }
            Err(failure) => {
                tracing::debug!(reason = %failure, "the long poll was not answered");
                etag = None;
                backoff.next_delay()
            }
        };
        sleep(wait.max(BETWEEN)).await;
    }
}

type Polled = Result<Option<(Assignment, Option<String>)>, super::client::Failure>;

async fn poll(client: &mut Client, replica: Option<u64>, etag: Option<&str>) -> Polled {
    match replica {
        Some(replica) => client.assignment(replica, etag, WAIT).await,
        // Until there is one.
        None => std::future::pending().await,
    }
}

/// Proxies between cut connections that are silent for a minute.
const WAIT: Duration = Duration::from_secs(30);
/// Between two polls, whatever control answers.
const BETWEEN: Duration = Duration::from_millis(50);
const BACKOFF_LEAST: Duration = Duration::from_secs(1);
const BACKOFF_GREATEST: Duration = Duration::from_secs(10);
