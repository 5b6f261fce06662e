//! What the operating system asks of the process.

use std::io;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Calls `hung_up` at each SIGHUP. Cancels `stop` at the first SIGTERM or SIGINT, so that the proxy drains. Returns at the second one: whoever asks
/// twice does not want to wait.
///
/// # Errors
/// The operating system takes no handler.
pub async fn ask_twice(stop: CancellationToken, hung_up: impl Fn()) -> io::Result<()> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let mut hangup = signal(SignalKind::hangup())?;
    loop {
        let name = tokio::select! {
            biased;
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
            _ = hangup.recv() => {
                hung_up();
                continue;
            }
        };
        if stop.is_cancelled() {
            return Ok(());
        }
        tracing::info!(signal = name, "draining");
        stop.cancel();
    }
}
