//! What is behind listed keys: values read in batches, at a pace, and forgotten again but for a number each.
//!
//! A batch is one write, small enough to lie in the sockets' buffers as a whole, so that memcached can always read on
//! and never waits for us while we wait for it.

use std::hash::Hasher;
use std::io;

use memcloud_protocol::memcache::binary::{Opcode, status};
use memcloud_protocol::memcache::expiry::Expiry;
use twox_hash::XxHash3_64;

use super::{Entry, Inventory, InventoryError, Listed, Throttle};
use crate::memcached::commands;
use crate::memcached::local::{Local, out_of_step};

impl Inventory {
    /// Reads listed items, in their order. Those that are gone meanwhile are left out.
    ///
    /// # Errors
    /// memcached does not answer, or not so that it makes sense.
    pub async fn digests(
        &self,
        listed: Vec<Listed>,
        throttle: &mut Throttle,
    ) -> Result<Vec<Entry>, InventoryError> {
        let mut entries = Vec::with_capacity(listed.len());
        if listed.is_empty() {
            return Ok(entries);
        }
        let mut reading = Reading::begin(self).await?;
        let mut listed = listed.into_iter().peekable();
        let mut batch = Vec::with_capacity(BATCH_ITEMS);
        while listed.peek().is_some() {
            let mut expected = 0;
            while let Some(next) = listed.next_if(|next| has_room(batch.len(), expected, next.size)) {
                expected += next.size;
                batch.push(next);
            }
            reading.ask(&batch).await?;
            for item in batch.drain(..) {
                let found = match commands::is_speakable(&item.key) {
                    true => reading.answer(&item.key).await?,
                    false => reading.packet(&item).await?,
                };
                if let Some(Found { digest, expiry, cas }) = found {
                    entries.push(Entry { hash: item.hash, key: item.key, digest, expiry, cas });
                }
            }
            reading.give_back().await?;
            // What a batch is going to be is a guess; what it was is known.
            throttle.pace(std::mem::take(&mut reading.bytes)).await;
            tokio::task::yield_now().await;
        }
        Ok(entries)
    }
}

/// Whether an item of `size` bytes still goes into a batch; one alone always does.
fn has_room(items: usize, expected: u64, size: u64) -> bool {
    items == 0 || (items < BATCH_ITEMS && expected + size <= BATCH_BYTES)
}

struct Found {
    digest: u64,
    expiry: Expiry,
    cas: u64,
}

/// The connections on which items are read.
struct Reading<'a> {
    of: &'a Inventory,
    text: Local,
    /// For keys that no text names; made when the first one comes.
    binary: Option<Local>,
    requests: Vec<u8>,
    /// What was read since the pace was last asked.
    bytes: u64,
    /// What gives back the wins that a batch took, and how many answers that will have.
    wins: Vec<u8>,
    won: usize,
}

impl<'a> Reading<'a> {
    async fn begin(of: &'a Inventory) -> io::Result<Self> {
        let text = Local::connect(&of.addr, of.patience).await?;
        Ok(Self { of, text, binary: None, requests: Vec::new(), bytes: 0, wins: Vec::new(), won: 0 })
    }

    /// Asks for all of a batch that text can name.
    async fn ask(&mut self, batch: &[Listed]) -> io::Result<()> {
        self.requests.clear();
        for item in batch.iter().filter(|item| commands::is_speakable(&item.key)) {
            commands::read(&mut self.requests, &item.key);
        }
        self.text.write(&self.requests).await
    }

    /// The answer to `mg … c t f v u`.
    async fn answer(&mut self, key: &[u8]) -> Result<Option<Found>, InventoryError> {
        let line = self.text.line().await?;
        self.bytes += ANSWER_BYTES + key.len() as u64;
        let Some(item) = line.strip_prefix(b"VA ") else {
            return match line.as_ref() {
                b"EN" => Ok(None),
                other => Err(InventoryError::Refused(String::from_utf8_lossy(other).into_owned())),
            };
        };
        let item = Item::read(item).ok_or_else(out_of_step)?;
        self.bytes += item.len as u64;
        let digest = digest(&mut self.text, item.seed(), item.len).await?;
        if item.won {
            commands::give_win_back(&mut self.wins, key, item.cas);
            self.won += 1;
        }
        let expiry = Expiry::from_ttl_left(item.ttl, (self.of.clock)());
        // Given back, the item has a new CAS, which nobody tells.
        let cas = if item.won { 0 } else { item.cas };
        Ok(Some(Found { digest, expiry, cas }).filter(|found| found.expiry != Expiry::Past))
    }

    /// An item by the binary protocol, with the expiry that was listed for it.
    async fn packet(&mut self, item: &Listed) -> Result<Option<Found>, InventoryError> {
        let binary = match self.binary.take() {
            Some(binary) => binary,
            None => Local::connect_binary(&self.of.addr, self.of.patience).await?,
        };
        let binary = self.binary.insert(binary);
        let mut get = Vec::new();
        commands::packet(&mut get, Opcode::Get, &[], &item.key, b"");
        binary.write(&get).await?;
        let (header, body) = binary.packet().await?;
        self.bytes += ANSWER_BYTES + body.len() as u64;
        let past = matches!(item.expiry, Expiry::At(at_s) if at_s <= (self.of.clock)());
        if header.status_or_vbucket != status::SUCCESS || header.cas != item.cas || past {
            return Ok(None);
        }
        let (extras, key_len) = (usize::from(header.extras_len), usize::from(header.key_len));
        let flags = body.get(..extras).and_then(|extras| extras.first_chunk()).ok_or_else(out_of_step)?;
        let value = body.get(extras + key_len..).ok_or_else(out_of_step)?;
        let seed = seed(u32::from_be_bytes(*flags).into(), false);
        let digest = XxHash3_64::oneshot_with_seed(seed, value);
        Ok(Some(Found { digest, expiry: item.expiry, cas: header.cas }))
    }

    /// Gives back the wins that were taken. It may come too late for one, and then there is nothing to give.
    async fn give_back(&mut self) -> io::Result<()> {
        if self.won > 0 {
            self.text.write(&self.wins).await?;
            self.wins.clear();
        }
        for _ in 0..std::mem::take(&mut self.won) {
            self.text.line().await?;
        }
        Ok(())
    }
}

/// What stands before a value.
struct Item {
    len: usize,
    cas: u64,
    ttl: i64,
    flags: u64,
    stale: bool,
    won: bool,
}

impl Item {
    /// What is behind `VA `: `5 c9 t-1 f0`, and marks.
    fn read(line: &[u8]) -> Option<Self> {
        let mut tokens = std::str::from_utf8(line).ok()?.split_ascii_whitespace();
        let len = tokens.next()?.parse().ok()?;
        let mut item = Self { len, cas: 0, ttl: -1, flags: 0, stale: false, won: false };
        for token in tokens {
            let (letter, number) = token.split_at_checked(1)?;
            match letter {
                "c" => item.cas = number.parse().ok()?,
                "t" => item.ttl = number.parse().ok()?,
                // 64 bits where memcached was built so.
                "f" => item.flags = number.parse().ok()?,
                "X" => item.stale = true,
                "W" => item.won = true,
                _ => {}
            }
        }
        Some(item)
    }

    fn seed(&self) -> u64 {
        seed(self.flags, self.stale)
    }
}

/// What an app sees beside the value goes into the seed of its digest.
fn seed(flags: u64, stale: bool) -> u64 {
    flags ^ if stale { STALE } else { 0 }
}

/// The digest of a value that is about to come, of which no more than a part is in memory.
async fn digest(local: &mut Local, seed: u64, len: usize) -> io::Result<u64> {
    if len <= WHOLE_BYTES_MAX {
        return Ok(XxHash3_64::oneshot_with_seed(seed, &local.block(len).await?));
    }
    let mut hasher = XxHash3_64::with_seed(seed);
    let mut left = len;
    while left > 0 {
        let part = local.part(left).await?;
        hasher.write(&part);
        left -= part.len();
    }
    local.block(0).await?;
    Ok(hasher.finish())
}

/// With the longest keys 18 KiB of requests, a fraction of what a socket takes in.
const BATCH_ITEMS: usize = 64;
/// Larger batches are no faster, and an app's request waits behind one.
const BATCH_BYTES: u64 = 128 << 10;
/// About what a request and its answer take beside key and value.
const ANSWER_BYTES: u64 = 40;
const WHOLE_BYTES_MAX: usize = 64 << 10;
/// The top bit of the flags, which memcached's own 32 bits leave free.
const STALE: u64 = 1 << 63;

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::io::AsyncWriteExt;

    use super::*;

    #[test]
    fn what_stands_before_a_value() {
        let item = Item::read(b"5 c18446744073709551615 t-1 f4294967295 W X Z").unwrap();
        assert_eq!((item.len, item.cas, item.ttl), (5, u64::MAX, -1));
        assert_eq!((item.flags, item.stale, item.won), (u64::from(u32::MAX), true, true));
        assert!(Item::read(b"5").is_some_and(|item| !item.stale && !item.won));
        for line in [&b""[..], b"x", b"5 cx", b"5 t", b"-1 t1", "5 ä".as_bytes(), b"5 \xff"] {
            assert!(Item::read(line).is_none(), "{line:?}");
        }
    }

    #[test]
    fn flags_and_marks_are_part_of_a_digest() {
        let digests = [seed(0, false), seed(1, false), seed(0, true)]
            .map(|seed| XxHash3_64::oneshot_with_seed(seed, b"value"));
        assert!(digests[0] != digests[1] && digests[1] != digests[2] && digests[0] != digests[2]);
    }

    #[test]
    fn batches_are_bounded() {
        assert!(has_room(0, 0, u64::MAX), "the largest item goes alone");
        assert!(has_room(1, 0, BATCH_BYTES) && !has_room(1, 1, BATCH_BYTES));
        assert!(has_room(BATCH_ITEMS - 1, 0, 1) && !has_room(BATCH_ITEMS, 0, 1));
    }

    /// What becomes of a value of which memcached says that it has `len` bytes, and sends no more than these.
    async fn digest_of(len: usize, sent: Vec<u8>) -> io::Result<u64> {
        let (near, mut memcached) = tokio::io::duplex(4096);
        let server = tokio::spawn(async move {
            let _ = memcached.write_all(&sent).await;
        });
        let digest = digest(&mut Local::over(Box::new(near), Duration::from_secs(60)), 7, len).await;
        server.abort();
        digest
    }

    #[tokio::test]
    async fn a_value_beyond_the_bound_is_never_held_as_a_whole() {
        for len in [WHOLE_BYTES_MAX, WHOLE_BYTES_MAX + 1] {
            let value: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
            let digest = digest_of(len, [&value[..], b"\r\n"].concat()).await.unwrap();
            assert_eq!(digest, XxHash3_64::oneshot_with_seed(7, &value), "{len}");
        }
        // No memory could hold it: as a whole it would not even be counted.
        let error = digest_of(usize::MAX, vec![b'v'; 3 * WHOLE_BYTES_MAX]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    }

    proptest::proptest! {
        #[test]
        fn in_parts_or_whole_a_digest_is_the_same(value in proptest::collection::vec(0_u8.., 0..2_000), seed: u64, part in 1_usize..300) {
            let mut hasher = XxHash3_64::with_seed(seed);
            value.chunks(part).for_each(|part| hasher.write(part));
            proptest::prop_assert_eq!(hasher.finish(), XxHash3_64::oneshot_with_seed(seed, &value));
        }
    }
}
