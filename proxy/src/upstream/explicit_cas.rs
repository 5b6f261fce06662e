//! Whether memcached can be told the CAS of an item (flag `E`, since 1.6.27), and with which requests.
//!
//! Asked with a store that stores nothing: a replacement of an item that is not there. One that knows the flag answers
//! `NS`, an older one `CLIENT_ERROR invalid flag`.

use memcloud_protocol::memcache::text::StoreVerb;

/// How far classic storage commands may go up as `ms … E`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ExplicitCas {
    /// Key and value of an `add` and its like, at most: a refused `ms` takes the old item away, a refused `add` leaves it.
    conditional_bytes_max: u64,
}

impl ExplicitCas {
    /// The question.
    pub(super) const PROBE: &'static [u8] = b"ms memcloud:probe 0 E1 MR\r\n\r\n";

    /// From its answer, and the lines of `stats settings`.
    pub(super) fn of(answer: &[Vec<u8>], settings: &[Vec<u8>]) -> Option<Self> {
        let setting = |name: &str| {
            let head = format!("STAT {name} ");
            settings.iter().find_map(|line| line.strip_prefix(head.as_bytes()))
        };
        let knows = matches!(answer, [line] if line == b"NS");
        if !knows || setting("cas_enabled") == Some(b"no") {
            return None;
        }
        let item_size_max =
            setting("item_size_max").and_then(|size| std::str::from_utf8(size).ok()?.parse().ok());
        // One that evicts nothing (`-M`) refuses whatever comes when it is full.
        let evicts = setting("evictions") == Some(b"on");
        let conditional_bytes_max =
            if evicts { item_size_max.unwrap_or(0_u64).saturating_sub(ITEM_OVERHEAD) } else { 0 };
        Some(Self { conditional_bytes_max })
    }

    /// Whether a store of a key and value of so many bytes may go up as `ms` without an app seeing it.
    pub(crate) fn fits(&self, verb: StoreVerb, bytes: usize) -> bool {
        verb == StoreVerb::Set || bytes as u64 <= self.conditional_bytes_max
    }
}

/// What an item has beside key and value, at most: header, CAS, flags, line end, the header of a chunk.
const ITEM_OVERHEAD: u64 = 256;

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(text: &str) -> Vec<Vec<u8>> {
        text.lines().map(|line| line.as_bytes().to_vec()).collect()
    }

    #[test]
    fn answers_of_servers() {
        let settings = "STAT cas_enabled yes\nSTAT evictions on\nSTAT item_size_max 1024";
        let of = |answer: &str, settings: &str| ExplicitCas::of(&lines(answer), &lines(settings));
        assert_eq!(of("CLIENT_ERROR invalid flag", settings), None);
        assert_eq!(of("NS", &settings.replace("cas_enabled yes", "cas_enabled no")), None);
        assert_eq!(of("NS", settings), Some(ExplicitCas { conditional_bytes_max: 768 }));
        let full = of("NS", &settings.replace("evictions on", "evictions off")).expect("it knows the flag");
        assert!(full.fits(StoreVerb::Set, 1) && !full.fits(StoreVerb::Add, 1));
    }

    #[test]
    fn what_an_app_could_see_goes_up_as_it_came() {
        let explicit = ExplicitCas { conditional_bytes_max: 10 };
        assert!(explicit.fits(StoreVerb::Add, 10) && !explicit.fits(StoreVerb::Append, 11));
        assert!(explicit.fits(StoreVerb::Set, 11), "a refused set takes the old item away in either form");
    }
}
