//! Who a memcached is, and how much it holds: what `stats` says.

use std::collections::HashMap;

use super::{Inventory, InventoryError};
use crate::memcached::local::{Local, out_of_step};

/// What a memcached says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Survey {
    /// Of its process. With `start` it names one life of it: another one begins empty.
    pub pid: u64,
    /// Seconds since 1970, by its own clock.
    pub start: u64,
    /// Items it holds, expired ones that were not met yet included.
    pub curr_items: u64,
    /// Bytes they take.
    pub bytes: u64,
    /// `1.6.18`
    pub version: String,
}

impl Survey {
    /// Whether both were said in one life of one process.
    pub fn is_same_life(&self, other: &Self) -> bool {
        (self.pid, self.start, &self.version) == (other.pid, other.start, &other.version)
    }

    fn read(mut stats: HashMap<String, String>) -> Option<Self> {
        let number = |name: &str| stats.get(name)?.parse::<u64>().ok();
        let (pid, curr_items, bytes) = (number("pid")?, number("curr_items")?, number("bytes")?);
        let start = number("time")?.checked_sub(number("uptime")?)?;
        Some(Self { pid, start, curr_items, bytes, version: stats.remove("version")? })
    }
}

impl Inventory {
    /// Asks memcached who it is.
    ///
    /// # Errors
    /// It cannot be asked, or does not tell.
    pub async fn survey(&self) -> Result<Survey, InventoryError> {
        let mut local = Local::connect(&self.addr, self.patience).await?;
        local.write(b"stats\r\n").await?;
        let mut stats = HashMap::new();
        while stats.len() < STATS_MAX {
            let line = local.line().await?;
            let line = String::from_utf8_lossy(&line);
            let Some(stat) = line.strip_prefix("STAT ") else {
                return match line.as_ref() {
                    "END" => Survey::read(stats).ok_or_else(|| out_of_step().into()),
                    refusal => Err(InventoryError::Refused(refusal.to_owned())),
                };
            };
            if let Some((name, value)) = stat.split_once(' ') {
                stats.insert(name.to_owned(), value.to_owned());
            }
        }
        Err(out_of_step().into())
    }
}

/// memcached 1.6.45 has about a hundred.
const STATS_MAX: usize = 1000;
