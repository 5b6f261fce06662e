//! Where time enters.

use std::sync::OnceLock;

/// Milliseconds since 1970. The wall's time is read once: from then on time passes as the machine's steady clock says,
/// so that somebody who sets the clock does not reorder writes. What a machine believes when its proxy starts is
/// judged by its peers (`max_clock_skew`).
#[allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "this is where the clock is fed")]
pub fn wall_clock_ms() -> u64 {
    #[cfg(feature = "simulation")]
    if let Some(now_ms) = crate::simulation::wall_clock_ms() {
        return now_ms;
    }
    static START: OnceLock<(std::time::Instant, u64)> = OnceLock::new();
    let (start, start_ms) = START.get_or_init(|| {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        (std::time::Instant::now(), u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    });
    start_ms.saturating_add(u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX))
}
