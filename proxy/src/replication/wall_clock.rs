//! Where time enters.

use std::sync::OnceLock;
use std::time::Duration;

/// Milliseconds since 1970. The wall's time is read once: from then on time passes as the machine's steady clock says,
/// so that somebody who sets the clock does not reorder writes. What a machine believes when its proxy starts is
/// judged by its peers (`max_clock_skew`).
#[allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "this is where the clock is fed")]
pub fn wall_clock_ms() -> u64 {
    #[cfg(feature = "simulation")]
    if let Some(now_ms) = crate::simulation::wall_clock_ms() {
        return now_ms;
    }
    static START: OnceLock<(std::time::Instant, Duration)> = OnceLock::new();
    let (start, since_1970) = START.get_or_init(|| {
        let since_1970 = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        (std::time::Instant::now(), since_1970.unwrap_or_default())
    });
    u64::try_from((*since_1970 + start.elapsed()).as_millis()).unwrap_or(u64::MAX)
}
