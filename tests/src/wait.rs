//! Waiting for a condition, with a deadline and a reason.

use std::time::{Duration, Instant};

/// Asks `probe` again and again until it gives a value; panics with `what` once `within` has passed.
pub fn eventually<T>(what: &str, within: Duration, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + within;
    loop {
        if let Some(value) = probe() {
            return value;
        }
        assert!(Instant::now() < deadline, "still not after {within:?}: {what}");
        std::thread::sleep(PAUSE);
    }
}

/// How long a test runs: from the environment, so that `make test` is short and the full check long.
pub fn seconds_from_env(name: &str, default: f64) -> Duration {
    let seconds = std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    Duration::from_secs_f64(seconds)
}

/// Between two looks at a condition: long against a look, short against any deadline.
const PAUSE: Duration = Duration::from_millis(10);
