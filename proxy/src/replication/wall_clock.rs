//! Where time enters.

use std::sync::OnceLock;
use std::time::Duration;

/// Milliseconds since 1970.
#[allow(clippy::disallowed_types, reason = "this is where the clock is fed")]
pub fn wall_clock_ms() -> u64 {
    wall_clock_us(std::time::Instant::now()) / 1000
}

/// Microseconds since 1970 at a moment of the steady clock: whoever has that moment does not ask for the time twice, and
/// is not wrong by as long as it was kept from running in between.
///
/// The wall's time is read once: from then on time passes as the machine's steady clock says, so that somebody who sets
/// the clock does not reorder writes. What a machine believes when its proxy starts is judged by its peers
/// (`max_clock_skew`).
#[allow(clippy::disallowed_types, reason = "this is where the clock is fed")]
pub(crate) fn wall_clock_us(at: std::time::Instant) -> u64 {
    #[cfg(feature = "simulation")]
    if let Some(now_ms) = crate::simulation::wall_clock_ms() {
        return now_ms * 1000;
    }
    static START: OnceLock<(std::time::Instant, Duration)> = OnceLock::new();
    let (start, since_1970) = START.get_or_init(both_clocks);
    let passed = at.saturating_duration_since(*start);
    u64::try_from((*since_1970 + passed).as_micros()).unwrap_or(u64::MAX)
}

/// One moment as both clocks tell it. Of a few looks the quickest: in any other the process may have been kept waiting
/// between the two, and would be late by that for the rest of its life.
#[allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "this is where the clock is fed")]
fn both_clocks() -> (std::time::Instant, Duration) {
    let look = |_| {
        let before = std::time::Instant::now();
        let wall = std::time::SystemTime::now();
        let took = before.elapsed();
        (took, before, wall.duration_since(std::time::UNIX_EPOCH).unwrap_or_default())
    };
    let (_, start, since_1970) =
        (0..LOOKS).map(look).min_by_key(|(took, ..)| *took).unwrap_or_else(|| look(0));
    (start, since_1970)
}

const LOOKS: u32 = 8;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "the clock itself is tested")]
    fn time_passes_as_the_steady_clock_says() {
        let _began = wall_clock_ms();
        let at = std::time::Instant::now();
        let later = at + Duration::from_micros(12_345);
        assert_eq!(wall_clock_us(later) - wall_clock_us(at), 12_345);
        let apart = wall_clock_ms().abs_diff(both_clocks().1.as_millis() as u64);
        assert!(apart < 1000, "{apart} ms");
    }
}
