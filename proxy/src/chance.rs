//! Chance, where it does not matter what comes out: spreading reconnects, telling one run of the proxy from another.
//!
//! Nothing here is fit for secrets. Under the feature `simulation` the simulated machine throws the dice, so that a
//! seed means the same run for ever.

use std::hash::{BuildHasher, RandomState};

/// Some number.
#[must_use]
pub(crate) fn chance() -> u64 {
    #[cfg(feature = "simulation")]
    if let Some(thrown) = crate::simulation::chance() {
        return thrown;
    }
    // The randomness of the standard library's hash seeds is ample.
    RandomState::new().hash_one(0u8)
}
