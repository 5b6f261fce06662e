//! memcached's own list of what it holds: `lru_crawler metadump hash`.
//!
//! A thread of memcached's own walks through the hash table and writes a line for each item. `hash` is asked for because
//! the other way, by LRU classes, misses items that move between them (tried: 134 of a million that nobody touched).
//! Keys come URI-encoded, so that no byte of a key can break a line; `mgdump` writes keys of the binary protocol as they
//! are, and is no faster.
//!
//! What has to be known of it (all tried, or read in its source):
//!
//! - There is one crawl at a time: another one hears `BUSY`, and is to try again. So does an app's while ours is on.
//! - From 1.6.43 the list begins with `OK`. While the hash table grows `ERROR locked try again later` follows; older
//!   ones wait, and so do we.
//! - Whoever does not read for a second is sent the same bytes again from the middle of a line. Hence the list is read as
//!   fast as it comes and never held up; a line that is none ends the walk.
//! - The hash table does not grow while it is walked through.
//! - It can be switched off (`-X`, `-o no_lru_crawler`): [`CrawlError::Refused`] has memcached's words.

use std::io;
use std::time::Duration;

use memchr::memchr;
use memcloud_protocol::memcache::expiry::Expiry;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep};

use super::local::{Local, out_of_step};
use crate::config::Address;

/// An item as it is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Line<'a> {
    encoded: &'a [u8],
    pub(crate) expiry: Expiry,
    /// 0 for a server without (`-C`).
    pub(crate) cas: u64,
    /// Of the item in memory, with its key and a header.
    pub(crate) size: u64,
}

/// Why there is no list.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CrawlError {
    #[error("memcached lists no items: `{0}`")]
    Refused(String),
    #[error("memcached's crawler is busy for others since {0:?}")]
    Busy(Duration),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Has every item listed to `each`, in no order, expired ones left out. One that is written meanwhile may be listed or
/// not; one that is there all the time is.
pub(crate) async fn crawl(
    addr: &Address,
    patience: Duration,
    mut each: impl FnMut(Line<'_>),
) -> Result<(), CrawlError> {
    let began = Instant::now();
    let mut which = HASH;
    loop {
        // A connection of its own each time: one on which a list was begun is of no other use.
        let mut local = Local::connect(addr, patience).await?;
        local.write(which).await?;
        match list(&mut local, &mut each).await? {
            End::Whole => return Ok(()),
            // memcached before 1.5 knows classes alone.
            End::Refused(why) if why.starts_with("BADCLASS") && which == HASH => which = ALL,
            End::Refused(why) => return Err(CrawlError::Refused(why)),
            End::Busy if began.elapsed() > BUSY_PATIENCE => return Err(CrawlError::Busy(began.elapsed())),
            End::Busy => sleep(BUSY_PAUSE).await,
        }
    }
}

/// How a list ended. One that ended `Busy` or `Refused` had no items yet.
enum End {
    Whole,
    Busy,
    Refused(String),
}

async fn list(local: &mut Local, each: &mut impl FnMut(Line<'_>)) -> io::Result<End> {
    loop {
        let lines = local.lines().await?;
        for line in lines.split(|&byte| byte == b'\n') {
            if let Some(item) = line.strip_prefix(b"key=") {
                each(Line::read(item).ok_or_else(out_of_step)?);
                continue;
            }
            match line.trim_ascii_end() {
                b"END" => return Ok(End::Whole),
                b"" | b"OK" => {}
                busy if busy.starts_with(b"BUSY") || busy.starts_with(b"ERROR locked") => {
                    return Ok(End::Busy);
                }
                other => return Ok(End::Refused(String::from_utf8_lossy(other).into_owned())),
            }
        }
        // A long list comes faster than it is waited for; others on this thread have a turn between.
        yield_now().await;
    }
}

impl<'a> Line<'a> {
    /// What is behind `key=`: `a%20b exp=-1 la=… cas=… fetch=no cls=1 size=66 …`.
    fn read(line: &'a [u8]) -> Option<Self> {
        let (encoded, mut rest) = line.split_at(memchr(b' ', line)?);
        let (mut expiry, mut cas, mut size) = (None, None, None);
        while let [b' ', field @ ..] = rest {
            let (field, behind) = field.split_at(memchr(b' ', field).unwrap_or(field.len()));
            rest = behind;
            if let Some(at_s) = field.strip_prefix(b"exp=") {
                expiry = Some(if at_s == b"-1" { Expiry::Never } else { Expiry::At(digits(at_s)?) });
            } else if let Some(token) = field.strip_prefix(b"cas=") {
                cas = Some(digits(token)?);
            } else if let Some(bytes) = field.strip_prefix(b"size=") {
                size = Some(digits(bytes)?);
            }
        }
        Some(Self { encoded, expiry: expiry?, cas: cas?, size: size? })
    }

    /// Replaces `out` by the bytes of the key. False: it is none.
    pub(crate) fn key(&self, out: &mut Vec<u8>) -> bool {
        out.clear();
        let mut rest = self.encoded;
        while let Some(at) = memchr(b'%', rest) {
            let digits = rest.get(at + 1..at + 3).and_then(|two| std::str::from_utf8(two).ok());
            let Some(byte) = digits.and_then(|two| u8::from_str_radix(two, 16).ok()) else { return false };
            out.extend_from_slice(&rest[..at]);
            out.push(byte);
            rest = &rest[at + 3..];
        }
        out.extend_from_slice(rest);
        !out.is_empty()
    }
}

fn digits(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.trim_ascii_end().parse().ok()
}

const HASH: &[u8] = b"lru_crawler metadump hash\r\n";
const ALL: &[u8] = b"lru_crawler metadump all\r\n";
const BUSY_PAUSE: Duration = Duration::from_millis(10);
/// memcached crawls by itself as well, for seconds where it holds much.
const BUSY_PATIENCE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Option<(Vec<u8>, Expiry, u64, u64)> {
        let line = Line::read(line.as_bytes())?;
        let mut key = Vec::new();
        line.key(&mut key).then_some((key, line.expiry, line.cas, line.size))
    }

    #[test]
    fn lines_of_old_and_new_servers() {
        let old = "key%3A0 exp=1795383033 la=1795379433 cas=1 fetch=no cls=4 size=164";
        assert_eq!(read(old), Some((b"key:0".to_vec(), Expiry::At(1_795_383_033), 1, 164)));
        let new = "a%20%0D%0a%00%25k exp=-1 la=1795379483 cas=3 fetch=yes cls=4 size=164 flags=0 ";
        assert_eq!(read(new), Some((b"a \r\n\0%k".to_vec(), Expiry::Never, 3, 164)));
    }

    #[test]
    fn what_is_no_line_of_a_list() {
        for line in [
            "a",
            "a exp=-1 la=1 cas=2",
            "a exp=-2 cas=1 size=1",
            "a exp=1 cas=x size=1",
            "a%2 exp=-1 cas=1 size=1",
            "a%zz exp=-1 cas=1 size=1",
            " exp=-1 cas=1 size=1",
            "a exp=-1 cas=1 size=66key=b exp=-1",
        ] {
            assert_eq!(read(line), None, "{line}");
        }
    }
}
