//! Whether event loops turn. Each loop beats a counter at least once a second; whoever asks compares with what was
//! seen before. So nobody keeps a timer for it, and a loop that hangs cannot pretend.

use std::time::Duration;

use tokio::time::Instant;

/// What was seen of each loop.
#[derive(Debug, Default)]
pub struct Liveness {
    loops: Vec<Seen>,
}

#[derive(Debug)]
struct Seen {
    beats: u64,
    changed: Instant,
}

impl Liveness {
    /// Takes the beats of all loops, always in the same order.
    ///
    /// # Errors
    /// The first loop that has stood still for longer than a busy machine explains.
    pub fn check(&mut self, beats: &[u64], now: Instant) -> Result<(), String> {
        self.loops.resize_with(beats.len(), || Seen { beats: u64::MAX, changed: now });
        for (seen, &beats) in self.loops.iter_mut().zip(beats) {
            if seen.beats != beats {
                *seen = Seen { beats, changed: now };
            }
        }
        let still = |seen: &Seen| now.saturating_duration_since(seen.changed);
        match self.loops.iter().position(|seen| still(seen) > STANDSTILL_MAX) {
            Some(index) => {
                let seconds = self.loops.get(index).map_or(0, |seen| still(seen).as_secs());
                Err(format!("the event loop of worker {index} has not turned for {seconds} s"))
            }
            None => Ok(()),
        }
    }
}

/// Ten missed beats. A longer stall is visible to apps, and a restart of the process is then the better evil.
const STANDSTILL_MAX: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_that_stands_still_is_named() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut liveness = Liveness::default();
        assert_eq!(liveness.check(&[0, 0], at(0)), Ok(()));
        assert_eq!(liveness.check(&[9, 0], at(10)), Ok(()));
        assert_eq!(
            liveness.check(&[10, 0], at(11)),
            Err("the event loop of worker 1 has not turned for 11 s".to_owned())
        );
        assert_eq!(liveness.check(&[10, 1], at(12)), Ok(()), "it turns again");
    }

    #[test]
    fn the_first_look_after_a_long_time_accuses_nobody() {
        let mut liveness = Liveness::default();
        let start = Instant::now();
        assert_eq!(liveness.check(&[5], start), Ok(()));
        assert_eq!(liveness.check(&[600], start + Duration::from_secs(3600)), Ok(()));
    }
}
