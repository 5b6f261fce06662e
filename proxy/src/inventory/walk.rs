//! One walk through all of a memcached, of which a span of hashes is kept.

use std::io;

use super::{Inventory, InventoryError, Listed, Span, hash};
use crate::memcached::crawler::crawl;
use crate::memcached::local::out_of_step;

impl Inventory {
    /// The items of a span, by hash and then by key.
    ///
    /// # Errors
    /// memcached lists nothing, breaks off, or holds more than [`WALK_ITEMS_MAX`] items in the span.
    pub async fn walk(&self, span: Span) -> Result<Vec<Listed>, InventoryError> {
        self.walk_at_most(span, WALK_ITEMS_MAX).await
    }

    /// The same with a bound of the caller's.
    ///
    /// # Errors
    /// As [`walk`](Self::walk).
    pub async fn walk_at_most(&self, span: Span, items_max: usize) -> Result<Vec<Listed>, InventoryError> {
        let (mut listed, mut key, mut too_many, mut nameless) = (Vec::new(), Vec::new(), false, false);
        crawl(&self.addr, self.patience, |line| {
            nameless |= !line.key(&mut key);
            let hash = hash(&key);
            if !span.contains(hash) {
                return;
            }
            // The list goes on to its end all the same: that is soon, and leaves memcached's crawler in peace.
            too_many |= listed.len() >= items_max;
            if !too_many && !nameless {
                let (expiry, cas, size) = (line.expiry, line.cas, line.size);
                listed.push(Listed { hash, key: key.as_slice().into(), expiry, cas, size });
            }
        })
        .await?;
        if nameless {
            return Err(out_of_step().into());
        }
        if too_many {
            return Err(InventoryError::TooMany(items_max));
        }
        // A million items take a moment, which belongs to no event loop.
        let sort = move || {
            listed.sort_unstable_by(|a, b| (a.hash, &a.key).cmp(&(b.hash, &b.key)));
            // An item that was replaced during the walk may have been met twice.
            listed.dedup_by(|a, b| a.key == b.key);
            listed.shrink_to_fit();
            listed
        };
        #[cfg(feature = "simulation")]
        if crate::simulation::machine().is_some() {
            return Ok(sort());
        }
        tokio::task::spawn_blocking(sort).await.map_err(|error| io::Error::other(error).into())
    }
}

/// What one walk keeps at most: about 100 bytes and the key each. Callers aim at half of it, so that growth and chance
/// do not matter.
pub const WALK_ITEMS_MAX: usize = 1 << 20;
