//! Against reflection (pure): a source that asks by UDP more often than clients do gets no more than a nudge to come by TCP, which a
//! forged address cannot follow. As in BIND's response rate limiting: sources are whole networks, and every second refused answer
//! slips through, truncated to nothing but the question.

use std::collections::HashMap;
use std::net::IpAddr;

/// Networks that are remembered. When there are more, all begin anew: an attacker with so many can be limited by nobody alone.
pub const SOURCES_MAX: usize = 65_536;

/// What becomes of an answer by UDP.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Verdict {
    Answer,
    /// The question with TC set: whoever really asks comes back by TCP.
    Slip,
    Drop,
}

/// Token buckets by network.
#[derive(Debug)]
pub struct Limits {
    /// Answers a second for each network; 0: no limit.
    rate: u32,
    buckets: HashMap<Network, Bucket>,
}

/// 24 bits of an IPv4 address, 56 of an IPv6 one: what one site has.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Network {
    V4([u8; 3]),
    V6([u8; 7]),
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    at_ms: u64,
    refused: u32,
}

impl Limits {
    #[must_use]
    pub fn new(rate: u32) -> Self {
        Self { rate, buckets: HashMap::new() }
    }

    /// Decides about one answer. A second's worth may come at once.
    pub fn ask(&mut self, source: IpAddr, now_ms: u64) -> Verdict {
        if self.rate == 0 || source.is_loopback() {
            return Verdict::Answer;
        }
        let network = network(source);
        if self.buckets.len() >= SOURCES_MAX && !self.buckets.contains_key(&network) {
            self.buckets.clear();
        }
        let most = f64::from(self.rate);
        let bucket =
            self.buckets.entry(network).or_insert(Bucket { tokens: most, at_ms: now_ms, refused: 0 });
        let seconds = now_ms.saturating_sub(bucket.at_ms) as f64 / 1_000.0;
        bucket.tokens = (bucket.tokens + seconds * most).min(most);
        bucket.at_ms = now_ms;
        if bucket.tokens >= 1.0 {
            bucket.tokens -= 1.0;
            return Verdict::Answer;
        }
        bucket.refused = bucket.refused.wrapping_add(1);
        if bucket.refused % 2 == 1 { Verdict::Slip } else { Verdict::Drop }
    }

    /// Networks that are remembered now.
    #[must_use]
    pub fn sources(&self) -> usize {
        self.buckets.len()
    }
}

fn network(source: IpAddr) -> Network {
    match source.to_canonical() {
        IpAddr::V4(address) => {
            let [a, b, c, _] = address.octets();
            Network::V4([a, b, c])
        }
        IpAddr::V6(address) => {
            let [a, b, c, d, e, f, g, ..] = address.octets();
            Network::V6([a, b, c, d, e, f, g])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(last: [u8; 2]) -> IpAddr {
        IpAddr::from([192, 0, last[0], last[1]])
    }

    #[test]
    fn a_network_has_its_rate_and_no_more() {
        let mut limits = Limits::new(10);
        let asked: Vec<Verdict> = (0..14).map(|number| limits.ask(v4([2, number]), 1_000)).collect();
        assert_eq!(asked[..10], [Verdict::Answer; 10]);
        assert_eq!(asked[10..], [Verdict::Slip, Verdict::Drop, Verdict::Slip, Verdict::Drop]);
        assert_eq!(limits.ask(v4([3, 1]), 1_000), Verdict::Answer, "another network");
        assert_eq!(limits.ask(v4([2, 1]), 1_100), Verdict::Answer, "a tenth of a second later, one more");
        assert_eq!(limits.ask(v4([2, 1]), 1_100), Verdict::Slip);
        assert_eq!(limits.ask(v4([2, 1]), 900), Verdict::Drop, "time that goes backwards gives nothing");
    }

    #[test]
    fn loopback_and_no_limit() {
        let mut limits = Limits::new(1);
        assert!((0..100).all(|_| limits.ask(IpAddr::from([127, 0, 0, 1]), 0) == Verdict::Answer));
        let mut limits = Limits::new(0);
        assert!((0..100).all(|_| limits.ask(v4([2, 1]), 0) == Verdict::Answer));
    }

    #[test]
    fn sources_are_bounded() {
        let mut limits = Limits::new(1);
        for number in 0..=SOURCES_MAX {
            let [_, b, c, d] = u32::try_from(number).unwrap().to_be_bytes();
            limits.ask(IpAddr::from([11 + b, c, d, 1]), 0);
        }
        assert!(limits.sources() <= SOURCES_MAX);
    }
}
